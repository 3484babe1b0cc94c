"""The version, in a room below all others."""

__version__ = "0.1.0"
