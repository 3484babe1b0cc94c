"""Text frames, in both directions: a client's frame opened, a response's events written as frames. No I/O.

Inwards, a `response.create` is the body of a create with members beside it that only the WebSocket knows; they are
taken off, and what is left is the request that it would be over HTTP. Outwards, an event is the same JSON as over SSE.
Only the few events that are looked into anyway cost more than their bytes: lifecycle events, finished items, errors.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..errors import GatewayError, InvalidRequest, type_of_status
from ..settings import Limits
from .json_body import FALSE, LONGEST_TEXT, NULL, TRUE, Envelope, encode, span, with_member
from .json_pieces import SMALL, Found, Members
from .json_scan import UNREADABLE, VALUES, Unreadable, check, check_utf8, counted, parsed, short
from .response import TERMINAL
from .sse import Decoder

LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}")
OUR_MEMBERS = ("type", "stream_id", "generate", "stream", "stream_options", "background")
"""Members that mean something here, or nothing: how a socket delivers is not set by a frame."""

UNKNOWN = {"type": "error", "message": "The upstream reported an error."}
"""What is said of an error of which nothing can be said."""

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode


class Create(Struct):
    """A `response.create`: the body that it would have over HTTP, and its *lane* (None: the unnamed one).

    *generate* False requests a response without output; *size* is that of the frame in bytes.
    """

    lane: str | None
    envelope: Envelope
    generate: bool
    size: int


class Steer(Struct):
    """A `response.steer`: *target* is the id of the response that is to take up *input*; *raw* is the whole frame, each
    member once."""

    target: str
    input: Any
    raw: bytes


# Inwards...


def type_of(members: Members) -> str | None:
    """Returns the frame's `type`, None where it is no string."""
    return text_of(members.get("type"))


def lane_of(members: Members) -> str | None:
    """The lane that the frame names, None where it names none.

    :raises InvalidRequest: it is not 1 to 256 of `[A-Za-z0-9_.-]`.
    """
    raw = bytes(members.get("stream_id", b"null"))
    if raw == b"null":
        return None
    lane = text_of(raw)
    if lane is None or not LANE.fullmatch(lane):
        message = "'stream_id' must be 1 to 256 letters, digits, underscores, hyphens or periods."
        raise InvalidRequest(message, param="stream_id", code="invalid_stream_id")
    return lane


def create_of(found: Found, lane: str | None, size: int, limits: Limits) -> Create:
    """Reads a `response.create`.

    :raises InvalidRequest: `generate`, `model` or `provider` is of a wrong type.
    """
    generate = found.members.get("generate", NULL)
    if generate not in (TRUE, FALSE, NULL):
        raise InvalidRequest("'generate' must be true or false.", param="generate", code="invalid_type")
    body = {name: value for name, value in found.members.items() if name not in OUR_MEMBERS} | {"stream": TRUE}
    envelope = Envelope.of(encode(body), body, limits, None if found.scan is None else found.scan.deep)
    return Create(lane, envelope, generate != FALSE, size)


def steer_of(members: Members, limits: Limits) -> Generator[None, None, Steer]:
    """Reads a `response.steer`; a pause may be made at each step.

    :raises InvalidRequest: it names no response, or its input cannot be read.
    """
    target = text_of(members.get("previous_response_id"))
    if target is None:
        message = "Name the response to steer in 'previous_response_id'."
        raise InvalidRequest(message, param="previous_response_id", code="missing_required_parameter")
    given = bytes(members.get("input", NULL))
    try:
        if len(given) <= SMALL:
            check(given, depth=limits.depth, values=limits.values)
        else:
            yield from counted(given, depth=limits.depth, values=limits.values)
        return Steer(target, parsed(given), encode(members))
    except (ValueError, RecursionError):
        raise InvalidRequest("'input' cannot be read.", param="input", code="invalid_json") from None


def text_of(raw: Raw | bytes | None) -> str | None:
    """A member's value if it is a string, and no longer than any that means something."""
    value = None if raw is None or len(raw) > LONGEST_TEXT else bytes(raw)
    if value is None or not value.startswith(b'"'):
        return None
    text = parsed(value)
    return text if isinstance(text, str) else None


def id_of(response: Raw | bytes) -> str | None:
    """Returns the id of a response object, or None."""
    return text_of(_members(response).get("id")) if bytes(memoryview(response)[:1]) == b"{" else None


# Outwards...


def error_frame(error: GatewayError, lane: str | None) -> str:
    """The frame of a failure that comes instead of a response."""
    body: Any = parsed(error.body())
    nested = body.get("error") if isinstance(body, dict) else None
    return _error({"error": nested or error.payload["error"]}, error.status, lane)


