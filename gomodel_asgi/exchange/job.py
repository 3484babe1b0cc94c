"""What an exchange works with: the gateway's setup, and one request."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl

from msgspec import Struct
from starlette.types import Scope

from ..dialects.base import NOTHING_SHOWN, Call, ShownFunctions
from ..errors import InvalidRequest
from ..observers.fanout import Observers
from ..observers.trace import Trace
from ..providers.provider import Provider
from ..resilience.concurrency import ConcurrencyLimits
from ..resilience.health import Health
from ..resilience.retry import RetryBudget
from ..routing.request import AsyncPolicy, Registry, RoutingRequest
from ..routing.target import ResolvedTarget, Target
from ..seams.health import ProviderHealth
from ..seams.transport import Headers, Transport
from ..settings import Limits, Retries, Timeouts
from ..wire.json_body import Envelope
from .reply import Reply

Booked = Literal["exchange", "settled"]
"""What the ledger books: an exchange, or what has been used behind one, in the background."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration that a request runs on from its start to its end; `reload` makes a new one."""

    registry: Registry
    ask: AsyncPolicy
    transport: Transport
    timeouts: Timeouts
    limits: Limits
    retries: Retries
    stamp: bool
    observers: Observers
    health: Health
    budget: RetryBudget
    concurrency: ConcurrencyLimits
    state: State
    tenant_required: bool = False
    files: HostFiles | None = None
    ledger: Ledger | None = None
    quotas: Quotas | None = None
    guards: Guards | None = None
    cache: Cache | None = None
    observed: bool = False
    """Whether anybody wants to know of an exchange."""
    candidates: dict[tuple[str, str | None], ResolvedTarget] = field(default_factory=dict)
    """Resolved Targets that name no more than a provider and a model, by both."""

    def trace(self, request_id: str = "", scope: Scope | None = None, kind: Booked = "exchange") -> Trace | None:
        """Returns a trace for one exchange, where anybody wants to know of it. No other place makes one. *scope* is
        that of the request, *kind* what it is to the ledger."""
        if not self.observed:
            return None
        trace = Trace(self.observers, request_id)
        if self.ledger is not None:
            self.ledger.begin(trace, scope, kind)
        return trace

    def health_of(self, which: str | Provider, tenant: str | None) -> ProviderHealth:
        """Returns how a provider is doing, as *tenant* sees it.

        :raises KeyError: no provider of this name is configured.
        """
        if isinstance(which, str) and which not in self.registry.by_name:
            raise KeyError(which)
        return self.health.seen_by(tenant, which if isinstance(which, str) else which.name)


class State(Protocol):
    """The stored state of the gateway, as the pipeline reads and writes it, in this order.

    Its coroutines raise GatewayError where the state cannot be read or kept, or is not this caller's, and LookupError
    for a *target* whose provider is unknown.
    """

    def is_plain(self, job: Job) -> bool:
        """Returns whether the request creates a response from its own input alone, which refers to nothing stored: then
        only `reply_of` and `record` have anything to do. Called for every request."""

    def names(self, job: Job) -> bool:
        """Returns whether the request names stored state that the policy may see. Called for every request: it does not
        wait."""

    async def recall(self, job: Job) -> None:
        """Reads what the request names of earlier ones, for the policy to see."""

    async def admit(self, job: Job, target: Target) -> None:
        """Checks what else the request brings and names, once the policy has let the caller in."""

    async def emulated(self, job: Job, target: Target) -> Reply | None:
        """Returns the reply to what *target* lacks; None where an upstream gives it."""

    async def adapted(self, job: Job, target: Target) -> tuple[Job, Target]:
        """Returns the request as it is to be sent, and where."""

    def reply_of(self, job: Job, target: Target) -> Awaitable[Reply]:
        """Returns the reply of *target*, or of one of its fallbacks, in as many rounds as it takes."""

    async def warmed(self, job: Job, target: Target) -> Reply:
        """Returns the reply to a request that is to generate nothing: no tool runs, and no server of tools is
        called."""

    async def record(self, job: Job, target: Target, reply: Reply) -> None:
        """Sees to it that what *reply* says is kept by the time the client has all of it."""

    async def is_anothers(self, job: Job, provider: Provider, id: str) -> bool:
        """Returns whether the *id* that *provider* gave is known to be another tenant's."""

    async def remembered(self, tenant: str | None, response_id: str) -> bytes:
        """Returns what is remembered of the hosted tools of a response of *tenant*'s, as `emulation.tools` has written
        it; empty where nothing is."""

    async def take_approval(self, tenant: str | None, id: str) -> bool:
        """Takes the client's answer to the approval request *id*, which counts once. Returns whether it counts."""


