"""The cache at work: looks answers up before an upstream is asked, and keeps those that it has given.

Nothing here fails a request. What is not sure bypasses the cache, and a store that is away makes a miss. The host's
output guards are asked about what is found as about any other reply: they may be others than when it was made.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from ..errors import GatewayError, StoreUnavailable
from ..exchange.job import Ask, Guards, Job
from ..exchange.reply import NO_LABELS, Reply, json_reply, streamed
from ..history.continuation import Continuation
from ..history.quota import Quotas
from ..history.recorder import is_stored
from ..history.records import CACHED, CACHED_ID, Records
from ..history.replies import response_in
from ..history.tenancy import packed
from ..routing.target import ResolvedTarget, Target
from ..stores.shared import available
from ..tasks import Tasks
from ..threads import awaitable, beside
from ..upstream.upstream_request import resolve, resolved_before
from ..wire.headers import CACHE, FALLBACK, UNSUPPORTED, header
from . import ResponseCache
from .entry import ENTRIES, Entry, is_final, replayed
from .key import message_of

FORMAT = b"cached answer 1"
"""The form of keys and entries: other forms do not find each other."""

OWN = (b"openai-beta",)
"""Headers of the client's that reach upstreams beside those that a provider forwards."""

MAX_AGE = re.compile(rb"max-age=([0-9]{1,9})")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError)
"""What an entry raises that is not as it was kept."""

Result = Literal["hit", "miss", "bypass"]


class Bypass(Exception):
    """The request may not be answered from the cache, and its answer not kept."""


class Wish(msgspec.Struct, frozen=True):
    """What a request's `cache-control` asks for (RFC 9111, 5.2.1): an answer of at most *age* seconds; *stored*: which
    may be kept."""

    age: float
    stored: bool


def wish_of(value: bytes) -> Wish:
    """Returns what the value of a `cache-control` header asks for."""
    directives = [part.strip().lower() for part in value.split(b",")]
    ages = [int(found[1]) for part in directives if (found := MAX_AGE.fullmatch(part))]
    return Wish(-1 if b"no-cache" in directives else min(ages, default=2**31), b"no-store" not in directives)


