"""Brokers and clients that speak the protocol up to a drawn moment, and then lie.

An honest node's or application's connection sends one false frame. All frames before it are right in every detail, so
the lie is the only thing to notice. The liar ignores all answers on that connection, and is honest on its next one.
So every checker holds for its stream and its sessions, too: no part of a lie may have any effect.
"""
