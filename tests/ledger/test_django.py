"""The ledger in a Django project: its migrations, its routers, its time zones, its databases going away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import override_settings

from gomodel_asgi.ledger import DjangoLedger, Ledger, Sink
from gomodel_asgi.ledger.row import Entry

from ..support import django_host
from ..support.ledgers import NOON, entries, row, rows_of

pytestmark = pytest.mark.anyio


def test_the_migration_makes_what_the_models_say(django_sqlite: Sink) -> None:
    call_command("makemigrations", "gomodel", check=True, dry_run=True, verbosity=0)


def test_the_tables_are_those_of_sqlalchemy(django_sqlite: Sink) -> None:
    from django.apps import apps

    from gomodel_asgi.ledger import metadata

    for model in apps.get_app_config("gomodel").get_models():
        table = metadata.tables[model._meta.db_table]
        columns = {field.column: field.null for field in model._meta.fields}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}


class Elsewhere:
    """Has no place for the ledger's tables."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "gomodel" else None


def test_a_router_says_where_the_tables_are_made(django_database: str, tmp_path: Any) -> None:
    from django.db import connections

    connections.settings["empty"] = {**connections.settings["default"], "NAME": str(tmp_path / "empty.sqlite3")}
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.Elsewhere"]):
        call_command("migrate", "gomodel", database="empty", verbosity=0)
        assert "gomodel_exchanges" not in connections["empty"].introspection.table_names()
    connections["empty"].close()


async def test_a_project_without_time_zones_keeps_the_same_rows(django_sqlite: Sink) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Athens"):
        written = row(NOON)
        await django_sqlite.write(entries(written))
        assert await rows_of(django_sqlite) == [written]
        assert await django_sqlite.spent("acme", NOON) == written.cost
        assert await django_sqlite.purge(NOON, 10, 10) == 0


async def test_no_connection_is_left_behind(django_postgres: Sink) -> None:
    await django_postgres.write(entries(row()))
    assert len(await rows_of(django_postgres)) == 1

    def others() -> int:
        from django.db import connections

        with connections["ledger"].cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'state' AND pid <> pg_backend_pid() "
                "AND application_name = '' AND query LIKE '%gomodel%' AND datname = 'postgres'"
            )
            (count,) = cursor.fetchone()
        connections.close_all()
        return int(count)

    assert await sync_to_async(others)() == 0


@contextmanager
def away() -> Iterator[None]:
    """The ledger's database is nowhere. (Connections keep the very dict of their settings.)"""
    from django.db import connections

    connections.settings["ledger"]["PORT"] = "1"
    try:
        yield
    finally:
        connections.settings["ledger"]["PORT"] = ""


async def test_rows_wait_for_a_database_that_is_away(
    django_postgres: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gomodel_asgi.ledger.writer.PAUSES", (0.01,))
    ledger = Ledger(django_postgres)
    with away():
        ledger.book(ledger.writers.here(), Entry(row()))
        assert not await ledger.flush(0.5)
    assert await ledger.flush()
    assert len(await rows_of(django_postgres)) == 1
    assert "does not take rows: OperationalError" in caplog.text
    await ledger.aclose()


def test_a_project_without_the_app_is_told_so_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    django_host.set_up()
    monkeypatch.setattr("gomodel_asgi.ledger.django_ledger.APP", "another.app")
    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"):
        DjangoLedger()
