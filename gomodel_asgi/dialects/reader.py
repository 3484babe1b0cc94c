"""What the exchange needs to know of a reply while it comes, whatever the upstream speaks.

A reader takes the upstream's bytes and gives the client's. It says whether anything meaningful has come (after that
nothing is tried elsewhere), whether the response has ended, and whether the upstream reported a failure; and it can
end the stream itself, in band, when the upstream did not.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import GatewayError

MEANINGLESS = frozenset({"response.created", "response.queued", "response.in_progress"})
TERMINAL = {"response.completed": "completed", "response.failed": "failed", "response.incomplete": "incomplete"}


class Reader(Protocol):
    """One reply being read."""

    @property
    def meaningful(self) -> bool:
        """Whether something has come that the client would miss."""
        ...

    @property
    def begun(self) -> bool:
        """Whether the upstream has begun to answer: a failure before that is its whole answer."""
        ...

    @property
    def terminal(self) -> str | None:
        """How the response ended: completed, incomplete or failed; None while it has not."""
        ...

    @property
    def failure(self) -> GatewayError | None:
        """The failure that the upstream reported inside its reply."""
        ...

    @property
    def response_id(self) -> str | None:
        """The response's id, once it is known."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Upstream bytes in; whole events for the client out, or `b""`.

        :raises UpstreamProtocolError: this is not what the upstream should send.
        """
        ...

    def close(self) -> bytes:
        """The upstream has ended its stream: what is left to send, the in-band failure if it ended too early."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """End the stream in band: an `error` event, `response.failed`, `[DONE]`; `b""` if it had ended already."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes of an event that is not whole yet."""
        ...

    @property
    def inside(self) -> bool:
        """Whether a part of an event has been given whose end has not come."""
        ...

    def final(self) -> bytes | None:
        """The response object that ended the stream, as JSON; None if none did."""
        ...

    def usage(self) -> Any:
        """The upstream's usage object, None if there was none."""
        ...
