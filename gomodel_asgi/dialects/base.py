"""What a dialect is: one upstream API, spoken in both directions, without I/O.

    Call ──request()──► Outgoing ──(transport)──► reply bytes ──translator().feed()──► Emitter

A dialect holds no state between calls; what one reply needs to remember lives in its translator.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol

import msgspec

from ..errors import GatewayError, InvalidRequest
from ..wire.event_writer import Emitter
from ..wire.json_scan import parser
from .unsupported import REFUSED

Json = dict[str, Any]
Key = tuple[str, ...]
"""What a function stands for: a family (`("web_search",)`), or `("mcp", label, name)`."""


@dataclass(frozen=True, slots=True)
class ShownFunctions:
    """What the model is shown in place of hosted tools: the *names* of functions, by what they stand for. *sees* says
    that it can be shown images."""

    names: Mapping[Key, str] = field(default_factory=dict)
    sees: bool = False


NOTHING_SHOWN = ShownFunctions()


@dataclass(frozen=True, slots=True)
class Call:
    """One request for one Target, in the client's terms.

    *body* is the client's JSON without the provider hint, `params` of the Target applied, `model` as the Target says;
    what names stored state (`previous_response_id`, `item_reference`) has been resolved into `input`. *provider* and
    *type* name the upstream, *unsupported* says what happens to what it cannot carry (see the module `unsupported`):
    `InvalidRequest` naming it, or it is left out and listed in `Outgoing.dropped`. *reasoning_tags* stand around
    reasoning that the upstream writes into its text. *shown* are the functions that stand for tools that the host runs.
    """

    operation: str
    body: Mapping[str, Any]
    model: str
    stream: bool
    provider: str
    type: str
    unsupported: Literal["auto", "reject", "drop"] = "auto"
    depth: int = 128
    reasoning_tags: tuple[str, str] | None = None
    shown: ShownFunctions = NOTHING_SHOWN


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The upstream's form of a Call: *path* is joined to the provider's base URL, *query* is without `?`.

    *dropped* lists what was left out, by path, for observers; *unsupported* those of it that the client sees too,
    in the header `x-gomodel-unsupported`.
    """

    path: str
    body: bytes = field(repr=False)
    query: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    method: str = "POST"
    dropped: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()


class Translator(Protocol):
    """Reads one reply, and calls an Emitter with what happened."""

    def feed(self, event: str, data: bytes) -> None:
        """Takes one server-sent event of the upstream (*event* is its name, "" where it has none), or a unary reply's
        body.

        Calls the emitter at once with what it brings; ends the response when the upstream says so.

        :raises ValueError: *data* is not what this API sends (not JSON, not an object of its kind).
        """
        ...

    def close(self) -> None:
        """Ends the response if the end of the stream is a proper end in this API.

        Otherwise the response stays open, and the caller fails it as truncated.
        """
        ...


class Continuing(Translator, Protocol):
    """A translator of an API whose answers may take several requests."""

    again: Outgoing | None
    """The request that goes on with the answer: set when a reply has ended and the answer has not. The caller makes it,
    sets this back to None, and feeds what comes to the same translator."""


class Dialect(Protocol):
    """One upstream API. Implement it to add your own; see `examples/own_dialect.py`."""

    name: str

    def request(self, call: Call) -> Outgoing:
        """Translates *call*.

        :raises InvalidRequest: a member is malformed (*param* is its path, `input[3].content[0].type`), or cannot be
            carried and is refused under `call.unsupported`.
        """
        ...

    def translator(self, call: Call, emitter: Emitter) -> Translator:
        """A fresh reader for the reply to *call*."""
        ...

    def error(self, status: int, body: bytes) -> GatewayError | None:
        """Returns the error that a body of this API describes, None where *body* is none.

        It is an `UpstreamRejected` with the provider's message and code and the error's own status (else *status*), or
        an `UpstreamAuthError` where the error means our credentials.
        """
        ...


# The dialects that come with the package, each imported when a request first needs it.


CLASSES = {"chat": "ChatDialect", "anthropic": "AnthropicDialect", "gemini": "GeminiDialect"}


@cache
def built_in(name: str) -> Dialect:
    """The dialect of this name."""
    dialect: Dialect = getattr(import_module(f".{name}", __package__), CLASSES[name])()
    return dialect


def carries(dialect: Dialect, call: Call, tool: Mapping[str, Any]) -> bool:
    """Returns whether *dialect* gives its upstream the hosted *tool* of *call*, neither refusing it nor leaving it out.
    The dialect itself is tried, so that no second rule can contradict it.

    :raises InvalidRequest: *call* is malformed.
    """
    others = [one for one in call.body["tools"] if one != tool]
    without = dialect.request(replace(call, body={**call.body, "tools": others}))
    try:
        return dialect.request(call).body != without.body
    except InvalidRequest as error:
        if error.code != REFUSED:
            raise
        return False


# Provider-only state inside the `encrypted_content` of a reasoning item.
#
# Some upstreams want back on the next turn what no member of the Responses API holds: signatures, reasoning in their
# own form. It travels through the client as one opaque text with a tag that says whose it is, so that content of
# another provider, or of a real OpenAI, is recognised and left out.
#
# This is packing, not encryption: who holds the text can read and forge it. It therefore holds nothing that the
# client may not see, and what comes back is the client's word: check the shape of a payload like any other input.


PREFIX = "gm1."
"""Names the format and its version. OpenAI's own content begins with `gAAAA`."""


class OpaqueState(msgspec.Struct):
    """What is packed: the type of the provider, its model, and the payload."""

    provider: str
    model: str
    payload: dict[str, Any]


_decode_state = parser(OpaqueState)


def pack_state(provider: str, model: str, payload: dict[str, Any]) -> str:
    """Returns *payload* as a text that `unpack_state` reads for the same *provider* type (`Call.type`)."""
    return resealed(OpaqueState(provider, model, payload))


def resealed(state: OpaqueState | dict[str, Any]) -> str:
    """Returns *state*, as `packed_json` has given it, as a text."""
    packed = msgspec.json.encode(state)
    return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def packed_json(text: str) -> bytes:
    """Returns the JSON in a text of ours, `b""` where the text is another's, or damaged."""
    if not text.startswith(PREFIX):
        return b""
    try:
        packed = text[len(PREFIX) :].encode("ascii")
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), b"-_", validate=True)
    except ValueError:
        return b""


def unpack_state(text: str | None, provider: str, model: str | None = None) -> dict[str, Any] | None:
    """Returns the payload of *text*, None where it is not ours, damaged, or of another provider type.

    With *model* given, another model's state is foreign too. Never raises.
    """
    found = _state_in(text)
    if found is None or found.provider != provider or (model is not None and found.model != model):
        return None
    return found.payload


def payload_in(text: Any) -> dict[str, Any] | None:
    """Returns the payload of *text* for whichever provider type, None where it is not ours or damaged."""
    found = _state_in(text) if isinstance(text, str) else None
    return None if found is None else found.payload


def _state_in(text: str | None) -> OpaqueState | None:
    try:
        found: OpaqueState = _decode_state(packed_json(text or ""))
        return found
    except (ValueError, RecursionError):
        return None
