"""How the servers of each contestant are started. Imports no peer's client."""
