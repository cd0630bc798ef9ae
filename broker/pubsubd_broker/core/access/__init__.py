"""Admission, permissions, quotas, validation, and who is at the other end."""
