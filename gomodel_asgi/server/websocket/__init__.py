"""The Responses API over a WebSocket: many responses on one connection, whatever the upstreams speak.

    connection ── upgrade ─► admitted, or refused before it
        │ text frames
    frames ─► lanes ─► turn ─► pipeline.answer ─► HTTP, or relay ─► upstream's own WebSocket
        ▲                │ events                    (a socket that looks like a streaming reply)
        └── outbox ◄─────┘            history/connection_memory.py: what it alone remembers

A native upstream socket is put under the attempt as a transport, so that attempts, fallbacks, breakers, limits and
the ends of streams are the same as over HTTP.
"""