class Cache:
    """The answers that *settings* let be kept in *records*, within the *quotas* of what a tenant may fill there.

    :raises ValueError: there is no store to keep them in.
    """

    def __init__(self, settings: ResponseCache, records: Records, quotas: Quotas, tasks: Tasks) -> None:
        if not records.keeps:
            raise ValueError("cache: answers are kept in the gateway's store, and this one has none.")
        self.settings = settings
        self.records = records
        self.quotas = quotas
        self.tasks = tasks
        self.when = awaitable(settings.when)
        self.scope = None if settings.scope is None else awaitable(settings.scope)

    def __repr__(self) -> str:
        return f"<Cache ttl={self.settings.ttl}>"

    async def forget(self, tenant: str | None) -> int:
        """Forgets the answers that are kept for *tenant*, on every worker at once; what the store can enumerate is
        deleted: how many answers.

        :raises StoreUnavailable: the store does not answer. Call it again.
        """
        return await self.records.cached.forget(tenant, [CACHED])

    async def look_up(self, job: Job, target: Target, ask: Ask) -> LookUp | None:
        """Returns what is kept of *job*, None where it does not ask for a new response. *ask* asks a function of the
        host's about it.

        :raises GatewayError: a guard does not let pass what is kept, or fails.
        """
        if job.request.operation != "create":
            return None
        found, kept = LookUp(self, job), None
        try:
            kept = await self._find(found, target, ask)
        except Bypass:
            pass
        except StoreUnavailable as error:
            found.result = "miss"
            job.warn([f"the cache: {error.detail or error.message}"])
        except GatewayError as error:
            job.warn([f"the cache: {type(error.__cause__ or error).__name__}; the request bypasses it"])
        except LookupError:  # the policy named an unknown provider, which whoever sends it will report
            pass
        if kept is not None:
            await found.hit(*kept)
        if job.trace is not None and found.result != "hit":
            job.trace.checked(found.result)
        return found

    async def _find(self, found: LookUp, target: Target, ask: Ask) -> tuple[Entry, ResolvedTarget] | None:
        """Returns the entry that answers the request, and the Target that it answers for.

        :raises Bypass: the cache is not to be asked.
        """
        job = found.job
        wish = wish_of(job.headers.get(b"cache-control", b""))
        if not wish.stored or _is_bound(job, target) or not await ask(self.when):
            raise Bypass
        scope = "" if self.scope is None else await ask(self.scope) or ""
        candidate = resolved_before(target, job) or await resolve(target, job)
        if candidate.own_key and self.scope is None:
            raise Bypass
        if candidate.provider.keeps_state and is_stored(job, target):
            raise Bypass  # its client goes on with its id, and the upstream that would have to know it was not asked
        id = await self._id(job, candidate, str(scope))
        found.result = "miss"
        key = await available(partial(self.records.cached.key, job.request.tenant, id))
        entry = None if wish.age < 0 else ENTRIES.decode(await available(partial(self.records.store.get, CACHED, key)))
        found.id = id
        if entry is not None and entry.place != key:
            job.warn(["the cache: an entry is another's and reads as absent"])
        elif entry is not None and time.time() - entry.created <= min(wish.age, self.settings.ttl):
            return entry, candidate
        return None

    async def _id(self, job: Job, candidate: ResolvedTarget, scope: str) -> str:
        """Returns what identifies the request among all of its tenant.

        :raises Bypass: its answer depends on more than what it says.
        """
        envelope, target, provider = job.request.envelope, candidate.target, candidate.provider
        keep = envelope.preferences and provider.type == "openrouter"
        body = envelope.render(model=candidate.model, params=target.params, keep_preferences=keep)
        try:
            message = await beside(len(body), partial(message_of, body))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            message = None
        if message is None:
            raise Bypass
        account = self.records.accounts.of(provider, candidate.key)
        where = (provider.name, provider.type, provider.base_url, provider.fixed_query, account, provider.dialect_name)
        guards = " ".join(job.guards)  # what other guards have let pass is another answer
        parts = packed(FORMAT, scope, *where, candidate.model, guards, *_headers(job, candidate))
        mac = hmac.new(self.records.store.secret, parts + b"\0", "sha256")
        mac.update(message)
        return CACHED_ID + mac.hexdigest()

    async def keep(self, job: Job, id: str, entry: Entry) -> None:
        """Keeps *entry* for requests to come, if it is an answer that may be given again; beside everything else where
        that takes time."""
        if len(entry.response) > self.settings.size:
            return
        if self.records.immediate:
            await self._kept(job, id, entry)
        else:
            self.tasks.spawn(partial(self._kept, job, id, entry))

    async def _kept(self, job: Job, id: str, entry: Entry) -> None:
        if not await beside(len(entry.response), partial(is_final, entry.response)):
            return
        try:
            await available(partial(self._put, job.request.tenant, id, entry))
        except GatewayError as error:
            job.warn([f"the cache: {error.detail or error.message}"])

    async def _put(self, tenant: str | None, id: str, entry: Entry) -> None:
        key = await self.records.cached.key(tenant, id)
        value = ENTRIES.encode(replace(entry, place=key))
        if await self.quotas.admit_size(tenant, id, len(value)):
            await self.records.store.put(CACHED, key, value, ttl=self.settings.ttl)