def steer_failed(steer: Steer, code: str, message: str) -> str:
    """Returns the frame that refuses *steer*."""
    error = {"code": code, "message": message, "type": "invalid_request_error"}
    failed = {"input": steer.input, "previous_response_id": steer.target}
    frame = {"type": "response.steer.failed", "sequence_number": 0, "error": error, "steer": failed}
    return encode(frame).decode()


def _error(event: dict[str, Any], status: int, lane: str | None) -> str:
    given = event.get("error")
    flat = {name: event.get(name) for name in ("code", "message", "param")}
    nested = {"type": None, **flat, **(given if isinstance(given, dict) else {})}
    nested["type"] = nested["type"] or type_of_status(status)
    frame = {"type": "error", "status": status, **event, "error": nested}
    return encode(frame if lane is None else {**frame, "stream_id": lane}).decode()


class Frames:
    """The events of one response on its way to *lane*: server-sent events in, text frames out.

    *continues* is put into the response objects as their `previous_response_id`, where the upstream was not told of
    it. What memory needs is kept: *response_id*, *terminal* (the type that ended it), *output* (items as JSON bytes).
    """

    def __init__(self, lane: str | None, *, limit: int, continues: str | None = None) -> None:
        self.lane = lane
        self.limit = limit
        self.continues = continues
        self.decoder = Decoder(limit=limit)
        self.response_id: str | None = None
        self.terminal: str | None = None
        self.items: list[bytes] = []
        self.response = b""

    @property
    def output(self) -> list[bytes]:
        """The items of the response, in order: each as it was when it was done."""
        if self.items or not self.response:
            return self.items
        output = bytes(_members(self.response).get("output", b"[]"))
        try:
            check(output, depth=len(output), values=VALUES)
            return [bytes(item) for item in _raws(output)]
        except (Unreadable, msgspec.ValidationError):  # it is too much, or no list
            return []

    def feed(self, events: bytes, status: int = 500) -> list[str]:
        """More of the stream in, the frames of what has become whole out; *status* is that of a failure among it."""
        frames = []
        for event in self.decoder.feed(events):
            data = as_text(event.data)
            if data.lstrip().startswith(b"{"):  # what is no object is no frame: `[DONE]`, or what is not of this API
                frames.append(self._frame(data, status))
        return frames

    def restart(self) -> None:
        """Forgets an event of which only a part has come, and will ever come."""
        self.decoder = Decoder(limit=self.limit)

    def _frame(self, data: bytes, status: int) -> str:
        if b'"response"' in data or b"output_item.done" in data or b"error" in data:
            return self._opened(data, status)
        return self._laned(data)

    def _laned(self, data: bytes) -> str:
        return (data if self.lane is None else with_member(data, "stream_id", self.lane)).decode()

    def _opened(self, data: bytes, status: int) -> str:
        try:
            members = _members(data)
        except UNREADABLE:
            return self._laned(data)
        type = type_of(members)
        if type == "error" or (type is None and "error" in members):
            event = short(data)
            return _error(event if isinstance(event, dict) else UNKNOWN, status, self.lane)
        if type == "response.output_item.done" and "item" in members:
            self.items.append(bytes(members["item"]))
        elif type is not None and "response" in members:
            data = self._lifecycle(type, data, bytes(members["response"]))
        return self._laned(data)

    def _lifecycle(self, type: str, data: bytes, response: bytes) -> bytes:
        if not response.startswith(b"{"):
            return data
        self.response_id = self.response_id or id_of(response)
        if type in TERMINAL:
            self.terminal, self.response = type, response
        place = span(data, "response") if self.continues is not None else None
        if self.continues is None or place is None:
            return data
        return data[: place[0]] + with_member(response, "previous_response_id", self.continues) + data[place[1] :]


def as_text(data: bytes) -> bytes:
    """Returns *data* as UTF-8, which a text frame has to be. Other bytes are replaced, as readers of server-sent events
    do (WHATWG HTML, 9.2.6)."""
    try:
        check_utf8(data)
        return data
    except Unreadable:
        return data.decode("utf-8", "replace").encode()


def data_of(text: str, limit: int) -> bytes:
    """Returns a frame's bytes.

    :raises InvalidRequest: it is larger than *limit* bytes.
    """
    data = text.encode("utf-8", "surrogatepass") if len(text) <= limit else b""
    if len(text) > limit or len(data) > limit:
        message = f"The frame is larger than the {limit} bytes that are accepted here."
        raise InvalidRequest(message, status=413, code="request_too_large")
    return data
