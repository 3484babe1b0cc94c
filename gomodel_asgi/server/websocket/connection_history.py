"""The connection's memory as the state that a create runs on: a layer over what the gateway itself keeps.

What this connection remembers is looked for first; everything else is the gateway's. A turn that continues a response
of the connection is a turn of the connection: it is not stored, since nobody else could read what it rests on.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from copy import copy
from typing import Any, Self

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from ...dialects.hosted_items import may_hold
from ...errors import GatewayError, InvalidRequest
from ...exchange.job import Continuation, Job, State, provider_of
from ...exchange.reply import STREAM_TYPE, Reply
from ...history.continuation import Recalled
from ...history.ownership import NOT_OWN
from ...history.portable import carried
from ...history.records import unknown_previous
from ...history.references import response_of
from ...history.turns import Line
from ...operations import BODY
from ...providers.credential import fingerprint
from ...providers.provider import Provider
from ...routing.target import Target
from ...upstream.call import call_of, outgoing_of
from ...upstream.chain import guarded_exchange
from ...upstream.upstream_request import resolve
from ...wire.json_body import Envelope
from ...wire.json_scan import parsed
from ...wire.response import response_object, stream_of
from ...wire.usage import usage
from ...wire.websocket_frames import Create

# What one connection remembers of its responses, so that `store: false` can be continued on it.
#
# Strategy: a conversation is a chain of chunks, each the comma-separated items of one turn's input or output as they
# went over the wire. Chains share their chunks, so a turn costs its own bytes and a fork costs nothing; the bound
# counts every chunk once. When it is reached the response that was used longest ago is forgotten, as one of another
# connection is: its id is then unknown.


LONGEST = 256
"""Responses that a connection remembers: more than an hour of turns, and forks from each."""


class Chunk(Struct, frozen=True):
    """Items as JSON, separated by commas; *account* and *type* say which upstream could have issued them. Of an output
    that hosted tools have a part in: its *response*, what is *remembered* of them (see `State.remembered`), and which
    of its requests for approval were *answered*."""

    items: bytes
    account: str
    type: str
    response: str = ""
    remembered: bytes = b""
    answered: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.items) + len(self.remembered)


class KeptResponse(Struct, frozen=True):
    """One response: who answered it, with which model, and all *chunks* of its conversation, its output included.

    *chunks* is None where the upstream's own socket holds the conversation.
    """

    provider: str
    model: str | None
    account: str
    chunks: tuple[Chunk, ...] | None


class Memory:
    """The responses of one connection by id, at most *limit* bytes of items."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.responses: OrderedDict[str, KeptResponse] = OrderedDict()
        self.uses: Counter[int] = Counter()
        self.of_tools: dict[str, Chunk] = {}
        """The outputs that hosted tools have a part in, by response."""

    def find(self, response_id: str | None) -> KeptResponse | None:
        """Returns the response of this id, or None where the connection does not know it."""
        found = None if response_id is None else self.responses.get(response_id)
        if found is not None and response_id is not None:
            self.responses.move_to_end(response_id)
        return found

    def keep(self, response_id: str, response: KeptResponse) -> None:
        """Remembers a response, in place of one of the same id; what no longer fits is forgotten."""
        self.evict(response_id)
        self.responses[response_id] = response
        for chunk in response.chunks or ():
            self.size += 0 if self.uses[id(chunk)] else chunk.size
            self.uses[id(chunk)] += 1
            if chunk.remembered:
                self.of_tools[chunk.response] = chunk
        while self.responses and (self.size > self.limit or len(self.responses) > LONGEST):
            self.evict(next(iter(self.responses)))

    def evict(self, response_id: str | None) -> None:
        """Forgets one response; the conversations that go on from it keep their chunks."""
        forgotten = None if response_id is None else self.responses.pop(response_id, None)
        chunks = () if forgotten is None else forgotten.chunks or ()
        for chunk in chunks:
            self.uses[id(chunk)] -= 1
            if not self.uses[id(chunk)]:
                del self.uses[id(chunk)]
                self.size -= chunk.size
                self.of_tools.pop(chunk.response, None)


