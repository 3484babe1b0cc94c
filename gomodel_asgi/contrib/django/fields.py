"""A column for money that adds up in every database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models

DIGITS = 9


class DollarField(models.Field):
    """NUMERIC(18,9); in SQLite, which has no decimals, a whole number of thousand-millionths: both add up exactly."""

    def db_type(self, connection: Any) -> str:
        """Returns the column's type in the database of *connection*."""
        return "bigint" if connection.vendor == "sqlite" else f"numeric(18, {DIGITS})"

    def to_python(self, value: Any) -> Decimal | None:
        """Returns *value* as dollars."""
        return value if value is None or isinstance(value, Decimal) else Decimal(value)

    def get_prep_value(self, value: Any) -> Decimal | None:
        """Returns *value* as dollars."""
        return self.to_python(super().get_prep_value(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Returns *value* as the column holds it."""
        dollars = self.to_python(value)
        if dollars is None or connection.vendor != "sqlite":
            return dollars
        return int(dollars.scaleb(DIGITS))

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        """Returns what the column holds as dollars."""
        if value is None or connection.vendor != "sqlite":
            return value  # type: ignore[no-any-return]
        return Decimal(int(value)).scaleb(-DIGITS)
