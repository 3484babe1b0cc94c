"""What answers cost, by the price list that comes with `genai-prices`. No network call is ever made.

Gateway(..., observers=[Priced(LoggingObserver())])
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from ..observers import Context, Cost, Ended, Observer, Observers, Record, Usage

try:
    import genai_prices
except ImportError as error:
    raise ImportError("Prices need the extra: pip install 'gomodel-asgi[prices]'.") from error

PRICED_AS: Mapping[str, str] = MappingProxyType({"gemini": "google", "xai": "x-ai", "bedrock": "aws"})
"""Our provider types under the price list's names, where these differ."""

UNKNOWN = Cost()


class Priced:
    """Gives every record to *observers*, the last one of each exchange with its `cost` set.

    A model or provider that the price list does not know has a cost whose `total` is None, as has one without usage:
    never zero, never a guess by a similar name. *providers* maps names or types of your providers to those of the
    price list (`{"my-proxy": "openai"}`). Service tiers count where the list has prices for them. Prices are those of
    the installed version of `genai-prices`; keep it up to date.
    """

    def __init__(self, *observers: Observer, providers: Mapping[str, str] | None = None) -> None:
        self.observers = Observers(observers)
        self.providers = {**PRICED_AS, **(providers or {})}

    def __call__(self, record: Record) -> None:
        if isinstance(record, Ended):
            record = replace(record, cost=self.cost(record.context, record.usage, record.service_tier))
        self.observers.notify(record)

    async def aclose(self) -> None:
        """Closes the observers that can be closed."""
        await self.observers.aclose()

    def cost(self, context: Context, usage: Usage | None, tier: str | None = None) -> Cost | None:
        """Returns the cost of *usage* at the provider and model of *context*, or None where nothing was used."""
        if usage is None or context.provider is None:
            return None
        kind = context.provider_type or ""
        provider = self.providers.get(context.provider) or self.providers.get(kind) or kind
        for model in (context.served_model, context.target_model):
            if model and (found := price(provider, model, usage, tier)) is not None:
                return found
        return replace(UNKNOWN, estimated=usage.estimated)


def price(provider: str, model: str, usage: Usage, tier: str | None = None) -> Cost | None:
    """Returns the cost of *usage* by the price list, or None where it does not know this provider's model.

    Cached and cache-written tokens are a part of the input and have prices of their own; reasoning is a part of the
    output and costs what output costs, unless the list says otherwise.
    """
    context = None if tier is None else {"service_tier": tier}
    try:
        found = genai_prices.calc_price(_counted(usage), model, provider_id=provider, price_context=context)
    except (LookupError, ValueError):  # unknown, or counts that contradict each other
        return None
    return Cost(
        total=found.total_price,
        input=found.input_price,
        output=found.output_price,
        model=f"{found.provider.id}:{found.model.id}",
        estimated=usage.estimated,
    )


def _counted(usage: Usage) -> genai_prices.Usage:
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
        cache_write_1h_tokens=usage.cache_write_1h_tokens or None,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens or None,
    )


__all__ = ["PRICED_AS", "Priced", "price"]
