"""What the model had of hosted tools, kept with the response and replayed in later turns.

An item of a hosted tool does not say what the model read: a search names its query and no page. So each is kept with
the call and the answer as the model had them, and where an item comes back (by `previous_response_id`, in a
conversation, by reference, or echoed) the model gets exactly that: a function call and its output. Of an item that
nothing is known of, what it holds itself is given, by whoever writes the request (see `dialects.hosted_items`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from ...dialects.hosted_items import HOSTED, HOSTED_CALLS, REQUEST, RESPONSE, kind_of, picture_of, verdict_on
from ...dialects.values import object_in, objects, string_in
from ...errors import InvalidRequest
from ...exchange.job import BOUND_MARKS, Continuation, Job
from ...history.references import response_of
from ...history.turns import encoded
from ...operations import BODY
from ...providers.provider import Provider
from ...settings import KIB
from ...wire.json_body import Envelope
from ...wire.json_scan import parser
from .declarations import Filter
from .listing import Found
from .source import Json, Listed, Unlisted

CALLS = frozenset({"function_call", "custom_tool_call"})


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call as the model had it: the function's *name*, its *arguments* and *output*, and the *call_id*, by which
    some upstreams know what they signed; *round* tells which calls were made at once. Of a request for an approval:
    *label* and *tool* are the server's, and *forced* says that the host demands it. Of a list: all *tools* of the
    server at *place* (a digest). *images* are those of the output, as `data:` URLs, which the item does not hold."""

    name: str
    arguments: str
    output: str = ""
    round: int = 0
    call_id: str = ""
    label: str = ""
    tool: str = ""
    forced: bool = False
    place: str = ""
    tools: tuple[Listed, ...] = ()
    images: tuple[str, ...] = ()


_decode = parser(dict[str, Remembered])
encode = msgspec.json.Encoder().encode


async def remembered_of(job: Job, items: Iterable[Any]) -> dict[str, Remembered]:
    """What is remembered of those among *items* that are ours, by id.

    :raises StoreUnavailable: the store does not answer.
    """
    found: dict[str, Remembered] = {}
    for response_id in dict.fromkeys(map(response_of, ids_in(items))):
        if response_id is not None and (kept := await job.setup.state.remembered(job.request.tenant, response_id)):
            found |= _decode(kept)
    return found


MOST_KEPT = 256 * KIB
"""Bytes of a list that is kept with a response; a larger one is fetched again."""
UNKNOWN_CODES = frozenset({-32601, -32602})
"""JSON-RPC errors by which a server refuses a tool that it does not know (MCP, revision 2025-11-25, "Tools")."""
UNKNOWN_TOOL = re.compile(r"unknown tool|no such tool|tool\b.{0,160}\bnot found", re.IGNORECASE)
"""How the SDKs of Python and TypeScript say so in the result of a call."""


@dataclass(frozen=True, slots=True)
class KnownList:
    """What a conversation knows of one server: its *tools*, None where they have to be fetched, and whether the client
    *has* the list."""

    tools: Sequence[Listed] | None
    has: bool


def kept_list(place: str | None, tools: Sequence[Listed]) -> Remembered:
    """What is remembered of a list; nothing of one that is too large, or has no *place* to be known by."""
    kept = Remembered("", "", place=place or "", tools=tuple(tools))
    return kept if place is not None and len(encode(kept)) <= MOST_KEPT else Remembered("", "")


def known_list(
    label: str,
    place: str | None,
    before: Sequence[Any],
    own: Sequence[Any],
    known: Mapping[str, Remembered],
    wanted: Filter | None = None,
) -> KnownList:
    """What the last list of the server *label* holds, where that is the server at *place*. *before* are the items of
    earlier turns, *own* those of the request.

    A list that is remembered is all that the server gave. One that the client brings, and of which nothing is known, is
    its word: it stands for the list of a server that only the client names (*wanted* is what it asks for there), where
    it could as well have had its server say so, and for that of no other.
    """
    for brought, items in ((True, own), (False, before)):
        for item in reversed(items):
            kind = kind_of(item)
            if kind not in ("mcp_list_tools", "mcp_call") or string_in(item, "server_label") != label:
                continue
            if kind == "mcp_call":
                if is_of_unknown_tool(item):
                    return KnownList(None, has=False)
                continue
            kept = known.get(string_in(item, "id"))
            if kept is not None and kept.place:
                return KnownList(kept.tools, has=True) if kept.place == place else KnownList(None, has=False)
            return KnownList(brought_list(item, wanted) if brought and wanted is not None else None, has=True)
    return KnownList(None, has=False)


