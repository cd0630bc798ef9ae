"""The servers of each contestant. Imports no peer's client."""
