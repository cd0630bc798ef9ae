"""Sessions, their readings of each stream, and names kept while the application is away."""
