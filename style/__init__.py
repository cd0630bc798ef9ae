"""Checks of the words that people read: docstrings, comments, errors, documents. `python -m style` runs them."""
