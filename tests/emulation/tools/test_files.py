"""Files that an input names by id or address, read by the host for upstreams that cannot look there."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gomodel_asgi import RoutingRequest, tools
from gomodel_asgi.emulation.tools.files import sniffed
from gomodel_asgi.errors import GatewayError

from .hosting import Hosting, Json

pytestmark = pytest.mark.anyio

PDF, PNG = b"%PDF-1.7 x", b"\x89PNG\r\n\x1a\n x"
SHELF: dict[str, Any] = {
    "file_pdf": tools.File(PDF, "a.pdf"),
    "file_png": PNG,
    "file_txt": tools.File(b"plain words", "a.txt"),
    "https://x.example/a.pdf": PDF,
}
seen: list[Any] = []


def read(reference: tools.FileReference, request: RoutingRequest) -> Any:
    seen.append((reference, request.tenant))
    return SHELF.get(reference.file_id or reference.file_url or "")


def said(*parts: Json) -> Json:
    return {"input": [{"role": "user", "content": [*parts, {"type": "input_text", "text": "What is it?"}]}]}


FILE: Json = {"type": "input_file", "file_id": "file_pdf"}


async def test_a_pdf_by_id_or_address_is_sent_as_the_target_takes_it(hosting: Hosting) -> None:
    data = base64.b64encode(PDF).decode()
    for dialect in ("anthropic", "gemini"):
        house = hosting(dialect=dialect, files=read)
        for part in (FILE, {"type": "input_file", "file_url": "https://x.example/a.pdf"}):
            seen.clear()
            await house.ask(said(part), tenant="acme")
            assert data in json.dumps(house.sent[-1]) and "application/pdf" in json.dumps(house.sent[-1])
            assert [tenant for _, tenant in seen] == ["acme"]


async def test_an_image_by_id_is_sent_as_an_image(hosting: Hosting) -> None:
    house = hosting(files=read)
    await house.ask(said({"type": "input_image", "file_id": "file_png", "detail": "low"}))
    part = house.sent[0]["messages"][0]["content"][0]
    assert part["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


async def test_a_text_is_sent_as_text(hosting: Hosting, dialect: str) -> None:
    house = hosting(dialect=dialect, files=read)
    await house.ask(said({"type": "input_file", "file_id": "file_txt"}))
    assert ("plain words" in json.dumps(house.sent[0])) is (dialect != "responses")


async def test_a_file_in_the_output_of_a_tool_is_read_too(hosting: Hosting) -> None:
    house = hosting(dialect="anthropic", files=read)
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": [{**FILE, "file_id": "file_png"}]}
    await house.ask({"input": [{"role": "user", "content": "Hi"}, call, output]})
    assert base64.b64encode(PNG).decode() in json.dumps(house.sent[0])


async def test_a_native_upstream_looks_for_the_file_itself(hosting: Hosting) -> None:
    house = hosting(dialect="responses", files=read)
    seen.clear()
    await house.ask(said(FILE))
    assert house.sent[0]["input"][0]["content"][0] == FILE and seen == []


async def test_a_file_that_the_host_does_not_have_is_a_400(hosting: Hosting) -> None:
    house = hosting(dialect="anthropic", files=read)
    with pytest.raises(GatewayError) as refused:
        await house.ask(said({**FILE, "file_id": "file_other"}))
    assert refused.value.status == 400 and refused.value.code == "file_not_found" and house.sent == []


async def test_a_file_is_read_again_in_the_next_turn(hosting: Hosting) -> None:
    house = hosting(dialect="anthropic", files=read)
    first = await house.ask(said(FILE))
    await house.ask({"input": "And?", "previous_response_id": first["id"]})
    assert base64.b64encode(PDF).decode() in json.dumps(house.sent[1])


async def test_a_file_is_there_in_every_round(hosting: Hosting) -> None:
    from gomodel_asgi.testing import Answer

    from .hosting import WEB, call, calls, search

    house = hosting(tools.web_search(search), dialect="anthropic", files=read, provider={"hosted_tools": ()})
    house.fake.script(calls(call("web_search", query="a")), Answer(text="Done."))
    await house.ask({**said(FILE), "tools": [WEB]})
    assert [base64.b64encode(PDF).decode() in json.dumps(body) for body in house.sent] == [True, True]


async def test_what_the_hosts_function_says_in_failing_is_not_told(hosting: Hosting) -> None:
    def broken(reference: tools.FileReference, request: RoutingRequest) -> bytes:
        raise RuntimeError("the host's own affair")

    house = hosting(dialect="anthropic", files=broken)
    with pytest.raises(GatewayError) as failed:
        await house.ask(said(FILE))
    assert failed.value.status == 500 and "affair" not in failed.value.message


@pytest.mark.parametrize(
    ("data", "name", "given", "kind"),
    [
        (PDF, "a.txt", "text/plain", "application/pdf"),
        (b"RIFF....WEBP", None, None, "image/webp"),
        (b"a,b", "x.csv", None, "text/csv"),
        (b"{}", "x.csv", "Application/JSON; charset=utf-8", "application/json"),
        (b"words", None, None, "text/plain"),
        (b"\0\1", None, None, "application/octet-stream"),
    ],
)
def test_the_type_of_a_file_is_what_its_bytes_say(data: bytes, name: str, given: str, kind: str) -> None:
    assert sniffed(data, name, given) == kind
