"""The only rooms that touch the network.

    base                the seam: one request out, one reply back
    head, addresses     no I/O: request heads, which addresses are public
    http11/             our own HTTP/1.1, for asyncio
    httpx_transport     a transport of httpx or httpx2, for the rest: trio, proxies, HTTP/2
    mcp_http            a client of httpx2 for the mcp SDK, which goes through any of these

The transports, and the libraries below them, are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..seams.transport import Headers, Transport, UpstreamReply, UpstreamRequest

if TYPE_CHECKING:
    from .http11 import Http11Transport
    from .httpx_transport import HttpxTransport

__all__ = ["Headers", "Http11Transport", "HttpxTransport", "Transport", "UpstreamReply", "UpstreamRequest"]

ON_FIRST_USE = {"Http11Transport": ".http11", "HttpxTransport": ".httpx_transport"}


def __getattr__(name: str) -> Any:
    if name not in ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(ON_FIRST_USE[name], __name__), name)
