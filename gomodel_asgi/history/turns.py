"""The turns of conversations: a response's input and output, linked to the response that it continued.

A turn holds only its own input, so a conversation of n turns costs n and not n². The links are ids: where one of them
has been deleted or has expired, what came after it cannot be replayed either, since nobody knows any more what it
answered.

So that a long thread is read in few round trips, a turn also names some of those before it: those of its own ten, then
one of each ten of its own hundred, then one of each hundred. With them turn 437 leads to all others in four steps:

    437 ──► 436 … 430, 420, 410, 400, 300, 200, 100, 0      430 ──► 429 … 420      400 ──► 399 … 390, 380 … 300
                                                            300 ──► 299 … 290, 280 … 200        380 ──► 379 … 370

That is some 15 ids in a turn, and no more than the links give: what is read early is still followed link by link.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import msgspec

from ..seams.store import Record, Store, get_many
from ..settings import KIB
from ..threads import paced
from ..wire.json_body import invalid_json
from ..wire.json_scan import parsed
from .tenancy import Codec, Tenancy, valid_id

Json = dict[str, Any]

TURNS = "turns"

# Turns that one conversation may go back.
LONGEST = 1000

# Bytes of turns that become values between two chances for other tasks to run; about a millisecond.
STEP = 256 * KIB


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """*input* and *output* are JSON as it came: a string or items, and items. *account* and *type* are those of the
    provider that answered. *response* is the whole response object where the upstream keeps none, else empty.
    *previous* is the response that was continued, *request* a request that has yet to run in the background. *depth*
    turns are known to come before it, at most `LONGEST`; *ancestors* are those of them that it names (`named_at`).
    *remembered* is what later turns have to know of its hosted tools, as `emulation.tools` has it; *hold* what a
    request that has yet to end in the background holds of its quotas. *guards* names the host's guards that have let
    the answer pass."""

    input: bytes
    output: bytes
    account: str
    type: str
    response: bytes = b""
    previous: str | None = None
    conversation: str | None = None
    request: bytes = b""
    depth: int = 0
    ancestors: tuple[str, ...] = ()
    remembered: bytes = b""
    hold: bytes = b""
    guards: tuple[str, ...] = ()


class Link(msgspec.Struct, frozen=True):
    """The members of a turn that lead to those before it."""

    depth: int = 0
    ancestors: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True):
    """Items of one turn, whose they are, and the *response* that they came with, "" where that is not known."""

    items: list[Json]
    account: str
    type: str
    response: str = ""


CODEC = Codec(Turn)
LINKS = Codec(Link)


def named_at(depth: int) -> list[int]:
    """Returns which turns the turn at *depth* names, by their depths, the nearest first: those of its own ten, one of
    each ten of its own hundred, one of each hundred."""
    named: list[int] = []
    nearest, step = depth - 1, 1
    while nearest >= 0:
        last = nearest // (10 * step) * 10 * step if step < 100 else 0
        named += range(nearest, last - 1, -step)
        nearest, step = last - 10 * step, 10 * step
    return named


class Turns:
    """Keeps turns in *store*, each tenant's apart. Every method raises `StoreUnavailable` where the store does."""

    def __init__(self, store: Store, tenancy: Tenancy) -> None:
        self._store = store
        self._tenancy = tenancy

    async def keep(self, tenant: str | None, id: str, turn: Turn) -> None:
        """Keeps *turn* as that of the response *id*, in place of an earlier one."""
        await self._store.put(TURNS, await self._tenancy.key(tenant, id), CODEC.encode(turn))

    async def find(self, tenant: str | None, id: str) -> Turn | None:
        """Returns the turn; None for an unknown id and for another tenant's."""
        return CODEC.decode(await self._record(tenant, id))

    async def versioned(self, tenant: str | None, id: str) -> tuple[Turn, int] | None:
        """Returns the turn, and its version, which `replace` asks for."""
        record = await self._record(tenant, id)
        turn = CODEC.decode(record)
        return None if record is None or turn is None else (turn, record.version)

    async def replace(self, tenant: str | None, id: str, version: int, turn: Turn) -> int | None:
        """Puts *turn* in place of the one of this *version*. Returns the new version, None where it has another."""
        return await self._store.swap(TURNS, await self._tenancy.key(tenant, id), version, CODEC.encode(turn))

    async def delete(self, tenant: str | None, id: str) -> bool:
        """Removes the turn. Returns whether there was one."""
        return await self._store.delete(TURNS, await self._tenancy.key(tenant, id)) if valid_id(id) else False

    async def _record(self, tenant: str | None, id: str) -> Record | None:
        return await self._store.get(TURNS, await self._tenancy.key(tenant, id)) if valid_id(id) else None

    async def linked(self, tenant: str | None, turn: Turn, before: Sequence[Line] | None = None) -> Turn:
        """Returns *turn* with the names of those before it. *before* is the conversation so far, where it has been read
        (`history` of the response that it continues)."""
        if turn.previous is None:
            return turn
        if before:
            ids = [line.response for line in before]
            depth, named = len(ids), {number: id for number, id in enumerate(ids)}
        else:
            link = LINKS.decode(await self._record(tenant, turn.previous)) or Link()
            depth = link.depth + 1
            named = {link.depth: turn.previous, **dict(zip(named_at(link.depth), link.ancestors, strict=False))}
        if depth >= LONGEST:
            return msgspec.structs.replace(turn, depth=LONGEST)
        ancestors = tuple([named[number] for number in named_at(depth) if number in named])
        return msgspec.structs.replace(turn, depth=depth, ancestors=ancestors)

    async def history(self, tenant: str | None, id: str) -> list[Line] | None:
        """Returns the conversation up to and with the response *id*, in order; None where a part of it is missing, or
        it is longer than `LONGEST`."""
        return await paced(_lines(await self._thread(tenant, id), id))

    async def _thread(self, tenant: str | None, id: str) -> dict[str, Turn]:
        """Returns the turns up to the response *id*, by their responses: at most `LONGEST`, and not those before one
        that is missing."""
        key = await self._tenancy.keyed(tenant)
        found: dict[str, Turn] = {}
        wanted = [id]
        while wanted:
            read = await self._read(key, wanted)
            found |= read
            if len(read) < len(wanted) or any(turn.conversation or turn.depth >= LONGEST for turn in read.values()):
                break
            names = [name for turn in read.values() for name in (turn.previous, *turn.ancestors) if name is not None]
            wanted = [name for name in dict.fromkeys(names) if name not in found][: LONGEST - len(found)]
        return found

    async def _read(self, key: Callable[[str], str], ids: Iterable[str]) -> dict[str, Turn]:
        """Returns those turns of *ids* that there are; *key* gives their places."""
        valid = [id for id in ids if valid_id(id)]
        records = await get_many(self._store, TURNS, [key(id) for id in valid])
        turns = {id: CODEC.decode(record) for id, record in zip(valid, records, strict=True)}
        return {id: turn for id, turn in turns.items() if turn is not None}


