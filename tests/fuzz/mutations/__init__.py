"""Changes inputs as somebody would who knows how they are built."""
