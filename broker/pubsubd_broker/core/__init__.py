"""The rules of a broker, without sockets, clocks, randomness, threads, loggers or metrics."""
