"""The upstreams' side of WebSocket mode."""
