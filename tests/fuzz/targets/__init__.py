"""Each module has a function of bytes, `check`, that raises only for a fault."""
