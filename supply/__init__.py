"""Installed packages and their sources: the lock, its export for pip, the audit, the bill of materials."""
