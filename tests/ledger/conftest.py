"""Sinks of the ledger. What reaches databases runs on asyncio."""

from __future__ import annotations

import logging

import pytest

from ..support.ledgers import (
    django_database,
    django_postgres,
    django_sqlite,
    engine,
    ledger_database,
    postgres,
    sink,
    sqlite,
)

logging.getLogger("aiosqlite").setLevel(logging.INFO)  # it tells of each call twice

__all__ = [
    "django_database",
    "django_postgres",
    "django_sqlite",
    "engine",
    "ledger_database",
    "postgres",
    "sink",
    "sqlite",
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