def _lines(turns: dict[str, Turn], id: str) -> Generator[None, None, list[Line] | None]:
    """Returns the thread of *turns* that ends with the response *id*, None where a part of it is missing."""
    lines: list[Line] = []
    following: str | None = id
    size = 0
    while following is not None:
        turn = turns.pop(following, None)
        if turn is None or turn.conversation is not None or turn.depth >= LONGEST:
            return None  # a conversation goes on where it is kept: it alone knows what came before
        both = [*items_of(turn.input, following), *items_of(turn.output, following)]
        lines.append(Line(both, turn.account, turn.type, following))
        following = turn.previous
        size += len(turn.input) + len(turn.output)
        if size > STEP:
            size = 0
            yield
    return lines[::-1]


def items_of(raw: bytes, response_id: str) -> list[Json]:
    """Returns the JSON *raw* as items with ids, without what is none: a string is a message of the user's."""
    try:
        value = parsed(raw) if raw else []
    except (msgspec.DecodeError, RecursionError):
        return []
    if isinstance(value, str):
        value = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    found = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    return [identified(item, f"{response_id.removeprefix('resp_')}i{number:02x}") for number, item in enumerate(found)]


def encoded(items: list[Any]) -> bytes:
    """Returns *items* as JSON.

    :raises InvalidRequest: they are nested too deeply.
    """
    try:
        return msgspec.json.encode(items)
    except RecursionError:
        raise invalid_json("it is nested too deeply.") from None


PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco",
    "custom_tool_call": "ctc", "custom_tool_call_output": "ctco", "compaction": "cmp",
}  # fmt: skip


def identified(item: Json, suffix: str) -> Json:
    """Returns *item* as lists show it: with an id and a type, the content of a message in parts; what it has stays."""
    type = item.get("type") or "message"
    shown = {**item, "type": type}
    if not isinstance(item.get("id"), str):
        shown = {"id": f"{PREFIXES.get(str(type), 'item')}_{suffix}", **shown}
    if isinstance(item.get("content"), str) and type == "message":
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        shown["content"] = [{"type": kind, "text": item["content"]}]
    return shown
