"""The tables, for SQLAlchemy: `metadata.create_all`, or Alembic's `target_metadata`. Nothing makes them by itself."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import Any

from ..extras import missing

try:
    import sqlalchemy as sql
except ImportError as error:
    raise missing("ledger", "SqlLedger and its tables need SQLAlchemy") from error

from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

DIGITS = 9
"""Decimal places of a US dollar: a cached token of a small model costs some billionths."""


class Dollars(TypeDecorator[Decimal]):
    """NUMERIC(18,9); in SQLite, which has no decimals, a whole number of thousand-millionths: both add up exactly."""

    impl = sql.Numeric(18, DIGITS)
    cache_ok = True

    def load_dialect_impl(self, dialect: sql.Dialect) -> TypeEngine[Any]:
        """Returns the column's type in this *dialect*."""
        return sql.BigInteger() if dialect.name == "sqlite" else sql.Numeric(18, DIGITS)

    def process_bind_param(self, value: Decimal | None, dialect: sql.Dialect) -> Any:
        """Returns *value* as the column holds it."""
        if value is None or dialect.name != "sqlite":
            return value
        return int(value.scaleb(DIGITS))

    def process_result_value(self, value: Any, dialect: sql.Dialect) -> Decimal | None:
        """Returns what the column holds as dollars."""
        if value is None or dialect.name != "sqlite":
            return value  # type: ignore[no-any-return]
        return Decimal(int(value)).scaleb(-DIGITS)


class Moment(TypeDecorator[Any]):
    """A time with its zone; in SQLite, which has none, in UTC."""

    impl = sql.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sql.Dialect) -> Any:
        """Returns an aware time as the column holds it."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: sql.Dialect) -> Any:
        """Returns what the column holds, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = sql.JSON().with_variant(JSONB(), "postgresql")
metadata = sql.MetaData()


def _tokens() -> list[sql.Column[int]]:
    names = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return [sql.Column(name, sql.BigInteger, nullable=False) for name in names]


exchanges = sql.Table(
    "gomodel_exchanges",
    metadata,
    sql.Column("id", sql.Uuid, primary_key=True),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("started", Moment, nullable=False),
    sql.Column("seconds", sql.Double, nullable=False),
    sql.Column("first_event", sql.Double),
    sql.Column("request_id", sql.Text, nullable=False),
    sql.Column("response_id", sql.Text),
    sql.Column("tenant", sql.Text),
    sql.Column("principal", sql.Text),
    sql.Column("labels", Json, nullable=False),
    sql.Column("operation", sql.Text, nullable=False),
    sql.Column("stream", sql.Boolean, nullable=False),
    sql.Column("model_asked", sql.Text),
    sql.Column("model_target", sql.Text),
    sql.Column("model_served", sql.Text),
    sql.Column("provider", sql.Text),
    sql.Column("outcome", sql.Text, nullable=False),
    sql.Column("status", sql.Integer),
    sql.Column("error_code", sql.Text),
    sql.Column("attempts", Json, nullable=False),
    *_tokens(),
    sql.Column("estimated", sql.Boolean, nullable=False),
    sql.Column("cost", Dollars),
    sql.Column("price_list", sql.Text),
    sql.Column("tier", sql.Text),
    sql.Column("cached", sql.Boolean, nullable=False),
    sql.Column("quota", sql.Text),
    sql.Index("gomodel_tenant_started", "tenant", "started"),
    sql.Index("gomodel_started", "started", postgresql_using="brin"),
)

daily = sql.Table(
    "gomodel_daily",
    metadata,
    sql.Column("key", sql.String(32), primary_key=True),
    sql.Column("day", sql.Date, nullable=False),
    sql.Column("tenant", sql.Text),
    sql.Column("provider", sql.Text),
    sql.Column("model", sql.Text),
    sql.Column("labels", sql.Text, nullable=False),
    sql.Column("requests", sql.BigInteger, nullable=False),
    sql.Column("failed", sql.BigInteger, nullable=False),
    sql.Column("unpriced", sql.BigInteger, nullable=False),
    *_tokens(),
    sql.Column("cost", Dollars, nullable=False),
    sql.Index("gomodel_tenant_day", "tenant", "day"),
    sql.Index("gomodel_day", "day"),
)

contents = sql.Table(
    "gomodel_contents",
    metadata,
    sql.Column("id", sql.Uuid, primary_key=True),
    sql.Column("tenant", sql.Text),
    sql.Column("expires", Moment, nullable=False),
    sql.Column("request", sql.LargeBinary, nullable=False),
    sql.Column("response", sql.LargeBinary),
    sql.Column("truncated", sql.Boolean, nullable=False),
    sql.Column("encrypted", sql.Boolean, nullable=False),
    sql.Index("gomodel_expires", "expires"),
    sql.Index("gomodel_content_tenant", "tenant"),
)
