"""What a fake provider received, request by request, for tests to look into."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .signals import Signal

SHOWN = frozenset({b"accept", b"content-length", b"content-type", b"host", b"user-agent", b"x-request-id"})
"""Headers whose values `repr` shows; any other may hold a credential."""


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedRequest:
    """One request as it came.

    *path* is the raw path of the request line, escapes left as they are, *query* what followed `?`. *headers* have
    lower-case names and keep order, repetitions and value bytes. *connection* numbers the connection that it came on,
    from 1; it is 0 where another server took the request.
    """

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int = 0
    disconnected: Signal = field(default_factory=Signal)
    """Set when the client left before the reply had ended; `await request.disconnected.wait()`."""
    answered: Signal = field(default_factory=Signal)
    """Set when the reply has gone out as scripted, to its end or to its cut."""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def values(self, name: str) -> list[str]:
        """All values of the header *name*, in order; none is an empty list."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    def header(self, name: str) -> str | None:
        """The first value of the header *name*, None where it was not sent."""
        return next(iter(self.values(name)), None)

    def __contains__(self, secret: str | bytes) -> bool:
        """Whether *secret* stands anywhere in the request: line, headers or body."""
        wanted = secret.encode() if isinstance(secret, str) else secret
        lines = [b"%s: %s" % header for header in self.headers]
        return any(wanted in part for part in (self.path.encode("latin-1"), self.query, self.body, *lines))

    def __repr__(self) -> str:
        headers = ", ".join(f"{name.decode('latin-1')}: {_shown(name, value)}" for name, value in self.headers)
        query = "?…" if self.query else ""
        return f"<ReceivedRequest {self.method} {self.path}{query} [{headers}] {len(self.body)} bytes>"


def _shown(name: bytes, value: bytes) -> str:
    return value.decode("latin-1") if name in SHOWN else "…"
