"""Each module: one function of bytes, `check`, that raises only if something is wrong."""
