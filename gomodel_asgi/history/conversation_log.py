"""The conversations that are kept here: logs that grow at their end.

    conversations  "<id>"      the head: what it is about, how many segments there are and of how many bytes
                   "<id>/<n>"  the segment n: what one request has added

A segment is *added* under the next number, which only one worker can do, and then counted in the head by a
compare-and-swap. Who finds a number taken counts that segment first: so nothing is lost or counted twice, and where a
worker dies between the two steps, the next one that adds anything finishes its work. Until then nobody sees that
segment. So a turn costs its own bytes and a head, however long the conversation is.

A conversation that is to be deleted is marked so in its head, then its segments go, then the head. So nobody reads a
part of it, and where a worker dies between these steps, whoever deletes it again goes on. One that has lost a segment,
since an engine that is short of memory may drop any record, reads as unknown.

The size in the head is exact, but for the moment between the two steps of a removal: a worker that dies there leaves it
too large by what was removed, until the next removal, which counts anew.

A conversation lives as long as the record of its owner, which is older than its segments. Where the store cannot swap,
of two workers that add at the same moment the last one wins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import structs

from ..errors import InvalidRequest, StoreUnavailable
from ..seams.store import Record, Store, delete_many, get_many
from ..threads import paced
from ..wire.json_scan import parsed
from .tenancy import Codec, Tenancy
from .turns import STEP, Line, Turn, items_of

Json = dict[str, Any]

CONVERSATIONS = "conversations"

# Tries to change a conversation that others change at the same time; with each of them one of the others succeeds.
ATTEMPTS = 64

Admit = Callable[[int], Awaitable[bool]]
"""Makes room for a conversation of so many bytes in all; False where no room would be enough (`Quotas.admit_size`)."""


class Conversation(msgspec.Struct, frozen=True):
    """The head. *created_at* is Unix time in seconds, *size* the bytes of its *count* segments."""

    created_at: int
    metadata: Json
    count: int
    size: int = 0
    is_deleted: bool = False


class Segment(msgspec.Struct, frozen=True):
    """*items* is a list as JSON. *account* and *type* are those of the provider that has made or taken them: they
    can be sent there again as they are. "" where no response had to do with them."""

    items: bytes
    account: str = ""
    type: str = ""


HEADS = Codec(Conversation, schema=2)
SEGMENTS = Codec(Segment)

Key = Callable[[str], str]


class ConversationLog:
    """Keeps conversations in *store*, each tenant's apart.

    Every method raises `StoreUnavailable` where the store does, or where others change the conversation all the time;
    those that take an *admit* raise `InvalidRequest` where it makes no room.
    """

    def __init__(self, store: Store, tenancy: Tenancy) -> None:
        self._store = store
        self._tenancy = tenancy

    async def create(self, tenant: str | None, id: str, conversation: Conversation, items: bytes, admit: Admit) -> None:
        """Keeps a new *conversation* that begins with *items*, a list as JSON.

        :raises InvalidRequest: it is larger than what may be stored.
        """
        key, value = await self._tenancy.keyed(tenant), SEGMENTS.encode(Segment(items))
        conversation = structs.replace(conversation, count=1, size=len(value))
        head = HEADS.encode(conversation)
        await _make_room(admit, len(head) + len(value))
        await self._store.put(CONVERSATIONS, segment_key(key, id, 0), value)
        await self._store.put(CONVERSATIONS, key(id), head)

    async def find(self, tenant: str | None, id: str) -> Conversation | None:
        """Returns the head of the conversation, None where it is not held here."""
        return (await self._head(await self._tenancy.keyed(tenant), id))[1]

    async def lines(self, tenant: str | None, id: str) -> list[Line] | None:
        """Returns the items of the conversation, in order; None where it is not held here."""
        key = await self._tenancy.keyed(tenant)
        _, head = await self._head(key, id)
        segments = None if head is None else _decoded(await self._segments(key, id, head))
        return None if segments is None else await paced(_lines(segments))

    async def append(
        self, tenant: str | None, id: str, items: bytes, admit: Admit, *, account: str = "", type: str = ""
    ) -> Conversation | None:
        """Adds *items*, a list as JSON, at the end. Returns the head, None where the conversation is not held here.

        :raises InvalidRequest: the conversation would be larger than what may be stored.
        """
        key, value = await self._tenancy.keyed(tenant), SEGMENTS.encode(Segment(items, account, type))
        own: int | None = None
        for _ in range(ATTEMPTS):
            record, head = await self._head(key, id)
            if record is None or head is None:
                if own is not None:
                    await self._store.delete(CONVERSATIONS, segment_key(key, id, own))
                return None
            if own is not None and own < head.count:
                return head  # another worker has counted it
            size: int | None = len(value)
            if own is None:
                await _make_room(admit, len(record.value) + head.size + len(value))
                if await self._added(segment_key(key, id, head.count), value):
                    own = head.count
                else:
                    size = await self._size_of_segment(key, id, head.count)
            if size is None:
                continue  # whoever has added it has taken it back
            grown = structs.replace(head, count=head.count + 1, size=head.size + size)
            if await self._replaced(key(id), record, grown) and own is not None:
                return grown
        raise _restless()

    async def append_turn(self, tenant: str | None, id: str, turn: Turn, response_id: str, admit: Admit) -> bool:
        """Adds what a response was given and what it answered, where the conversation is held here. Returns False where
        the tenant's quota does not bear it."""
        items = [*items_of(turn.input, response_id), *items_of(turn.output, "")]
        try:
            await self.append(tenant, id, msgspec.json.encode(items), admit, account=turn.account, type=turn.type)
        except InvalidRequest:
            return False
        return True

    async def update(self, tenant: str | None, id: str, metadata: Json, admit: Admit) -> Conversation | None:
        """Replaces the *metadata*. Returns the head, None where the conversation is not held here.

        :raises InvalidRequest: the conversation would be larger than what may be stored.
        """
        key = await self._tenancy.keyed(tenant)
        for _ in range(ATTEMPTS):
            record, head = await self._head(key, id)
            if record is None or head is None:
                return None
            changed = structs.replace(head, metadata=metadata)
            size = len(HEADS.encode(changed))
            if size > len(record.value):
                await _make_room(admit, size + head.size)
            if await self._replaced(key(id), record, changed):
                return changed
        raise _restless()

    async def remove_item(self, tenant: str | None, id: str, item_id: str) -> Conversation | None:
        """Removes the item (each that has this id). Returns the head, None where the conversation is not held here.

        :raises LookupError: it has no such item.
        """
        key, was_there = await self._tenancy.keyed(tenant), False
        for _ in range(ATTEMPTS):
            record, head = await self._head(key, id)
            if record is None or head is None:
                return None
            records = await self._segments(key, id, head)
            segments = _decoded(records)
            if segments is None:
                return None
            without = await paced(_without(segments, item_id))
            was_there = was_there or bool(without)
            if not was_there:
                raise LookupError(item_id)
            if not await self._rewritten(key, id, records, without):
                continue
            sizes = [len(without.get(number, held.value)) for number, held in enumerate(records) if held is not None]
            changed = structs.replace(head, size=sum(sizes))
            if await self._replaced(key(id), record, changed):
                return changed
        raise _restless()

    async def delete(self, tenant: str | None, id: str) -> None:
        """Removes the conversation. Of one whose head is damaged the segments go when their time is over.

        :raises StoreUnavailable: the store does not answer, or others change the conversation all the time.
        """
        key = await self._tenancy.keyed(tenant)
        for _ in range(ATTEMPTS):
            record = await self._store.get(CONVERSATIONS, key(id))
            head = HEADS.decode(record)
            if record is None:
                return
            if head is None:
                await self._store.delete(CONVERSATIONS, key(id))
                return
            if head.is_deleted or await self._replaced(key(id), record, structs.replace(head, is_deleted=True)):
                # One more may have been added, and not been counted. The head goes last.
                places = [segment_key(key, id, number) for number in range(head.count + 1)]
                return await delete_many(self._store, CONVERSATIONS, [*places, key(id)])
        raise _restless()

    # Records...

    async def _head(self, key: Key, id: str) -> tuple[Record | None, Conversation | None]:
        """Returns the head as it is stored and as it reads, None where there is none."""
        record = await self._store.get(CONVERSATIONS, key(id))
        head = HEADS.decode(record)
        return (None, None) if head is None or head.is_deleted else (record, head)

    async def _segments(self, key: Key, id: str, head: Conversation) -> list[Record | None]:
        places = [segment_key(key, id, number) for number in range(head.count)]
        return await get_many(self._store, CONVERSATIONS, places)

    async def _size_of_segment(self, key: Key, id: str, number: int) -> int | None:
        held = await self._store.get(CONVERSATIONS, segment_key(key, id, number))
        return None if held is None else len(held.value)

    async def _rewritten(self, key: Key, id: str, records: Sequence[Record | None], values: dict[int, bytes]) -> bool:
        """Puts *values* in place of the segments of these numbers. Returns False where one was changed meanwhile."""
        for number, value in values.items():
            held, place = records[number], segment_key(key, id, number)
            if not self._store.atomic:
                await self._store.put(CONVERSATIONS, place, value)
            elif held is None or await self._store.swap(CONVERSATIONS, place, held.version, value) is None:
                return False
        return True

    async def _added(self, place: str, value: bytes) -> bool:
        if self._store.atomic:
            return await self._store.add(CONVERSATIONS, place, value) is not None
        await self._store.put(CONVERSATIONS, place, value)
        return True

    async def _replaced(self, place: str, held: Record, head: Conversation) -> bool:
        value = HEADS.encode(head)
        if self._store.atomic:
            return await self._store.swap(CONVERSATIONS, place, held.version, value) is not None
        await self._store.put(CONVERSATIONS, place, value)
        return True


