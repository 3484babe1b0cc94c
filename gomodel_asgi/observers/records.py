"""The records that an observer is called with, one frozen object for each thing that happens.

    RequestStarted → PolicyDecided → ( AttemptStarted → AttemptEnded )+ → FirstEvent → Completed | Disconnected

`ToolCalled` comes between, and further attempts behind it, where the host runs hosted tools.

Each exchange ends with exactly one `Completed` or `Disconnected`, also where it was refused or failed; whatever comes
before is sent only if it happened. `Warned` may come at any time between; `KeepAliveLost` belongs to no exchange. No
record holds a key, a header, a prompt or an answer; but a `detail` is the upstream's own error message, which may quote
a part of the request. They are structs of msgspec, a tenth of the cost of dataclasses: `msgspec.structs.asdict` and
`replace` are there for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self
from uuid import UUID

from msgspec import Struct

from ..seams.health import State
from .usage import Charge, Cost, Usage

NO_LABELS: Mapping[str, str] = MappingProxyType({})
TEXT = 256  # characters of any text that somebody else chose


def clean(text: object, limit: int = TEXT) -> str | None:
    """Returns *text* for a record: at most *limit* characters, printable, on one line; None where it is no text."""
    if not isinstance(text, str):
        return None
    text = text[:limit]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


class Context(Struct, frozen=True):
    """What is known of an exchange when a record of it is made.

    *exchange* numbers the exchanges of this process: unlike *request_id*, which callers may choose, it never repeats.
    0: the record belongs to none.
    *model* is what the client asked for, *target_model* what the upstream was asked for, *served_model* what the
    upstream says it used. *provider* and *provider_type* name the upstream of the last attempt; before the first
    attempt, the one that the policy named; at the end, nobody if there was none. *labels* are the Target's.
    *row* is the id that the exchange's row in the ledger has, None where there is no ledger.
    Text that others chose is cut to 256 characters and holds no control characters.
    """

    exchange: int
    request_id: str
    operation: str = "unknown"
    tenant: str | None = None
    labels: Mapping[str, str] = NO_LABELS
    stream: bool = False
    model: str | None = None
    target_model: str | None = None
    served_model: str | None = None
    provider: str | None = None
    provider_type: str | None = None
    row: UUID | None = None


NO_EXCHANGE = Context(0, "")
"""Of records that belong to none."""


class Record(Struct, frozen=True):
    """One thing that happened in the exchange that *context* describes; what all records have is named here too."""

    context: Context

    @property
    def request_id(self) -> str:
        """The context's `request_id`."""
        return self.context.request_id

    @property
    def operation(self) -> str:
        """The context's `operation`."""
        return self.context.operation

    @property
    def tenant(self) -> str | None:
        """The context's `tenant`."""
        return self.context.tenant

    @property
    def labels(self) -> Mapping[str, str]:
        """The context's `labels`: those of the Target."""
        return self.context.labels

    @property
    def model(self) -> str | None:
        """The context's `model`: the one that the client named."""
        return self.context.model

    @property
    def target_model(self) -> str | None:
        """The context's `target_model`: the one that is requested from the upstream."""
        return self.context.target_model

    @property
    def served_model(self) -> str | None:
        """The context's `served_model`: the one that the upstream says it used."""
        return self.context.served_model

    @property
    def provider(self) -> str | None:
        """The context's `provider`: its name."""
        return self.context.provider


class RequestStarted(Record, frozen=True, kw_only=True):
    """A request for one of our paths has come in, whole: *bytes* of body, with this *hint* at a provider."""

    hint: str | None = None
    bytes: int = 0


class PolicyDecided(Record, frozen=True, kw_only=True):
    """The policy has answered after *seconds*: with the Target that the context names, or (*error*, a code) with a
    refusal. *fallbacks* are the providers that may be asked after the first."""

    seconds: float
    error: str | None = None
    fallbacks: tuple[str, ...] = ()


Kind = Literal["first", "retry", "fallback"]
"""Why an attempt is made: at the Target, at the same upstream again, or at the next one."""


class Cause(Struct, frozen=True):
    """What leads to an attempt: *reason* is the code of the error that led to a retry or a fallback, *source* the
    provider that a fallback replaces."""

    kind: Kind = "first"
    reason: str | None = None
    source: str | None = None


FIRST = Cause()


class AttemptStarted(Record, frozen=True, kw_only=True):
    """The provider of the context is about to be asked; *number* counts from 1. *kind*, *reason* and *source* are those
    of its `Cause`."""

    number: int
    kind: Kind = "first"
    reason: str | None = None
    source: str | None = None


class AttemptEnded(Record, frozen=True, kw_only=True):
    """An attempt has begun to answer (*error* None), or has failed, *seconds* after it started.

    *error* is the error's code, *detail* what only an operator may see. *usage* is what a failed attempt has used all
    the same; one that has answered has it only where the host's tools make several rounds of an exchange. It is a part
    of the `usage` of `Ended`, which is the sum of all attempts: never add the two.
    """

    number: int
    status: int | None
    error: str | None
    detail: str | None
    seconds: float
    usage: Usage | None = None
    kind: Kind = "first"


class FirstEvent(Record, frozen=True, kw_only=True):
    """The first event, or the unary body, is on its way to the client, *seconds* after the request came in."""

    seconds: float


