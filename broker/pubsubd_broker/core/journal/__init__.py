"""State of a node on disk: records, segments, their recovery, and the work of writing them. Pure."""
