"""The transport of a gateway that was given none: ours on asyncio, httpx's everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ..deadline import on_trio
from ..seams.transport import Listener, Transport, UpstreamReply, UpstreamRequest
from .slots import ConnectionLimit


class DefaultTransport:
    """Chooses by the running event loop; makes each of the two when it is first needed."""

    def __init__(self) -> None:
        self.asyncio: Transport | None = None
        self.elsewhere: Transport | None = None
        self.attached: list[tuple[ConnectionLimit, Listener]] = []

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """As `Http11Transport.attach`."""
        self.attached.append((connections, listener))
        for made in (self.asyncio, self.elsewhere):
            attach(made, connections, listener)

    def open(self, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamReply]:
        return self._chosen().open(request)

    def aclose(self) -> Coroutine[Any, Any, None]:
        return self._chosen().aclose()

    def _chosen(self) -> Transport:
        if on_trio():
            return self._for_elsewhere()
        if self.asyncio is None:
            from .http11 import Http11Transport

            self.asyncio = self._with_attached(Http11Transport())
        return self.asyncio

    def _for_elsewhere(self) -> Transport:
        if self.elsewhere is None:
            from .httpx_transport import HttpxTransport

            self.elsewhere = self._with_attached(HttpxTransport())
        return self.elsewhere

    def _with_attached(self, transport: Transport) -> Transport:
        for connections, listener in self.attached:
            attach(transport, connections, listener)
        return transport


def attach(transport: object, connections: ConnectionLimit, listener: Listener) -> None:
    """Tell *transport* of a gateway's limit and listener, where it wants to know."""
    wants: Callable[[ConnectionLimit, Listener], None] | None = getattr(transport, "attach", None)
    if wants is not None:
        wants(connections, listener)
