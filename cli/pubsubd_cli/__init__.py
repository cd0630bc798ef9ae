"""The `pubsubd` command. Only this package may use both the broker and the client."""
