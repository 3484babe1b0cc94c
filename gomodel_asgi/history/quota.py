"""How much of the store one tenant may fill: so many responses, so many bytes. The oldest make room for the newest.

A journal per tenant (`journal.py`) lists what is kept, oldest first. Its head is changed by compare-and-swap, so that
several workers agree, and a response costs the same whatever is kept beside it:

    usage  "head"                the totals and both ends of the journal
           "leaf/<journal>/<n>"  what lies between, in records that are written once
           "place/<id>"          in which leaf *id* is

What goes is deleted before the head changes: if the worker dies between the two, it is deleted again. What comes is in
the head before it is kept: if the worker dies between the two, too much is counted. What was deleted while the store
was down, and what has expired, counts too. All of that ends when it is the oldest, so a tenant may have less than its
quota for a while, and never more but for what its workers are about to keep at this moment.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec

from ..errors import InvalidRequest, StoreUnavailable
from ..logs import log
from ..seams.store import Record, require_atomic
from ..settings import Default
from ..tasks import loop_token
from .journal import Head, Kept
from .records import Records
from .tenancy import Codec, valid_id
from .turns import Turn

USAGE = "usage"
HEAD = "head"

# Tries to change a head that other workers change at the same time, and the longest pause between two, in seconds.
ATTEMPTS = 32
LONGEST_PAUSE = 0.05
"""Seconds before the next attempt at a change that others were faster with."""

# Leaves read and responses deleted between two changes of the head: what has been done so far is not done again.
MOST_STEPS = 64


class Leaf(msgspec.Struct):
    """A part of a journal."""

    kept: list[Kept]


HEADS = Codec(Head)
LEAVES = Codec(Leaf)


class Quotas:
    """The quotas of each tenant; None: unlimited.

    :raises ValueError: one was given, and the store cannot exclude other workers.
    """

    def __init__(self, records: Records, entries: int | None, bytes: int | None) -> None:
        self.records = records
        self.entries = entries
        self.bytes = possible(records, bytes)
        self.unlimited = self.entries is None and self.bytes is None
        if not self.unlimited:
            require_atomic(records.store, "A quota per tenant")
        self._queues: dict[tuple[object, str], Queue] = {}

    async def admit(self, tenant: str | None, id: str, turn: Turn) -> bool:
        """Makes room for *turn*, which is about to be kept. Returns False where no room would be enough."""
        if self.unlimited:
            return True
        size = len(turn.input) + len(turn.output) + len(turn.response) + len(turn.remembered)
        return await self.admit_size(tenant, id, size + sum(map(len, turn.ancestors)))

    async def admit_size(self, tenant: str | None, id: str, size: int) -> bool:
        """Makes room for a record of *size* bytes, in place of what *id* had. Returns False where no room would be
        enough, and for an id that no request could name."""
        if self.unlimited:
            return True
        if self.entries == 0 or (self.bytes is not None and size > self.bytes) or not valid_id(id):
            return False
        await self._changed(tenant, id, size)
        return True

    async def release(self, tenant: str | None, id: str) -> None:
        """Gives the room of *id* back, which is deleted. Where the store fails it counts until it is the oldest."""
        if not self.unlimited:
            with suppress(StoreUnavailable):
                await self._changed(tenant, id, None)

    async def _changed(self, tenant: str | None, id: str, size: int | None) -> None:
        """Books *size* bytes for the record *id*, None where it is gone.

        :raises StoreUnavailable: others changed the tenant's quota at each of `ATTEMPTS` attempts.
        """
        key = await self.records.tenancy.keyed(tenant)
        async with self._alone(key(HEAD)):
            change, attempts = Change(self, tenant, id, size, key), 0
            while not await change.made():
                if change.is_under_way:
                    continue
                attempts += 1
                if attempts == ATTEMPTS:
                    raise StoreUnavailable("The tenant's quota is being changed by others at this moment; try again.")
                if not self.records.immediate:
                    await anyio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempts))

    @asynccontextmanager
    async def _alone(self, head: str) -> AsyncGenerator[None, None]:
        """Only one change of a head at a time from this event loop: they would only be in each other's way."""
        if self.records.immediate:
            yield
            return
        place = (loop_token(), head)
        queue = self._queues.setdefault(place, Queue())
        queue.inside += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.inside -= 1
            if not queue.inside:
                del self._queues[place]


