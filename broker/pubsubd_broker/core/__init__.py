"""The rules of a broker, without sockets, clock, chance, threads, logger or metrics."""
