"""The Responses API over a WebSocket: many responses on one connection, whatever the upstreams speak.

    connection ── handshake ─► admitted, or refused before the upgrade
        │ text frames
    frames ─► lanes ─► turn ─► dispatch ─► Exchange ─► HTTP, or relay ─► upstream's own WebSocket
        ▲                │ events                         (a socket that looks like a streaming reply)
        └── outbox ◄─────┘            memory: what this connection alone remembers

A native upstream socket is put under the exchange as a transport, so that attempts, fallbacks, breakers, limits and
the ends of streams are the same as over HTTP.
"""
