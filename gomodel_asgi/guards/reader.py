"""Readers of guarded replies: their responses are those that the guards have let pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..dialects.native import NativeReader
from ..dialects.reader import Reader
from ..errors import GatewayError
from ..settings import Limits


class GuardedReader:
    """What is known of a guarded reply: of its content only what has passed, of its usage what *reader* knows."""

    meaningful = True
    begun = True
    inside = False
    waiting = 0

    def __init__(self, reader: Any, response: bytes | None = None) -> None:
        self.reader = reader
        self.response = response
        self.ended: str | None = None
        self.error: GatewayError | None = None

    @property
    def terminal(self) -> str | None:
        """How the response ended, once the client can have its end."""
        return self.ended if self.response is None else self.ended or self.reader.terminal

    @property
    def failure(self) -> GatewayError | None:
        """What has failed: the upstream, or a guard."""
        found: GatewayError | None = self.error or self.reader.failure
        return found

    @property
    def response_id(self) -> str | None:
        """The response's id."""
        found: str | None = self.reader.response_id
        return found

    def final(self) -> bytes | None:
        """Returns the response object that has ended the reply."""
        return self.response

    def usage(self) -> Any:
        """Returns the upstream's usage object."""
        return self.reader.usage()

    def feed(self, data: bytes) -> bytes:
        """Nothing is fed here."""
        raise NotImplementedError

    def close(self) -> bytes:
        """Nothing is left to send."""
        return b""

    def fail(self, error: GatewayError) -> bytes:
        """The stream ends itself."""
        return b""


class Whole:
    """The *events* of a stream that has come whole; see `Stream`."""

    def __init__(self, events: bytes, model: str) -> None:
        self.events = events
        self.reader: Reader = NativeReader(name=None, model=model, limits=Limits())
        self.ended = False
        self.before_end: Callable[[], Awaitable[object]] | None = None

    async def next(self) -> bytes:
        """See `Stream.next`."""
        events, self.events = self.events, b""
        return self.reader.feed(events) if events else b""

    def final(self) -> bytes:
        """See `Stream.final`."""
        return self.reader.final() or b""

    async def interrupt(self, error: GatewayError) -> bytes:
        """See `Stream.interrupt`."""
        self.ended = True
        return b""

    async def aclose(self) -> None:
        """See `Stream.aclose`."""
        self.ended = True
