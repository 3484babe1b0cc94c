"""Files by id and by URL: the host gives their bytes, for upstreams that cannot read them and for no others."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Limits, Provider, Retries, RoutingRequest, Target, Timeouts
from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.files import Named, named_in, sniffed
from gomodel_asgi.emulation.files import MOST
from gomodel_asgi.errors import Denied
from gomodel_asgi.testing import FakeProvider, Status
from gomodel_asgi.tools import File, FileReference, ToolError
from tests.support.driving import Caller, ask

Json = dict[str, Any]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
FILES: dict[str, bytes] = {"img": PNG, "doc": PDF, "note": b"The word is heron.", "zip": b"PK\x03\x04rest"}
DIALECTS = ("chat", "anthropic", "gemini")
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
JSON = (b"content-type", b"application/json")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, FakeProvider]]:
    with (
        FakeProvider(dialect="chat").run_in_thread() as chat,
        FakeProvider(dialect="anthropic").run_in_thread() as anthropic,
        FakeProvider(dialect="gemini").run_in_thread() as gemini,
        FakeProvider().run_in_thread() as responses,
    ):
        yield {"chat": chat, "anthropic": anthropic, "gemini": gemini, "responses": responses}


@pytest.fixture
def fakes(started: dict[str, FakeProvider]) -> dict[str, FakeProvider]:
    for fake in started.values():
        fake.clear()
    return started


class Host:
    """The host's files, and what it was asked for."""

    def __init__(self, files: dict[str, Any] | None = None) -> None:
        self.files = FILES if files is None else files
        self.asked: list[FileReference] = []
        self.tenants: list[str | None] = []
        self.threads: set[int] = set()

    async def read(self, reference: FileReference, request: RoutingRequest) -> Any:
        return self.found(reference, request)

    def found(self, reference: FileReference, request: RoutingRequest) -> Any:
        self.asked.append(reference)
        self.tenants.append(request.tenant)
        self.threads.add(threading.get_ident())
        name = reference.file_id or (reference.file_url or "").rpartition("/")[2]
        found = self.files.get(name)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    yield Host()


def provider_of(fakes: dict[str, FakeProvider], dialect: str, **options: Any) -> Provider:
    options = {"type": "vllm"} | options if dialect == "chat" else options
    return Provider(dialect, fakes[dialect].base_url, dialect=dialect, models=("*",), **options)  # type: ignore[arg-type]


def gateway_of(fakes: dict[str, FakeProvider], dialect: str, files: Any, **options: Any) -> Gateway:
    return Gateway(providers=[provider_of(fakes, dialect)], files=files, **options)


def message(*parts: Json) -> Json:
    return {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, *parts]}


def by_id(file_id: str, kind: str = "input_file", **more: Any) -> Json:
    return {"type": kind, "file_id": file_id, **more}


async def say(gateway: Gateway, *items: Json, **members: Any) -> Caller:
    model = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro-preview"}.get(
        next(iter(gateway.setup.registry.by_name)), "m"
    )
    return await ask(gateway, {"model": model, "input": list(items), **members})


def sent(fake: FakeProvider) -> str:
    return json.dumps(fake.requests[-1].json())


def parts_of(fake: FakeProvider) -> list[Json]:
    """The parts of the last message but for its question."""
    body = fake.requests[-1].json()
    if "contents" in body:
        found: list[Json] = body["contents"][-1]["parts"]
    else:
        found = body["messages"][-1]["content"]
    return found[1:]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# What each upstream gets...


@each_dialect
async def test_an_image_by_id_is_sent_as_the_upstream_takes_images(
    fakes: dict[str, FakeProvider], host: Host, dialect: str
) -> None:
    async with gateway_of(fakes, dialect, host.read) as gateway:
        assert (await say(gateway, message(by_id("img", "input_image")))).status == 200

    assert parts_of(fakes[dialect]) == {
        "chat": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(PNG)}"}}],
        "anthropic": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}}
        ],
        "gemini": [{"inlineData": {"mimeType": "image/png", "data": encoded(PNG)}}],
    }[dialect]  # fmt: skip


