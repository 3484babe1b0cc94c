"""Rows in a Django project's own database, in the tables that `gomodel_asgi.contrib.django` migrates."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import asdict

from ..extras import missing
from .files import in_thread
from .row import (
    COLUMNS,
    COUNTS,
    OPEN,
    Attempt,
    Costs,
    Daily,
    Entry,
    Kept,
    Row,
    Selection,
    Tenants,
    aware,
    by_day,
    daily_of,
    first_day,
    first_id,
    now,
    plain,
)
from .sink import MOST, PAGE, STEPS, Limit, refusing, stopped

try:
    from django.apps import apps
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.db import connections, router, transaction
    from django.db.models import F, Func, IntegerField, Q, Sum, Window
    from django.utils import timezone
except ImportError as error:
    raise missing("django", "DjangoLedger needs Django") from error

T = TypeVar("T")
APP = "gomodel_asgi.contrib.django"
VENDORS = ("postgresql", "sqlite")
CLOSES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "id")
ADDS = ", ".join(f"{name} = gomodel_daily.{name} + excluded.{name}" for name in COUNTS)
ON_CONFLICT = {
    "Exchange": f"(id) DO UPDATE SET {CLOSES} WHERE gomodel_exchanges.outcome = '{OPEN}' "
    f"AND excluded.outcome <> '{OPEN}' RETURNING id",
    "Daily": f"(key) DO UPDATE SET {ADDS}",
    "Content": "(id) DO NOTHING",
}


class DjangoLedger:
    """Keeps rows in the models of `gomodel_asgi.contrib.django` (`manage.py migrate`), in the databases that the
    project's routers name: PostgreSQL or SQLite. It works in threads of its own, with a connection for each batch.

    :raises ImproperlyConfigured: the app is not installed.
    """

    needs_asyncio = False

    def __init__(self) -> None:
        if apps.apps_ready and not apps.is_installed(APP):
            raise ImproperlyConfigured(f"DjangoLedger: put {APP!r} into INSTALLED_APPS.")

    def __repr__(self) -> str:
        return "<DjangoLedger>"

    async def write(self, entries: Sequence[Entry]) -> int:
        """Adds *entries* in one transaction; see `Sink.write`. Returns how many rows were new."""
        return await in_thread(_connected, _write, sorted(entries, key=lambda entry: entry.row.id))

    async def spent(self, tenant: str | None, since: datetime) -> Decimal:
        """Returns what *tenant* has cost *since*, in US dollars, from the roll-up and the rows of its first day."""
        return await in_thread(_connected, _spent, tenant, since)

    async def sums(self, wanted: Selection) -> list[Daily]:
        """Returns the sums that are *wanted*; see `Sink.sums`."""
        return await in_thread(_connected, _sums, wanted)

    async def costs(self, wanted: Selection, most: int, seconds: float) -> Costs:
        """Returns the first *most* sums, and the total of all; see `Sink.costs`."""
        return await in_thread(_connected, _costs, wanted, most, seconds)

    async def row(self, id: UUID, tenants: Tenants, seconds: float) -> Row | None:
        """Returns the row *id*, if it is there and of one of these tenants; see `Sink.row`."""
        return await in_thread(_connected, _one, id, tenants, seconds)

    async def rows(self, since: datetime, until: datetime, tenants: Tenants = None) -> AsyncGenerator[Row, None]:
        """Gives the rows that started in this time, by id, a page at a time."""
        last = first_id(since)
        while True:
            page = await in_thread(_connected, _page, since, until, tenants, last)
            for row in page:
                yield row
            if len(page) < PAGE:
                return
            last = page[-1].id

    async def purge(self, before: datetime, batch: int, seconds: float) -> int:
        """Deletes what started *before*, and expired content, a transaction for each *batch*. Returns how many rows."""
        batch, deadline, gone, last = min(batch, MOST), time.monotonic() + seconds, 0, UUID(int=0)
        while time.monotonic() < deadline:
            ids, past = await in_thread(_connected, _purge, before, batch, last)
            gone += len(ids)
            if len(ids) < batch and past < batch:
                break
            last = ids[-1] if ids else last
        return gone

    async def content(self, id: UUID) -> Kept | None:
        """Returns what was kept of the exchange *id*."""
        return await in_thread(_connected, _content, id)

    async def forget(self, tenant: str | None) -> int:
        """Deletes all content of *tenant*. Returns of how many exchanges."""
        return await in_thread(_connected, _forget, tenant)

    async def aclose(self) -> None:
        """Nothing is open between two calls."""


def _connected(function: Callable[..., T], *arguments: object) -> T:
    """Calls *function* in this thread, and leaves no connection in it: the thread may not come back."""
    try:
        return function(*arguments)
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()


def _model(name: str) -> Any:
    return apps.get_model("gomodel", name)


def _read(name: str) -> Any:
    model = _model(name)
    return model.objects.using(router.db_for_read(model))


# Writing...


def _write(entries: Iterable[Entry]) -> int:
    """Writes *entries*; returns how many were new.

    :raises ImproperlyConfigured: the database is neither PostgreSQL nor SQLite.
    """
    by_id = {entry.row.id: entry for entry in entries}
    alias = router.db_for_write(_model("Exchange"))
    connection = connections[alias]
    if connection.vendor not in VENDORS:
        raise ImproperlyConfigured(f"DjangoLedger: PostgreSQL or SQLite, not {connection.vendor}.")
    connection.ensure_connection()
    with refusing(), transaction.atomic(using=alias):
        rows = [
            asdict(row) | {"attempts": plain(row.attempts), "started": _local(row.started)}
            for row in (entry.row for entry in by_id.values())
        ]
        new = _insert(connection, "Exchange", rows)
        written = [by_id[id if isinstance(id, UUID) else UUID(id)].row for (id,) in new]
        _insert(connection, "Daily", [asdict(one) for one in by_day(written)])
        contents = [entry.content for entry in by_id.values() if entry.content is not None]
        _insert(connection, "Content", [asdict(one) | {"expires": _local(one.expires)} for one in contents])
    return len(written)


def _insert(connection: Any, name: str, rows: Sequence[dict[str, Any]]) -> Sequence[tuple[Any, ...]]:
    """Inserts *rows* as the model's fields write them. The ORM knows no upsert that returns what was new."""
    if not rows:
        return ()
    meta = _model(name)._meta
    fields = [meta.get_field(column) for column in rows[0]]
    columns = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    marks = ", ".join([f"({', '.join(['%s'] * len(fields))})"] * len(rows))
    values = [field.get_db_prep_save(row[field.name], connection) for row in rows for field in fields]
    statement = f"INSERT INTO {meta.db_table} ({columns}) VALUES {marks} ON CONFLICT {ON_CONFLICT[name]}"
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else ()


