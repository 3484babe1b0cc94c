"""The ledger from a command line: what it writes is exact, and what it reads says what is wrong with it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from sqlalchemy.ext.asyncio import create_async_engine

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.cli import main
from gomodel_asgi.ledger import JsonLines, Ledger, Row, Sink, SqlLedger, metadata
from gomodel_asgi.ledger.row import COLUMNS, decode_row

from ..support import django_host
from ..support.ledgers import entries, row, rows_of

held: dict[str, Gateway | Ledger] = {}
EVIL = '=HYPERLINK("http://x")'


def __getattr__(name: str) -> Gateway | Ledger:
    try:
        return held[name]
    except KeyError:
        raise AttributeError(name) from None


def filled() -> list[Row]:
    return [
        row(cost="0.000000001"),
        row(cost="123456.789", tenant="other", model_target="gpt-6", attempts=()),
        row(cost=None, tenant=None, model_asked=EVIL, request_id="-1+1"),
    ]


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """The rows of a ledger that `gateway` and `ledger` of this module have."""
    made = filled()
    sink = JsonLines(tmp_path / "ledger.jsonl")
    asyncio.run(sink.write(entries(*made)))
    held["ledger"] = Ledger(sink)
    held["gateway"] = Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1")], ledger=Ledger(sink))
    held["bare"] = Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1")])
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str, name: str = "gateway", code: int = 0) -> str:
    command, *options = arguments
    assert main(["ledger", command, f"{__name__}:{name}", *options]) == code
    told = capsys.readouterr()
    return told.out if code == 0 else told.err


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", ["gateway", "ledger"])
def test_rows_are_exported_with_all_their_digits(
    capsys: pytest.CaptureFixture[str], rows: list[Row], name: str
) -> None:
    found = table(run(capsys, "export", "--since", "2026-11-05", "--until", "2026-11-06", name=name))
    assert list(found[0]) == list(COLUMNS)
    assert {one["id"]: one["cost"] for one in found} == {
        str(rows[0].id): "0.000000001", str(rows[1].id): "123456.789", str(rows[2].id): "",
    }  # fmt: skip
    first = next(one for one in found if one["id"] == str(rows[0].id))
    assert json.loads(first["labels"]) == {"team": "a"} and first["stream"] == "true"
    assert Decimal(json.loads(first["attempts"])[0]["cost"]) == Decimal("0.000000001")
    assert first["started"] == "2026-11-05T12:00:00+00:00"


def test_rows_are_exported_as_lines_of_json_that_are_the_rows(
    capsys: pytest.CaptureFixture[str], rows: list[Row]
) -> None:
    found = [decode_row(line) for line in run(capsys, "export", "--since", "2026-11-05", "--json").splitlines()]
    assert sorted(found, key=lambda one: one.id) == sorted(rows, key=lambda one: one.id)


def test_no_cell_is_a_formula(capsys: pytest.CaptureFixture[str], rows: list[Row]) -> None:
    found = table(run(capsys, "export", "--since", "2026-11-05"))
    (evil,) = [one for one in found if one["model_asked"].endswith(EVIL)]
    assert (evil["model_asked"], evil["request_id"]) == ("'" + EVIL, "'-1+1")


def test_sums_are_written_by_what_is_asked_for(capsys: pytest.CaptureFixture[str], rows: list[Row]) -> None:
    found = table(run(capsys, "sums", "--since", "2026-11-01"))
    assert [(one["day"], one["tenant"], one["model"], one["requests"], one["cost"]) for one in found] == [
        ("2026-11-05", "", "gpt-5", "1", "0"),
        ("2026-11-05", "acme", "gpt-5", "1", "0.000000001"),
        ("2026-11-05", "other", "gpt-6", "1", "0"),
    ]
    (whole,) = table(run(capsys, "sums", "--since", "2026-11-01", "--by", "provider", "--tenant", "acme"))
    assert (whole["provider"], whole["input_tokens"], whole["unpriced"]) == ("fake", "10", "0")
    assert run(capsys, "sums", "--since", "2026-11-06").count("\n") == 1
    line = json.loads(run(capsys, "sums", "--since", "2026-11-01", "--by", "tenant", "--json").splitlines()[-1])
    assert (line["tenant"], line["cost"]) == ("other", "0")


def test_old_rows_are_purged(capsys: pytest.CaptureFixture[str], rows: list[Row]) -> None:
    assert run(capsys, "purge", "--before", "2026-11-05") == "0 rows are deleted.\n"
    assert json.loads(run(capsys, "purge", "--before", "2026-11-05T12:00:01+00:00", "--json")) == {"deleted": 3}


@pytest.mark.parametrize("wrong", [["--before", "soon"], ["--before", "2026-11-05T12:00"], []])
def test_a_time_that_could_mean_several_is_refused(
    capsys: pytest.CaptureFixture[str], rows: list[Row], wrong: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["ledger", "purge", f"{__name__}:gateway", *wrong])
    assert "--before" in capsys.readouterr().err


def test_what_has_no_ledger_is_refused(capsys: pytest.CaptureFixture[str], rows: list[Row]) -> None:
    assert "has no ledger" in run(capsys, "purge", "--before", "2026-11-05", name="bare", code=2)
    assert "batch" in run(capsys, "purge", "--before", "2026-11-05", "--batch", "0", code=2)


def test_a_ledger_in_a_database_is_exported_and_let_go_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"

    async def fill() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await SqlLedger(engine).write(entries(*filled()))
        await engine.dispose()

    asyncio.run(fill())
    held["ledger"] = Ledger(SqlLedger(create_async_engine(url)))
    assert len(table(run(capsys, "export", "--since", "2026-11-05", name="ledger"))) == 3


def test_manage_py_does_the_same(django_sqlite: Sink, tmp_path: Path) -> None:
    from django.test import override_settings

    from gomodel_asgi.contrib.django import get_gateway

    asyncio.run(django_sqlite.write(entries(*filled())))
    settings = {"PUBLIC": True, "PROVIDERS": f"{django_host.__name__}.providers", "LEDGER": f"{__name__}.django_ledger"}
    with override_settings(GOMODEL=settings):
        out = io.StringIO()
        call_command("gomodel_ledger", "sums", "--since", "2026-11-01", "--by", "tenant", stdout=out)
        assert [one["tenant"] for one in table(out.getvalue())] == ["", "acme", "other"]
        call_command("gomodel_ledger", "purge", "--before", "2026-11-06", stdout=out)
        assert out.getvalue().endswith("3 rows are deleted.\n")
        assert asyncio.run(rows_of(django_sqlite)) == []
    with override_settings(GOMODEL={"PUBLIC": True, "PROVIDERS": f"{django_host.__name__}.providers"}):
        get_gateway.cache_clear()
        with pytest.raises(CommandError, match="no ledger"):
            call_command("gomodel_ledger", "purge", "--before", "2026-11-06")


def django_ledger() -> Ledger:
    from gomodel_asgi.ledger import DjangoLedger

    return Ledger(DjangoLedger())