@each_dialect
async def test_a_document_by_id_is_sent_as_the_upstream_takes_documents(
    fakes: dict[str, FakeProvider], host: Host, dialect: str
) -> None:
    type = "openrouter" if dialect == "chat" else None
    gateway = Gateway(providers=[provider_of(fakes, dialect, type=type or dialect)], files=host.read)
    async with gateway:
        assert (await say(gateway, message(by_id("doc", filename="a.pdf")))).status == 200

    document = {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)}
    assert parts_of(fakes[dialect]) == {
        "chat": [
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{encoded(PDF)}", "filename": "a.pdf"}}
        ],
        "anthropic": [{"type": "document", "source": document, "title": "a.pdf"}],
        "gemini": [{"inlineData": {"mimeType": "application/pdf", "data": encoded(PDF)}}],
    }[dialect]  # fmt: skip


@each_dialect
async def test_a_text_is_sent_as_text(fakes: dict[str, FakeProvider], host: Host, dialect: str) -> None:
    async with gateway_of(fakes, dialect, host.read) as gateway:
        assert (await say(gateway, message(by_id("note", filename="a.pdf")))).status == 200

    if dialect == "gemini":
        assert parts_of(fakes[dialect]) == [{"inlineData": {"mimeType": "text/plain", "data": encoded(FILES["note"])}}]
    else:
        assert "The word is heron." in sent(fakes[dialect])


async def test_what_a_file_is_its_bytes_say_and_not_its_name(fakes: dict[str, FakeProvider], host: Host) -> None:
    host.files = {"img": File(PNG, filename="a.pdf", media_type="application/pdf")}
    async with gateway_of(fakes, "anthropic", host.read) as gateway:
        await say(gateway, message(by_id("img", filename="b.txt")))

    assert parts_of(fakes["anthropic"])[0]["source"]["media_type"] == "image/png"


async def test_what_the_upstream_cannot_take_of_any_kind_is_refused_by_its_own_rules(
    fakes: dict[str, FakeProvider], host: Host
) -> None:
    async with gateway_of(fakes, "anthropic", host.read) as gateway:
        caller = await say(gateway, message(by_id("zip")))

    assert (caller.status, json.loads(caller.content)["error"]["param"]) == (400, "input[0].content[1]")


# Where they stand...


@each_dialect
async def test_files_in_the_outputs_of_tools_are_read_too(
    fakes: dict[str, FakeProvider], host: Host, dialect: str
) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    custom = {"type": "custom_tool_call", "call_id": "c2", "name": "look", "input": "x"}
    output = {"type": "function_call_output", "call_id": "c1", "output": [by_id("img", "input_image")]}
    other = {"type": "custom_tool_call_output", "call_id": "c2", "output": [by_id("note", "input_file")]}
    async with gateway_of(fakes, dialect, host.read) as gateway:
        assert (await say(gateway, message(), call, custom, output, other)).status == 200

    assert encoded(PNG) in sent(fakes[dialect])
    assert "heron" in sent(fakes[dialect]) or encoded(FILES["note"]) in sent(fakes[dialect])


async def test_a_screenshot_by_id_is_read_too(fakes: dict[str, FakeProvider], host: Host) -> None:
    output = {"type": "computer_screenshot", "file_id": "img"}
    async with gateway_of(fakes, "chat", host.read) as gateway:
        await say(gateway, message(), {"type": "computer_call_output", "call_id": "c", "output": output})

    assert encoded(PNG) in sent(fakes["chat"])


