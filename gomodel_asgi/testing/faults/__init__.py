"""What can go wrong with a reply, as frozen values that a test names and combines.

A fault takes the plan of a reply and gives back another one. Several are applied in the order in which they are given:
`fail_next(Cut(after_events=3), Slow(1))` cuts the reply first and then sends what is left byte by byte. An "event" is
one event of a stream; a unary reply is one event. *after_events* counts from the head: 0 is straight after the headers.
"""

from __future__ import annotations

from .connection import Cut, Garbage, Slow, Stall, Trailing
from .content import (
    ContentType,
    Empty,
    ErrorInside,
    ExtraHeaders,
    Fault,
    Html,
    Malformed,
    MalformedEvent,
    NoTerminal,
    Oversize,
    SetCookie,
    Status,
    Swapped,
)

__all__ = [
    "ContentType",
    "Cut",
    "Empty",
    "ErrorInside",
    "ExtraHeaders",
    "Fault",
    "Garbage",
    "Html",
    "Malformed",
    "MalformedEvent",
    "NoTerminal",
    "Oversize",
    "SetCookie",
    "Slow",
    "Stall",
    "Status",
    "Swapped",
    "Trailing",
]
