from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from gomodel_asgi.transport import DefaultTransport

FORMATTER = logging.Formatter()


@pytest.fixture(autouse=True)
def no_key_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every key in these tests has `canary` in it, and none may reach a log record, tracebacks included, but for those
    in which httpcore shows the heads of replies, whatever a server quotes there. (A fixture's `caplog.text` is that of
    its own phase alone.)"""
    caplog.set_level(logging.DEBUG)
    yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            said = FORMATTER.format(record)
            assert "canary" not in said or said.startswith("receive_response_headers.complete")


@pytest.fixture
async def transport() -> AsyncIterator[DefaultTransport]:
    """What sessions go through; its idle connections are closed when the test is over."""
    made = DefaultTransport()
    yield made
    await made.aclose()
