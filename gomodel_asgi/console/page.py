"""One request for a page of the console, and what is answered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.datastructures import QueryParams

from ..exchange.job import Setup
from ..explanation import Explanation
from ..ledger import Ledger
from ..seams.health import GatewayHealth
from ..server.drain import InFlight
from . import shown
from .recorder import Exchange, Recorder
from .shown import Shown
from .view import View


class Watched(Protocol):
    """What the pages ask of the gateway that they show."""

    setup: Setup
    in_flight: InFlight

    def health(self) -> GatewayHealth:
        """Returns how its providers are doing."""
        ...

    async def explain(self, body: Mapping[str, Any], *, tenant: str | None = None) -> Explanation:
        """Returns what its policy would do with *body*.

        :raises GatewayError: the body is malformed.
        :raises LookupError: the policy named an unknown provider, or added a tool that nobody here runs.
        """
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a page: of which gateway, by whom, and for what. *tools* are those that its host runs."""

    gateway: Watched
    tools: Sequence[Shown]
    ledger: Ledger | None
    recorder: Recorder
    view: View
    query: QueryParams
    id: str = ""
    after: str = ""
    """What a stream has shown already: the id of its last event."""


@dataclass(slots=True)
class Page:
    """What is answered: *data* is the same for people and for programs; *name* is the template's too."""

    name: str
    title: str
    data: Shown
    status: int = 200
    exchanges: Sequence[Exchange] = field(default=())
    """Those that `data["exchanges"]` shows."""


def worker(asked: Asked) -> Shown:
    """Returns which process this is, since it shows no other's requests."""
    return {
        "pid": os.getpid(),
        "since": shown.stamp(asked.recorder.since),
        "draining": asked.gateway.in_flight.draining,
    }
