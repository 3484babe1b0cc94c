"""The lines that whoever is on call reads: each is one of the table, says what to do, and the docs show them all."""

from __future__ import annotations

import ast
import io
import logging
import re
from pathlib import Path

import pytest

from gomodel_asgi.logs import LINES, log

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gomodel_asgi"
RESERVED = logging.LogRecord("", 0, "", 0, "", None, None).__dict__.keys() | {"message", "asctime", "taskName"}
FIGURE = re.compile(r"%\((\w+)\)([dgrs])")
ELSEWHERE = {"logs.py", "observers/logging.py", "contrib/django/views.py"}
"""Where a logger may be called: the table, the line of each request, and what Django logs of its views."""


def calls() -> list[tuple[str, ast.Call]]:
    """Each call of `log` or of a logger's method in the package, with its file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found.append((path.relative_to(PACKAGE).as_posix(), node))
    return found


CALLS = calls()


def events_said() -> set[str]:
    said = set()
    for file, call in CALLS:
        name = ast.unparse(call.func)
        if file != "logs.py" and name in ("log", "self._say", "self._say_of"):
            said |= {one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return said


def test_every_line_is_said_somewhere_and_whatever_is_said_is_a_line() -> None:
    assert events_said() == set(LINES)


def test_nothing_is_logged_past_the_table() -> None:
    methods = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    past = [
        (file, call.lineno)
        for file, call in CALLS
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in methods
        and ast.unparse(call.func.value).rpartition(".")[2] in ("log", "logger", "_log", "logging")
        and file not in ELSEWHERE
    ]
    assert not past


@pytest.mark.parametrize("event", LINES)
def test_a_line_is_one_sentence_or_more_and_its_figures_fit_a_log_record(event: str) -> None:
    line = LINES[event]
    figures = {name: 1 if kind in "dg" else "x" for name, kind in FIGURE.findall(line.words)}
    said = line.words % figures
    assert said.isprintable() and said.count("%") == 0
    assert event == "gateway_exposed" or said.endswith(".")
    assert not figures.keys() & (RESERVED | {"event"})
    assert re.fullmatch(r"[a-z_]+", event)


@pytest.mark.parametrize("event", [event for event, line in LINES.items() if line.level >= logging.WARNING])
def test_a_line_that_may_wake_somebody_says_what_to_do_or_where_to_look(event: str) -> None:
    told = r"\b(See|Renew|Correct|Look for|Use|Update|give|report it|Ledger\(|lost|may be missing)|%\((where|why)\)s"
    assert re.search(told, LINES[event].words)


def test_what_others_have_chosen_cannot_forge_a_second_line(caplog: pytest.LogCaptureFixture) -> None:
    log("fallback", source="a\nERROR forged", reason="b\r", provider="c", often="once")
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert vars(record)["source"] == "a\nERROR forged" and vars(record)["event"] == "fallback"


def test_a_line_goes_through_a_plain_handler_and_names_its_caller() -> None:
    stream, logger = io.StringIO(), logging.Logger("mine")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(filename)s %(event)s %(message)s"))
    logger.addHandler(handler)
    log("session_stuck", to=logger)
    assert stream.getvalue().startswith("WARNING test_lines.py session_stuck An MCP session does not end")


# The table of the documentation...


def in_the_docs() -> list[tuple[str, str, str, str]]:
    text = (ROOT / "docs" / "observability.md").read_text()
    table = text.partition("| `event` | level | logger | line |\n")[2].partition("\n\n")[0]
    rows = [re.split(r"(?<!\\) \| ", row.strip("| ")) for row in table.splitlines()[1:]]
    return [(row[0].strip("`"), row[1], row[2].strip("`"), row[3]) for row in rows]


def shown(words: str) -> str:
    """*words* as the documentation shows them: each figure as its name in angle brackets."""
    return FIGURE.sub(r"`\1`", words)


def test_the_documentation_shows_each_line_as_it_is_logged() -> None:
    expected = [
        (event, logging.getLevelName(line.level), f"gomodel_asgi.{line.logger}", shown(line.words))
        for event, line in LINES.items()
    ]
    assert in_the_docs() == expected
