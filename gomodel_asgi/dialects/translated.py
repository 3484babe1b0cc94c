"""Replies of upstreams that speak another API: decoded, translated, written anew by the emitter."""

from __future__ import annotations

from typing import Any, cast

from ..errors import GatewayError, UpstreamProtocolError, UpstreamTruncated
from ..settings import Limits
from ..wire.event_writer import Emitter, encode
from ..wire.json_scan import FLAT, Unreadable, check
from ..wire.redaction import without
from ..wire.sse import Decoder, Event
from .base import Continuing, Outgoing, Translator

FOREIGN = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What a translator raises of data that it does not know, or that is nested too deeply to read."""


class TranslatedReader:
    """One foreign reply. Streams are fed chunk by chunk, a unary body whole and once: the path is the same.

    *secrets* are what the upstream could quote back and nobody may be told."""

    def __init__(self, translator: Translator, emitter: Emitter, limits: Limits, secrets: tuple[str, ...] = ()) -> None:
        self.translator = translator
        self.emitter = emitter
        self.limits = limits
        self.decoder = Decoder(limit=limits.event)
        self.continues = hasattr(translator, "again")
        """Whether the upstream may want to be asked again before the answer ends."""
        self.again: Outgoing | None = None
        """The request that the upstream wants to be made, to go on with an answer that has not ended."""
        self._id: str = emitter.response["id"]
        self.begun = False
        """Whether the upstream has begun to answer: a failure in the same piece is its whole answer all the same."""
        self.inside = False
        self.secrets = secrets

    @property
    def response_id(self) -> str | None:
        return self._id

    @property
    def waiting(self) -> int:
        return len(self.decoder.pending)

    @property
    def meaningful(self) -> bool:
        return self.emitter.meaningful

    @property
    def terminal(self) -> str | None:
        return self.emitter.terminal

    @property
    def failure(self) -> GatewayError | None:
        return self.emitter.failure

    def feed(self, data: bytes) -> bytes:
        events = self._translate(self._checked(self.decoder.feed(data)))
        self.begun = self.begun or (self.emitter.begun and self.emitter.failure is None)
        return events

    def begin_round(self) -> None:
        """The request that was wanted has been made: its reply follows."""
        self.again = cast(Continuing, self.translator).again = None
        self.decoder = Decoder(limit=self.limits.event)

    def whole(self, body: bytes) -> bytes:
        """A unary reply's body, of which a tree may be built: the events that tell of it, where the emitter streams.

        :raises UpstreamProtocolError: it is no answer of that API.
        """
        events = self._translate([Event("", body)])
        if self.again is not None:
            return events
        self._ended()
        if self.emitter.terminal is None:
            raise UpstreamProtocolError("The upstream's reply is not an answer.")
        return events + self.emitter.take()

    def close(self) -> bytes:
        try:
            events = self._translate(self.decoder.close())
        except UpstreamTruncated as error:
            self.emitter.fail(error)
            return self.emitter.take()
        if self.again is not None:
            return events
        if self.emitter.terminal is None:
            self._ended()
        if self.emitter.terminal is None:
            self.emitter.fail(UpstreamTruncated("The upstream's stream ended before the response was complete."))
        return events + self.emitter.take()

    def fail(self, error: GatewayError) -> bytes:
        self.emitter.fail(error)
        return self.emitter.take()

    def final(self) -> bytes | None:
        return encode(self.emitter.response) if self.emitter.terminal is not None else None

    def usage(self) -> Any:
        return self.emitter.raw_usage

    def _checked(self, events: list[Event]) -> list[Event]:
        """*events*, of which a tree may be built; a translator parses what it is given.

        :raises UpstreamProtocolError: of one of them none may.
        """
        try:
            for event in events:
                if len(event.data) > FLAT:
                    check(event.data, depth=self.limits.depth, values=self.limits.values)
        except Unreadable as error:
            raise UpstreamProtocolError("The upstream sent an event that holds too much.") from error
        return events

    def _translate(self, events: list[Event]) -> bytes:
        for event in events:
            if self.emitter.terminal is not None:
                break
            try:
                self.translator.feed(event.name, without(self.secrets, event.data))
            except FOREIGN as error:
                raise UpstreamProtocolError("The upstream sent what is not part of its API.") from error
        if self.continues:
            self.again = cast(Continuing, self.translator).again
        return self.emitter.take()

    def _ended(self) -> None:
        # What was put off until the end is read only now, and can be as foreign.
        try:
            self.translator.close()
        except FOREIGN as error:
            raise UpstreamProtocolError("The upstream sent what is not part of its API.") from error
