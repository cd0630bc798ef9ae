"""The bounded row of entries, cursors over it, interest, pacing, and what one pull writes."""
