"""Bytes and values of the API, without I/O: JSON, server-sent events, items, headers."""
