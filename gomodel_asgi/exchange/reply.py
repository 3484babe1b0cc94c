"""What an exchange ends in: one reply, read by whoever asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from ..errors import GatewayError
from ..headers import Headers
from ..sse import Decoder

if TYPE_CHECKING:
    from starlette.responses import Response

    from .candidate import Candidate
    from .stream import Stream


class Reply:
    """An answered request: *status* and *headers* (lower-case names), then either a whole body or a stream.

    *provider* and *model* say who answered, *attempts* how many requests it took. Read it once, in one way: `json()`
    or `read()` for the whole body, `async for event in reply` for a stream's events, `response()` to hand it on.
    Use it as an async context manager, or call `aclose()`, when it may not be read to its end.
    """

    def __init__(
        self,
        *,
        status: int,
        headers: Headers,
        provider: str,
        model: str | None,
        attempts: int,
        labels: Mapping[str, str] | None = None,
        body: bytes | None = None,
        stream: Stream | None = None,
        candidate: Candidate | None = None,
    ) -> None:
        self.status = status
        self.raw_headers = headers
        self.provider = provider
        self.model = model
        self.attempts = attempts
        self.labels = labels or {}
        self.body = body
        self.stream = stream
        self.candidate = candidate
        self.before_end: Callable[[], Awaitable[object]] | None = None
        """Awaited before the client gets the last byte of a whole body."""
        self._on_close: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        kind = "stream" if self.stream is not None else f"{len(self.body or b'')} bytes"
        return f"<Reply {self.status} {kind} provider={self.provider!r} model={self.model!r}>"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a client would get, the last of each name."""
        return {name.decode("ascii"): value.decode("latin-1") for name, value in self.raw_headers}

    async def next(self) -> bytes:
        """The next whole events of a stream, or the whole body; `b""` at the end. Never raises for the upstream's
        failures, which are told in band."""
        if self.stream is not None:
            return await self.stream.next()
        if self.before_end is not None:
            await self.before_end()
        data, self.body = self.body or b"", b""
        return data

    async def read(self) -> bytes:
        """The whole body (of a stream: all its events as sent)."""
        pieces = []
        while data := await self.next():
            pieces.append(data)
        await self.aclose()
        return b"".join(pieces)

    async def json(self) -> Any:
        """The body, parsed. Of a stream: the response object that ended it.

        :raises GatewayError: the stream failed before it had one.
        """
        if self.stream is None:
            return msgspec.json.decode(await self.read())
        await self.read()
        return msgspec.json.decode(self.stream.final())

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The events of a stream as dicts, `[DONE]` left out; of a unary reply, its body as the only one."""
        decoder = Decoder(limit=2**62)
        try:
            while data := await self.next():
                if self.stream is None:
                    yield msgspec.json.decode(data)
                    continue
                for event in decoder.feed(data):
                    if event.data != b"[DONE]":
                        yield msgspec.json.decode(event.data)
        finally:
            await self.aclose()

    def response(self) -> Response:
        """A Starlette response that sends this reply, streaming where it streams."""
        from ..endpoints.response import ReplyResponse

        return ReplyResponse(self)

    async def aclose(self) -> None:
        """Release the upstream. Never raises; further calls do nothing."""
        if self.stream is not None:
            await self.stream.aclose()
        while self._on_close:
            self._on_close.pop()()

    def on_close(self, function: Callable[[], None]) -> None:
        """Call *function* once the reply has been closed."""
        self._on_close.append(function)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Failed(Reply):
    """A reply that tells of a failure; *error* is what failed."""

    def __init__(self, error: GatewayError, headers: Headers) -> None:
        super().__init__(status=error.status, headers=headers, provider="", model=None, attempts=0, body=error.body())
        self.error = error
