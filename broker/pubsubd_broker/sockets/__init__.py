"""Sockets: listeners, acceptors, links, names of hosts."""
