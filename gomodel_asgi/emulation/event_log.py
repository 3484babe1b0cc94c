"""A response in the background: its status, the lease of its worker, and the log of its events, in numbered segments
that one worker writes and any may follow."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec

from ..deadline import clock
from ..dialects.native import NativeReader
from ..errors import GatewayError, UpstreamTimeout
from ..exchange.reply import STREAM_HEADERS, STREAM_TYPE, Reply
from ..history.records import Records
from ..history.turns import Turn
from ..seams.transport import Headers
from ..settings import MIB, Limits
from ..threads import beside
from ..upstream.stream import Stream
from ..wire.headers import named
from ..wire.json_scan import parsed
from ..wire.response import DONE, TERMINAL, frame, response_error
from ..wire.sse import parse, split

# The status of a response in the background, and how its record changes when it goes on or ends.


Json = dict[str, Any]

UNFINISHED = ("queued", "in_progress")


class ResponseStatus(msgspec.Struct):
    """The members of a response that are its status."""

    status: str | None = None
    background: bool | None = None


status_of = msgspec.json.Decoder(ResponseStatus).decode


def is_unfinished(turn: Turn) -> bool:
    """Returns whether a response is in the background and has not ended."""
    return status_of(turn.response).status in UNFINISHED


def with_status(turn: Turn, status: str, **members: Any) -> Turn:
    """Returns *turn* with another status of its response."""
    response: Json = parsed(turn.response)
    return msgspec.structs.replace(turn, response=msgspec.json.encode({**response, "status": status, **members}))


def ended(turn: Turn, status: str, error: GatewayError | None, items: list[Json]) -> Turn:
    """Returns *turn* with its response ended before its answer was whole: with the *items* that were finished. One that
    is `incomplete` is so for its content."""
    reason = None if error is None else response_error(error)
    details = {"incomplete_details": {"reason": "content_filter"}} if status == "incomplete" else {}
    ended = with_status(turn, status, error=reason, output=items, **details)
    return msgspec.structs.replace(ended, request=b"", hold=b"", output=msgspec.json.encode(items))


def marked(response: bytes) -> bytes:
    """Returns *response* with `background` set, as its request had it."""
    return msgspec.json.encode({**msgspec.json.decode(response, type=dict[str, msgspec.Raw]), "background": True})


# Leases: a worker renews the lease of its response; one whose lease has run out is gone.


LEASES = "leases"

# Seconds that a lease lasts. Renewed after a third of them, so that two renewals may fail.
LASTS = 30.0

# Seconds that a response may wait for a worker of the host's task queue.
WAITS = 24 * 3600.0

# Seconds between two looks at whether somebody else has ended the response.
LEASE_LOOKS = 0.5


class Leases:
    """Leases on responses, each tenant's apart; one *lasts* so many seconds, and is renewed after a third of them."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.lasts = LASTS
        # By tenant and id, since the key changes when the tenant is forgotten.
        self._renewed: dict[tuple[str | None, str], tuple[float, float]] = {}

    async def take(self, tenant: str | None, id: str, *, waiting: bool = False) -> None:
        """Holds the lease from now on; *waiting*: until a worker takes it."""
        key = await self.records.tenancy.key(tenant, id)
        await self.records.store.put(LEASES, key, b"1", ttl=WAITS if waiting else self.lasts)
        if not waiting:
            self._renewed[tenant, id] = (time.monotonic(), time.monotonic())

    async def renew(self, tenant: str | None, id: str) -> bool:
        """Renews the lease if it is time to. Returns whether it is time to look around, too."""
        now = time.monotonic()
        renewed, looked = self._renewed.get((tenant, id), (0.0, 0.0))
        if now - renewed >= self.lasts / 3:
            key = await self.records.tenancy.key(tenant, id)
            await self.records.store.put(LEASES, key, b"1", ttl=self.lasts)
            renewed = now
        looks = now - looked >= LEASE_LOOKS
        self._renewed[tenant, id] = (renewed, now if looks else looked)
        return looks

    async def is_held(self, tenant: str | None, id: str) -> bool:
        """Returns whether somebody works on the response, or is expected to."""
        key = await self.records.tenancy.key(tenant, id)
        return await self.records.store.get(LEASES, key) is not None

    async def give_back(self, tenant: str | None, id: str) -> None:
        """Gives the lease back."""
        self.leave(tenant, id)
        await self.records.store.delete(LEASES, await self.records.tenancy.key(tenant, id))

    def leave(self, tenant: str | None, id: str) -> None:
        """Leaves the lease to another worker that holds it."""
        self._renewed.pop((tenant, id), None)


EVENTS = "events"

# Seconds between two looks for a segment that has not been written yet, and where nothing can have been written.
LOOKS = 0.05
QUEUED_LOOKS = 0.5

# What ends a stream whose log ends without it, by the response's status.
ENDS = {"completed": "response.completed", "incomplete": "response.incomplete"}

Settled = Callable[[], Awaitable[Turn | None]]


class EventHead(msgspec.Struct):
    """An event, as far as a follower has to know it: by its own members, since what is in it may look the same."""

    type: str | None = None
    sequence_number: int | None = None


_head = msgspec.json.Decoder(EventHead).decode