def _local(when: datetime) -> datetime:
    """Returns *when* as this project's database takes it."""
    return when if settings.USE_TZ else timezone.make_naive(when)


def _in_utc(when: datetime) -> datetime:
    return (timezone.make_aware(when) if timezone.is_naive(when) else when).astimezone(UTC)


# Reading...


def _of(tenants: Tenants) -> Q:
    if tenants is None:
        return Q()
    named = Q(tenant__in=[tenant for tenant in tenants if tenant is not None])
    return named | Q(tenant__isnull=True) if None in tenants else named


def _spent(tenant: str | None, since: datetime) -> Decimal:
    start = aware(since)
    first, midnight = first_day(start)
    days = _read("Daily").filter(_of([tenant]), day__gte=first).aggregate(cost=Sum("cost"))["cost"]
    rest = None
    if start < midnight:
        of_day = {"started__gte": _local(start), "started__lt": _local(midnight)}
        rest = _read("Exchange").filter(_of([tenant]), **of_day).aggregate(cost=Sum("cost"))["cost"]
    return (days or Decimal(0)) + (rest or Decimal(0))


def _days(wanted: Selection) -> Any:
    return _read("Daily").filter(_of(wanted.tenants), day__gte=wanted.since, day__lt=wanted.until)


def _sums(wanted: Selection) -> list[Daily]:
    days, by, counts = _days(wanted), wanted.by, _counts()
    found = days.values(*by).annotate(**counts).order_by(*by) if by else [days.aggregate(**counts)]
    return [_sum_of(row, by) for row in found if row["sum_requests"] is not None]


def _costs(wanted: Selection, most: int, seconds: float) -> Costs:
    days, by = _days(wanted), wanted.by
    with _page_of("Daily", seconds):
        found = list(_first_sums(days, by, most)) if by else [days.aggregate(**_counts())]
    rows = [_sum_of(row, by) for row in found if row["sum_requests"] is not None]
    if not by or not rows:
        return Costs(rows=rows, total=rows[0] if rows else daily_of({}), count=len(rows))
    whole = daily_of({name: found[0][f"total_{name}"] for name in COUNTS})
    return Costs(rows=rows, total=whole, count=found[0]["places"])