class Continuation(Protocol):
    """The earlier responses and items that a request names; *key* is a Target's own, None for the provider's."""

    @property
    def bound(self) -> bool:
        """Whether only the upstream that holds the state can be asked."""

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """Returns the request as this native upstream has to get it.

        :raises InvalidRequest: it names what does not lie there.
        """

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """Returns the request as an upstream that keeps nothing has to get it, for its dialect.

        :raises InvalidRequest: it names what is not known here.
        """

    def earlier_json(self) -> bytes:
        """Returns the conversation so far as JSON, as far as it is known here: the request's bytes do not hold it."""

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """Returns *error* about such a body, with its path counted from where the client's own input begins."""


class Files(Protocol):
    """The host's files that one request names. Both raise GatewayError where these are not to be had."""

    async def put_in(self, call: Call, candidate: ResolvedTarget, job: Job) -> Call:
        """Returns *call* with the bytes of those that *candidate* cannot read."""

    async def put_into(self, items: list[Any], job: Job) -> list[Any]:
        """Returns the *items* of an input with the bytes of those that they name by id."""


class HostFiles(Protocol):
    """The host's files."""

    def of_request(self) -> Files:
        """Returns what one request reads of them."""


class Ledger(Protocol):
    """The ledger, where there is one."""

    def begin(self, trace: Trace, scope: Scope | None, kind: Booked) -> None:
        """Begins an exchange, which is booked when its *trace* ends.

        :raises RuntimeError: the ledger does not run on this event loop.
        """

    async def admit(self, trace: Trace, request: RoutingRequest) -> None:
        """Notes that the policy has let *request* in, and that an upstream is about to be asked.

        :raises LedgerUnavailable: it could not be written down, and must be.
        """


class Hold(Protocol):
    """What a request has reserved of its quotas; the end of its trace settles it."""

    @property
    def headers(self) -> Headers:
        """What the client learns of them."""

    def packed(self) -> bytes:
        """Returns what another process needs to settle it; empty where there is nothing to settle."""

    def hand_over(self) -> None:
        """Leaves it to whoever has it `packed` to settle it."""


class Quotas(Protocol):
    """The quotas, where there are any, for the pipeline and for work in the background."""

    @property
    def rules(self) -> Callable[[RoutingRequest], Coroutine[Any, Any, tuple[Any, ...]]]:
        """The host's function: which quotas a request counts in."""

    @property
    def shadow(self) -> bool:
        """Whether nothing is refused."""

    async def reserve(self, job: Job, target: Target, quotas: tuple[Any, ...]) -> None:
        """Reserves what *job* may use in all of *quotas*, or refuses it. What it holds is settled when its trace ends.

        :raises GatewayError: there is no room, or the counters do not answer.
        :raises LookupError: no price is known for it, or the policy named an unknown provider.
        """

    async def note_background(self, job: Job, reply: Reply) -> None:
        """Notes that an upstream has accepted *job* as background work."""

    def note_lookup(self, job: Job) -> None:
        """Notes that the reply to *job*, a look-up, may show how background work has ended."""

    def resume(self, packed: bytes, trace: Trace) -> None:
        """Lets the exchange of *trace* work on, and settle, what another one has reserved (`Hold.packed`)."""

    def orphaned(self, packed: bytes, *, begun: bool) -> None:
        """Settles what nobody works on any more; *begun*: somebody had begun to."""


class LookUp(Protocol):
    """What the cache has of one request."""

    reply: Reply | None
    """The answer that it has, None where an upstream is to be asked."""
    result: Literal["hit", "miss", "bypass"]

    async def answered(self, reply: Reply) -> None:
        """Marks the *reply* that goes to the client with where it is from, and keeps it for others if that may be."""


class Cache(Protocol):
    """The cache, where there is one."""

    async def look_up(self, job: Job, target: Target, ask: Ask) -> LookUp | None:
        """Returns what it has of *job*, None where that is no matter of the cache. *ask* calls a function of the
        host's. Where anything of the cache's own fails, an upstream is asked.

        :raises GatewayError: a guard does not let pass what it has, or fails.
        """


Ask = Callable[[Callable[[RoutingRequest], Coroutine[Any, Any, Any]]], Awaitable[Any]]
"""Calls a function of the host's with a request; raises GatewayError where it refused, failed, or took too long."""
Stage = Literal["input", "output"]
"""What guards look at: what goes to a model, or what comes from it."""
Path = tuple[str | int, ...]


