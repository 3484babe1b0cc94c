"""The only room that connects to upstreams and MCP servers.

    request             what a request needs before anything is sent: where it may go, which address answers, its head
    slots               how many connections may be open at once
    http11/             our own HTTP/1.1, for asyncio
    httpx_transport     a transport of httpx or httpx2, for the rest: trio, proxies, HTTP/2
    websocket           the WebSockets to upstreams of one client's connection
    mcp_http            a client of httpx2 for the mcp SDK, which goes through any of these

The transports, and the libraries below them, are imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..deadline import on_trio
from ..seams.transport import Headers, Listener, Transport, UpstreamReply, UpstreamRequest
from .slots import ConnectionLimit

if TYPE_CHECKING:
    from .http11 import Http11Transport
    from .httpx_transport import HttpxTransport


__all__ = ["Headers", "Http11Transport", "HttpxTransport", "Transport", "UpstreamReply", "UpstreamRequest"]

ON_FIRST_USE = {"Http11Transport": ".http11", "HttpxTransport": ".httpx_transport"}


def __getattr__(name: str) -> Any:
    """Imports what needs an extra when it is first used.

    :raises AttributeError: there is no such name.
    """
    if name not in ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(ON_FIRST_USE[name], __name__), name)


# The transport of a gateway that was given none: ours on asyncio, httpx's everywhere else.


class DefaultTransport:
    """Chooses by the running event loop; makes each of the two when it is first needed."""

    def __init__(self) -> None:
        self.made: dict[str, Transport] = {}
        self.attached: list[tuple[ConnectionLimit, Listener]] = []

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """See `Http11Transport.attach`."""
        self.attached.append((connections, listener))
        for made in list(self.made.values()):
            attach(made, connections, listener)

    def open(self, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamReply]:
        """See `Transport.open`."""
        return self._chosen().open(request)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """Closes the transport of the running event loop; see `Transport.aclose`."""
        return self._chosen().aclose()

    def _chosen(self) -> Transport:
        name = "HttpxTransport" if on_trio() else "Http11Transport"
        made = self.made.get(name)
        if made is None:
            made = self.made[name] = __getattr__(name)()
            for connections, listener in self.attached:
                attach(made, connections, listener)
        return made


def attach(transport: object, connections: ConnectionLimit, listener: Listener) -> None:
    """Hands a gateway's limit and listener to *transport*, where that has an `attach`."""
    wants: Callable[[ConnectionLimit, Listener], None] | None = getattr(transport, "attach", None)
    if wants is not None:
        wants(connections, listener)
