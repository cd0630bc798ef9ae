"""The `pubsubd` command. The one place that may use both the broker and the client."""
