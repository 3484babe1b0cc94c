"""The trace of one exchange: collects what the other rooms report, and makes the records of it.

It exists only where somebody observes, counts or wants timings; the rooms ask `if trace is not None` and do nothing
more where it is None. It ends once, with one `Completed` or `Disconnected`, whichever comes first.

What an exchange has used is kept by attempt (`Step`), each token in the one that used it: what the upstream reported,
or, where it could not, an estimate. Sums are made of these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Literal

from msgspec.structs import replace

from ..errors import GatewayError, UpstreamError
from ..logs import log
from ..operations import ANSWERED_HERE, BILLED
from .answer import Answer, Measure, Source, of_body, of_source
from .fanout import Observers
from .records import (
    FIRST,
    AttemptStarted,
    CacheChecked,
    Cause,
    Completed,
    Context,
    CredentialRefused,
    Disconnected,
    Ended,
    FirstEvent,
    PolicyDecided,
    RequestStarted,
    Warned,
    clean,
)
from .step import DETAIL, Step, clock, code_of, redacted
from .usage import Charge, Usage, total

SHOWN = 8
"""Digits of a credential's fingerprint that observers get."""
Reason = Literal["gone", "stalled", "cancelled"]

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
        """What the answer reports as its own, though another attempt has used it."""
        self.source: Source | None = None
        self.body: bytes | None = None
        self.warnings: list[str] = []
        self.cached = False
        """Whether the answer came from the cache."""
        self.is_guarded = False
        """Whether guards look at the answer: what an upstream says of a failure is in no record before they have."""
        self.turned_away: str | None = None
        """The provider that would have been asked, but for its breaker or its limit."""
        self.error: GatewayError | None = None
        self.over = False

    @property
    def exchange(self) -> Trace:
        """The trace of the whole exchange: this one."""
        return self

    def know(self, **facts: Any) -> None:
        """Puts *facts* into the context of the records to come."""
        self.context = replace(self.context, **facts)

    # What the other rooms report...

    def arrived(self, tenant: str | None, model: str | None, stream: bool, hint: str | None, size: int) -> None:
        """Notes that the request is here, whole; from now on time counts."""
        self.started, self.size = clock(), size
        self.know(tenant=tenant, model=clean(model), stream=stream)
        self.observers.notify(RequestStarted(self.context, hint=clean(hint), bytes=size))

    def refused(self, seconds: float, error: GatewayError) -> None:
        """Notes that the policy did not name a Target."""
        self.policy = seconds
        self.observers.notify(PolicyDecided(self.context, seconds=seconds, error=code_of(error)))

    def decided(self, seconds: float, target: tuple[str, ...], model: str | None, labels: Mapping[str, str]) -> None:
        """Notes that the policy named *target*: the provider, and those to fall back on."""
        self.policy = seconds
        seen = MappingProxyType(dict(labels))
        if self.context.operation in ANSWERED_HERE:
            self.know(labels=seen)
            target = ()
        else:
            self.know(provider=target[0], target_model=clean(model), labels=seen)
        self.observers.notify(PolicyDecided(self.context, seconds=seconds, fallbacks=target[1:]))

    def turned_away_by(self, provider: str, type: str, model: str | None) -> None:
        """Notes that nothing was sent to *provider*, since its breaker is open or its limit is reached."""
        self.turned_away = provider
        self.know(provider=provider, provider_type=type, target_model=clean(model))

    def attempt(
        self, provider: str, type: str, model: str | None, secrets: Iterable[str], cause: Cause = FIRST
    ) -> Step:
        """Begins an attempt at a provider and returns its step. What it says is recorded with *secrets* redacted."""
        if self.step is not None:
            self.step.settle(None, None)  # while its answer is still known
        self.source = self.body = None
        self.warnings = []
        self.know(provider=provider, provider_type=type, target_model=clean(model), served_model=None)
        exchange = self.exchange
        self.step = step = Step(exchange, self, provider, type, clean(model), tuple(secrets), cause)
        exchange.attempts.append(step)
        started = AttemptStarted(
            self.context, number=step.number, kind=cause.kind, reason=cause.reason, source=cause.source
        )
        self.observers.notify(started)
        return step

    def sends(self, body: bytes, size: int) -> None:
        """Notes that the attempt is about to send *size* bytes to its upstream, made of the client's *body*."""
        if self.step is not None:
            self.step.sends(body, size)

    def credential_refused(self, fingerprint: str, brought: bool) -> None:
        """Notes that the upstream refuses the credential of this *fingerprint*; *brought*: the Target's own."""
        refused = CredentialRefused(self.context, fingerprint=fingerprint[:SHOWN], brought=brought)
        self.observers.notify(refused)

    def reads(self, source: Source, warnings: list[str]) -> None:
        """Notes that *source* reads the answer, and may yet add to *warnings*."""
        self.source, self.warnings = source, warnings

    def received(self, body: bytes) -> None:
        """Notes that the whole answer has been read as one *body*."""
        self.body = body

    def checked(self, result: Literal["hit", "miss", "bypass"], age: float = 0.0, body: bytes | None = None) -> None:
        """Notes what the cache had; of a hit, *body* is the response object, *age* seconds old."""
        self.observers.notify(CacheChecked(self.context, result=result, age=age))
        if body is not None:
            self.cached = True
            self.received(body)
            self.first_event()

    def first_event(self) -> None:
        """Notes that the first event, or the whole body, is on its way to the client."""
        self.first = clock() - self.started
        self.observers.notify(FirstEvent(self.context, seconds=self.first))

    def warn(self, message: str) -> None:
        """Notifies of what was lost, or went wrong without failing the request."""
        self.observers.notify(Warned(self.context, message=clean(message, DETAIL) or ""))

    def failed(self, error: GatewayError | None) -> None:
        """Notes that the exchange, or the stream that it had become, has failed."""
        self.error = self.error or error

    def sent(self, body: bytes) -> None:
        """Notes that a whole body went to the client."""
        if body.startswith((b"event:", b"data:")):
            self.measure.add(body)
        else:
            self.measure.bytes += len(body)

    # The end...

    def end(self, status: int | None, reason: Reason | None = None) -> None:
        """Ends the trace: *status* was sent, and all of the answer, unless *reason* says why not."""
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

        Empty for operations that are not billed. *served_model* and *service_tier* are what the upstream reported.
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
            "detail": None if self.error is None else self._detail(self.error, () if last is None else last.secrets),
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

    def _detail(self, error: GatewayError, secrets: tuple[str, ...]) -> str | None:
        is_unseen = self.is_guarded and isinstance(error, UpstreamError)  # guards have seen its message alone
        return redacted(error, secrets, quotes=not is_unseen)

    def timing(self) -> bytes:
        """Returns the value of a `Server-Timing` header: policy, each attempt, the first event, in milliseconds."""
        parts = [] if self.policy is None else [f"policy;dur={self.policy * 1000:.2f}"]
        for step in self.attempts:
            name = step.provider.replace("\\", "").replace('"', "")
            parts.append(f'attempt{step.number};dur={step.seconds * 1000:.2f};desc="{name}"')
        if self.first is not None:
            parts.append(f"first_event;dur={self.first * 1000:.2f}")
        return ", ".join(parts).encode("ascii", "replace")


