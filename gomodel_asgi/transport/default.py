"""The transport of a gateway that was given none: ours on asyncio, httpx's everywhere else."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..backend import on_trio
from .base import Transport, UpstreamReply, UpstreamRequest


class DefaultTransport:
    """Chooses by the running event loop; makes each of the two when it is first needed."""

    def __init__(self) -> None:
        self.asyncio: Transport | None = None
        self.elsewhere: Transport | None = None

    def open(self, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamReply]:
        return self._chosen().open(request)

    def aclose(self) -> Coroutine[Any, Any, None]:
        return self._chosen().aclose()

    def _chosen(self) -> Transport:
        if on_trio():
            return self._for_elsewhere()
        if self.asyncio is None:
            from .http11 import Http11Transport

            self.asyncio = Http11Transport()
        return self.asyncio

    def _for_elsewhere(self) -> Transport:
        if self.elsewhere is None:
            from .httpx_transport import HttpxTransport

            self.elsewhere = HttpxTransport()
        return self.elsewhere