class Guards(Protocol):
    """The host's guards, where there are any.

    What is awaited raises GatewayError where a guard refuses, or fails.
    """

    def select(self, job: Job) -> object:
        """Finds out, once, which of them apply to *job*.

        :raises InvalidRequest: what one of them is to answer is malformed.
        """

    def applies(self, job: Job, stage: Stage) -> bool:
        """Returns whether any of them applies to the *stage* of *job*."""

    def require(self, job: Job, names: Iterable[str]) -> None:
        """Applies those of *names* to the reply to *job*, whatever their `when` returns now."""

    def names_for_reply(self, job: Job) -> tuple[str, ...]:
        """Returns the names of those that see the reply to *job*."""

    def names_for(self, job: Job) -> tuple[str, ...]:
        """Returns the names of those that see *job* or its reply, in their order."""

    def stateless(self, job: Job, provider: Provider) -> Provider:
        """Returns *provider* as *job* uses it: where guards look at the reply, as one that keeps nothing."""

    async def filter_request(self, job: Job) -> Envelope | None:
        """Returns the request as it is to be sent; None where nothing in it was replaced."""

    async def filter_outgoing(self, job: Job, provider: Provider, key: str | None) -> Job:
        """Returns *job* as *provider* may get it, with what it continues."""

    async def filter_body(self, job: Job, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a request's *body* with what a model may read of it."""

    async def filter_texts(self, job: Job, stage: Stage, places: Sequence[tuple[Path, str]]) -> Mapping[Any, str]:
        """Returns, by path, what takes the place of the texts at *places* (a path, and what stands there)."""

    async def filter_value(self, job: Job, stage: Stage, value: Any, path: Path) -> Any:
        """Returns the JSON *value* at *path* with its texts replaced; itself where none was."""

    async def filter_reply(self, job: Job, answer: Awaitable[Reply]) -> Reply:
        """Returns the reply that *answer* gives, with nothing in it that the guards have not let pass."""


def nothing_shown(target: Target) -> ShownFunctions:
    """Returns what models are shown where the host runs no tools."""
    return NOTHING_SHOWN


class Job(Struct):
    """One request on its way: *headers* are the client's (lower-case, first of each), *query* its raw query without
    the hint, *started* on the monotonic clock."""

    request: RoutingRequest
    setup: Setup
    request_id: str
    headers: Mapping[bytes, bytes]
    query: str
    started: float
    stream: bool
    trace: Trace | None = None
    continuation: Continuation | None = None
    response_id: str | None = None
    """The id that a translated response has to get; None: a new one."""
    leading: tuple[dict[str, Any], ...] = ()
    """Items of the gateway's own that the response begins with."""
    spent: dict[str, Any] | None = None
    """The usage of the requests that produced them."""
    shown: Callable[[Target], ShownFunctions] = nothing_shown
    """The functions that a Target's model is shown in place of tools that the host runs."""
    files: Files | None = None
    """The host's files, where it gives any."""
    hold: Hold | None = None
    """What it has reserved of its quotas."""
    resolved: ResolvedTarget | None = None
    """The Target that was resolved last: others with the same key reuse its credential."""
    guarding: Any = None
    """The state that the host's guards keep for it, where there are any; nothing else reads it."""
    background: bool = False
    """Whether nobody waits for it: it has its tenant's place already, and can wait long for the provider's."""

    def __repr__(self) -> str:
        return f"<Job {self.request_id} {self.request!r}>"

    def warn(self, messages: Iterable[str]) -> None:
        """Notifies of what was left out or went wrong without failing the request."""
        if self.trace is not None:
            for message in messages:
                self.trace.warn(message)

    @property
    def guards(self) -> tuple[str, ...]:
        """The names of the host's guards that look at its answer."""
        return () if self.setup.guards is None else self.setup.guards.names_for_reply(self)

    @property
    def rewrites(self) -> bool:
        """Whether a native reply has to be written anew: under another id, or with items of the gateway's own."""
        return self.response_id is not None or bool(self.leading)

    def starting_after(self, provider: Provider) -> int | None:
        """Returns the number after which a rewritten stream of *provider* goes on that is sent again; None where
        nothing of it is left out."""
        if self.request.operation != "retrieve" or not provider.normalize:
            return None
        given = [value for name, value in parse_qsl(self.query) if name == "starting_after"]
        return int(given[-1]) if given and re.fullmatch("[0-9]{1,18}", given[-1]) else None

    @property
    def bound(self) -> bool:
        """Whether the request names state that lives at one upstream."""
        envelope = self.request.envelope
        marks = BOUND_MARKS if self.files is None else tuple(mark for mark in BOUND_MARKS if mark != FILE_MARK)
        if self.continuation is not None:
            return self.continuation.bound or any(mark in envelope.raw for mark in marks[1:])
        return (
            self.request.response_id is not None
            or any(envelope.has(name) for name in ("previous_response_id", "conversation"))
            or any(mark in envelope.raw for mark in marks)
        )


FILE_MARK = b'"file_id"'
BOUND_MARKS = (b'"item_reference"', FILE_MARK, b'"encrypted_content"', b'"container"')
"""Members inside the input that only the upstream which issued them understands."""


def provider_of(target: Target, job: Job) -> Provider:
    """Returns the Target's provider, as it is used for *job*.

    :raises LookupError: the policy named one that is not configured: a programming error of the host's.
    """
    provider: Provider | None
    if isinstance(target.provider, Provider):
        provider = target.provider
    else:
        provider = job.setup.registry.by_name.get(target.provider)
    if provider is None:
        raise LookupError(f"The policy named the provider {target.provider!r}, which is not configured.")
    return provider if job.setup.guards is None else job.setup.guards.stateless(job, provider)
