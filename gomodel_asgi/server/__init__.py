"""The HTTP edge: the only rooms, with `middleware.py` and `gateway.py`, that know ASGI."""
