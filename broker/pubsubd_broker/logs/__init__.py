"""The log: its form, and the thread-free writer to standard error."""
