"""The tables of the ledger."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

import gomodel_asgi.contrib.django.models


def add_brin(apps: Any, schema_editor: Any) -> None:
    """Index the times of rows, which come in order, at a thousandth of a tree's size. PostgreSQL alone has that."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("CREATE INDEX gomodel_started ON gomodel_exchanges USING brin (started)")


def drop_brin(apps: Any, schema_editor: Any) -> None:
    """See `add_brin`."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX gomodel_started")


class Migration(migrations.Migration):
    initial = True

    dependencies: list[tuple[str, str]] = []

    operations = [
        migrations.CreateModel(
            name="Content",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("tenant", models.TextField(null=True)),
                ("expires", models.DateTimeField()),
                ("request", models.BinaryField()),
                ("response", models.BinaryField(null=True)),
                ("truncated", models.BooleanField()),
                ("encrypted", models.BooleanField()),
            ],
            options={
                "db_table": "gomodel_contents",
                "indexes": [
                    models.Index(fields=["expires"], name="gomodel_expires"),
                    models.Index(fields=["tenant"], name="gomodel_content_tenant"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Daily",
            fields=[
                ("key", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("day", models.DateField()),
                ("tenant", models.TextField(null=True)),
                ("provider", models.TextField(null=True)),
                ("model", models.TextField(null=True)),
                ("labels", models.TextField()),
                ("requests", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("unpriced", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cached_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("reasoning_tokens", models.BigIntegerField()),
                ("cost", gomodel_asgi.contrib.django.models.DollarField()),
            ],
            options={
                "db_table": "gomodel_daily",
                "indexes": [
                    models.Index(fields=["tenant", "day"], name="gomodel_tenant_day"),
                    models.Index(fields=["day"], name="gomodel_day"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Exchange",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("kind", models.TextField()),
                ("started", models.DateTimeField()),
                ("seconds", models.FloatField()),
                ("first_event", models.FloatField(null=True)),
                ("request_id", models.TextField()),
                ("response_id", models.TextField(null=True)),
                ("tenant", models.TextField(null=True)),
                ("principal", models.TextField(null=True)),
                ("labels", models.JSONField()),
                ("operation", models.TextField()),
                ("stream", models.BooleanField()),
                ("model_asked", models.TextField(null=True)),
                ("model_target", models.TextField(null=True)),
                ("model_served", models.TextField(null=True)),
                ("provider", models.TextField(null=True)),
                ("outcome", models.TextField()),
                ("status", models.IntegerField(null=True)),
                ("error_code", models.TextField(null=True)),
                ("attempts", models.JSONField()),
                ("input_tokens", models.BigIntegerField()),
                ("cached_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("reasoning_tokens", models.BigIntegerField()),
                ("estimated", models.BooleanField()),
                ("cost", gomodel_asgi.contrib.django.models.DollarField(null=True)),
                ("price_list", models.TextField(null=True)),
                ("tier", models.TextField(null=True)),
                ("cached", models.BooleanField()),
                ("quota", models.TextField(null=True)),
            ],
            options={
                "db_table": "gomodel_exchanges",
                "indexes": [models.Index(fields=["tenant", "started"], name="gomodel_tenant_started")],
            },
        ),
        migrations.RunPython(add_brin, drop_brin),
    ]
