"""Stored responses and conversations, and whose they are. Knows stores, never the network."""