def brought_list(item: Json, wanted: Filter) -> Sequence[Listed] | None:
    """The tools in *item*, a list of the client's, as they would be read from a server; None where they cannot stand
    for the server's."""
    found = Found(lambda text: None)
    try:
        for tool in objects(item.get("tools")):
            only_reads = object_in(tool, "annotations").get("read_only") is True
            given = {"inputSchema": tool.get("input_schema"), "annotations": {"readOnlyHint": only_reads}}
            found.add({**tool, **given})
    except Unlisted:
        return None
    missing = (wanted.names or frozenset()) - found.tools.keys()
    return [*found.tools.values()] if found.tools and not missing else None


def is_of_unknown_tool(item: Json) -> bool:
    """Returns whether the call *item* failed since its server knows no such tool."""
    error = object_in(item, "error")
    if error.get("type") == "mcp_protocol_error":
        return error.get("code") in UNKNOWN_CODES
    return any(UNKNOWN_TOOL.search(string_in(part, "text")) for part in objects(error.get("content")))


def ids_in(items: Iterable[Any]) -> Iterator[str]:
    """The ids of the items of hosted tools, and of what approvals and references name."""
    for item in items:
        if not isinstance(item, dict):
            continue
        kind = kind_of(item)
        id = string_in(item, "approval_request_id" if kind == RESPONSE else "id")
        if id and (kind in HOSTED or kind == "item_reference" or item.get("type") is None):
            yield id


def replayed(
    items: Iterable[Any],
    known: Mapping[str, Remembered],
    answers: Mapping[str, Any],
    twice: frozenset[str] = frozenset(),
    sees: bool = False,
) -> list[Any]:
    """*items* with those of our tools of which something is *known*, by id, as calls and outputs; others as they are.
    Outputs stand behind all calls that were made at once, with their images for a model that *sees* them. *answers* are
    those to requests for approval (see `answers_in`); the ids in *twice* were there before, and are left out here."""
    made: list[Any] = []
    waiting: list[Json] = []
    last: int | None = None
    for item in items:
        kind = kind_of(item)
        if kind in HOSTED and string_in(item, "id") in twice:
            continue
        pair = _pair(item, known, answers, sees) if kind in HOSTED_CALLS else None
        if pair is not None:
            if waiting and pair[2] != last:
                made, waiting = made + waiting, []
            last = pair[2]
            made.append(pair[0])
            waiting.append(pair[1])
        elif kind in (REQUEST, RESPONSE) and _is_handled(item, known, answers):
            continue
        elif kind == "mcp_list_tools" and string_in(item, "id") in known:
            continue
        else:
            if kind not in CALLS:
                made, waiting = made + waiting, []
            made.append(item)
    return made + waiting


def answers_in(items: Iterable[Any]) -> dict[str, Any]:
    """What became of requests for approval, by id: the call that was made, or the client's answer."""
    found: dict[str, Any] = {}
    for item in items:
        if isinstance(item, dict) and isinstance(id := item.get("approval_request_id"), str):
            if item.get("type") == "mcp_call" or id not in found:
                found[id] = item
    return found


def _is_handled(item: Json, known: Mapping[str, Remembered], answers: Mapping[str, Any]) -> bool:
    """Returns whether an approval, or a request for one, is covered by another item."""
    id = string_in(item, "approval_request_id" if kind_of(item) == RESPONSE else "id")
    return id in known or answers.get(id, {}).get("type") == "mcp_call"


def _pair(
    item: Json, known: Mapping[str, Remembered], answers: Mapping[str, Any], sees: bool
) -> tuple[Json, Json, int] | None:
    id = string_in(item, "id")
    found = known.get(id)
    if found is None:
        return None
    if kind_of(item) == REQUEST:
        return _unapproved(id, found, answers.get(id))
    return pair_of(f"call_{id}", found, _images_of(item, found) if sees else ())


def _images_of(item: Json, call: Remembered) -> Sequence[str]:
    """The images of *call*: an image that was drawn stands in its *item*."""
    picture = picture_of(item)
    return call.images if picture is None else (f"data:{picture[0]};base64,{picture[1]}",)


def pair_of(call_id: str, call: Remembered, images: Sequence[str] = ()) -> tuple[Json, Json, int]:
    """*call* and its output, and when it was made; under *call_id*, unless it had one."""
    call_id = call.call_id or call_id
    made = {"type": "function_call", "call_id": call_id, "name": call.name, "arguments": call.arguments or "{}"}
    output = output_of(call.output, images)
    return made, {"type": "function_call_output", "call_id": call_id, "output": output}, call.round


