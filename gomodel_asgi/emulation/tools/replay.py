"""The items of hosted tools in later requests: each as the call and the output that the model had.

Of an item that nothing is known of, what it holds itself is given, by whoever writes the request (see
`dialects.hosted_items`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import is_
from typing import Any

import msgspec
from msgspec import Raw, structs

from ...dialects.hosted_items import HOSTED, HOSTED_CALLS, REQUEST, RESPONSE, kind_of, picture_of, verdict_on
from ...dialects.values import string_in
from ...errors import InvalidRequest
from ...exchange.job import BOUND_MARKS, Continuation, Job
from ...history.continuation import Recalled
from ...history.turns import Line, encoded
from ...operations import BODY
from ...providers.provider import Provider
from ...wire.json_body import Envelope
from .plan import Candidate
from .remembered import Remembered
from .seams import Json

CALLS = frozenset({"function_call", "custom_tool_call"})


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
        if not self.round_items and len(made) == len(items) and all(map(is_, made, items)):
            return items
        return made + readable(self.round_items)


def readable(items: list[Any]) -> list[Any]:
    """*items* of rounds that no upstream has kept: without reasoning that brings nothing along, which an upstream would
    look up, and without the ids of the items after it (OpenAI: "was provided without its required 'reasoning'
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


def continuing(
    job: Job,
    known: Mapping[str, Remembered],
    own: Sequence[Any],
    before: Sequence[Json],
    sees: bool,
) -> Job:
    """*job* with the items of our tools as the model had them, as far as they are *known*, by id; *sees* says that it
    is to have images too."""
    answers = answers_in([*before, *own])
    base = job.continuation
    if isinstance(base, Recalled):
        base = base.changed(partial(_changed, known=known, answers=answers, sees=sees), known)
    twice = frozenset(str(item.get("id")) for item in before)
    transform = partial(replayed, known=known, answers=answers, twice=twice, sees=sees)
    return structs.replace(job, continuation=Replay(job.request.envelope, base, transform))


def see(chain: Sequence[Candidate]) -> bool:
    """Returns whether images in outputs can be given to each Target of *chain*: who of it answers is not known
    before."""
    return all(one.upstream.sees for one in chain)


def _changed(line: Line, known: Mapping[str, Remembered], answers: Mapping[str, Any], sees: bool) -> Line:
    items = replayed(line.items, known, answers, sees=sees)
    is_ours = any(item.get("id") in known for item in line.items)
    return Line(readable(items) if is_ours else items, line.account, line.type)
