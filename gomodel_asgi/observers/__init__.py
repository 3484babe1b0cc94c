"""Observers: called with frozen records of what happens, as it happens.

Nothing comes back. An observer is called on the event loop, so it must not block; what it raises is logged
once and never reaches the request. For sinks that wait there is `AsyncObserver`, for a line per request
`LoggingObserver`.
"""

from .fanout import AsyncObserver, Observer, Observers
from .logging import LoggingObserver
from .records import (
    NO_EXCHANGE,
    STORE,
    AttemptEnded,
    AttemptStarted,
    BreakerChanged,
    CacheChecked,
    Completed,
    Context,
    CredentialRefused,
    Disconnected,
    Ended,
    FirstEvent,
    Guarded,
    KeepAliveLost,
    LedgerWritten,
    PolicyDecided,
    QuotaChecked,
    Record,
    RequestStarted,
    ToolCalled,
    Warned,
)
from .trace import RoundTrace, Trace
from .usage import Charge, Cost, Usage

__all__ = [
    "NO_EXCHANGE",
    "STORE",
    "AsyncObserver",
    "AttemptEnded",
    "AttemptStarted",
    "BreakerChanged",
    "Charge",
    "Completed",
    "Context",
    "Cost",
    "CredentialRefused",
    "Disconnected",
    "Ended",
    "FirstEvent",
    "Guarded",
    "KeepAliveLost",
    "CacheChecked",
    "LedgerWritten",
    "LoggingObserver",
    "Observer",
    "Observers",
    "PolicyDecided",
    "QuotaChecked",
    "Record",
    "RequestStarted",
    "RoundTrace",
    "ToolCalled",
    "Trace",
    "Usage",
    "Warned",
]
