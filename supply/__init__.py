"""What gets installed, and from where it is known: the lock, its export for pip, the audit, the bill of materials."""
