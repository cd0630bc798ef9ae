"""Connections, the handshake, the ends of links and of clients, dial targets, fairness, recovery from peers."""