class RoundTrace(Trace):
    """Traces one round of *exchange*: its attempts and warnings are reported as the exchange's own, its answer and its
    bytes are not. *first* says that it is the exchange's first round. An attempt that has answered is reported when the
    round is over, with what it has used."""

    is_round = True

    def __init__(self, exchange: Trace, *, first: bool) -> None:
        super().__init__(exchange.observers)
        self.context = exchange.context
        self._exchange = exchange
        self.is_first = first

    @property
    def exchange(self) -> Trace:
        """The trace of the whole exchange."""
        return self._exchange

    def know(self, **facts: Any) -> None:
        """Puts *facts* into the context of the exchange."""
        self._exchange.know(**facts)
        self.context = self._exchange.context

    def first_event(self) -> None:
        """Reports the exchange's first event, if this is its first round."""
        if self.is_first:
            self._exchange.first_event()

    def warn(self, message: str) -> None:
        """Reports a warning of the exchange."""
        self._exchange.warn(message)

    def end(self, status: int | None, reason: Reason | None = None) -> None:
        """Does nothing: the exchange goes on."""

    def round_over(self) -> None:
        """Settles and reports the attempt that has answered: nothing more of this round will come."""
        self.flush_warnings()
        step = self.step
        if step is not None and step.has_answered:
            self.failed(None if self.source is None else self.source.failure)
            step.settle(None, self.error)
            step.notify(detail=None, usage=step.usage)