class ToolCalled(Record, frozen=True, kw_only=True):
    """A model has called a hosted tool that the host runs. *tool* is its kind (`web_search`, …, `mcp`), *label* the MCP
    server's, *name* the tool's own. *outcome* is `completed`, `failed`, `timeout`, or `refused` where it was not run.
    *bytes_in* are those of the arguments, *bytes_out* of the result. *detail* is what an exception of the
    host's own function said."""

    tool: str
    label: str | None
    name: str
    seconds: float
    outcome: Literal["completed", "failed", "timeout", "refused"]
    bytes_in: int
    bytes_out: int
    detail: str | None = None


class Ended(Record, frozen=True, kw_only=True):
    """The exchange is over. Sent once.

    *status* is the HTTP status, None where none was sent. *error* is the code of what failed, *detail* what only an
    operator may see of it, *advice* what the operator can do about it, in words of ours. *charges* are what each
    attempt has used, given for operations that are billed (create, compact), and *usage* is their sum: what
    `AttemptEnded` told is a part of it. *raw_usage* is the last upstream's own object. *cached*: the answer came from
    the cache, and has used nothing. *first_event* and *seconds* count from when the request had come in; *events* and
    *bytes* are those given to the client, heartbeats and `[DONE]` not counted as events.
    """

    status: int | None
    error: str | None = None
    detail: str | None = None
    advice: str | None = None
    attempts: int = 0
    response_id: str | None = None
    conversation: str | None = None
    service_tier: str | None = None
    usage: Usage | None = None
    charges: tuple[Charge, ...] = ()
    raw_usage: Any = None
    cost: Cost | None = None
    cached: bool = False
    first_event: float | None = None
    seconds: float = 0.0
    events: int = 0
    bytes: int = 0


class Completed(Ended, frozen=True, kw_only=True):
    """The client has its answer, be it an error. *outcome* is the response's own status (`completed`, `incomplete`,
    `failed`, `queued`, …), `failed` for every error and `completed` for replies that have no status."""

    outcome: str


class Disconnected(Ended, frozen=True, kw_only=True):
    """The client has not got all of its answer: it left (`gone`), stopped reading (`stalled`), or the work was
    cancelled from outside (`cancelled`). *usage* is what the upstream had reported, else an estimate marked as such."""

    reason: Literal["gone", "stalled", "cancelled"]


class Warned(Record, frozen=True, kw_only=True):
    """Something was left out or went wrong without failing the request: a dropped member, trouble with the store."""

    message: str


class KeepAliveLost(Record, frozen=True, kw_only=True):
    """An upstream has sent bytes after a complete reply, which could be read as the answer to somebody's next request:
    connections to *origin* (scheme, host and port) are used once each, until it has sent no such bytes for *seconds*.
    It belongs to no exchange, and is sent with the next request."""

    origin: str
    seconds: float


STORE = "(store)"
"""Stands for the state store where a provider is named."""


class BreakerChanged(Record, frozen=True, kw_only=True):
    """A circuit breaker of the context's provider and model has opened for everybody, is being tried (`half-open`), or
    has closed: there may be others of the same names, one for each credential, which is not shown. That of the state
    store stands under `STORE`. It belongs to no exchange."""

    was: State
    now: State

    @classmethod
    def of(cls, provider: str, model: str | None, was: State, now: State) -> Self:
        """Returns the record for *provider* and *model*."""
        return cls(Context(0, "", provider=provider, model=model, target_model=model), was=was, now=now)


class CredentialRefused(Record, frozen=True, kw_only=True):
    """The provider of the context has refused its credential (401, 402, 403), or one that the Target *brought*.
    *fingerprint* are eight hexadecimal digits that tell credentials apart, others in each process."""

    fingerprint: str
    brought: bool


class QuotaChecked(Record, frozen=True, kw_only=True):
    """The request was checked against the quota *name*, which counts *unit*: it was let in, refused, let in though it
    had been refused if the quota were not in `shadow`, or its counters did not answer. *spent* and *held* (by requests
    under way) are as of then, of the tenant's own counter or the shared one; they and *limit* are in requests, tokens,
    or millionths of a US dollar."""

    name: str
    unit: Literal["requests", "tokens", "money"]
    outcome: Literal["admitted", "refused", "shadow", "unavailable"]
    spent: int = 0
    held: int = 0
    limit: int = 0


class CacheChecked(Record, frozen=True, kw_only=True):
    """The request was answered from the cache (`hit`), or by an upstream since nothing was there (`miss`), or may not
    be answered from the cache (`bypass`). *age* are the seconds since the answer of a hit was made."""

    result: Literal["hit", "miss", "bypass"]
    age: float = 0.0


class Guarded(Record, frozen=True, kw_only=True):
    """The host's *guard* has looked at what goes to a model (`input`) or comes from it (`output`): nothing was found
    (`passed`), it was `blocked` or `replaced`, labels were *noted*, or the guard `failed`. Of a stream there is one
    record for all that it passed. *count* is how many texts it was about, *error* the class of what failed. Neither
    text nor message stands here."""

    guard: str
    stage: Literal["input", "output"]
    verdict: Literal["passed", "blocked", "replaced", "noted", "failed"]
    count: int
    noted: tuple[str, ...] = ()
    error: str | None = None


class LedgerWritten(Record, frozen=True, kw_only=True):
    """So many *rows* of the ledger were written to its sink, or spilled to its file since the sink did not take them,
    or written from there later, or lost. It belongs to no exchange."""

    rows: int
    result: Literal["written", "spilled", "replayed", "dropped"]
