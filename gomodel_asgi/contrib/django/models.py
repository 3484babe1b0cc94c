"""The ledger's tables (see `gomodel_asgi.ledger`): for `DjangoLedger`, which alone writes them, and your queries."""

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


class Exchange(models.Model):
    """One exchange; `gomodel_asgi.ledger.Row` says what the columns mean."""

    id = models.UUIDField(primary_key=True)
    kind = models.TextField()
    started = models.DateTimeField()
    seconds = models.FloatField()
    first_event = models.FloatField(null=True)
    request_id = models.TextField()
    response_id = models.TextField(null=True)
    tenant = models.TextField(null=True)
    principal = models.TextField(null=True)
    labels = models.JSONField()
    operation = models.TextField()
    stream = models.BooleanField()
    model_asked = models.TextField(null=True)
    model_target = models.TextField(null=True)
    model_served = models.TextField(null=True)
    provider = models.TextField(null=True)
    outcome = models.TextField()
    status = models.IntegerField(null=True)
    error_code = models.TextField(null=True)
    attempts = models.JSONField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    estimated = models.BooleanField()
    cost = DollarField(null=True)
    price_list = models.TextField(null=True)
    tier = models.TextField(null=True)
    cached = models.BooleanField()
    quota = models.TextField(null=True)

    class Meta:
        app_label = "gomodel"
        db_table = "gomodel_exchanges"
        indexes = [models.Index(fields=["tenant", "started"], name="gomodel_tenant_started")]


class Daily(models.Model):
    """The roll-up by day; `gomodel_asgi.ledger.Daily` says what the columns mean."""

    key = models.CharField(max_length=32, primary_key=True)
    day = models.DateField()
    tenant = models.TextField(null=True)
    provider = models.TextField(null=True)
    model = models.TextField(null=True)
    labels = models.TextField()
    requests = models.BigIntegerField()
    failed = models.BigIntegerField()
    unpriced = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost = DollarField()

    class Meta:
        app_label = "gomodel"
        db_table = "gomodel_daily"
        indexes = [
            models.Index(fields=["tenant", "day"], name="gomodel_tenant_day"),
            models.Index(fields=["day"], name="gomodel_day"),
        ]


class Content(models.Model):
    """What was said in an exchange, where the host keeps that; `Ledger.content_of` opens it."""

    id = models.UUIDField(primary_key=True)
    tenant = models.TextField(null=True)
    expires = models.DateTimeField()
    request = models.BinaryField()
    response = models.BinaryField(null=True)
    truncated = models.BooleanField()
    encrypted = models.BooleanField()

    class Meta:
        app_label = "gomodel"
        db_table = "gomodel_contents"
        indexes = [
            models.Index(fields=["expires"], name="gomodel_expires"),
            models.Index(fields=["tenant"], name="gomodel_content_tenant"),
        ]
