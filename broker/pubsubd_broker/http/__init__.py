"""The admin HTTP server: metrics, health, status."""