@each_dialect
@pytest.mark.parametrize("place", ["previous_response_id", "conversation"])
async def test_a_file_of_an_earlier_turn_is_read_again_for_whichever_upstream_comes_next(
    fakes: dict[str, FakeProvider], host: Host, dialect: str, place: str
) -> None:
    def policy(request: RoutingRequest) -> Target:
        return Target("first" if request.previous is None and "again" not in request.metadata else dialect)

    providers = [Provider("first", fakes["responses"].base_url), provider_of(fakes, dialect)]
    model = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro-preview"}.get(dialect, "m")
    async with Gateway(providers=providers, policy=policy, files=host.read) as gateway:
        goes_on: Json = {}
        if place == "conversation":
            made = await ask(gateway, {"metadata": {"again": "1"}}, path="/v1/conversations")
            goes_on = {place: json.loads(made.content)["id"]}
        first = json.loads((await say(gateway, message(by_id("img", "input_image")), model=model, **goes_on)).content)
        goes_on = goes_on or {place: first["id"]}
        caller = await say(gateway, message(), model=model, metadata={"again": "1"}, **goes_on)

    assert caller.status == 200, caller.content
    assert encoded(PNG) in sent(fakes[dialect])
    assert encoded(PNG) not in fakes["responses"].requests[0].body.decode() if fakes["responses"].requests else True


# Who is not asked...


async def test_a_native_upstream_gets_the_clients_own_bytes(fakes: dict[str, FakeProvider], host: Host) -> None:
    body = b'{"model":"m","input":[{"role":"user","content":[{"type":"input_file","file_id":"doc"}]}]}'
    async with Gateway(providers=[Provider("up", fakes["responses"].base_url)], files=host.read) as gateway:
        assert (await ask(gateway, body)).status == 200

    assert host.asked == [] and b'[{"type":"input_file","file_id":"doc"}]' in fakes["responses"].requests[0].body


@pytest.mark.parametrize(
    ("dialect", "type", "part"),
    [
        ("chat", "openai", {"type": "input_image", "image_url": "https://a.example/b.png"}),
        ("chat", "openai", {"type": "input_file", "file_id": "file-abc"}),
        ("chat", "openrouter", {"type": "input_file", "file_url": "https://a.example/b.pdf"}),
        ("anthropic", "anthropic", {"type": "input_image", "image_url": "https://a.example/b.png"}),
        ("anthropic", "anthropic", {"type": "input_file", "file_url": "https://a.example/b.pdf"}),
        ("anthropic", "anthropic", {"type": "input_file", "file_id": "file_011CNha8iCJcU1wXNR6q4V8w"}),
        ("gemini", "gemini", {"type": "input_file", "file_url": "https://a.example/b.pdf"}),
        ("gemini", "gemini", {"type": "input_file", "file_id": "https://files.test/v1beta/files/f1"}),
        ("chat", "openai", {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}),
        ("chat", "openai", {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "file_id": "x"}),
    ],
)
def test_what_the_upstream_reads_itself_stays_as_it_is(dialect: str, type: str, part: Json) -> None:
    assert unread(dialect, type, part) == []


@pytest.mark.parametrize(
    ("dialect", "type", "part"),
    [
        ("chat", "openai", {"type": "input_image", "file_id": "file-abc"}),
        ("chat", "openai", {"type": "input_file", "file_id": "the-host-s-own"}),
        ("chat", "openai", {"type": "input_file", "file_url": "https://a.example/b.pdf"}),
        ("chat", "vllm", {"type": "input_file", "file_id": "file-abc"}),
        ("chat", "deepseek", {"type": "input_file", "file_id": "file-abc"}),
        ("anthropic", "anthropic", {"type": "input_file", "file_id": "file-abc"}),
        ("anthropic", "anthropic", {"type": "input_file", "file_url": "https://a.example/b.csv?x=1"}),
        ("gemini", "gemini", {"type": "input_image", "file_id": "file-abc"}),
    ],
)
def test_what_the_upstream_cannot_read_is_asked_for(dialect: str, type: str, part: Json) -> None:
    assert len(unread(dialect, type, part)) == 1


