"""What one round of a model has come to: its calls, its items, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...errors import GatewayError
from ...wire.calls import StringMember
from ...wire.items import Item, Part
from .citations import Citer
from .families import Begun, Told
from .plan import Shown
from .source import Json


@dataclass(slots=True, eq=False)
class HostedCall:
    """One call of a hosted tool. *answer* is what the model is told instead of a result, where it is known already;
    *begun* is None for a call that the client does not see, *item* until it is its turn to be seen."""

    call_id: str
    name: str
    shown: Shown | None = None
    id: str | None = None
    """That of its item."""
    item: Item | None = None
    answer: str | None = None
    pieces: list[str] = field(default_factory=list)
    reader: StringMember | None = None
    approves: bool = False
    """Whether it waits for the client's word."""
    approved: str | None = None
    """The request that the client has approved."""
    begun: Begun | None = None
    runs: bool = False
    """Whether its arguments are whole, and the host's function is called."""
    partials: list[str] = field(default_factory=list)
    """Images that were not finished, those empty that the client has."""
    told: Told | None = None

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class Round:
    """What one round has come to. *output* are its items as the upstream has them, to be told to it again."""

    number: int
    calls: list[HostedCall] = field(default_factory=list)
    output: list[Json] = field(default_factory=list)
    status: str | None = None
    reason: Any = None
    usage: Json | None = None
    failure: GatewayError | None = None
    client_calls: int = 0


@dataclass(slots=True, eq=False)
class Slot:
    """An item of a round that is being told: one of the client's (*item*), or a hosted *call*."""

    item: Item | None = None
    call: HostedCall | None = None
    parts: dict[tuple[str, int], Part] = field(default_factory=dict)
    citers: dict[tuple[str, int], Citer] = field(default_factory=dict)
