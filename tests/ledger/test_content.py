"""What was said is kept where the host wants it: apart from the rows, bounded, sealed, and gone in time."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gomodel_asgi import RoutingRequest
from gomodel_asgi.ledger import Content
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import ask
from .test_exchanges import HELLO, books

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


KEY = bytes(range(32))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, KEY])
async def test_what_was_said_is_kept_and_opened(
    provider: FakeProvider, tmp_path: Path, stream: bool, key: bytes | None
) -> None:
    provider.script(Answer(text="Good day."))
    async with books(provider, tmp_path, content=Content(lambda request: True, key=key)) as own:
        await ask(own.gateway, HELLO | {"stream": stream, "instructions": "Be kind.", "metadata": {"a": "b"}})
        row = await own.row()
        said = await own.ledger.content_of(row.id)
    assert said is not None and said[1] is not None
    assert json.loads(said[0]) == {"instructions": "Be kind.", "input": "Hello"}
    (message,) = json.loads(said[1])["output"]
    assert message["content"][0]["text"] == "Good day."
    lies = (tmp_path / "ledger.jsonl.contents").read_text()
    assert json.loads(lies)["encrypted"] is (key is not None)
    assert "Good" not in (tmp_path / "ledger.jsonl").read_text()


async def test_a_value_opens_under_its_own_row_and_key_only(provider: FakeProvider, tmp_path: Path) -> None:
    content = Content(lambda request: True, key=KEY)
    async with books(provider, tmp_path, content=content) as own:
        await ask(own.gateway, HELLO)
        await ask(own.gateway, HELLO)
        one, other = [await own.ledger.sink.content(row.id) for row in await own.rows()]
    assert one is not None and other is not None and one.request != other.request
    for wrong in (replace(one, id=other.id), replace(one, request=one.response or b""), replace(one, request=b"\x01")):
        with pytest.raises(ValueError, match="another key"):
            content.opened(wrong)
    with pytest.raises(ValueError, match="another key"):
        Content(lambda request: True, key=os.urandom(32)).opened(one)
    with pytest.raises(ValueError, match="give the key"):
        Content(lambda request: True, key=None).opened(one)


async def test_only_what_the_host_names_is_kept_and_for_as_long_as_it_says(
    provider: FakeProvider, tmp_path: Path
) -> None:
    async def keep(request: RoutingRequest) -> timedelta | None:
        return timedelta(hours=1) if request.metadata.get("keep") else None

    async with books(provider, tmp_path, content=keep) as own:
        await ask(own.gateway, HELLO)
        await ask(own.gateway, HELLO | {"metadata": {"keep": "yes"}})
        one, other = sorted(await own.rows(), key=lambda row: row.started)
        kept = await own.ledger.sink.content(other.id)
        assert await own.ledger.content_of(one.id) is None
    assert kept is not None and kept.expires == other.started + timedelta(hours=1)


async def test_what_is_too_long_is_cut_and_says_so(provider: FakeProvider, tmp_path: Path) -> None:
    async with books(provider, tmp_path, content=Content(lambda request: True, key=None, size=100)) as own:
        await ask(own.gateway, HELLO | {"input": "x" * 1000})
        kept = await own.ledger.sink.content((await own.row()).id)
    assert kept is not None and kept.truncated and len(kept.request) == 100


async def test_a_function_that_fails_keeps_nothing_and_fails_no_request(
    provider: FakeProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def keep(request: Any) -> bool:
        raise LookupError("secret-canary")

    async with books(provider, tmp_path, content=keep) as own:
        assert (await ask(own.gateway, HELLO)).status == 200
        assert await own.ledger.content_of((await own.row()).id) is None
    assert "raised LookupError" in caplog.text


async def test_who_is_forgotten_has_rows_but_no_words(provider: FakeProvider, tmp_path: Path) -> None:
    async with books(provider, tmp_path, content=lambda request: True, tenant=lambda scope: "acme") as own:
        await ask(own.gateway, HELLO)
        row = await own.row()
        assert await own.ledger.content_of(row.id) is not None
        await own.gateway.forget("acme")
        assert await own.ledger.content_of(row.id) is None
        assert await own.row() == row


def test_a_key_of_another_length_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Content(lambda request: True, key=b"short")
    with pytest.raises(TypeError, match="function"):
        Content(True, key=None)  # type: ignore[arg-type]
