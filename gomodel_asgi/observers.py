"""What happened, told as it happens: frozen records to whoever wants to know.

A drain: nothing comes back. An observer is called on the event loop and must not block; what it raises is logged once
and never reaches the request. For slow sinks there is `AsyncObserver`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

logger = logging.getLogger("gomodel_asgi.observers")


@dataclass(frozen=True, slots=True)
class Context:
    """What every record of one exchange says: whose request it is and what it asked for."""

    request_id: str
    operation: str
    tenant: str | None
    model: str | None
    stream: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened in the exchange that *context* describes."""

    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted(Record):
    """A request for one of our paths has come in, whole."""

    hint: str | None = None
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecided(Record):
    """The policy has answered; *seconds* is how long it took. *error* is the code of a refusal."""

    provider: str | None = None
    model: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Record):
    """An upstream is about to be asked; *number* counts from 1."""

    number: int
    provider: str
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Record):
    """An attempt has begun to answer (*error* None), or has failed; *seconds* since it started.

    *error* is the error's code, *detail* what only an operator may see.
    """

    number: int
    provider: str
    model: str | None
    status: int | None
    error: str | None
    detail: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstEvent(Record):
    """The first event, or the unary body, is on its way to the client; *seconds* since the request came in."""

    provider: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Record):
    """The exchange has ended.

    *status* is the HTTP status, *outcome* the response's own (completed, incomplete, failed), or `disconnected` where
    the client left before the end. *usage* is the upstream's own object. *seconds* since the request came in, *bytes*
    sent to the client.
    """

    provider: str | None
    model: str | None
    served_model: str | None = None
    response_id: str | None = None
    status: int
    outcome: str
    error: str | None = None
    attempts: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    usage: Any = field(default=None, repr=False)
    first_event: float | None = None
    seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Record):
    """Something was left out or went wrong without failing the request: a dropped member, trouble with the store."""

    message: str


class Observer(Protocol):
    """Called with each record, on the loop; must not block, cannot steer."""

    def __call__(self, record: Record, /) -> object: ...


class Observers:
    """All observers of a gateway as one; free where there is none."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.observers = tuple(observers)
        self.failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.observers)

    def tell(self, record: Record) -> None:
        """Give *record* to each; what one raises is logged the first time."""
        for observer in self.observers:
            try:
                observer(record)
            except Exception as error:
                self._failed(observer, error)

    def _failed(self, observer: Observer, error: Exception) -> None:
        if id(observer) not in self.failed:
            self.failed.add(id(observer))
            logger.error("The observer %s raised %s; later failures are not logged.", observer, type(error).__name__)
