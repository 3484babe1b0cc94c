"""What usage costs, in millionths of a US dollar: by the host's price function, else by the price list."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

from ..logs import log
from ..observers import Charge, Usage
from ..observers.usage import Price, cost_of, price_list
from ..providers.presets import PRESETS
from ..providers.provider import Provider
from ..settings import LITTLE
from ..threads import beside
from .estimate import Estimate
from .quota import MICRO

REMEMBERED = 4096
"""Costs that are remembered: a price list takes far longer to ask than a dictionary."""
LASTS = 3600
"""Seconds for which the list's price of an estimate is taken to be the same: some are lower at night."""
BITS = 5
"""Of the tokens of an estimate that the list is asked about: it takes a good deal longer than all else, and at most a
sixteenth more is reserved."""


class Prices:
    """By *price*, a function of provider type, model and usage; None: by the price list."""

    def __init__(self, price: Price | None) -> None:
        self._price = price
        self._is_there = price is not None
        self._listed = lru_cache(REMEMBERED)(self._cost)

    async def ready(self) -> None:
        """Imports the price list, if it is asked; that takes as long as going through many bytes.

        :raises ImportError: it is not installed.
        """
        if not self._is_there:
            await beside(LITTLE + 1, price_list)
            self._is_there = True

    def cost(self, charges: Iterable[Charge]) -> int | None:
        """Returns what *charges* cost; None where a price is not known."""
        total = Decimal(0)
        for charge in charges:
            found = cost_of(charge, self._price)
            if found is None:
                return None
            total += found
        return micro(total)

    def guess(self, expected: Estimate, usage: Usage, now: float) -> int | None:
        """Returns what *usage* of what is *expected* may cost at *now*, in Unix seconds; None where its price is not
        known."""
        if self._price is not None:
            return self.cost([expected.charge(usage)])
        kind = (expected.provider.name, expected.type, expected.model, expected.tier)
        return self._listed(kind, rounded(usage.input_tokens), rounded(usage.output_tokens), int(now // LASTS))

    def _cost(self, kind: tuple[str, str, str | None, str | None], input: int, output: int, hour: int) -> int | None:
        name, type, model, tier = kind
        usage = Usage(input_tokens=input, output_tokens=output, estimated=True)
        return self.cost([Charge(0, name, type, model, None, tier, usage)])


def micro(dollars: Decimal) -> int:
    """Returns *dollars* in millionths, rounded up."""
    return max(0, math.ceil(dollars * MICRO))


def rounded(tokens: int) -> int:
    """Returns *tokens* rounded up to a number of `BITS` bits that count."""
    places = max(0, tokens.bit_length() - BITS)
    return -(-tokens >> places) << places


def warn_of_unpriced(providers: Iterable[Provider]) -> None:
    """Logs which of *providers* the price list may not know."""
    own, others = [], []
    for provider in providers:
        if provider.type not in PRESETS:
            others.append(provider.name)
        elif not PRESETS[provider.type].needs_key:
            own.append(provider.name)
    if own:
        log("unpriced_installation", providers=", ".join(own))
    if others:
        log("unpriced_type", providers=", ".join(others))