def unread(dialect: str, type: str, part: Json) -> list[Named]:
    call = Call("create", {"model": "m", "input": [message(part)]}, "m", False, "p", type)
    reads: Any = built_in(dialect).reads_file  # type: ignore[attr-defined]
    return [named for named in named_in(call.body) if not reads(call, named)]


async def test_without_files_of_the_hosts_the_refusal_names_the_way_out(fakes: dict[str, FakeProvider]) -> None:
    async with gateway_of(fakes, "chat", None) as gateway:
        caller = await say(gateway, message(by_id("img", "input_image")))

    error = json.loads(caller.content)["error"]
    assert (caller.status, error["param"]) == (400, "input[0].content[1].file_id")
    assert "Gateway(files=" in error["message"]


# How the host is asked...


async def test_the_host_is_told_what_is_named_and_who_asks(fakes: dict[str, FakeProvider], host: Host) -> None:
    gateway = gateway_of(fakes, "chat", host.read, tenant=lambda scope: "ann")
    async with gateway:
        await say(gateway, message({"type": "input_file", "file_url": "https://a.example/doc", "filename": "a.pdf"}))

    assert host.asked == [FileReference(None, "https://a.example/doc", "a.pdf")]
    assert host.tenants == ["ann"]


async def test_each_file_is_read_once_however_often_it_is_named(fakes: dict[str, FakeProvider], host: Host) -> None:
    async with gateway_of(fakes, "gemini", host.read) as gateway:
        await say(gateway, message(by_id("img"), by_id("img", "input_image"), by_id("doc")), message(by_id("img")))

    assert [reference.file_id for reference in host.asked] == ["img", "doc"]
    assert sent(fakes["gemini"]).count(encoded(PNG)) == 3


async def test_only_a_few_files_are_read_at_a_time(fakes: dict[str, FakeProvider]) -> None:
    at_work = most = 0

    async def read(reference: FileReference, request: RoutingRequest) -> bytes:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        at_work -= 1
        return PNG

    async with gateway_of(fakes, "gemini", read) as gateway:
        assert (await say(gateway, message(*(by_id(f"img{at}") for at in range(20))))).status == 200

    assert 1 < most <= 4


async def test_a_plain_function_runs_in_a_thread(fakes: dict[str, FakeProvider], host: Host) -> None:
    async with gateway_of(fakes, "gemini", host.found) as gateway:
        assert (await say(gateway, message(by_id("img")))).status == 200

    assert host.threads and threading.get_ident() not in host.threads


async def test_a_fallback_uses_what_was_read_and_only_who_needs_a_file_has_it_read(
    fakes: dict[str, FakeProvider], host: Host
) -> None:
    fakes["responses"].fail_next(Status(503))
    fakes["gemini"].fail_next(Status(503))
    native = Provider("native", fakes["responses"].base_url)
    providers = [native, provider_of(fakes, "gemini"), provider_of(fakes, "anthropic")]

    def policy(request: RoutingRequest) -> Target:
        others = [Target("gemini", model="gemini-3-pro-preview"), Target("anthropic", model="claude-sonnet-4-5")]
        return Target("native", fallbacks=others)

    retries = Retries(per_target=1)
    async with Gateway(providers=providers, policy=policy, files=host.read, retries=retries) as gateway:
        caller = await say(gateway, message(by_id("img", "input_image")))

    assert caller.status == 200 and caller.headers["x-gomodel-provider"] == "anthropic"
    assert len(host.asked) == 1
    assert b"base64" not in fakes["responses"].requests[0].body
    assert encoded(PNG) in sent(fakes["gemini"]) and encoded(PNG) in sent(fakes["anthropic"])


async def test_an_upstream_that_answers_leaves_the_host_alone_whatever_its_fallbacks_need(
    fakes: dict[str, FakeProvider], host: Host
) -> None:
    providers = [Provider("native", fakes["responses"].base_url), provider_of(fakes, "gemini")]
    policy = lambda request: Target("native", fallbacks=[Target("gemini")])  # noqa: E731
    async with Gateway(providers=providers, policy=policy, files=host.read) as gateway:
        assert (await say(gateway, message(by_id("img")))).status == 200

    assert host.asked == []


