"""Counters, a histogram, notices, and events: for metrics and logs, never for a rule."""
