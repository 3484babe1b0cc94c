"""The trace of one exchange: collects what the other rooms report, and makes the records of it.

It exists only where somebody observes, counts or wants timings; the rooms ask `if trace is not None` and do nothing
more where it is None. It ends once, with one `Completed` or `Disconnected`, whichever comes first.

What an exchange has used is kept by attempt (`Step`), each token in the one that used it: what the upstream reported,
or, where it could not, an estimate. Sums are made of these alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Literal

from msgspec.structs import replace

from ..errors import (
    GatewayError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRedirect,
    UpstreamRejected,
    type_of_status,
)
from ..logs import log
from ..operations import ANSWERED_HERE, BILLED
from ..wire.redaction import REDACTED, SHORTEST, redacted as without_secrets
from ..wire.token_estimate import BYTES_PER_TOKEN
from .answer import Answer, Measure, Source, Usage, clean, estimate, of_body, of_source
from .fanout import Observers
from .records import (
    FIRST,
    AttemptEnded,
    AttemptStarted,
    CacheChecked,
    Cause,
    Charge,
    Completed,
    Context,
    CredentialRefused,
    Disconnected,
    Ended,
    FirstEvent,
    PolicyDecided,
    RequestStarted,
    Warned,
)

UNBILLED = (UpstreamRejected, UpstreamAuthError, UpstreamRedirect)
"""Answers by which an upstream says that it has not worked: they cost what they report, or nothing."""

COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "estimated")
DETAIL = 2048
SHOWN = 8
"""Digits of a credential's fingerprint that observers are told."""
Reason = Literal["gone", "stalled", "cancelled"]

clock = time.monotonic
_numbers = count(1)