NOTHING = usage(input=0, output=0)
NULL = msgspec.Raw(b"null")


def account_of(provider: Provider, key: str | None) -> str:
    """Returns what identifies the account that a response belongs to, in this process; *key* is a Target's own."""
    return f"{provider.name} {provider.base_url} {fingerprint(key)}"


class ConnectionContinuation(Recalled):
    """A continuation of what the connection itself remembers; see `exchange.job.Continuation`.

    *own* is the continuation of what the request's own input names elsewhere, or None where it names nothing. *files*
    says that the host gives the bytes of files.
    """

    def __init__(
        self, envelope: Envelope, earlier: KeptResponse, own: Continuation | None, warn: Any, files: bool = False
    ) -> None:
        self.original = envelope
        self.earlier = earlier
        self.own = own
        self.warn = warn
        self.files = files
        self.lines: list[Line] | None = None
        """What was said before, where that is not as the chunks have it."""

    def said_before(self) -> list[Line] | None:
        """See `Recalled`: read only where a hosted tool may have a part in it, since reading takes long."""
        chunks = self.earlier.chunks
        if chunks is None:
            return None
        return _lines(chunks) if any(chunk.remembered or may_hold(chunk.items) for chunk in chunks) else []

    def changed(self, change: Callable[[Line], Line], answered: Container[str]) -> Self:
        """See `Recalled`."""
        made = copy(self)
        if lines := self.said_before():
            made.lines = [change(line) for line in lines]
        if isinstance(made.own, Recalled):
            made.own = made.own.changed(change, answered)
        return made

    @property
    def bound(self) -> bool:
        """Whether only the upstream that holds the conversation can be asked."""
        return self.earlier.chunks is None or (self.own is not None and self.own.bound)

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """Returns the request for a native upstream, the conversation so far put before its own input.

        :raises InvalidRequest: another upstream's socket holds the conversation.
        """
        account = account_of(provider, key)
        chunks = self.earlier.chunks
        original = self.original
        if self.own is not None:
            given = self.own.envelope(provider, key).members
            lists = {name: given[name] for name in BODY.items if name in given}
            original = original.with_members({**original.members, "input": NULL, **lists})
        if chunks is None:
            if account != self.earlier.account:
                raise unknown_previous()
            return original
        pieces = [chunk.items for chunk in chunks if chunk.items]
        if self.lines is not None or any(chunk.account != account for chunk in chunks):
            pieces = [msgspec.json.encode(self._carried(chunks, account, provider, native=True))[1:-1]]
        members = {name: raw for name, raw in original.members.items() if name != "previous_response_id"}
        items = b",".join(filter(None, (*pieces, own_items(original))))
        return original.with_members({**members, "input": msgspec.Raw(b"[%s]" % items)})

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """Returns the request for a dialect, the conversation so far put before its own input.

        :raises InvalidRequest: an upstream's socket holds the conversation.
        """
        if self.earlier.chunks is None:
            raise unknown_previous()
        items = self._carried(self.earlier.chunks, account_of(provider, key), provider, native=False)
        own: Any = parsed(b"[%s]" % own_items(self.original))
        if self.own is not None:
            own = self.own.body(provider, key).get("input") or []
        return {**self.original.body, "input": items + own}

    def earlier_json(self) -> bytes:
        """Returns what the connection remembers, as JSON; nothing where the upstream's socket does."""
        before = [chunk.items for chunk in self.earlier.chunks or () if chunk.items]
        own = b"" if self.own is None else self.own.earlier_json()
        return b"[%s]" % b",".join([*before, own] if own else before) if before or own else b""

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """Returns *error* as it is: a connection does not count its items."""
        return error

    def _carried(self, chunks: Iterable[Chunk], account: str, provider: Provider, *, native: bool) -> list[Any]:
        left: set[str] = set()
        lines = _lines(chunks) if self.lines is None else self.lines
        items = carried(lines, account, provider.type or provider.name, native, left, self.files)
        self.warn(f"{what}: left out, since another provider cannot read it" for what in sorted(left))
        return items


