"""One attempt of an exchange: what it sent, how it ended, what it has used."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Protocol

from msgspec.structs import replace

from ..errors import (
    GatewayError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRedirect,
    UpstreamRejected,
    type_of_status,
)
from ..operations import BILLED
from ..wire.redaction import REDACTED, SHORTEST, redacted as without_secrets
from ..wire.usage import BYTES_PER_TOKEN
from .answer import Answer, Measure, Source, estimate
from .fanout import Observers
from .records import AttemptEnded, Cause, Context, clean
from .usage import COUNTS, Charge, Usage

DETAIL = 2048
CODE = re.compile(r"[\w.\[\]-]{1,64}", re.ASCII)
"""What a code, a type or a parameter of an error is; anything else is what somebody says."""

UNBILLED = (UpstreamRejected, UpstreamAuthError, UpstreamRedirect)
"""Answers by which an upstream says that it has not worked: they cost what they report, or nothing."""

clock = time.monotonic


class Exchanging(Protocol):
    """What an attempt needs of the trace of its exchange."""

    observers: Observers
    context: Context
    attempts: list[Step]
    is_guarded: bool


class Reading(Protocol):
    """What an attempt needs of the trace that reads its answer: its exchange's, or that of a round of tools."""

    is_round: bool
    source: Source | None
    body: bytes | None
    measure: Measure
    spent: Usage | None

    def answer(self) -> Answer:
        """Returns what is known of the answer by now."""

    def flush_warnings(self) -> None:
        """Notifies of the warnings that have been noted so far."""


class Step:
    """One attempt of the exchange of *trace*, whose answer *read* reads."""

    def __init__(
        self,
        trace: Exchanging,
        read: Reading,
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
        self.body = b""
        """The client's body, until it is settled."""
        self.sent = self.latest = 0
        """Bytes of requests that its upstream may have, and of the last one."""
        self.usage: Usage | None = None
        """What it has used, once that is settled; of operations that are billed."""
        self.is_settled = False

    def sends(self, body: bytes, size: int) -> None:
        """Notes that a request of *size* bytes, made of the client's *body*, is about to be sent."""
        self.body = body
        self.sent += size
        self.latest = size

    def answered(self, status: int) -> None:
        """Notes that the upstream has begun to answer."""
        self.seconds = clock() - self.started
        self.status, self.has_answered = status, True
        if not self.read.is_round:
            self.notify(detail=None)

    def failed(self, error: BaseException) -> None:
        """Notes that the attempt has failed with *error*."""
        self.seconds = clock() - self.started
        if isinstance(error, Exception) and not (isinstance(error, UpstreamError) and error.sent):
            self.sent -= self.latest  # the upstream cannot have seen the request
        self.settle(None, error)
        if not isinstance(error, GatewayError):
            self.error = "cancelled"
            return self.notify(detail=None, usage=self.usage)
        self.status, self.error = error.status, code_of(error)
        self.read.flush_warnings()
        is_unseen = self.trace.is_guarded and isinstance(error, UpstreamError)  # no guard has looked at its words
        self.notify(detail=None if is_unseen else redacted(error, self.secrets), usage=self.usage)

    def settle(self, answer: Answer | None, error: BaseException | None) -> None:
        """Keeps, once, what it has used by its *answer* (None: as far as that is known by now)."""
        if self.is_settled or self.trace.context.operation not in BILLED:
            return
        self.is_settled = True
        answer = self.read.answer() if answer is None else answer
        self.served_model, self.service_tier = answer.model, answer.service_tier
        self.usage = self._used(answer, error)
        self.body = b""

    def _used(self, answer: Answer, error: BaseException | None) -> Usage | None:
        """Returns what the upstream reported, or a guess, no less than that, where the answer broke off before it could
        or has ended without. *error* is what the exchange, or the attempt, has failed with."""
        usage, read = answer.usage, self.read
        if usage is not None and read.spent is not None and answer.status is not None and read.source is not None:
            usage = _difference(usage, read.spent)
        if not self.sent or (not answer.text and self._has_reported(answer, error)):
            return usage
        guess = estimate(self.body, self.sent, max(read.measure.text, answer.text))
        if usage is None:
            return guess
        return replace(usage, output_tokens=max(usage.output_tokens, guess.output_tokens), estimated=True)

    def _has_reported(self, answer: Answer, error: BaseException | None) -> bool:
        """Returns whether the upstream has reported all that was used."""
        read = self.read
        if isinstance(error, UNBILLED):  # also in a stream, of which text has gone by that nobody may have counted
            reported = 0 if answer.usage is None else answer.usage.output_tokens
            return reported * BYTES_PER_TOKEN >= read.measure.text
        if read.source is not None:
            return read.source.terminal in ("completed", "incomplete")
        return read.body is not None and (self.has_answered or answer.usage is not None)

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
        """Notifies of its end."""
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


def _difference(one: Usage, other: Usage) -> Usage:
    counts = {name: max(0, getattr(one, name) - getattr(other, name)) for name in COUNTS}
    return replace(one, **counts)


def code_of(error: GatewayError) -> str:
    """Returns the short name of *error*: its code, else its type."""
    names = (name for name in (error.code, error.type) if name and CODE.fullmatch(name))
    return next(names, None) or type_of_status(error.status)


def redacted(error: GatewayError, secrets: Iterable[str], *, quotes: bool = True) -> str | None:
    """Returns the detail of *error* for the operator, or its message where it is not to quote, without any key that an
    upstream may have quoted back."""
    known = [secret for secret in secrets if len(secret) >= SHORTEST]
    said = (error.detail if quotes else None) or error.message
    text = without_secrets(known, said.encode("utf-8", "replace")).decode("utf-8", "replace")
    for secret in known:  # also one that is a word, and that clients may read
        text = text.replace(secret, REDACTED.decode())
    return clean(text, DETAIL)