class Queue:
    """Changes of one head that wait for each other, and how many there are."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.inside = 0


class Change:
    """Makes *id* the newest of what *tenant* keeps, with *size* bytes, or (None) takes it out. *key* makes keys."""

    def __init__(
        self, quotas: Quotas, tenant: str | None, id: str, size: int | None, key: Callable[[str], str]
    ) -> None:
        self.quotas = quotas
        self.records = quotas.records
        self.store = quotas.records.store
        self.tenant = tenant
        self.id = id
        self.size = size
        self.key = key
        self.place = key(f"place/{id}")
        self.placed: int | None = None
        """The leaf that the place record names, where that is known."""
        self.loaded: list[int] = []
        self.steps = 0
        self.is_under_way = False
        """Whether a part of it was made, and the rest is yet to be."""

    async def made(self) -> bool:
        """Tries it once. Returns False where others changed the head, or a part of the change is yet to be made."""
        held = await self.store.get(USAGE, self.key(HEAD))
        head = HEADS.decode(held) or Head(f"{random.getrandbits(64):x}")
        self.loaded, self.steps, self.is_under_way = [], 0, False
        await self._write_leaf(head)
        await self._take_out(head)
        whole = self.size is None or await self._make_room(head, self.size)
        number = head.next
        if whole and self.size is not None:
            head.append(self.id, self.size)
        await self._mend(head)
        if not await self._replaced(held, head):
            return False
        for loaded in self.loaded:
            await self.store.delete(USAGE, self._leaf_key(head, loaded))
        if not whole:
            self.is_under_way = True
        elif self.size is None:
            await self.store.delete(USAGE, self.place)
        elif self.placed != number:
            await self.store.put(USAGE, self.place, place_in(head, number))
        return whole

    async def _take_out(self, head: Head) -> None:
        """Takes what *id* had out of the journal."""
        if any(name == self.id for name, _ in head.newest):
            self.placed = head.next
        if head.take(self.id) or self.placed is not None:
            return
        here = place_in(head, head.next)
        if self.size is not None and await self.store.add(USAGE, self.place, here) is not None:
            self.placed = head.next
            return
        number = number_in(head, await self.store.get(USAGE, self.place))
        if head.first <= number < head.next:
            head.take_from(number, await self._leaf(head, number) or (), self.id)

    async def _make_room(self, head: Head, size: int) -> bool:
        """Lets the oldest go until *size* bytes more fit. Returns False where that takes more than one step."""
        entries, bytes = self.quotas.entries, self.quotas.bytes
        while (entries is not None and head.count >= entries) or (bytes is not None and head.bytes + size > bytes):
            if self.steps == MOST_STEPS:
                return False
            self.steps += 1
            if not head.oldest and head.first < head.next:
                self.loaded.append(head.first)
                head.load(await self._leaf(head, head.first))
            elif head.oldest or head.newest:
                await self._let_go(head, *head.pop())
            else:
                head.bytes = head.count = 0
        return True

    async def _let_go(self, head: Head, id: str, number: int) -> None:
        """Deletes what is kept of *id*, unless it has been kept anew behind the leaf of this *number*."""
        place = self.key(f"place/{id}")
        if id == self.id or number_in(head, await self.store.get(USAGE, place)) > number:
            return
        await self.records.delete(self.tenant, id)
        await self.store.delete(USAGE, place)

    # Leaves...

    async def _write_leaf(self, head: Head) -> None:
        """See that the last leaf is written. It may be by others, or long ago: what is there stays."""
        if head.unwritten:
            await self.store.add(USAGE, self._leaf_key(head, head.next - 1), LEAVES.encode(Leaf(head.unwritten)))
            head.unwritten = []

    async def _mend(self, head: Head) -> None:
        """Rewrites the leaf of which most is gone, when the head has noted many places."""
        number = head.most_gone()
        if number is None:
            return
        key = self._leaf_key(head, number)
        held = await self.store.get(USAGE, key)
        leaf = LEAVES.decode(held)
        if held is None or leaf is None:
            return head.forget_gone(number)
        value = LEAVES.encode(Leaf(head.mended(number, leaf.kept)))
        if await self.store.swap(USAGE, key, held.version, value) is not None:
            head.forget_gone(number)

    async def _leaf(self, head: Head, number: int) -> list[Kept] | None:
        leaf = LEAVES.decode(await self.store.get(USAGE, self._leaf_key(head, number)))
        return None if leaf is None else leaf.kept

    def _leaf_key(self, head: Head, number: int) -> str:
        return self.key(f"leaf/{head.name}/{number}")

    async def _replaced(self, held: Record | None, head: Head) -> bool:
        value = HEADS.encode(head)
        if held is None or not held.version:
            return await self.store.add(USAGE, self.key(HEAD), value) is not None
        return await self.store.swap(USAGE, self.key(HEAD), held.version, value) is not None


def too_large() -> InvalidRequest:
    """Returns the answer to a response that no room would be enough for."""
    return InvalidRequest("The response is larger than what may be stored.", code="quota_exceeded")


def possible(records: Records, bytes: int | None) -> int | None:
    """Returns the quota of *bytes*, None where there is none to be had or to be kept: a store that cannot hold more
    needs none, and one that cannot exclude other workers does without the default, with a warning."""
    store, most = records.store, getattr(records.store, "max_bytes", None)
    if bytes is None or (isinstance(most, int) and bytes >= most):
        return None
    if not isinstance(bytes, Default) or store.atomic:
        return bytes
    if records.keeps:
        log("tenants_unbounded", limitation=store.limitation)
    return None


def place_in(head: Head, number: int) -> bytes:
    """Returns a place record: a leaf of this journal."""
    return f"{head.name}/{number}".encode()


def number_in(head: Head, record: Record | None) -> int:
    """Returns the number of the leaf that a place record names, -1 where that is none of this journal."""
    journal, _, number = (b"" if record is None else record.value).rpartition(b"/")
    return int(number) if journal == head.name.encode() and re.fullmatch(rb"[0-9]{1,18}", number) else -1
