"""What a host's rules say: how much of what may be used in which stretch of time, and what is left of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from ..arguments import check_flags
from ..routing.request import as_text
from .windows import PERS, Per

Unit = Literal["requests", "tokens", "money"]

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""What can stand in a header and in a metric's label as it is."""

MICRO = 1_000_000
"""Parts of a US dollar that are counted."""
MOST = 2**53 - 1
"""No limit is above it: what scripts of Redis still count exactly."""
MOST_DOLLARS = Decimal(MOST) / MICRO


@dataclass(frozen=True, slots=True)
class Quota:
    """At most *requests*, *tokens* and *money* (US dollars) in each minute, hour, day, week or month (*per*).

    *name* is what clients and observers see: 1 to 64 letters, digits and `_ . : -`. Requests of a tenant are
    counted together, apart for each *key*; those of a *shared* quota for the whole gateway: clients never see its
    name or its figures.

    :raises ValueError: there is nothing to count, a figure is negative or too large, or *per* or *name* cannot be.
    :raises TypeError: a figure is of a type that cannot be counted exactly, or *key* of one that is another text in
        each process.
    """

    name: str
    _: KW_ONLY
    per: Per
    requests: int | None = None
    tokens: int | None = None
    money: Decimal | int | str | None = None
    key: Any = None
    shared: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError("name: give 1 to 64 letters, digits and '_', '.', ':', '-'.")
        if self.per not in PERS:
            raise ValueError(f"per: give one of {', '.join(PERS)}, not {self.per!r}.")
        if self.requests is None and self.tokens is None and self.money is None:
            raise ValueError(f"The quota '{self.name}' counts nothing: give requests, tokens or money.")
        _check_count("requests", self.requests)
        _check_count("tokens", self.tokens)
        if self.money is not None:
            object.__setattr__(self, "money", _dollars(self.money))
        check_flags(shared=self.shared)
        if self.key is not None and not isinstance(self.key, str):
            object.__setattr__(self, "key", as_text(self.key, "key"))

    def limits(self) -> Iterator[tuple[Unit, int]]:
        """Yields what it counts, each unit with its limit; money in millionths of a dollar, rounded down."""
        if self.requests is not None:
            yield "requests", self.requests
        if self.tokens is not None:
            yield "tokens", self.tokens
        if self.money is not None:
            yield "money", int(self.money * MICRO)


def _check_count(name: str, value: object) -> None:
    """Checks a limit; None is none.

    :raises TypeError: it is no whole number.
    :raises ValueError: it is below 0, or cannot be counted exactly in a float (Redis' scripts count in those).
    """
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: give a whole number, not {type(value).__name__}.")
    if not 0 <= value <= MOST:
        raise ValueError(f"{name}: give 0 or more, and less than 2**53.")


def _dollars(value: object) -> Decimal:
    """Returns *value*, in US dollars.

    :raises TypeError: it is of a type that is not exact.
    :raises ValueError: it is no amount, below 0 or too large.
    """
    if not isinstance(value, Decimal | int | str) or isinstance(value, bool):
        raise TypeError(f"money: give a Decimal, an int or a str of US dollars, not {type(value).__name__}.")
    try:
        dollars = Decimal(value)
    except InvalidOperation:
        raise ValueError("money: give US dollars, such as '49.90'.") from None
    if not dollars.is_finite() or not 0 <= dollars <= MOST_DOLLARS:
        raise ValueError("money: give 0 or more, and less than 2**53 millionths of a dollar.")
    return dollars


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one unit of a quota, as of now: *limit*, *spent*, *held* by requests under way, and *left* of it;
    money in US dollars. *resets* is when its window ends."""

    name: str
    unit: Unit
    limit: int | Decimal
    spent: int | Decimal
    held: int | Decimal
    left: int | Decimal
    resets: datetime
