"""What the exchange needs to know of a reply while it comes, whatever the upstream speaks.

A reader takes the upstream's bytes and returns the client's. It says whether anything meaningful has come (after that
nothing is tried elsewhere), whether the response has ended, and whether the upstream reported a failure; and it can
end the stream itself, in band, when the upstream did not.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import msgspec

from ..errors import GatewayError, UpstreamProtocolError, UpstreamTruncated
from ..settings import Limits
from ..wire.event_writer import Emitter
from ..wire.json_scan import FLAT, SHORT, UNREADABLE, Unreadable, check, short, tree
from ..wire.redaction import redactor_of
from ..wire.response import PREFIX, encode
from ..wire.sse import Decoder, Event
from .base import Continuing, Outgoing, Translator
from .failure import reported_failure

MEANINGLESS = frozenset({"response.created", "response.queued", "response.in_progress"})


class Reader(Protocol):
    """One reply being read."""

    @property
    def meaningful(self) -> bool:
        """Whether something has come that the client would miss."""
        ...

    @property
    def begun(self) -> bool:
        """Whether the upstream has begun to answer: a failure before that is its whole answer."""
        ...

    @property
    def terminal(self) -> str | None:
        """How the response ended: completed, incomplete or failed; None while it has not."""
        ...

    @property
    def failure(self) -> GatewayError | None:
        """The failure that the upstream reported inside its reply."""
        ...

    @property
    def response_id(self) -> str | None:
        """The response's id, once it is known."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Returns the whole events for the client that the upstream's bytes bring, `b""` for none.

        :raises UpstreamProtocolError: this is not what the upstream should send.
        """
        ...

    def close(self) -> bytes:
        """Returns what is left to send once the upstream's stream has ended: the in-band failure if that was early."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """Ends the stream in band: an `error` event, `response.failed`, `[DONE]`; `b""` if it had ended already."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes of an event that is not whole yet."""
        ...

    @property
    def inside(self) -> bool:
        """Whether a part of an event has been given whose end has not come."""
        ...

    def final(self) -> bytes | None:
        """The response object that ended the stream, as JSON; None if none did."""
        ...

    def usage(self) -> Any:
        """The upstream's usage object, None if there was none."""
        ...


# The few events of a native stream that are parsed: which they are, and what a failure among them says.


Members = dict[str, msgspec.Raw]

NULL = msgspec.Raw(b"null")
NO_ERROR = (b"null", b"{}", b"[]", b'""', b"false")
DIGITS = 18  # of a number that is one

_members = msgspec.json.Decoder(Members).decode
_encode = msgspec.json.Encoder().encode


def members_and_type(event: Event) -> tuple[Members, str | None]:
    """Returns the members of *event*, none where it is no object, and its type.

    The type is the `type` member, else the event's name where that is one of this API's. An event that is named `error`
    is an error unless its `type` is one of this API's.
    """
    try:
        members = _members(event.data)
    except UNREADABLE:
        members = {}
    type = short(members["type"]) if "type" in members else None
    if type is None and members.get("type", NULL) != NULL:
        members = {}
    if event.name == "error" and not (isinstance(type, str) and type.startswith(PREFIX)):
        return members, "error"
    if type is None:
        return members, event.name if event.name.startswith(PREFIX) else None
    return members, type if isinstance(type, str) else ""


def number(members: Members) -> int:
    """Returns the event's `sequence_number`, or -1."""
    raw = members.get("sequence_number", NULL)
    return int(bytes(raw)) if len(raw) <= DIGITS and bytes(raw).isdigit() else -1


def is_failure(members: Members, type: str | None) -> bool:
    """Returns whether an event says that the upstream failed: by its type, or without one by its member `error`."""
    return type == "error" or (type is None and bytes(members.get("error", b"null")) not in NO_ERROR)


def failure_of(data: bytes) -> GatewayError:
    """Returns the failure in the *data* of such an event, which may be plain text."""
    try:
        value = tree(data) if len(data) <= SHORT else None
    except ValueError:
        value = data.decode("utf-8", "replace")
    if len(data) > SHORT and not data.lstrip().startswith(b"{"):
        value = data[:SHORT].decode("utf-8", "replace")
    return reported_failure(_encode({"message": value}) if isinstance(value, str) else data)


# Replies of upstreams that speak another API: decoded, translated, written anew by the emitter.