# What goes wrong...


@pytest.mark.parametrize(
    ("found", "status", "code", "words"),
    [
        (None, 400, "file_not_found", "input[0].content[1].file_id"),
        (ToolError("That file has expired."), 400, "invalid_value", "That file has expired."),
        (Denied("Not yours."), 403, None, "Not yours."),
    ],
)
async def test_what_the_host_has_not_or_refuses_is_said_to_the_client(
    fakes: dict[str, FakeProvider], host: Host, found: Any, status: int, code: str | None, words: str
) -> None:
    host.files = {"x": found}
    async with gateway_of(fakes, "gemini", host.read) as gateway:
        caller = await say(gateway, message(by_id("x")))

    error = json.loads(caller.content)["error"]
    assert (caller.status, caller.raised) == (status, None)
    assert words in error["message"] and (code is None or error["code"] == code)
    assert fakes["gemini"].requests == []
    if status == 400:
        assert error["param"] == "input[0].content[1].file_id"


@pytest.mark.parametrize("found", [OSError("disk /dev/canary"), "a string", 7])
async def test_a_fault_of_the_hosts_is_told_to_the_host_alone(
    fakes: dict[str, FakeProvider], host: Host, found: Any
) -> None:
    host.files = {"x": found}
    async with gateway_of(fakes, "gemini", host.read) as gateway:
        caller = await say(gateway, message(by_id("x"), by_id("img")))

    assert caller.status == 500 and b"canary" not in caller.content
    assert isinstance(caller.raised, OSError if isinstance(found, OSError) else TypeError)


async def test_a_host_that_does_not_answer_in_time_is_a_504(fakes: dict[str, FakeProvider]) -> None:
    cancelled: list[str | None] = []

    async def read(reference: FileReference, request: RoutingRequest) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(reference.file_id)

    async with gateway_of(fakes, "gemini", read, timeouts=Timeouts(tool=0.05)) as gateway:
        caller = await say(gateway, message(by_id("img")))

    error = json.loads(caller.content)["error"]
    assert (caller.status, error["code"], error["param"]) == (504, "file_timeout", "input[0].content[1].file_id")
    assert cancelled == ["img"]


async def test_one_failure_ends_the_reading_of_the_others(fakes: dict[str, FakeProvider]) -> None:
    ended: list[str] = []

    async def read(reference: FileReference, request: RoutingRequest) -> None:
        if reference.file_id == "gone":
            return await anyio.lowlevel.checkpoint()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(str(reference.file_id))

    async with gateway_of(fakes, "gemini", read) as gateway:
        caller = await say(gateway, message(by_id("img"), by_id("gone"), by_id("doc")))

    assert caller.status == 400 and sorted(ended) == ["doc", "img"]


