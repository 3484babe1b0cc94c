"""What answers cost, by the price list that comes with `genai-prices`. No network call is ever made.

Gateway(..., observers=[Priced(LoggingObserver())])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from msgspec.structs import replace

from ..observers import Charge, Context, Cost, Ended, Observer, Observers, Record, Usage
from ..observers.usage import PRICED_AS, price, price_list, price_of
from . import charges_of

price_list()  # whoever lacks it learns so here, not at the first answer


class Priced:
    """Gives every record to *observers*, the last one of each exchange with its `cost` set.

    Each attempt is priced at its own model. A model or provider that the price list does not know, or does not know for
    one of several attempts, has a cost whose `total` is None: never zero, never a guess by a similar name. *providers*
    maps names or types of your providers to those of the price list (`{"my-proxy": "openai"}`). Service tiers count
    where the list has prices for them. Prices are those of the installed version of `genai-prices`; keep it up to date.
    """

    def __init__(self, *observers: Observer, providers: Mapping[str, str] | None = None) -> None:
        self.observers = Observers(observers)
        self.providers = {**PRICED_AS, **(providers or {})}

    def __call__(self, record: Record) -> None:
        if isinstance(record, Ended):
            record = replace(record, cost=self.cost_of(charges_of(record)))
        self.observers.notify(record)

    @property
    def dropped(self) -> int:
        """Records that observers with a queue of their own had no room for."""
        return self.observers.dropped

    async def aclose(self) -> None:
        """Closes the observers that can be closed."""
        await self.observers.aclose()

    def cost_of(self, charges: Iterable[Charge]) -> Cost | None:
        """Returns what *charges* cost together, or None where nothing was used."""
        return total([price_of(charge, self.providers) for charge in charges])

    def cost(self, context: Context, usage: Usage | None, tier: str | None = None) -> Cost | None:
        """Returns the cost of *usage* at the provider and model of *context*, or None where nothing was used."""
        if usage is None or context.provider is None:
            return None
        kind, asked, served = context.provider_type, context.target_model, context.served_model
        return self.cost_of([Charge(1, context.provider, kind, asked, served, tier, usage)])


def total(costs: list[Cost]) -> Cost | None:
    """Returns the sum of *costs*: of a part that one of them does not know None, as the model where they differ."""
    if len(costs) < 2:
        return costs[0] if costs else None
    return Cost(
        total=_sum([cost.total for cost in costs]),
        input=_sum([cost.input for cost in costs]),
        output=_sum([cost.output for cost in costs]),
        model=costs[0].model if len({cost.model for cost in costs}) == 1 else None,
        estimated=any(cost.estimated for cost in costs),
        parts=tuple(costs),
    )


def _sum(parts: list[Decimal | None]) -> Decimal | None:
    known = [part for part in parts if part is not None]
    return sum(known, Decimal()) if len(known) == len(parts) else None


__all__ = ["PRICED_AS", "Priced", "price"]
