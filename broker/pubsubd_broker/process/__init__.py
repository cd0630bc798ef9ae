"""The process: signals, its end, the service manager, threads beside the event loop."""
