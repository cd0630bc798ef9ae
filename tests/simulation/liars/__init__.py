"""Brokers and clients that speak the protocol, up to a drawn moment, and lie then.

An honest node's or application's connection says one false thing: what it says before is right in every detail, so the
lie is all that there is to notice. The liar hears nothing more over that connection, and is honest on its next one.
So every checker counts for its stream and its sessions too: nothing of a lie may have stuck anywhere.
"""