def _lines(chunks: Iterable[Chunk]) -> list[Line]:
    return [Line(parsed(b"[%s]" % one.items), one.account, one.type, one.response) for one in chunks]


def own_items(envelope: Envelope) -> bytes:
    """Returns the items of a request's own `input`, separated by commas; a string is the user's message.

    :raises InvalidRequest: it is neither a string nor a list.
    """
    raw = bytes(envelope.members.get("input", b"null"))
    if raw == b"null":
        return b""
    if raw.startswith(b'"'):
        return b'{"type":"message","role":"user","content":%s}' % raw
    if not raw.startswith(b"["):
        raise InvalidRequest("'input' must be a string or a list.", param="input", code="invalid_type")
    return raw.strip()[1:-1].strip()


class ConnectionState:
    """The state of one create: the connection's *memory* over the gateway's own; see `exchange.job.State`.

    *has_store* says whether the gateway keeps anything at all.
    """

    def __init__(self, create: Create, memory: Memory, gateways: State, *, has_store: bool) -> None:
        self.create = create
        self.memory = memory
        self.gateways = gateways
        self.has_store = has_store
        self.earlier: KeptResponse | None = None
        self.own: Job | None = None
        """The create without what the connection itself continues."""
        self.answered: tuple[Job, Target] | None = None

    @property
    def continues(self) -> str | None:
        """The response that the connection continues itself, without the upstream knowing its id."""
        if self.earlier is None or self.earlier.chunks is None:
            return None
        return self.create.envelope.text("previous_response_id")

    def is_plain(self, job: Job) -> bool:
        """Returns whether neither the connection nor the gateway's own state has anything to do with the request."""
        return self.create.generate and self.gateways.is_plain(job)

    def names(self, job: Job) -> bool:
        """Returns whether there is anything to look for, here or in the gateway's own state."""
        return job.request.envelope.names_state or self.gateways.names(job)

    async def recall(self, job: Job) -> None:
        """Looks for what the request continues, on the connection first; see `exchange.job.State`."""
        self.earlier = self.memory.find(job.request.previous_response_id)
        if self.earlier is None:
            return await self._recall(job)
        self.own = own = job_without_previous(job)
        await self._recall(own)
        files = job.files is not None
        job.continuation = ConnectionContinuation(job.request.envelope, self.earlier, own.continuation, job.warn, files)
        job.request = replace(job.request, previous=self.earlier)

    async def _recall(self, job: Job) -> None:
        if self.gateways.names(job):
            await self.gateways.recall(job)

    async def admit(self, job: Job, target: Target) -> None:
        """Checks that what the create itself names is the tenant's own; see `exchange.job.State`."""
        if self.own is not None:
            self.own.guarding = job.guarding  # what one request is asked about is found out once
        await self.gateways.admit(self.own or job, target)
        if self.own is not None and isinstance(job.continuation, ConnectionContinuation):
            job.continuation.own = self.own.continuation

    async def emulated(self, job: Job, target: Target) -> Reply | None:
        """See `exchange.job.State`. A warming-up request reaches only an upstream with a socket of its own."""
        if not self.create.generate and not provider_of(target, job).websocket:
            self.answered = job, target
            return await warmed(*await self.gateways.prepared(job, target))
        return await self.gateways.emulated(job, target) if self.earlier is None else None

    async def adapted(self, job: Job, target: Target) -> tuple[Job, Target]:
        """See `exchange.job.State`; what only warms up has no fallback."""
        if not self.create.generate:
            target = replace(target, fallbacks=())
        return await self.gateways.adapted(job, target) if self.earlier is None else (job, target)

    async def reply_of(self, job: Job, target: Target) -> Reply:
        """See `exchange.job.State`; a warm-up asks once, and no tool of the host's."""
        if not self.create.generate:
            return await guarded_exchange(*await self.gateways.prepared(job, target))
        return await self.gateways.reply_of(job, target)

    async def prepared(self, job: Job, target: Target) -> tuple[Job, Target]:
        """See `exchange.job.State`."""
        return await self.gateways.prepared(job, target)

    async def record(self, job: Job, target: Target, reply: Reply) -> None:
        """See `exchange.job.State`; what goes on from the connection's own memory is the connection's affair."""
        named = (one for one in target.chain() if provider_of(one, job).name == reply.provider)
        self.answered = job, next(named, target)
        if self.earlier is None:
            await self.gateways.record(job, target, reply)

    async def is_anothers(self, job: Job, provider: Provider, id: str) -> bool:
        """See `exchange.job.State`."""
        return await self.gateways.is_anothers(job, provider, id)

    async def remembered(self, tenant: str | None, response_id: str) -> bytes:
        """See `exchange.job.State`; a connection has one tenant."""
        chunk = self.memory.of_tools.get(response_id)
        return await self.gateways.remembered(tenant, response_id) if chunk is None else chunk.remembered

    async def take_approval(self, tenant: str | None, id: str) -> bool:
        """See `exchange.job.State`."""
        chunk = self.memory.of_tools.get(response_of(id) or "")
        if chunk is not None and id in chunk.answered:
            return False
        if not await self.gateways.take_approval(tenant, id):
            return False
        if chunk is not None:
            chunk.answered.add(id)
        return True

    async def remember(self, reply: Reply, response_id: str, output: Iterable[bytes]) -> None:
        """Keeps a response that has ended well, unless the gateway or the upstream does."""
        if self.answered is None:
            return
        job, target = self.answered
        provider = provider_of(target, job)
        if self._kept_elsewhere(target, provider, reply.remembered is not None):
            return
        account = account_of(provider, _key(target))
        chunks: tuple[Chunk, ...] | None = None
        if not provider.websocket or reply.remembered is not None:
            earlier = self.earlier.chunks or () if self.earlier is not None else ()
            type = provider.type or provider.name
            own = Chunk(own_items(job.request.envelope), account, type)
            remembered = b"" if reply.remembered is None else reply.remembered()
            chunks = (*earlier, own, Chunk(b",".join(output), account, type, response_id, remembered))
        elif not await self._is_own(job, provider, response_id):
            return  # its id would go to the upstream
        self.memory.keep(response_id, KeptResponse(provider.name, reply.model, account, chunks))

    async def _is_own(self, job: Job, provider: Provider, response_id: str) -> bool:
        try:
            own = not await self.is_anothers(job, provider, response_id)
        except GatewayError:
            own = False
        if not own:
            job.warn([NOT_OWN])
        return own

    def _kept_elsewhere(self, target: Target, provider: Provider, has_hosted: bool) -> bool:
        """Returns whether the gateway, or the upstream where no tools of the host's have a part in it, keeps it."""
        if self.earlier is not None or not self.create.generate:
            return False
        asked = bytes(self.create.envelope.members.get("store", b"null")) != b"false"
        stores = (target.params or {}).get("store", asked)
        return stores is not False and ((provider.keeps_state and not has_hosted) or self.has_store)


