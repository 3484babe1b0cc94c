"""`LoggingObserver`: one line a request, every figure in the record's `extra`."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from gomodel_asgi.observers import Completed, Context, Cost, Disconnected, FirstEvent, LoggingObserver, Usage, Warned
from gomodel_asgi.observers.logging import fields
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.seen import gateway_of

CONTEXT = Context(1, "r-1", "create", "acme", {"team": "blue"}, True, "asked", "target", "served", "fake", "openai")
DONE = Completed(
    CONTEXT,
    status=200,
    outcome="completed",
    attempts=2,
    usage=Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=3),
    cost=Cost(total=Decimal("0.00012")),
    first_event=0.25,
    seconds=1.5,
    events=7,
    bytes=1000,
)
RESERVED = logging.LogRecord("", 0, "", 0, "", None, None).__dict__.keys() | {"message", "asctime", "taskName"}


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [entry for entry in caplog.records if entry.name == "gomodel_asgi.requests"]


def test_a_line_says_who_asked_what_and_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    LoggingObserver()(DONE)

    (entry,) = logged(caplog)
    assert entry.levelno == logging.INFO
    assert entry.getMessage() == (
        "request_id=r-1 operation=create outcome=completed status=200 tenant=acme provider=fake asked_model=asked "
        "served_model=served attempts=2 seconds=1.500 first_event=0.250 events=7 bytes=1000 input_tokens=10 "
        "cached_tokens=4 output_tokens=5 reasoning_tokens=3 cost=0.00012 labels=team:blue"
    )


def test_an_answer_from_the_cache_says_so(caplog: pytest.LogCaptureFixture) -> None:
    LoggingObserver()(Completed(CONTEXT, status=200, outcome="completed", cached=True))
    LoggingObserver()(Completed(CONTEXT, status=200, outcome="completed"))

    first, second = logged(caplog)
    assert " cached=True " in first.getMessage() + " " and first.__dict__["cached"] is True
    assert "cached" not in second.getMessage() and second.__dict__["cached"] is False


def test_every_figure_is_in_the_extra(caplog: pytest.LogCaptureFixture) -> None:
    LoggingObserver()(DONE)

    (entry,) = logged(caplog)
    for name, value in fields(DONE).items():
        assert getattr(entry, name) == value
    assert not fields(DONE).keys() & RESERVED


def test_only_the_end_of_an_exchange_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    observer = LoggingObserver()
    observer(FirstEvent(CONTEXT, seconds=1))
    observer(Warned(CONTEXT, message="lost"))

    assert not logged(caplog)


def test_a_failure_is_a_warning_whose_detail_is_in_the_extra_only(caplog: pytest.LogCaptureFixture) -> None:
    failed = Completed(CONTEXT, status=502, outcome="failed", error="upstream_auth_error", detail="it said so")
    LoggingObserver()(failed)

    (entry,) = logged(caplog)
    assert entry.levelno == logging.WARNING
    assert "error=upstream_auth_error" in entry.getMessage()
    assert "it said so" not in entry.getMessage()
    assert entry.__dict__["detail"] == "it said so"


def test_a_disconnect_says_why(caplog: pytest.LogCaptureFixture) -> None:
    LoggingObserver()(Disconnected(CONTEXT, status=200, reason="gone"))

    assert "outcome=disconnected_gone" in logged(caplog)[0].getMessage()


def test_no_value_can_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    context = Context(1, "r-1", tenant="a\nrequest_id=forged", labels={"x": "a\r\nb", "name with space": "c"})
    LoggingObserver()(Completed(context, status=200, outcome="completed"))

    message = logged(caplog)[0].getMessage()
    assert message.isprintable()
    assert r"tenant='a\nrequest_id=forged'" in message


def test_a_logger_of_ones_own_is_used(caplog: pytest.LogCaptureFixture) -> None:
    LoggingObserver(logging.getLogger("mine"))(DONE)

    assert [entry.name for entry in caplog.records if "request_id=r-1" in entry.getMessage()] == ["mine"]


async def test_a_request_is_one_line(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_of(provider, LoggingObserver()) as gateway:
        await ask(gateway, {"model": "m", "input": "x"})

    (entry,) = logged(caplog)
    assert "operation=create outcome=completed status=200 provider=fake" in entry.getMessage()
