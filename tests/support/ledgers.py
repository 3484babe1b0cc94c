"""Sinks of the ledger over real databases, empty for each test. One contract holds for every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gomodel_asgi.ledger import Attempt, JsonLines, Row, Sink, SqlLedger, metadata
from gomodel_asgi.ledger.row import Entry, new_id, settled_id
from gomodel_asgi.observers import Usage

from . import django_host
from .databases import PostgresServer

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
SINKS = ["json", "sqlite", "postgres", "django-sqlite", "django-postgres"]


def row(at: datetime = NOON, tenant: str | None = "acme", cost: str | None = "0.001", **facts: Any) -> Row:
    """A row with one attempt at `gpt-5` that has used 10 tokens, 5 of them cached, and given 3."""
    usage = Usage(input_tokens=10, cached_tokens=5, output_tokens=3)
    money = None if cost is None else Decimal(cost)
    attempt = Attempt(
        provider="fake", model="gpt-5", status=200, code=None, seconds=0.5, usage=usage, cost=money, kind="first"
    )
    known: dict[str, Any] = {
        "id": new_id(at), "kind": "exchange", "started": at, "seconds": 0.75, "first_event": 0.25,
        "request_id": "req_1", "response_id": "resp_1", "tenant": tenant, "principal": "ada", "labels": {"team": "a"},
        "operation": "create", "stream": True, "model_asked": "gpt-5", "model_target": "gpt-5",
        "model_served": "gpt-5-2025", "provider": "fake", "outcome": "completed", "status": 200,
        "attempts": (attempt,), "input_tokens": 10, "cached_tokens": 5, "output_tokens": 3, "cost": money,
        "price_list": "1", "tier": "default",
    }  # fmt: skip
    return Row(**(known | facts))


def settled(response_id: str, at: datetime = NOON, tenant: str | None = "acme") -> Row:
    """A row that settles the response *response_id*."""
    id = settled_id(at, tenant, response_id)
    return row(at, tenant, id=id, kind="settled", response_id=response_id)


def entries(*rows: Row) -> list[Entry]:
    return [Entry(one) for one in rows]


async def rows_of(sink: Any, tenant: list[str | None] | None = None) -> list[Row]:
    """All rows of *sink*."""
    from contextlib import aclosing

    first, last = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    async with aclosing(sink.rows(first, last, tenant)) as found:
        return [one async for one in found]


@pytest.fixture(scope="session")
def ledger_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database with the ledger's tables."""
    url = f"postgresql+asyncpg://state@/{{}}?host={postgres_server.directory}"

    async def made() -> None:
        server = create_async_engine(url.format("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        async with server.connect() as connection:
            # Each room of tests that imports this has a fixture of its own, and all of them one server.
            if not (await connection.execute(sql.text("SELECT 1 FROM pg_database WHERE datname = 'ledger'"))).scalar():
                await connection.execute(sql.text("CREATE DATABASE ledger"))
        await server.dispose()
        engine = create_async_engine(url.format("ledger"), poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await engine.dispose()

    asyncio.run(made())
    yield url.format("ledger")


@pytest.fixture
async def postgres(ledger_database: str) -> AsyncGenerator[AsyncEngine, None]:
    engine = create_async_engine(ledger_database)
    async with engine.begin() as connection:
        await connection.execute(sql.text("TRUNCATE gomodel_exchanges, gomodel_daily, gomodel_contents"))
    yield engine
    await engine.dispose()


@cache
def empty_tables() -> bytes:
    """The file of a SQLite database with the ledger's tables. To make them waits for the disk dozens of times."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite3"
        engine = sql.create_engine(f"sqlite:///{path}")
        metadata.create_all(engine)
        engine.dispose()
        return path.read_bytes()


def sqlite_engine(path: Path) -> AsyncEngine:
    """An engine for a new SQLite database at *path*, with the ledger's tables. It does not wait for the disk: no test
    takes its power away."""
    path.write_bytes(empty_tables())
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")

    @sql.event.listens_for(engine.sync_engine, "connect")
    def hurry(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=OFF")
        cursor.close()

    return engine


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncGenerator[AsyncEngine, None]:
    engine = sqlite_engine(tmp_path / "ledger.sqlite3")
    yield engine
    await engine.dispose()


class Router:
    """Sends the ledger's models to the database *alias*."""

    alias = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.alias if model._meta.app_label == "gomodel" else None

    db_for_write = db_for_read


def django_sink(alias: str) -> Iterator[Sink]:
    """An empty sink in the database *alias* of the tests' Django project."""
    from django.apps import apps
    from django.db import connections
    from django.test import override_settings

    from gomodel_asgi.ledger import DjangoLedger

    Router.alias = alias
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.Router"]):
        for model in apps.get_app_config("gomodel").get_models():
            model.objects.using(alias).all().delete()
        connections.close_all()
        yield DjangoLedger()


@pytest.fixture
def django_sqlite() -> Iterator[Sink]:
    django_host.set_up()
    yield from django_sink("default")


@pytest.fixture(scope="session")
def django_database(postgres_server: PostgresServer) -> str:
    """The alias of a database with the migrated tables."""
    django_host.set_up()
    from django.core.management import call_command
    from django.db import connections

    connections.settings["ledger"] = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "state",
        "HOST": str(postgres_server.directory),
        "OPTIONS": {},
    }
    call_command("migrate", "gomodel", database="ledger", verbosity=0)
    connections.close_all()
    return "ledger"


@pytest.fixture
def django_postgres(django_database: str) -> Iterator[Sink]:
    yield from django_sink(django_database)


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> AsyncEngine:
    found: AsyncEngine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    """An empty sink."""
    if request.param == "json":
        return JsonLines(tmp_path / "ledger.jsonl")
    if request.param.startswith("django"):
        found: Sink = request.getfixturevalue(request.param.replace("-", "_"))
        return found
    return SqlLedger(request.getfixturevalue(request.param))
