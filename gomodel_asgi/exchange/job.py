"""What an exchange works with: the gateway's setup, and one request."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct

from ..health import Health
from ..observers import Context, Observers, Warned
from ..routing import AsyncPolicy, Registry, RoutingRequest
from ..settings import Limits, Retries, Timeouts
from ..transport.base import Transport
from .budget import RetryBudget
from .turnstiles import Turnstiles

clock = time.monotonic


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
    turnstiles: Turnstiles


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

    @property
    def context(self) -> Context:
        """What every record of this request says; made only where somebody observes."""
        request = self.request
        return Context(
            request_id=self.request_id,
            operation=request.operation,
            tenant=request.tenant,
            model=request.model,
            stream=self.stream,
        )

    def __repr__(self) -> str:
        return f"<Job {self.request_id} {self.request!r}>"

    def warn(self, messages: Iterable[str]) -> None:
        """Tell observers of what was left out or went wrong without failing the request."""
        for message in messages:
            self.setup.observers.tell(Warned(self.context, message=message))

    @property
    def native_only(self) -> bool:
        """Whether only an upstream that speaks the Responses API itself can do what is asked."""
        return self.request.operation not in ("create", "input_tokens")

    @property
    def bound(self) -> bool:
        """Whether the request names state that lives at one upstream."""
        envelope = self.request.envelope
        return (
            self.request.response_id is not None
            or any(envelope.has(name) for name in ("previous_response_id", "conversation"))
            or any(mark in envelope.raw for mark in BOUND_MARKS)
        )


BOUND_MARKS = (b'"item_reference"', b'"file_id"', b'"encrypted_content"', b'"container"')
"""Members inside the input that only the upstream which issued them understands."""
