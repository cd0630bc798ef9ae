"""What gets installed, and from where it is known: reading the locks, asking about them, the bill of materials."""