def head_of(event: bytes) -> EventHead:
    """Returns what *event* of a log says of itself: nothing where it has neither member (`[DONE]`)."""
    parsed = parse(event)
    try:
        return EventHead() if parsed is None else _head(parsed.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return EventHead()


FINISHED = b"event: response.output_item.done\n"
"""How the event of an item that is finished begins."""
INDEX = "finished"
"""Stands for a number in the key of the record that says in which segments items were finished."""
MOST_SEGMENTS = 4096
"""Of which that is noted: what is finished later, a client sees once the response has ended."""

MOST_READ = 64 * MIB
"""Bytes of such segments that are read for one look at a response."""

_numbers = msgspec.json.Decoder(list[int]).decode


class EventLog:
    """Logs of responses, each tenant's apart. Beside each stands in which of its segments items were finished, so that
    these can be shown without going through all deltas before them."""

    def __init__(self, records: Records) -> None:
        self.records = records

    async def append(self, tenant: str | None, id: str, number: int, events: bytes) -> None:
        """Writes whole *events* as the segment *number*."""
        await self.records.store.put(EVENTS, await self._key(tenant, id, number), events)

    async def note(self, tenant: str | None, id: str, numbers: list[int]) -> None:
        """Notes the *numbers* of all segments in which items were finished."""
        await self.records.store.put(EVENTS, await self._key(tenant, id, INDEX), msgspec.json.encode(numbers))

    async def finished(self, tenant: str | None, id: str) -> list[Json]:
        """Returns the items that are finished so far, in their order."""
        left, index = MOST_READ, await self.records.store.get(EVENTS, await self._key(tenant, id, INDEX))
        numbers = [] if index is None or not index.value else _numbers(index.value)
        found: dict[int, Json] = {}
        for number in numbers:
            segment = await self.read(tenant, id, number) or b""
            left -= len(segment)
            if left < 0:
                break
            for event in await beside(len(segment), partial(_finished_in, segment)):
                found[event["output_index"]] = event["item"]
        return [found[index] for index in sorted(found)]

    async def read(self, tenant: str | None, id: str, number: int) -> bytes | None:
        """Returns the segment *number*, None where it is not written."""
        record = await self.records.store.get(EVENTS, await self._key(tenant, id, number))
        return record.value or None if record is not None else None

    async def delete(self, tenant: str | None, id: str) -> None:
        """Removes all segments."""
        number = 0
        while await self.records.store.delete(EVENTS, await self._key(tenant, id, number)):
            number += 1
        await self.records.store.delete(EVENTS, await self._key(tenant, id, INDEX))

    async def _key(self, tenant: str | None, id: str, number: int | str) -> str:
        return await self.records.tenancy.key(tenant, f"{id}/{number}")


def finishes(events: bytes) -> bool:
    """Returns whether an item is finished in *events*; no other line of theirs begins so."""
    return events.startswith(FINISHED) or b"\n" + FINISHED in events


def _finished_in(segment: bytes) -> list[Json]:
    """The events of *segment* that finish items."""
    found = [parse(event) for event in split(segment) if event.startswith(FINISHED)]
    return [parsed(event.data) for event in found if event is not None]


class Follower:
    """Reads a log as if it were an upstream, from behind the event *after*: `read` waits until more is written or the
    response has ended. *settled* gives the turn; *model* is named in the reply."""

    status = 200
    headers: Headers = []
    resumable = True

    def __init__(
        self,
        log: EventLog,
        settled: Settled,
        *,
        tenant: str | None,
        id: str,
        after: int | None,
        model: str | None,
    ) -> None:
        self.log = log
        self.settled = settled
        self.tenant = tenant
        self.id = id
        self.after = -1 if after is None else after
        self.number = 0
        self.last = -1
        self.over = False
        self.model = model
        self.reader = NativeReader(name=None, model=model, limits=Limits())

    async def read(self, timeout: float) -> bytes:
        """Returns the next events, `b""` at the end.

        :raises UpstreamTimeout: none have come for *timeout* seconds.
        """
        until = clock() + timeout
        while not self.over:
            # First where it stands, then what is written: what ends a response is written before it has ended.
            turn = await self.settled()
            segment = await self.log.read(self.tenant, self.id, self.number)
            if segment is not None:
                events = self._taken(segment)
            else:
                events = self._end(turn)
                if not self.over:
                    await self._pause(turn, until)
            if events:
                return events
        return b""

    async def aclose(self) -> None:
        """Ends the reading."""
        self.over = True

    async def _pause(self, turn: Turn | None, until: float) -> None:
        """Waits until there may be more to read.

        :raises UpstreamTimeout: *until*, on the clock, is over.
        """
        if clock() >= until:
            raise UpstreamTimeout("The response did not end in time.")
        queued = turn is not None and status_of(turn.response).status == "queued"
        await anyio.sleep(QUEUED_LOOKS if queued else LOOKS)

    def _taken(self, segment: bytes) -> bytes:
        self.number += 1
        events = []
        for event in split(segment):
            head = head_of(event)
            self.last = head.sequence_number if head.sequence_number is not None else self.last
            is_terminal = head.type in TERMINAL
            self.over = self.over or is_terminal
            if head.sequence_number is None or self.last > self.after:
                events.append(event)
            elif is_terminal:
                self.reader.terminal = "completed"  # the client has had the end already
        return b"".join(events)

    def _end(self, turn: Turn | None) -> bytes:
        """What is left to say where the log has nothing more: that the response was cancelled, lost or deleted."""
        if turn is None:
            self.over = True
            return b""
        response = parsed(turn.response)
        if response["status"] in ("queued", "in_progress"):
            return b""
        self.over = True
        number = max(self.last, self.after) + 1
        type = ENDS.get(response["status"], "response.failed")
        return frame({"type": type, "sequence_number": number, "response": response}) + DONE

    def reply(self, provider: str, seconds: float) -> Reply:
        """Returns the events up to the response's end, for so many *seconds*, as a reply."""
        until, model = clock() + seconds, self.model
        stream = Stream(self, self.reader, held=b"", idle=seconds, until=until, on_end=lambda stream, error: None)
        headers = [STREAM_TYPE, *named(provider, (model or "")[:257], 0), *STREAM_HEADERS]
        return Reply(status=200, raw_headers=headers, provider=provider, model=model, attempts=0, stream=stream)
