"""How each contestant publishes and reads. A module imports its client library, so only workers import it."""
