"""The publishers and readers of each contestant. A module imports its client library, so only workers import it."""
