"""The ledger: one row for each exchange, in the host's own database or file, with what it has cost.

    ledger = Ledger(SqlLedger(engine), spill="/var/lib/app/ledger.spill")
    gateway = Gateway(providers=..., ledger=ledger)
    await ledger.spent("acme", since=datetime(2026, 11, 1, tzinfo=UTC))

`metadata` holds the tables for SQLAlchemy; under Django `gomodel_asgi.contrib.django` has models and migrations.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .content import Content
from .ledger import Ledger
from .row import Attempt, Costs, Daily, Row, Selection, first_id
from .sink import ReadFailed, RowsRefused, Sink

if TYPE_CHECKING:
    from .django_ledger import DjangoLedger
    from .json_lines import JsonLines
    from .sql_ledger import SqlLedger
    from .tables import metadata

__all__ = [
    "Attempt",
    "Content",
    "Costs",
    "Daily",
    "DjangoLedger",
    "JsonLines",
    "Ledger",
    "ReadFailed",
    "Row",
    "RowsRefused",
    "Selection",
    "Sink",
    "SqlLedger",
    "first_id",
    "metadata",
]

# Each needs a library of its own, or files, which are imported when the name is first used.
LAZY = {"DjangoLedger": "django_ledger", "JsonLines": "json_lines", "SqlLedger": "sql_ledger", "metadata": "tables"}


def __getattr__(name: str) -> Any:
    """Imports what needs an extra when it is first used.

    :raises AttributeError: there is no such name.
    """
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)