@pytest.mark.parametrize("count", [1, 3])
async def test_all_that_is_sent_keeps_to_the_limit_of_a_body(fakes: dict[str, FakeProvider], count: int) -> None:
    async def read(reference: FileReference, request: RoutingRequest) -> bytes:
        return PDF + b" " * (4000 // count)

    parts = [by_id(f"doc{at}") for at in range(count)]
    async with gateway_of(fakes, "gemini", read, limits=Limits(body=4000)) as gateway:
        caller = await say(gateway, message(*parts))
        smaller = await say(gateway, message(parts[0])) if count > 1 else None

    error = json.loads(caller.content)["error"]
    assert (caller.status, error["code"]) == (400, "file_too_large")
    assert error["param"].endswith("].file_id")
    assert smaller is None or smaller.status == 200


@each_dialect
async def test_a_request_that_names_very_many_files_is_refused_before_any_is_read(
    fakes: dict[str, FakeProvider], host: Host, dialect: str
) -> None:
    async with gateway_of(fakes, dialect, host.read) as gateway:
        caller = await say(gateway, message(*(by_id(f"f{number}", "input_image") for number in range(MOST + 1))))

    error = json.loads(caller.content)["error"]
    assert (caller.status, error["code"], error["param"]) == (400, "too_many_items", "input")
    assert host.asked == []


async def test_what_stands_before_the_clients_own_input_is_named_as_what_continues_it(
    fakes: dict[str, FakeProvider], host: Host
) -> None:
    async with gateway_of(fakes, "gemini", host.read) as gateway:
        first = json.loads((await say(gateway, message(by_id("img")))).content)
        host.files = {}
        caller = await say(gateway, message(), previous_response_id=first["id"])

    error = json.loads(caller.content)["error"]
    assert (caller.status, error["param"]) == (400, "previous_response_id")


def test_files_must_be_a_function(fakes: dict[str, FakeProvider]) -> None:
    with pytest.raises(TypeError, match="files: give a function"):
        gateway_of(fakes, "chat", "files")


# What bytes say...


def office(folder: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr(f"{folder}/a.xml", "<x/>")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypisom", "video/mp4"),
        (PDF, "application/pdf"),
        (office("word"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (office("xl"), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (office("other"), "application/zip"),
        ("grüße".encode(), "text/plain"),
        ("grüße".encode("utf-16"), "text/plain"),
        ("\ufeffgrüße".encode(), "text/plain"),
        (b"", "text/plain"),
        (b"\0\1\2", "application/octet-stream"),
        ("grüße".encode("latin-1"), "application/octet-stream"),
    ],
)
def test_the_media_type_is_what_the_bytes_begin_like(data: bytes, media_type: str) -> None:
    assert sniffed(data) == media_type


# Native upstreams that keep nothing...


@pytest.mark.parametrize("normalize", [False, True])
async def test_a_native_upstream_that_keeps_nothing_gets_the_bytes_of_what_is_named_by_id(
    fakes: dict[str, FakeProvider], host: Host, normalize: bool
) -> None:
    provider = Provider("vllm", fakes["responses"].base_url, stateful=False, normalize=normalize)
    url = {"type": "input_image", "image_url": "https://a.example/b.png"}
    async with Gateway(providers=[provider], files=host.read) as gateway:
        assert (
            await say(gateway, message(by_id("img", "input_image", detail="low"), by_id("note"), url))
        ).status == 200

    _, image, note, last = fakes["responses"].requests[-1].json()["input"][0]["content"]
    assert image == {"detail": "low", "type": "input_image", "image_url": f"data:image/png;base64,{encoded(PNG)}"}
    assert note["type"] == "input_text" and "heron" in note["text"] and last == url


async def test_a_lenient_upstream_is_told_of_hosted_tools_in_messages(fakes: dict[str, FakeProvider]) -> None:
    provider = Provider("vllm", fakes["responses"].base_url, stateful=False, normalize=True)
    search = {
        "type": "web_search_call",
        "id": "ws",
        "status": "completed",
        "action": {"type": "search", "query": "cats"},
    }
    listed = {"type": "mcp_list_tools", "id": "mcpl", "server_label": "crm", "tools": []}
    async with Gateway(providers=[provider]) as gateway:
        assert (await say(gateway, message(), search, listed, message())).status == 200

    items = fakes["responses"].requests[-1].json()["input"]
    assert [item.get("role") for item in items] == ["user", "assistant", "user"]
    assert "cats" in items[1]["content"][0]["text"]


async def test_any_other_native_upstream_gets_the_items_of_hosted_tools_as_they_are(
    fakes: dict[str, FakeProvider],
) -> None:
    search = {
        "type": "web_search_call",
        "id": "ws",
        "status": "completed",
        "action": {"type": "search", "query": "cats"},
    }
    async with Gateway(providers=[Provider("up", fakes["responses"].base_url)]) as gateway:
        assert (await say(gateway, message(), search, message())).status == 200

    assert fakes["responses"].requests[-1].json()["input"][1] == search
