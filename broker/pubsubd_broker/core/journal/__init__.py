"""What a node keeps on disk: records, segments, what is recovered of them, and what is to be written when. Pure."""
