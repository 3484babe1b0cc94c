"""Integrations with frameworks, each an extra of its own and imported on its own; and what those with metrics share."""

from __future__ import annotations

from ..observers import Charge, Ended

OTHER = "other"


class Bounded:
    """Bounds the values of a metric's label, since models and error codes are chosen by others.

    The first *limit* distinct values pass; every later new one becomes `other`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: set[str] = set()

    def __call__(self, value: str | None) -> str:
        """Returns *value* as a label; `""` for None."""
        if not value or value in self.known:
            return value or ""
        if len(self.known) >= self.limit:
            return OTHER
        self.known.add(value)
        return value


def charges_of(record: Ended) -> tuple[Charge, ...]:
    """Returns what each attempt of the exchange has used; of a record made by hand that has only the sum, that."""
    context, usage = record.context, record.usage
    if record.charges or usage is None or context.provider is None:
        return record.charges
    kind, asked, served = context.provider_type, context.target_model, context.served_model
    return (Charge(1, context.provider, kind, asked, served, record.service_tier, usage),)
