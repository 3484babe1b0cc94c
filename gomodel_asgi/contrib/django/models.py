"""The ledger's tables (see `gomodel_asgi.ledger`): for `DjangoLedger`, which alone writes them, and your queries."""

from __future__ import annotations

from django.db import models

from .fields import DollarField


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
