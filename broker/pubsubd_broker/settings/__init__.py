"""Settings: options, variables, keys of the file, and the values in force."""