class Trace:
    """Collects what happens in one exchange and notifies *observers*."""

    is_round = False
    """Whether its attempts are reported when their round is over, and not as soon as they have answered."""

    def __init__(self, observers: Observers, request_id: str = "") -> None:
        self.observers = observers
        self.context = Context(next(_numbers), request_id)
        self.started = clock()
        self.size = 0
        self.measure = Measure()
        self.policy: float | None = None
        self.first: float | None = None
        self.attempts: list[Step] = []
        self.step: Step | None = None
        """The attempt that is read here."""
        self.ending: list[Callable[[Trace, Ended], None]] = []
        """Called with the last record, once, before the observers are: for those who must not miss one."""
        self.spent: Usage | None = None
        """What the answer tells as its own, though another attempt has used it."""
        self.source: Source | None = None
        self.body: bytes | None = None
        self.warnings: list[str] = []
        self.cached = False
        """Whether the answer came from the cache."""
        self.turned_away: str | None = None
        """The provider that would have been asked, but for its breaker or its limit."""
        self.error: GatewayError | None = None
        self.over = False

    def know(self, **facts: Any) -> None:
        """Puts *facts* into the context of the records to come."""
        self.context = replace(self.context, **facts)

    # What the other rooms report...

    def arrived(self, tenant: str | None, model: str | None, stream: bool, hint: str | None, size: int) -> None:
        """The request is here, whole; from now on time counts."""
        self.started, self.size = clock(), size
        self.know(tenant=tenant, model=clean(model), stream=stream)
        self.observers.notify(RequestStarted(self.context, hint=clean(hint), bytes=size))

    def refused(self, seconds: float, error: GatewayError) -> None:
        """The policy did not name a Target."""
        self.policy = seconds
        self.observers.notify(PolicyDecided(self.context, seconds=seconds, error=code_of(error)))

    def decided(self, seconds: float, target: tuple[str, ...], model: str | None, labels: Mapping[str, str]) -> None:
        """The policy named *target*: the provider, and those to fall back on."""
        self.policy = seconds
        self.know(labels=MappingProxyType(dict(labels)))
        others = target[1:]
        if self.context.operation in ANSWERED_HERE:
            others = ()
        else:
            self.know(provider=target[0], target_model=clean(model))
        self.observers.notify(PolicyDecided(self.context, seconds=seconds, fallbacks=others))

    def turned_away_by(self, provider: str, type: str, model: str | None) -> None:
        """The *provider* was not asked, since its breaker is open or its limit is reached."""
        self.turned_away = provider
        self.know(provider=provider, provider_type=type, target_model=clean(model))

    def attempt(
        self,
        provider: str,
        type: str,
        model: str | None,
        secrets: Iterable[str],
        cause: Cause = FIRST,
    ) -> Step:
        """Begins an attempt at a provider and returns its step. What it says is recorded with *secrets* redacted."""
        return self.begun(self, provider, type, model, tuple(secrets), cause)

    def begun(
        self,
        read: Trace,
        provider: str,
        type: str,
        model: str | None,
        secrets: tuple[str, ...],
        cause: Cause,
    ) -> Step:
        """Begins an attempt of this exchange whose answer *read* reads."""
        if read.step is not None:
            read.step.settle(None, None)  # while its answer is still known
        read.source = read.body = None
        read.warnings = []
        self.know(provider=provider, provider_type=type, target_model=clean(model), served_model=None)
        read.step = step = Step(self, read, provider, type, clean(model), secrets, cause)
        self.attempts.append(step)
        started = AttemptStarted(
            self.context, number=step.number, kind=cause.kind, reason=cause.reason, source=cause.source
        )
        self.observers.notify(started)
        return step

    def asks(self, body: bytes, size: int) -> None:
        """The attempt is about to send *size* bytes to its upstream, made of the client's *body*."""
        if self.step is not None:
            self.step.asks(body, size)

    def credential_refused(self, fingerprint: str, brought: bool) -> None:
        """The upstream does not take the credential of this *fingerprint*; *brought*: the Target's own."""
        refused = CredentialRefused(self.context, fingerprint=fingerprint[:SHOWN], brought=brought)
        self.observers.notify(refused)

    def reads(self, source: Source, warnings: list[str]) -> None:
        """*source* reads the answer, and may yet add to *warnings*."""
        self.source, self.warnings = source, warnings

    def received(self, body: bytes) -> None:
        """The whole answer has been read as one *body*."""
        self.body = body

    def checked(self, result: Literal["hit", "miss", "bypass"], age: float = 0.0, body: bytes | None = None) -> None:
        """The cache was asked; of a hit, *body* is the response object, *age* seconds old."""
        self.observers.notify(CacheChecked(self.context, result=result, age=age))
        if body is not None:
            self.cached = True
            self.received(body)
            self.first_event()

    def first_event(self) -> None:
        """Something is on its way to the client."""
        self.first = clock() - self.started
        self.observers.notify(FirstEvent(self.context, seconds=self.first))

    def warn(self, message: str) -> None:
        """Something was lost, or went wrong without failing the request."""
        self.observers.notify(Warned(self.context, message=clean(message, DETAIL) or ""))

    def failed(self, error: GatewayError | None) -> None:
        """The exchange, or the stream that it had become, has failed."""
        self.error = self.error or error

    def sent(self, body: bytes) -> None:
        """A whole body went to the client."""
        if body.startswith((b"event:", b"data:")):
            self.measure.add(body)
        else:
            self.measure.bytes += len(body)

    # The end...

    def end(self, status: int | None, reason: Reason | None = None) -> None:
        """The exchange is over: *status* was sent, and all of the answer, unless *reason* says why not."""
        if self.over:
            return
        self.over = True
        if not self.observers and not self.ending:
            return
        self.failed(None if self.source is None else self.source.failure)
        answer = self.answer()
        self.flush_warnings()
        self.know(served_model=answer.model)
        if not (self.attempts or self.cached or self.turned_away):  # whom the policy named was never asked
            self.know(provider=None, provider_type=None, target_model=None)
        for step in self.attempts:
            step.settle(answer if step is self.step else None, self.error)
        ended = self._ended(status, answer)
        record: Ended
        if reason is not None and self.error is None:
            record = Disconnected(self.context, reason=reason, **ended)
        else:
            outcome = "failed" if self.error is not None else answer.status or "completed"
            record = Completed(self.context, outcome=outcome, **ended)
        self._call_ending(record)
        self.observers.notify(record)

    def _call_ending(self, record: Ended) -> None:
        ending, self.ending = self.ending, []
        for function in ending:
            try:
                function(self, record)
            except Exception as error:  # its type only: its text may quote anything
                log("end_unreported", error=type(error).__name__)

    def charges(self) -> tuple[Charge, ...]:
        """Returns what each attempt has used, in order: all of it once the exchange is over, and each token once.

        Empty for operations that are not billed. *served_model* and *service_tier* are those that the upstream told.
        """
        if self.context.operation not in BILLED:
            return ()
        return tuple(step.charge(step.usage) for step in self.attempts if step.usage is not None)

    def answer(self) -> Answer:
        """Returns what is known of the answer by now."""
        if self.source is not None:
            return of_source(self.source)
        return Answer() if self.body is None else of_body(self.body)

    def flush_warnings(self) -> None:
        """Notifies of the warnings that the reader of the answer has noted so far."""
        for message in self.warnings:
            self.warn(message)
        self.warnings = []

    def _ended(self, status: int | None, answer: Answer) -> dict[str, Any]:
        charges = self.charges()
        last = self.attempts[-1] if self.attempts else None
        return {
            "status": status,
            "error": None if self.error is None else code_of(self.error),
            "detail": None if self.error is None else redacted(self.error, () if last is None else last.secrets),
            "advice": None if self.error is None else clean(self.error.advice, DETAIL),
            "attempts": len(self.attempts),
            "response_id": answer.response_id,
            "conversation": answer.conversation,
            "service_tier": answer.service_tier,
            "usage": total(charges),
            "charges": charges,
            "raw_usage": answer.raw if self.context.operation in BILLED else None,
            "cached": self.cached,
            "first_event": self.first,
            "seconds": clock() - self.started,
            "events": self.measure.events,
            "bytes": self.measure.bytes,
        }

    def used(self, step: Step, answer: Answer, error: BaseException | None) -> Usage | None:
        """Returns what *step* has used by its *answer*: what the upstream reported, or a guess, no less than that,
        where the answer broke off before it could or has ended without. *error* is what the exchange, or the attempt,
        has failed with."""
        usage = answer.usage
        if usage is not None and self.spent is not None and answer.status is not None and self.source is not None:
            usage = _difference(usage, self.spent)
        if not step.sent or (not answer.text and self._has_reported(step, answer, error)):
            return usage
        guess = estimate(step.asked, step.sent, max(self.measure.text, answer.text))
        if usage is None:
            return guess
        return replace(usage, output_tokens=max(usage.output_tokens, guess.output_tokens), estimated=True)

    def _has_reported(self, step: Step, answer: Answer, error: BaseException | None) -> bool:
        """Whether the upstream has reported all that *step* has used."""
        if isinstance(error, UNBILLED):  # also in a stream, of which text has gone by that nobody may have counted
            reported = 0 if answer.usage is None else answer.usage.output_tokens
            return reported * BYTES_PER_TOKEN >= self.measure.text
        if self.source is not None:
            return self.source.terminal in ("completed", "incomplete")
        return self.body is not None and (step.has_answered or answer.usage is not None)

    def timing(self) -> bytes:
        """Returns the value of a `Server-Timing` header: policy, each attempt, the first event, in milliseconds."""
        parts = [] if self.policy is None else [f"policy;dur={self.policy * 1000:.2f}"]
        for step in self.attempts:
            name = step.provider.replace("\\", "").replace('"', "")
            parts.append(f'attempt{step.number};dur={step.seconds * 1000:.2f};desc="{name}"')
        if self.first is not None:
            parts.append(f"first_event;dur={self.first * 1000:.2f}")
        return ", ".join(parts).encode("ascii", "replace")