FOREIGN = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What a translator raises of data that it does not know, or that is nested too deeply to read."""


class TranslatedReader:
    """One foreign reply. Streams are fed chunk by chunk, a unary body whole and once: the path is the same.

    *secrets* are what the upstream could quote back, which is redacted."""

    def __init__(self, translator: Translator, emitter: Emitter, limits: Limits, secrets: tuple[str, ...] = ()) -> None:
        self.translator = translator
        self.emitter = emitter
        self.limits = limits
        self.decoder = Decoder(limit=limits.event)
        self.continuing = cast(Continuing, translator) if hasattr(translator, "again") else None
        """The translator, if its upstream may want a further request before the answer ends."""
        self.again: Outgoing | None = None
        """The request that the upstream wants to be made, to go on with an answer that has not ended."""
        self.terminal: str | None = None
        """How the response ended, in the events that were taken; None while it has not."""
        self.failure: GatewayError | None = None
        self.meaningful = False
        self.response_id: str | None = emitter.response["id"]
        """The id that the response has from its beginning."""
        self.begun = False
        """Whether the upstream has begun to answer: a failure in the same piece is its whole answer all the same."""
        self.inside = False
        self.redactor = redactor_of(secrets)

    @property
    def waiting(self) -> int:
        """Bytes of an event that is not whole yet."""
        return len(self.decoder.pending)

    def feed(self, data: bytes) -> bytes:
        """Returns the events for the client that *data* brings.

        :raises UpstreamProtocolError: the upstream sent what is not part of its API.
        """
        return self._translate(self.decoder.feed(data))

    def take(self) -> bytes:
        """Returns the events that were written since the last call; what they say of the response is known from here
        on."""
        return self._translate([])

    def begin_next_reply(self) -> None:
        """Prepares for the reply to the request in `again`, which the caller has made."""
        assert self.continuing is not None
        self.again = self.continuing.again = None
        self.decoder = Decoder(limit=self.limits.event)

    def whole(self, body: bytes) -> bytes:
        """Returns the events that a unary reply's *body* is written as, where the emitter streams.

        The caller has seen that a tree may be built of it.

        :raises UpstreamProtocolError: it is no answer of that API.
        """
        events = self._translate([Event("", body)], checked=True)
        if self.again is not None:
            return events
        self._ended()
        if self.emitter.terminal is None:
            raise UpstreamProtocolError("The upstream's reply is not an answer.")
        return events + self.take()

    def close(self) -> bytes:
        """Returns the events that end the response; a stream that was cut fails in band.

        :raises UpstreamProtocolError: what was read last is not part of the API.
        """
        if self.terminal is not None:
            return b""
        try:
            events = self._translate(self.decoder.close())
        except UpstreamTruncated as error:
            self.emitter.fail(error)
            return self.take()
        if self.again is not None:
            return events
        if self.emitter.terminal is None:
            self._ended()
        if self.emitter.terminal is None:
            self.emitter.fail(UpstreamTruncated("The upstream's stream ended before the response was complete."))
        return events + self.take()

    def fail(self, error: GatewayError) -> bytes:
        """Returns the events that end the stream in band, `b""` if it had ended already."""
        self.emitter.fail(error)
        return self.take()

    def final(self) -> bytes | None:
        """Returns the response as JSON, None while it has not ended."""
        emitter = self.emitter
        return emitter.ended_with or encode(emitter.response) if emitter.terminal is not None else None

    def usage(self) -> Any:
        """Returns the upstream's own usage object, None if there was none."""
        return self.emitter.raw_usage

    def _translate(self, events: list[Event], *, checked: bool = False) -> bytes:
        """Returns what was written before, followed by what *events* mean to the client. *checked*: it is known that
        trees may be built of them.

        :raises UpstreamProtocolError: an event is not part of the upstream's API.
        """
        emitter, redactor = self.emitter, self.redactor
        for event in events:
            if emitter.terminal is not None:
                break
            data = event.data
            if len(data) > FLAT and not checked:
                self._check(data)
            if redactor.needle in data or b"\\" in data:  # else it holds no secret in any spelling
                data = redactor.whole(data)
            try:
                self.translator.feed(event.name, data)
            except FOREIGN as error:
                raise UpstreamProtocolError("The upstream sent what is not part of its API.") from error
        if self.continuing is not None:
            self.again = self.continuing.again
        self.terminal, self.failure, self.meaningful = emitter.terminal, emitter.failure, emitter.meaningful
        self.begun = self.begun or (emitter.begun and emitter.failure is None)
        written = b"".join(emitter.out)  # as `Emitter.take`, which every delta would call
        emitter.out.clear()
        return written

    def _check(self, data: bytes) -> None:
        """Checks that *data* may be parsed.

        :raises UpstreamProtocolError: it is nested too deeply, or holds too many values.
        """
        try:
            check(data, depth=self.limits.depth, values=self.limits.values)
        except Unreadable as error:
            raise UpstreamProtocolError("The upstream sent an event that holds too much.") from error

    def _ended(self) -> None:
        """Closes the translator, since the upstream has ended.

        :raises UpstreamProtocolError: something is missing, by the upstream's API.
        """
        # What was put off until the end is read only now, and can be as foreign.
        try:
            self.translator.close()
        except FOREIGN as error:
            raise UpstreamProtocolError("The upstream sent what is not part of its API.") from error