def job_without_previous(job: Job) -> Job:
    """Returns *job* as it would be if it continued nothing that a connection remembers."""
    envelope = job.request.envelope
    members = {name: raw for name, raw in envelope.members.items() if name != "previous_response_id"}
    return replace(job, request=replace(job.request, envelope=envelope.with_members(members)))


def _key(target: Target) -> str | None:
    key = target.api_key
    if key is None or isinstance(key, str):
        return key
    return None if callable(key) else key.get_secret_value()


async def warmed(job: Job, target: Target) -> Reply:
    """Returns the reply to a request that is to generate nothing, without an upstream: an id, and no output.

    :raises InvalidRequest: it could not be sent as it is.
    """
    candidate = await resolve(target, job)
    call = await call_of(candidate, job)
    if candidate.dialect is not None:
        await outgoing_of(candidate, job, call)  # what it would refuse then, it refuses now
    now, name = int(time.time()), candidate.provider.name
    stamp = name if job.setup.stamp else None
    response = response_object("resp_" + secrets.token_hex(24), now, call.model, call.body, stamp)
    response |= {"status": "completed", "completed_at": now, "usage": NOTHING}
    body = stream_of(response)
    return Reply(status=200, raw_headers=[STREAM_TYPE], provider=name, model=call.model, attempts=0, body=body)
