"""Files and folders: safe paths, and the places that a running broker relies on."""
