"""The parts that brokers and clients share: frames, positions, the attach rule, topics. Pure."""

__version__ = "0.1.0"
"""Version of the installed package, as semantic versioning writes it."""
