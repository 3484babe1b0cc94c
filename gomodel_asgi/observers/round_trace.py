"""The trace of one round, for exchanges that ask an upstream several times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .records import FIRST, Cause
from .step import Step
from .trace import Reason, Trace


class RoundTrace(Trace):
    """Traces one round of *exchange*: its attempts and warnings are reported as the exchange's own, its answer and its
    bytes are not. *first* says that it is the exchange's first round. An attempt that has answered is reported when the
    round is over, with what it has used."""

    is_round = True

    def __init__(self, exchange: Trace, *, first: bool) -> None:
        super().__init__(exchange.observers)
        self.context = exchange.context
        self.exchange = exchange
        self.is_first = first

    def know(self, **facts: Any) -> None:
        """Puts *facts* into the context of the exchange."""
        self.exchange.know(**facts)
        self.context = self.exchange.context

    def attempt(
        self,
        provider: str,
        type: str,
        model: str | None,
        secrets: Iterable[str],
        cause: Cause = FIRST,
    ) -> Step:
        """Begins an attempt of the exchange, whose answer this round reads."""
        step = self.exchange.begun(self, provider, type, model, tuple(secrets), cause)
        self.context = self.exchange.context
        return step

    def first_event(self) -> None:
        """Reports the exchange's first event, if this is its first round."""
        if self.is_first:
            self.exchange.first_event()

    def warn(self, message: str) -> None:
        """Reports a warning of the exchange."""
        self.exchange.warn(message)

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
