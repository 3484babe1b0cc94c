"""Files that an input names, where the host runs tools too: each round has them, and the host is asked once."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gomodel_asgi import RoutingRequest, tools
from gomodel_asgi.testing import Answer

from .hosting import WEB, Hosting, Json, call, calls, search

pytestmark = pytest.mark.anyio

PDF = b"%PDF-1.7 x"
DATA = base64.b64encode(PDF).decode()
FILE: Json = {"type": "input_file", "file_id": "file_pdf"}
ASKED: Json = {"input": [{"role": "user", "content": [FILE, {"type": "input_text", "text": "What is it?"}]}]}


class Shelf:
    """The host's files, and who asked for which."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def read(self, reference: tools.FileReference, request: RoutingRequest) -> bytes:
        self.asked.append((reference.file_id, request.tenant))
        return PDF


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
async def test_a_file_is_there_in_every_round_and_read_once(hosting: Hosting, dialect: str) -> None:
    shelf = Shelf()
    house = hosting(tools.web_search(search), dialect=dialect, files=shelf.read)
    house.fake.script(calls(call("web_search", query="a")), Answer(text="Done."))
    await house.ask({**ASKED, "tools": [WEB]}, tenant="acme")
    assert [json.dumps(body).count(DATA) for body in house.sent] == [1, 1]
    assert shelf.asked == [("file_pdf", "acme")]


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
async def test_a_file_is_there_in_the_turn_after_one_with_tools(hosting: Hosting, dialect: str) -> None:
    shelf = Shelf()
    house = hosting(tools.web_search(search), dialect=dialect, files=shelf.read)
    house.fake.script(calls(call("web_search", query="a")), Answer(text="Done."))
    first = await house.ask({**ASKED, "tools": [WEB]})
    for more in ({}, {"tools": [WEB]}):
        await house.ask({"input": "And?", "previous_response_id": first["id"], **more})
        assert DATA in json.dumps(house.sent[-1]) and "Found for a" in house.outputs()[0]


async def test_a_native_upstream_that_keeps_files_looks_for_them_itself(hosting: Hosting) -> None:
    shelf = Shelf()
    provider = {"stateful": True}
    house = hosting(tools.web_search(search), dialect="responses", files=shelf.read, provider=provider)
    await house.ask({**ASKED, "tools": [WEB]})
    assert house.sent[0]["input"][0]["content"][0] == FILE and shelf.asked == []
