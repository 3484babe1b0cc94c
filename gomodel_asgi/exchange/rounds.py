"""Replies of an upstream that asks to be asked again, read as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..dialects.base import Outgoing
from ..dialects.translated import TranslatedReader
from ..seams.transport import Headers, UpstreamReply


class Rounds:
    """An `UpstreamReply` whose body goes on with that of the next request as often as *reader*, which is fed with it,
    finds that the upstream wants one. *ask* makes the request."""

    def __init__(
        self, first: UpstreamReply, reader: TranslatedReader, ask: Callable[[Outgoing], Awaitable[UpstreamReply]]
    ) -> None:
        self.status: int = first.status
        self.headers: Headers = first.headers
        self.resumable: bool = first.resumable
        self._upstream = first
        self._reader = reader
        self._ask = ask

    async def read(self, timeout: float) -> bytes:
        """More of the body; see `UpstreamReply.read`.

        :raises GatewayError: the next request failed.
        """
        if (outgoing := self._reader.again) is not None:
            await self._upstream.aclose()
            self._upstream = await self._ask(outgoing)
            self.resumable = self._upstream.resumable
            self._reader.begin_round()
        return await self._upstream.read(timeout)

    async def aclose(self) -> None:
        """Release the connection of the round that is open."""
        await self._upstream.aclose()
