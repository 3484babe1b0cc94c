"""A URL whose query holds a key is shown without it: in no repr, log line, record, exception or answer."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from gomodel_asgi import Provider, Target
from gomodel_asgi.observers import Record
from gomodel_asgi.testing import Cut, Status
from gomodel_asgi.transport import Transport, UpstreamReply, UpstreamRequest

from ..support.exchanges import STREAM, UNARY
from ..support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

IN_URL, IN_QUERY = "canary-in-the-url", "canary-in-the-query"


@pytest.fixture
def refused() -> Iterator[int]:
    """A port of the loopback that refuses connections for as long as the test runs: bound, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class Watching:
    """A transport of the host's that looks at what it is given."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.seen: list[UpstreamRequest] = []

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        self.seen.append(request)
        return await self.transport.open(request)

    async def aclose(self) -> None:
        await self.transport.aclose()


def keyed(lab: Lab, where: str, **options: Any) -> Provider:
    return lab.provider(f"{where}?key={IN_URL}&v=1", query={"sig": IN_QUERY}, **options)


def is_shown(*things: object) -> list[object]:
    return [one for one in things if any(key in f"{one!r} {one!s}" for key in (IN_URL, IN_QUERY))]


def trace_of(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception(error))


def test_a_provider_and_what_names_it_show_where_it_is_and_not_its_query() -> None:
    provider = Provider("p", f"http://p/v1?key={IN_URL}", query={"sig": IN_QUERY})
    target = Target(provider, fallbacks=[Target(provider)], api_key=IN_QUERY)

    assert "http://p/v1'" in repr(provider)
    assert not is_shown(provider, target, [target], {"p": provider}, super(Target, target))
    for wrong in (f"http://p:99999/v1?key={IN_URL}", f"ftp://p/v1?key={IN_URL}", f"http://p/v1?key={IN_URL}#x"):
        with pytest.raises(ValueError, match="base_url") as caught:
            Provider("p", wrong)
        assert not is_shown(caught.value, trace_of(caught.value))


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic", "gemini"])
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_what_an_exchange_tells_holds_no_query(
    lab: Lab, dialect: Any, body: Any, refused: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    records: list[Record] = []
    watching = lab.transport = Watching(lab.transport)
    there = keyed(lab, lab.bad.base_url, dialect=dialect)
    gone = keyed(lab, f"http://127.0.0.1:{refused}/v1", name="gone", dialect=dialect)
    lab.make(there, gone, observers=[records.append])
    lab.bad.fail_next(Status(500, message=f"GET /v1?key={IN_URL}&sig={IN_QUERY} failed"))
    lab.bad.fail_next(Cut(after_bytes=10))

    answers = [await lab.ask({**body, "provider": name}) for name in ("bad", "bad", "bad", "gone")]
    explained = await lab.gateway.explain({**body, "provider": "bad"})

    assert f"key={IN_URL}".encode() in watching.seen[0].target and IN_QUERY.encode() in lab.bad.requests[0].query
    assert not is_shown(*(answer.messages for answer in answers), *(trace_of(answer.raised) for answer in answers))
    assert not is_shown(
        explained, records, watching.seen, caplog.messages, lab.gateway, lab.gateway.setup, lab.gateway.health()
    )
