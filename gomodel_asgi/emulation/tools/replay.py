"""The request of a round: what the client's own says, with the items of our tools as the model had them, and what the
rounds before it have brought. A continuation of its own, so that each upstream of a chain gets it in its own form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw

from ...errors import InvalidRequest
from ...exchange.job import BOUND_MARKS, Continuation
from ...history.turns import encoded
from ...operations import BODY
from ...providers.provider import Provider
from ...wire.json_body import Envelope
from .source import Json

Transform = Callable[[list[Any]], list[Any]]


class Replay:
    """See `exchange.job.Continuation`. *base* is the request's own, None where it names nothing. *transform* is applied
    to the items of the input; *said* are those of the rounds so far, and *latest* those of them that answer the last
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
        self.said: list[Json] = []
        self.latest: list[Json] = []

    @property
    def bound(self) -> bool:
        if self.base is not None:
            return self.base.bound
        names = any(self.original.has(name) for name in BODY.members)
        return names or BOUND_MARKS[0] in self.original.raw

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
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
        given = self.original.body if self.base is None else self.base.body(provider, key)
        made = dict(given)
        if "input" in made or self.said:
            made["input"] = self._input(made.get("input"))
        return made

    def said_before(self) -> bytes:
        return b"" if self.base is None else self.base.said_before()

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        return error if self.base is None else self.base.in_own_terms(error)

    def _input(self, items: Any) -> Any:
        """*items* as they are to be sent; those that came where there is nothing to change in them."""
        if isinstance(items, str) and self.said:
            items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": items}]}]
        if items is None and self.said:
            items = []
        if not isinstance(items, list):
            return items  # whoever reads it says what is wrong with it
        made = self.transform(items)
        if not self.said and len(made) == len(items) and all(map(_is, made, items)):
            return items
        return made + readable(self.said)


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
    """Whether there is reasoning that nothing follows."""
    return any(map(_is_loose, items, [*items[1:], None]))


def paired(items: list[Any]) -> list[Any]:
    """*items* without reasoning that nothing follows: what did was a call that the client has not seen. OpenAI refuses
    reasoning without "its required following item"."""
    following = [*items[1:], None]
    return [one for one, after in zip(items, following, strict=True) if not _is_loose(one, after)]


def _is_loose(item: Any, after: Any) -> bool:
    """Whether *item* is reasoning, and *after* is not what it led to: something that the assistant said or called."""
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    kind = after.get("type", "message") if isinstance(after, dict) else None
    led = kind == "message" and after.get("role") == "assistant" or str(kind).endswith("_call")
    return not led


def _is(one: Any, other: Any) -> bool:
    return one is other