def segment_key(key: Key, id: str, number: int) -> str:
    """Returns where the segment *number* lies; no other record does, since no id has a slash."""
    return key(f"{id}/{number}")


async def _make_room(admit: Admit, size: int) -> None:
    """Asks for room for *size* bytes more for the conversation.

    :raises InvalidRequest: the tenant may not store so much.
    """
    if not await admit(size):
        raise InvalidRequest("The conversation is larger than what may be stored.", code="quota_exceeded")


def _restless() -> StoreUnavailable:
    return StoreUnavailable("The conversation is being changed by others at this moment; try again.")


def _decoded(records: Iterable[Record | None]) -> list[Segment] | None:
    """Returns the segments, None where one of them is lost or damaged."""
    segments = [SEGMENTS.decode(record) for record in records]
    whole = [segment for segment in segments if segment is not None]
    return whole if len(whole) == len(segments) else None


def _lines(segments: Sequence[Segment]) -> Generator[None, None, list[Line]]:
    lines, size = [], 0
    for segment in segments:
        lines.append(Line(parsed(segment.items), segment.account, segment.type))
        size += len(segment.items)
        if size > STEP:
            size = 0
            yield
    return lines


def _without(segments: Sequence[Segment], item_id: str) -> Generator[None, None, dict[int, bytes]]:
    """Returns those segments that have the item, by their numbers, as they are without it."""
    changed = {}
    for number, line in enumerate((yield from _lines(segments))):
        kept = [item for item in line.items if item["id"] != item_id]
        if len(kept) < len(line.items):
            changed[number] = SEGMENTS.encode(structs.replace(segments[number], items=msgspec.json.encode(kept)))
    return changed