class Whole(Func):  # type: ignore[misc]
    """SUM over sums: Django's own takes no aggregate (`contains_aggregate`), though SQL does over a window."""

    function = "SUM"
    window_compatible = True


class Counted(Func):  # type: ignore[misc]
    """How many rows of the answer there are."""

    function = "COUNT"
    template = "COUNT(*)"
    window_compatible = True
    output_field = IntegerField()


def _first_sums(days: Any, by: Sequence[str], most: int) -> Any:
    """Returns the first *most* sums, each with the total over all of them."""
    totals = {f"total_{name}": Window(Whole(F(f"sum_{name}"))) for name in COUNTS}
    first = [F("day").desc()] if "day" in by else []
    rest = [F(name).asc(nulls_first=True) for name in by]
    sums = days.values(*by).annotate(**_counts()).annotate(**totals, places=Window(Counted()))
    return sums.order_by(*first, F("sum_cost").desc(), F("sum_requests").desc(), *rest)[:most]


def _counts() -> dict[str, Any]:
    return {f"sum_{name}": Sum(name) for name in COUNTS}


def _sum_of(row: dict[str, Any], by: Sequence[str]) -> Daily:
    return daily_of({**{name: row[name] for name in by}, **{name: row[f"sum_{name}"] for name in COUNTS}})


def _one(id: UUID, tenants: Tenants, seconds: float) -> Row | None:
    with _page_of("Exchange", seconds):
        values = _read("Exchange").filter(_of(tenants), id=id).values(*COLUMNS).first()
    return None if values is None else _row(values)


@contextmanager
def _page_of(name: str, seconds: float) -> Iterator[None]:
    """Within it the database that *name* is read from stops its queries itself after so many *seconds*.

    :raises TimeoutError: it did.
    """
    alias = router.db_for_read(_model(name))
    connection = connections[alias]
    with stopped(), transaction.atomic(using=alias):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                limit = [f"{max(1, round(seconds * 1000))}ms"]
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", limit)
            yield
            return
        connection.connection.set_progress_handler(Limit(seconds), STEPS)
        try:
            yield
        finally:
            connection.connection.set_progress_handler(None, STEPS)


def _page(since: datetime, until: datetime, tenants: Tenants, last: UUID) -> list[Row]:
    of_time = {"id__lt": first_id(until, 1), "started__gte": _local(since), "started__lt": _local(until)}
    found = _read("Exchange").filter(_of(tenants), id__gt=last, **of_time).order_by("id").values(*COLUMNS)[:PAGE]
    return [_row(values) for values in found]


def _row(values: dict[str, Any]) -> Row:
    attempts = msgspec.convert(values["attempts"], tuple[Attempt, ...])
    return Row(**{**values, "attempts": attempts, "started": _in_utc(values["started"])})


def _content(id: UUID) -> Kept | None:
    values = _read("Content").filter(id=id).values(*Kept.__struct_fields__).first()
    if values is None:
        return None
    response = None if values["response"] is None else bytes(values["response"])
    read = {"expires": _in_utc(values["expires"]), "request": bytes(values["request"]), "response": response}
    return Kept(**{**values, **read})


# Deleting...


def _purge(before: datetime, batch: int, last: UUID) -> tuple[list[UUID], int]:
    model = _model("Exchange")
    alias = router.db_for_write(model)
    contents = _model("Content").objects.using(alias)
    with transaction.atomic(using=alias):
        old = model.objects.using(alias).filter(id__gt=last, id__lt=first_id(before, 1), started__lt=_local(before))
        if connections[alias].features.has_select_for_update_skip_locked:
            old = old.select_for_update(skip_locked=True)
        ids = list(old.order_by("id").values_list("id", flat=True)[:batch])
        past = list(contents.filter(expires__lte=_local(now())).values_list("id", flat=True)[:batch])
        contents.filter(id__in=past)._raw_delete(alias)
        contents.filter(id__in=ids)._raw_delete(alias)
        model.objects.using(alias).filter(id__in=ids)._raw_delete(alias)
    return ids, len(past)


def _forget(tenant: str | None) -> int:
    model = _model("Content")
    alias = router.db_for_write(model)
    return int(model.objects.using(alias).filter(_of([tenant]))._raw_delete(alias))
