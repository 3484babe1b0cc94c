"""What an exception of httpx or httpx2 means to us.

Both libraries have one tree of names, so one table serves both, keyed by name and read along an exception's own
bases: the most specific entry wins. A failure means one thing while the reply's headers are awaited and another when
its body is being read, hence two columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..errors import (
    GatewayError,
    Overloaded,
    UpstreamProtocolError,
    UpstreamRedirect,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from .request import unanswered, unconnected

LIBRARIES = ("httpx", "httpx2")


class Meaning(NamedTuple):
    """What to raise for it before the headers have come, and after."""

    opening: Callable[[], GatewayError]
    reading: Callable[[], GatewayError]


UNREACHABLE = partial(UpstreamUnreachable, "No connection to the upstream could be made.")
TIMEOUT = partial(UpstreamTimeout, "The upstream did not answer in time.")
SATURATED = partial(Overloaded, "Too many requests to this upstream at once.")
TRUNCATED = partial(UpstreamTruncated, "The upstream closed the connection before the end of its reply.")
UNUSABLE = partial(UpstreamProtocolError, "The upstream's reply cannot be used: it is not proper HTTP.")
REDIRECTED = partial(UpstreamRedirect, "The upstream redirects, which is never followed.")

BROKEN = Meaning(UNUSABLE, UNUSABLE)
CUT = Meaning(unanswered, TRUNCATED)
LATE = Meaning(TIMEOUT, TIMEOUT)
NOBODY = Meaning(UNREACHABLE, TRUNCATED)

MEANINGS: dict[str, Meaning] = {
    "ConnectTimeout": Meaning(unconnected, TIMEOUT),
    "PoolTimeout": Meaning(SATURATED, TIMEOUT),
    "ReadTimeout": LATE,
    "WriteTimeout": LATE,
    "TimeoutException": LATE,
    "ConnectError": NOBODY,
    "ProxyError": NOBODY,
    "UnsupportedProtocol": NOBODY,
    "ReadError": CUT,
    "WriteError": CUT,
    "CloseError": CUT,
    "NetworkError": CUT,
    "LocalProtocolError": BROKEN,
    "RemoteProtocolError": Meaning(UNUSABLE, TRUNCATED),
    "ProtocolError": BROKEN,
    "SSEError": BROKEN,
    "TransportError": NOBODY,
    "DecodingError": BROKEN,
    "TooManyRedirects": Meaning(REDIRECTED, REDIRECTED),
    "RequestError": BROKEN,
    "HTTPStatusError": BROKEN,
    "HTTPError": BROKEN,
    "InvalidURL": NOBODY,
    "CookieConflict": BROKEN,
    "StreamConsumed": BROKEN,
    "StreamClosed": Meaning(UNUSABLE, TRUNCATED),
    "ResponseNotRead": BROKEN,
    "RequestNotRead": BROKEN,
    "StreamError": BROKEN,
}
"""Class name in httpx and httpx2 → its meaning. A test proves it complete against both."""

DISCONNECTED = "Server disconnected"
"""How httpcore begins its RemoteProtocolError for a peer that closed unheard: it has no class for it."""


def meaning_of(error: Exception, *, reading: bool) -> GatewayError | None:
    """Returns our error for *error*, or None where it is of neither library and no timeout or OSError."""
    meaning = _look_up(error)
    if meaning is None:
        return None
    ours = meaning.reading() if reading else meaning.opening()
    ours.detail = f"{type(error).__name__}: {error}"
    return ours


def _look_up(error: Exception) -> Meaning | None:
    if isinstance(error, TimeoutError):
        return LATE
    if isinstance(error, OSError):
        return CUT
    for kind in type(error).__mro__:
        if kind.__module__.partition(".")[0] in LIBRARIES and kind.__name__ in MEANINGS:
            return CUT if DISCONNECTED in str(error) else MEANINGS[kind.__name__]
    return None
