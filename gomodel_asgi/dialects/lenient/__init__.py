"""The Responses API as sloppy upstreams speak it: read as any foreign API is, and written by the one event writer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from secrets import token_hex
from typing import Any

from ...errors import GatewayError, UpstreamTruncated
from ...settings import Limits
from ...wire.event_writer import Emitter
from ...wire.response import encode
from ...wire.sse import Event
from ..reader import TranslatedReader
from .reply import LenientTranslator
from .values import Identity, Json

# The reader of a native reply that is read leniently.


class LenientReader(TranslatedReader):
    """One native reply; *name* is the stamp (None for none), *echo* the client's request, whose members a response
    repeats; *secrets* are what the upstream could quote back. *response_id* is the id that the response has to have,
    None where the upstream's own counts. *leading* and *spent* are those of the emitter.

    A stream is written from its beginning, also when it is sent again: it has numbers of its own, which an upstream
    that is asked to go on behind one of them would take for others. It is to be asked for all, and of that the client
    gets what stands behind the number *after*.
    """

    translator: LenientTranslator

    def __init__(
        self,
        *,
        name: str | None,
        model: str | None,
        limits: Limits,
        echo: Mapping[str, Any],
        stream: bool = True,
        after: int = -1,
        secrets: tuple[str, ...] = (),
        response_id: str | None = None,
        leading: Iterable[Json] = (),
        spent: Json | None = None,
    ) -> None:
        id = response_id or "resp_" + token_hex(24)
        identity = Identity(id, int(time.time()), model or "", echo, name, fixed_id=response_id is not None)
        emitter = Emitter(
            response_id=identity.id, created_at=identity.created_at, model=identity.model, echo=echo, stamp=name,
            stream=stream, after=after, leading=leading, spent=spent,
        )  # fmt: skip
        super().__init__(LenientTranslator(emitter, identity), emitter, limits, secrets)
        self.response_id = None  # the upstream's own, once the response has been announced

    def _translate(self, events: list[Event], *, checked: bool = False) -> bytes:
        written = super()._translate(events, checked=checked)
        if self.response_id is None and self.emitter.begun:
            self.response_id = self.emitter.response["id"]
        return written

    def whole(self, body: bytes) -> bytes:
        """Returns the events that a unary reply's *body* is written as, where the emitter streams.

        The response may be in any state; `final` returns it repaired.

        :raises UpstreamProtocolError: it is not a response.
        """
        self.translator.unary = True
        events = self._translate([Event("", body)], checked=True)
        if self.emitter.stream and self.terminal is None:
            events += self.fail(UpstreamTruncated("The upstream's response has not ended."))
        return events

    def fail(self, error: GatewayError) -> bytes:
        """Ends the stream in band, with all that is known of its items."""
        self.translator.settle()
        return super().fail(error)

    def final(self) -> bytes | None:
        """Returns the response as JSON, of a unary reply in whatever state; None where a stream has not ended."""
        resting = self.translator.unary and self.emitter.begun
        return encode(self.emitter.response) if resting else super().final()


__all__ = ["LenientReader", "LenientTranslator"]