def output_of(text: str, images: Sequence[str]) -> Any:
    """The output of a function: *text*, and *images* by their URLs."""
    shown = [{"type": "input_image", "image_url": url} for url in images]
    return [{"type": "input_text", "text": text}, *shown] if shown else text


def _unapproved(id: str, found: Remembered, answer: Json | None) -> tuple[Json, Json, int] | None:
    """The call that waited for the client's *answer*, if it was not made."""
    if answer is not None and (kind_of(answer) == "mcp_call" or answer.get("approve") is True):
        return None
    return pair_of(f"call_{id}", msgspec.structs.replace(found, output=verdict_on(answer)))


# The request of a round: what the client's own says, with the items of our tools as the model had them, and what the
# rounds before it have brought. A continuation of its own, so that each upstream of a chain gets it in its own form.


Transform = Callable[[list[Any]], list[Any]]


class Replay:
    """See `exchange.job.Continuation`. *base* is the request's own, None where it names nothing. *transform* is applied
    to the items of the input; *round_items* are those of the rounds so far, and *latest* those that answer the last
    round: all that an upstream needs which keeps the conversation itself."""

    def __init__(
        self,
        envelope: Envelope,
        base: Continuation | None,
        transform: Transform,
    ) -> None:
        self.original = envelope
        self.base = base
        self.transform = transform
        self.round_items: list[Json] = []
        self.latest: list[Json] = []

    @property
    def bound(self) -> bool:
        """See `exchange.job.Continuation`."""
        if self.base is not None:
            return self.base.bound
        names = any(self.original.has(name) for name in BODY.members)
        return names or BOUND_MARKS[0] in self.original.raw

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """See `exchange.job.Continuation`: with the rounds so far in the input."""
        given = self.original if self.base is None else self.base.envelope(provider, key)
        members = dict(given.members)
        if self.latest and given.has("conversation"):
            return given.with_members({**members, "input": Raw(encoded(self.latest))})
        items = given.body.get("input")
        made = self._input(items)
        if isinstance(made, list) and has_loose(made):
            made = paired(made)
        if made is not items:
            members["input"] = Raw(encoded(made))
        return given.with_members(members)

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """See `exchange.job.Continuation`: with the rounds so far in the input."""
        given = self.original.body if self.base is None else self.base.body(provider, key)
        made = dict(given)
        if "input" in made or self.round_items:
            made["input"] = self._input(made.get("input"))
        return made

    def earlier_json(self) -> bytes:
        """See `exchange.job.Continuation`."""
        return b"" if self.base is None else self.base.earlier_json()

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """See `exchange.job.Continuation`."""
        return error if self.base is None else self.base.in_own_terms(error)

    def _input(self, items: Any) -> Any:
        """*items* as they are to be sent; those that came where there is nothing to change in them."""
        if isinstance(items, str) and self.round_items:
            items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": items}]}]
        if items is None and self.round_items:
            items = []
        if not isinstance(items, list):
            return items  # whoever reads it says what is wrong with it
        made = self.transform(items)
        if not self.round_items and len(made) == len(items) and all(map(_is, made, items)):
            return items
        return made + readable(self.round_items)


def readable(items: list[Any]) -> list[Any]:
    """*items* of rounds that no upstream has kept: without reasoning that brings nothing along, which an upstream would
    look up, and without the ids of what was said after it (OpenAI: "was provided without its required 'reasoning'
    item")."""
    made: list[Any] = []
    behind = False
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "reasoning" and not item.get("encrypted_content") and not item.get("content"):
            behind = True
            continue
        behind = behind and kind is not None and not kind.endswith("_output")
        made.append({name: value for name, value in item.items() if name != "id"} if behind else item)
    return made


def has_loose(items: list[Any]) -> bool:
    """Returns whether there is reasoning that nothing follows."""
    return any(map(_is_loose, items, [*items[1:], None]))


def paired(items: list[Any]) -> list[Any]:
    """*items* without reasoning that nothing follows: what did was a call that the client has not seen. OpenAI refuses
    reasoning without "its required following item"."""
    following = [*items[1:], None]
    return [one for one, after in zip(items, following, strict=True) if not _is_loose(one, after)]


def _is_loose(item: Any, after: Any) -> bool:
    """Returns whether *item* is reasoning, and *after* is not what it led to: something that the assistant said or
    called."""
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    kind = after.get("type", "message") if isinstance(after, dict) else None
    led = kind == "message" and after.get("role") == "assistant" or str(kind).endswith("_call")
    return not led


def _is(one: Any, other: Any) -> bool:
    return one is other