class Step:
    """One attempt of *trace*, whose answer *read* reads: what it asked, how it ended, what it has used."""

    def __init__(
        self,
        trace: Trace,
        read: Trace,
        provider: str,
        provider_type: str,
        target_model: str | None,
        secrets: tuple[str, ...],
        cause: Cause,
    ) -> None:
        self.trace = trace
        self.read = read
        self.number = len(trace.attempts) + 1
        self.provider = provider
        self.provider_type = provider_type
        self.target_model = target_model
        self.served_model: str | None = None
        self.service_tier: str | None = None
        self.kind = cause.kind
        self.reason = cause.reason
        """The code of the error that led here; None at first."""
        self.secrets = secrets
        self.started = clock()
        self.seconds = 0.0
        """Until it began to answer, or failed."""
        self.status: int | None = None
        self.error: str | None = None
        """The code of its failure."""
        self.has_answered = False
        self.asked = b""
        """The client's body, until it is settled."""
        self.sent = self.latest = 0
        """Bytes of requests that its upstream may have, and of the last one."""
        self.usage: Usage | None = None
        """What it has used, once that is settled; of operations that are billed."""
        self.is_settled = False

    def asks(self, body: bytes, size: int) -> None:
        """A request of *size* bytes, made of the client's *body*, is about to be sent."""
        self.asked = body
        self.sent += size
        self.latest = size

    def answered(self, status: int) -> None:
        """The upstream has begun to answer."""
        self.seconds = clock() - self.started
        self.status, self.has_answered = status, True
        if not self.read.is_round:
            self.notify(detail=None)

    def failed(self, error: BaseException) -> None:
        """It has not: *error* says why."""
        self.seconds = clock() - self.started
        if isinstance(error, Exception) and not (isinstance(error, UpstreamError) and error.sent):
            self.sent -= self.latest  # the upstream cannot have seen the request
        self.settle(None, error)
        if not isinstance(error, GatewayError):
            self.error = "cancelled"
            return self.notify(detail=None, usage=self.usage)
        self.status, self.error = error.status, code_of(error)
        self.read.flush_warnings()
        self.notify(detail=redacted(error, self.secrets), usage=self.usage)

    def settle(self, answer: Answer | None, error: BaseException | None) -> None:
        """Keep, once, what it has used by its *answer* (None: as far as that is known by now)."""
        if self.is_settled or self.trace.context.operation not in BILLED:
            return
        self.is_settled = True
        answer = self.read.answer() if answer is None else answer
        self.served_model, self.service_tier = answer.model, answer.service_tier
        self.usage = self.read.used(self, answer, error)
        self.asked = b""

    def charge(self, usage: Usage) -> Charge:
        """Returns *usage*, its own, with where it was used."""
        return Charge(
            number=self.number,
            provider=self.provider,
            provider_type=self.provider_type,
            target_model=self.target_model,
            served_model=self.served_model,
            service_tier=self.service_tier,
            usage=usage,
        )

    def notify(self, **facts: Any) -> None:
        """Make the record of its end."""
        record = AttemptEnded(
            self.trace.context,
            number=self.number,
            kind=self.kind,
            status=self.status,
            error=self.error,
            seconds=self.seconds,
            **facts,
        )
        self.trace.observers.notify(record)


def total(charges: Iterable[Charge]) -> Usage | None:
    """Returns the sum of *charges*; None where there is none."""
    found = [charge.usage for charge in charges]
    if len(found) < 2:
        return found[0] if found else None
    counts = {name: sum(getattr(usage, name) for usage in found) for name in COUNTS}
    return Usage(**counts, estimated=any(usage.estimated for usage in found))


def _difference(one: Usage, other: Usage) -> Usage:
    counts = {name: max(0, getattr(one, name) - getattr(other, name)) for name in COUNTS}
    return replace(one, **counts)


def code_of(error: GatewayError) -> str:
    """Returns the short name of *error*: its code, else its type."""
    return clean(error.code) or clean(error.type) or type_of_status(error.status)


def redacted(error: GatewayError, secrets: Iterable[str]) -> str | None:
    """Returns the detail of *error* for the operator, without any key that an upstream may have quoted back."""
    known = [secret for secret in secrets if len(secret) >= SHORTEST]
    text = without_secrets(known, (error.detail or error.message).encode("utf-8", "replace")).decode("utf-8", "replace")
    for secret in known:  # also one that is a word, and that clients may read
        text = text.replace(secret, REDACTED.decode())
    return clean(text, DETAIL)
