"""What was said in one response: its input and its output, linked to the response that it continued.

A turn holds only its own input, so a conversation of n turns costs n and not n², and is read by walking back. The
links are ids: where one of them has been deleted or has expired, what came after it cannot be replayed either, since
nobody knows any more what it was said to.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..seams.store import Record, Store
from ..wire.json_scan import parsed
from .tenancy import Codec, Tenancy, valid_id

Json = dict[str, Any]

TURNS = "turns"

# Turns that one conversation may go back; a worker reads them one by one.
LONGEST = 1000


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """*input* and *output* are JSON as it came: a string or items, and items. *account* and *type* are those of the
    provider that answered. *response* is the whole response object where the upstream keeps none, else empty.
    *previous* is the response that was continued, *request* a request that has yet to run in the background. *told* is
    what a model was told by hosted tools, as `emulation.tools` has it."""

    input: bytes
    output: bytes
    account: str
    type: str
    response: bytes = b""
    previous: str | None = None
    conversation: str | None = None
    request: bytes = b""
    told: bytes = b""


class Line(msgspec.Struct, frozen=True):
    """Items of one turn, and whose they are."""

    items: list[Json]
    account: str
    type: str


CODEC = Codec(Turn)


class Turns:
    """Keeps turns in *store*, each tenant's apart. Every method raises `StoreUnavailable` where the store does."""

    def __init__(self, store: Store, tenancy: Tenancy) -> None:
        self._store = store
        self._tenancy = tenancy

    async def keep(self, tenant: str | None, id: str, turn: Turn) -> None:
        """Keep *turn* as that of the response *id*, in place of an earlier one."""
        await self._store.put(TURNS, await self._tenancy.key(tenant, id), CODEC.encode(turn))

    async def find(self, tenant: str | None, id: str) -> Turn | None:
        """The turn; None for an unknown id and for another tenant's."""
        return CODEC.decode(await self._record(tenant, id))

    async def versioned(self, tenant: str | None, id: str) -> tuple[Turn, int] | None:
        """The turn, and its version, which `replace` asks for."""
        record = await self._record(tenant, id)
        turn = CODEC.decode(record)
        return None if record is None or turn is None else (turn, record.version)

    async def replace(self, tenant: str | None, id: str, version: int, turn: Turn) -> int | None:
        """Put *turn* in place of the one of this *version*: the new version, None where there is another by now."""
        return await self._store.swap(TURNS, await self._tenancy.key(tenant, id), version, CODEC.encode(turn))

    async def delete(self, tenant: str | None, id: str) -> bool:
        """Remove the turn; whether there was one."""
        return await self._store.delete(TURNS, await self._tenancy.key(tenant, id)) if valid_id(id) else False

    async def _record(self, tenant: str | None, id: str) -> Record | None:
        return await self._store.get(TURNS, await self._tenancy.key(tenant, id)) if valid_id(id) else None

    async def history(self, tenant: str | None, id: str) -> list[Line] | None:
        """All that was said up to and with the response *id*, in order; None where a part of it is missing."""
        lines: list[Line] = []
        following: str | None = id
        for _ in range(LONGEST):
            turn = await self.find(tenant, following) if following is not None else None
            if following is None or turn is None or turn.conversation is not None:
                break  # what was said in a conversation goes on there: it alone knows what came before
            said = [*items_of(turn.input, following), *items_of(turn.output, following)]
            lines.append(Line(said, turn.account, turn.type))
            following = turn.previous
        return None if following is not None else lines[::-1]


def items_of(raw: bytes, response_id: str) -> list[Json]:
    """JSON *raw* as items, each with an id: a string is a message of the user's. What is no item is left out."""
    try:
        value = parsed(raw) if raw else []
    except (msgspec.DecodeError, RecursionError):
        return []
    if isinstance(value, str):
        value = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    found = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    return [identified(item, f"{response_id.removeprefix('resp_')}i{number:02x}") for number, item in enumerate(found)]


PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco",
    "custom_tool_call": "ctc", "custom_tool_call_output": "ctco", "compaction": "cmp",
}  # fmt: skip


def identified(item: Json, suffix: str) -> Json:
    """*item* as lists show it: with an id and a type, the content of a message in parts; what it has stays."""
    type = item.get("type") or "message"
    shown = {**item, "type": type}
    if not isinstance(item.get("id"), str):
        shown = {"id": f"{PREFIXES.get(str(type), 'item')}_{suffix}", **shown}
    if isinstance(item.get("content"), str) and type == "message":
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        shown["content"] = [{"type": kind, "text": item["content"]}]
    return shown