class LookUp:
    """What *cache* has of *job*: a *reply*, or the *id* under which that of an upstream is to be kept, or neither."""

    def __init__(self, cache: Cache, job: Job) -> None:
        self.cache = cache
        self.job = job
        self.result: Result = "bypass"
        self.id: str | None = None
        self.age = 0
        self.reply: Reply | None = None

    async def hit(self, entry: Entry, candidate: ResolvedTarget) -> None:
        """*entry* is the answer, as if *candidate* had given it.

        :raises GatewayError: a guard does not let it pass, or fails.
        """
        job, now = self.job, time.time()
        age = max(0.0, now - entry.created)
        id = "resp_" + secrets.token_hex(24)
        try:
            if job.setup.guards is not None:
                entry = await self._guarded(entry, job.setup.guards, age)
            render = partial(replayed, entry, id, int(now), stamp=job.setup.stamp, stream=job.stream)
            whole, body = await beside(len(entry.response), render)
        except UNREADABLE:
            return job.warn(["the cache: an entry is damaged and reads as absent"])
        make = streamed if job.stream else json_reply
        reply = make(body, entry.provider, entry.model)
        reply.candidate, reply.labels = candidate, candidate.target.labels or NO_LABELS
        if entry.unsupported:
            reply.raw_headers.append((UNSUPPORTED, entry.unsupported))
        self.result, self.reply, self.age = "hit", reply, int(age)
        if job.trace is not None:
            job.trace.checked("hit", age, whole)

    async def _guarded(self, entry: Entry, guards: Guards, age: float) -> Entry:
        """Returns *entry* as the guards let it pass today.

        :raises LookupError: there is nothing in it that they could be asked about.
        :raises GatewayError: they do not let it pass, or one fails.
        """
        if not await beside(len(entry.response), partial(is_final, entry.response)):
            raise LookupError

        async def given() -> Reply:
            return json_reply(entry.response, entry.provider, entry.model)

        try:
            reply = await guards.filter_reply(self.job, given())
        except GatewayError as error:
            error.cache = "hit"
            if self.job.trace is not None:
                self.job.trace.checked("hit", age)
            raise
        return replace(entry, response=reply.body or b"")

    async def answered(self, reply: Reply) -> None:
        """*reply* goes to the client: it says where it is from, and is kept if it may be."""
        reply.raw_headers.append((CACHE, self.result.encode()))
        if self.result == "hit":
            reply.raw_headers.append((b"age", b"%d" % self.age))
        elif self.id is not None and self._is_the_targets(reply):
            if reply.stream is None:
                await self._keep(reply, response_in(reply.body or b""))
            else:
                reply.stream.before_end = partial(self._ending, reply, reply.stream.before_end)

    def _is_the_targets(self, reply: Reply) -> bool:
        """Returns whether *reply* is what the request will be answered with again: not that of another upstream, or one
        whose tools have looked at the world."""
        return reply.status == 200 and reply.remembered is None and header(reply.raw_headers, FALLBACK) is None

    async def _ending(self, reply: Reply, before: Callable[[], Awaitable[object]] | None) -> None:
        if before is not None:
            await before()
        assert reply.stream is not None
        reader = reply.stream.reader
        if reader.terminal == "completed" and reader.failure is None:
            response = reader.final()
            if response is not None and reply.candidate is not None:
                response = reply.candidate.redactor.of(response)
            await self._keep(reply, response)

    async def _keep(self, reply: Reply, response: bytes | None) -> None:
        if response is not None and self.id is not None:
            unsupported = header(reply.raw_headers, UNSUPPORTED) or b""
            entry = Entry(response, time.time(), reply.provider, reply.model, unsupported)
            await self.cache.keep(self.job, self.id, entry)


def _is_bound(job: Job, target: Target) -> bool:
    """Returns whether *job* stands in a connection or a conversation, or asks for what its body does not say."""
    request = job.request
    return bool(
        request.connection is not None
        or request.envelope.names_state
        or not (job.continuation is None or isinstance(job.continuation, Continuation) and job.continuation.holds_all)
        or job.background
        or job.leading
        or job.response_id is not None
        or job.query
        or target.tools
    )


def _headers(job: Job, candidate: ResolvedTarget) -> list[Any]:
    """Names and values of the headers that reach the upstream and are not the same for all of its requests."""
    provider, given = candidate.provider, candidate.target.headers or {}
    forwarded = [*OWN, *(name.lower().encode("ascii") for name in provider.forward_headers)]
    found = [(name.lower(), value) for name, value in given.items()]
    found += [(name.decode(), job.headers[name].decode("latin-1")) for name in forwarded if name in job.headers]
    found += [(name.decode(), value.decode("latin-1")) for name, value in provider.fixed_headers]
    return [part for pair in sorted(found) for part in pair]
