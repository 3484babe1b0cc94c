"""The HTTP and WebSocket edge: reads ASGI messages into an `Inbound`, and sends a `Reply` as ASGI messages."""
