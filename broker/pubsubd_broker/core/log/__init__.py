"""The bounded row of entries, cursors over it, who is woken, pacing, and what one pull writes."""
