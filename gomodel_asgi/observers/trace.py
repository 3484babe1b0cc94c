"""The trace of one exchange: collects what the other rooms report, and makes the records of it.

It exists only where somebody observes or wants timings; the rooms ask `if trace is not None` and do nothing more where
it is None. It ends once, with one `Completed` or `Disconnected`, whichever comes first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Literal

from msgspec.structs import replace

from ..errors import GatewayError, UpstreamRejected, type_of_status
from ..wire.redaction import REDACTED, SHORTEST, redacted as without_secrets
from .answer import Answer, Measure, Source, Usage, clean, estimate, of_body, of_source
from .fanout import Observers
from .records import (
    AttemptEnded,
    AttemptStarted,
    Completed,
    Context,
    Disconnected,
    FirstEvent,
    PolicyDecided,
    RequestStarted,
    Warned,
)

BILLED = frozenset({"create", "compact"})
"""Operations whose usage is new: a response that is only looked at has been paid for."""

COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "estimated")
DETAIL = 2048
Reason = Literal["gone", "stalled", "cancelled"]

clock = time.monotonic
_numbers = count(1)


class Trace:
    """Collects what happens in one exchange and notifies *observers*."""

    def __init__(self, observers: Observers, request_id: str = "") -> None:
        self.observers = observers
        self.context = Context(next(_numbers), request_id)
        self.started = clock()
        self.size = 0
        self.measure = Measure()
        self.policy: float | None = None
        self.first: float | None = None
        self.attempts: list[Step] = []
        self.source: Source | None = None
        self.body: bytes | None = None
        self.warnings: list[str] = []
        self.error: GatewayError | None = None
        self.failed_round: Usage | None = None
        """What the round has cost with which an exchange of several has failed."""
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
        self.know(provider=target[0], target_model=clean(model), labels=MappingProxyType(dict(labels)))
        self.observers.notify(PolicyDecided(self.context, seconds=seconds, fallbacks=target[1:]))

    def attempt(self, provider: str, type: str, model: str | None, secrets: Iterable[str]) -> Step:
        """Begins an attempt at a provider and returns its step. What it says is recorded with *secrets* redacted."""
        self.source = self.body = None
        self.warnings = []
        self.know(provider=provider, provider_type=type, target_model=clean(model), served_model=None)
        step = Step(self, len(self.attempts) + 1, provider, tuple(secrets))
        self.attempts.append(step)
        self.observers.notify(AttemptStarted(self.context, number=step.number))
        return step

    def reads(self, source: Source, warnings: list[str]) -> None:
        """*source* reads the answer, and may yet add to *warnings*."""
        self.source, self.warnings = source, warnings

    def received(self, body: bytes) -> None:
        """The whole answer has been read as one *body*."""
        self.body = body

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
        if not self.observers:
            return
        self.failed(None if self.source is None else self.source.failure)
        answer = self.answer()
        self.flush_warnings()
        self.know(served_model=answer.model)
        ended = self._ended(status, answer)
        if reason is not None and self.error is None:
            self.observers.notify(Disconnected(self.context, reason=reason, **ended))
            return
        outcome = "failed" if self.error is not None else answer.status or "completed"
        self.observers.notify(Completed(self.context, outcome=outcome, **ended))

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
        billed = self.context.operation in BILLED
        last = self.attempts[-1] if self.attempts else None
        return {
            "status": status,
            "error": None if self.error is None else code_of(self.error),
            "detail": None if self.error is None else redacted(self.error, () if last is None else last.secrets),
            "attempts": len(self.attempts),
            "response_id": answer.response_id,
            "conversation": answer.conversation,
            "service_tier": answer.service_tier,
            "usage": _sum(self._usage(answer), self.failed_round) if billed else None,
            "raw_usage": answer.raw if billed else None,
            "first_event": self.first,
            "seconds": clock() - self.started,
            "events": self.measure.events,
            "bytes": self.measure.bytes,
        }

    def _usage(self, answer: Answer) -> Usage | None:
        """Returns what the upstream reported, or a guess that is no less where the answer broke off before it could."""
        if self._usage_is_complete() or (self.error is not None and self.first is None):
            return answer.usage
        guess = estimate(self.size, self.measure.text)
        if answer.usage is None:
            return guess
        output = max(answer.usage.output_tokens, guess.output_tokens)
        return replace(answer.usage, output_tokens=output, estimated=True)

    def _usage_is_complete(self) -> bool:
        """Whether the upstream has reported all of its usage (none, if it was never asked)."""
        if self.source is None:
            return self.body is not None or not self.attempts
        return self.source.terminal in ("completed", "incomplete") or isinstance(self.error, UpstreamRejected)

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
    """The trail of one round of an exchange that takes several: its attempts and warnings are told as the exchange's
    own, its answer and its bytes are not. *first* says that it is the exchange's first. An attempt that has answered is
    told of when the round is over, with what it has cost."""

    def __init__(self, exchange: Trace, *, first: bool) -> None:
        super().__init__(exchange.observers)
        self.context = exchange.context
        self.exchange = exchange
        self.is_first = first
        self.answered: tuple[Step, int] | None = None
        """The attempt that has answered, and its status."""
        self.cost: Usage | None = None
        """What the last attempt to fail has cost."""

    def know(self, **facts: Any) -> None:
        self.exchange.know(**facts)
        self.context = self.exchange.context

    def attempt(self, provider: str, type: str, model: str | None, secrets: Iterable[str]) -> Step:
        self.source = self.body = None
        exchange = self.exchange
        source, warnings = exchange.source, exchange.warnings
        step = exchange.attempt(provider, type, model, secrets)
        exchange.source, exchange.warnings = source, warnings
        step.read = self
        return step

    def first_event(self) -> None:
        if self.is_first:
            self.exchange.first_event()

    def warn(self, message: str) -> None:
        self.exchange.warn(message)

    def failed(self, error: GatewayError | None) -> None:
        """Whether the exchange has failed with it, the exchange says."""

    def end(self, status: int | None, reason: Reason | None = None) -> None:
        """The exchange goes on."""

    def round_over(self) -> None:
        """Nothing more of this round will come."""
        self.flush_warnings()
        answered, self.answered = self.answered, None
        if answered is None:
            self.exchange.failed_round = self.cost
            return
        step, status = answered
        step.notify(status=status, error=None, detail=None, usage=step.usage())


class Step:
    """One attempt of a trace."""

    def __init__(self, trace: Trace, number: int, provider: str, secrets: tuple[str, ...]) -> None:
        self.trace = trace
        self.read = trace
        """The trail that knows the answer."""
        self.number = number
        self.provider = provider
        self.secrets = secrets
        self.started = clock()
        self.seconds = 0.0

    def answered(self, status: int) -> None:
        """The upstream has begun to answer."""
        self.seconds = clock() - self.started
        if isinstance(self.read, RoundTrace):
            self.read.answered = self, status
        else:
            self.notify(status=status, error=None, detail=None)

    def failed(self, error: BaseException) -> None:
        """It has not: *error* says why."""
        self.seconds = clock() - self.started
        if not isinstance(error, GatewayError):
            return self.notify(status=None, error="cancelled", detail=None)
        usage = self.usage()
        if isinstance(self.read, RoundTrace):
            self.read.cost = usage
        self.read.flush_warnings()
        detail = redacted(error, self.secrets)
        self.notify(status=error.status, error=code_of(error), detail=detail, usage=usage)

    def usage(self) -> Usage | None:
        """What the attempt has cost, as far as its upstream has said by now."""
        return self.read.answer().usage if self.trace.context.operation in BILLED else None

    def notify(self, **facts: Any) -> None:
        """Make the record of its end."""
        record = AttemptEnded(self.trace.context, number=self.number, seconds=self.seconds, **facts)
        self.trace.observers.notify(record)


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    counts = {name: getattr(one, name) + getattr(other, name) for name in COUNTS}
    return Usage(**counts, estimated=one.estimated or other.estimated)


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
