"""The reader of a native stream that is repaired on its way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import msgspec

from ...emitter import encode
from ...errors import GatewayError, UpstreamProtocolError, UpstreamTruncated
from ...redaction import without
from ...scan import FLAT, Unreadable, check
from ...settings import Limits
from ...sse import Decoder, Event
from .values import Identity, Json
from .walk import Walk

TERMINAL_OF_STATUS = {"incomplete": "response.incomplete", "failed": "response.failed"}
UNDER_WAY = frozenset({"queued", "in_progress"})
FOREIGN = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)  # what a walk over data that it does not know raises

decode = msgspec.json.Decoder().decode


class NormalizingReader:
    """One native reply; *name* is the stamp (None for none), *echo* the client's request, whose members a response
    repeats; *secrets* are what the upstream could quote back. A unary body is fed whole and once, with `whole`.

    A stream is repaired from its beginning, also when it is sent again: a repaired stream has numbers of its own, which
    an upstream that is asked to go on behind one of them would take for others. It is to be asked for all, and of that
    the client gets what stands behind the number *after*.
    """

    def __init__(
        self,
        *,
        name: str | None,
        model: str | None,
        limits: Limits,
        echo: Mapping[str, Any],
        stream: bool = True,
        after: int = -1,
        secrets: tuple[str, ...] = (),
    ) -> None:
        identity = Identity("resp_" + token_hex(24), int(time.time()), model or "", echo, name)
        self.walk = Walk(identity, stream=stream, after=after)
        self.limits = limits
        self.decoder = Decoder(limit=limits.event)
        self.begun = False
        """Whether the upstream has begun to answer, in an earlier piece than the one in which it failed."""
        self.inside = False
        self.secrets = secrets

    @property
    def waiting(self) -> int:
        return len(self.decoder.pending)

    @property
    def meaningful(self) -> bool:
        return self.walk.meaningful

    @property
    def terminal(self) -> str | None:
        return self.walk.terminal

    @property
    def failure(self) -> GatewayError | None:
        return self.walk.failure

    @property
    def response_id(self) -> str | None:
        return self.walk.identity.id if self.walk.begun else None

    def feed(self, data: bytes) -> bytes:
        self._read(self.decoder.feed(data))
        self.begun = self.begun or self.walk.begun and self.walk.failure is None
        return self.take()

    def whole(self, body: bytes) -> None:
        """The JSON of a response that came whole, in whatever state, of which a tree may be built: `final` then gives
        it repaired.

        :raises UpstreamProtocolError: it is not a response.
        """
        response = self._object(body)
        if response.get("object") != "response" and not isinstance(response.get("output"), list):
            raise UpstreamProtocolError("The upstream's reply is not a response.")
        try:
            self.walk.snapshot(response)
        except FOREIGN as error:
            raise UpstreamProtocolError("The upstream sent what is not part of its API.") from error

    def close(self) -> bytes:
        self._read(self.decoder.close())
        self.walk.break_off(UpstreamTruncated("The upstream's stream ended before the response was complete."))
        return self.take()

    def fail(self, error: GatewayError) -> bytes:
        self.walk.break_off(error)
        return self.take()

    def take(self) -> bytes:
        """The events written since the last call."""
        data = b"".join(self.walk.out)
        self.walk.out.clear()
        return data

    def final(self) -> bytes | None:
        return encode(self.walk.response) if self.walk.response is not None else None

    def usage(self) -> Any:
        return self.walk.raw_usage

    def _read(self, events: list[Event]) -> None:
        for event in events:
            if self.walk.terminal is not None:
                return
            if event.data.strip() == b"[DONE]":
                self.walk.done()
            elif event.data:
                self._check(event.data)
                self._tell(event.name, self._object(event.data))

    def _check(self, data: bytes) -> None:
        if len(data) <= FLAT:
            return
        try:
            check(data, depth=self.limits.depth, values=self.limits.values)
        except Unreadable as error:
            raise UpstreamProtocolError("The upstream sent an event that holds too much.") from error

    def _object(self, data: bytes) -> Json:
        try:
            value = decode(without(self.secrets, data))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamProtocolError("The upstream sent what is not JSON.") from error
        if not isinstance(value, dict):
            raise UpstreamProtocolError("The upstream sent what is not a JSON object.")
        return value

    def _tell(self, name: str, event: Json) -> None:
        type = type_of(name, event)
        if type is None:
            raise UpstreamProtocolError("The upstream sent an event that has no type.")
        try:
            self.walk.event(type, event)
        except FOREIGN as error:
            raise UpstreamProtocolError("The upstream sent what is not part of its API.") from error


def type_of(name: str, event: Json) -> str | None:
    """The type of an event: its own word, else its *name*, else what it holds."""
    given = event.get("type")
    if isinstance(given, str) and given:
        return given
    if event.get("object") == "response":
        status = event.get("status")
        return (
            f"response.{status}"
            if str(status) in UNDER_WAY
            else TERMINAL_OF_STATUS.get(str(status), "response.completed")
        )
    if name and name != "message":
        return name
    return "error" if "error" in event else None
