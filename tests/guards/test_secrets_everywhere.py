"""A secret in whatever place of a request or a reply holds text is found nowhere once a guard has taken it out: not
upstream, not at the client, not in a store, the cache, the ledger, a log, a span, a record or the console.

The places are those of the gateway's own schema and of openai's types, so that a member they get is a place at once.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import typing
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from openai.types.responses import Response, ResponseOutputItem, ResponseStreamEvent, response_create_params
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import TypeAdapter

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.console import Console
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver
from gomodel_asgi.guards import Block, Guard, Replace, Texts
from gomodel_asgi.ledger import Content, JsonLines, Ledger, SqlLedger, metadata
from gomodel_asgi.observers import LoggingObserver
from gomodel_asgi.schema import ResponsesRequest
from gomodel_asgi.stores import MemoryStore, Store
from gomodel_asgi.testing import Answer, FakeProvider, Reply, Status, ToolCall

from ..support.console import HTML, WHOLE, data, look
from ..support.driving import Caller, ask
from ..support.engines import open_atomic, postgres_server, redis_server
from ..support.filling import every, members_of
from ..support.lab import ONCE
from ..support.ledgers import sqlite_engine
from ..support.seen import Seen, texts

__all__ = ["open_atomic", "postgres_server", "redis_server"]

KEY = re.compile(r"sk-\d{6}")
SETTINGS = frozenset({
    "model", "stream", "stream_options", "store", "background", "background_options", "previous_response_id",
    "conversation", "include", "truncation", "reasoning", "context_management", "service_tier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "user", "stream_id", "generate", "provider",
})  # fmt: skip
"""Members of a request that are choices among words of the API, and names of things and of people."""
NAMES = frozenset({
    "type", "id", "call_id", "item_id", "file_id", "container_id", "response_id", "approval_request_id", "skill_id",
    "vector_store_id", "server_label", "model", "version", "phase", "status", "detail", "code", "param",
})  # fmt: skip
"""Members that tell things apart."""
CREDENTIALS = frozenset({"authorization", "headers", "server_url", "domain_secrets"})
"""What is for a server of tools alone: no guard is shown it, and no model."""
BYTES = frozenset({"file_data", "result", "data", "partial_image_b64", "encrypted_content", "obfuscation"})
BARE = NAMES | BYTES

TOOLS = ("tools", "tool_choice")
"""The tools in these have names by which they are called."""


class Secrets:
    """A secret of its own for each text, and where it stood."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}
        self.place = ""
        self.bare: frozenset[str] = BARE

    def __call__(self, *path: str) -> str:
        if path[-1] in self.bare or not CREDENTIALS.isdisjoint(path):
            return "x"
        key = f"sk-{len(self.where):06d}"
        self.where[key] = f"{self.place}: {'.'.join(path)}"
        return f"say {key} now"

    def inside(self, place: str, bare: frozenset[str] = BARE) -> Secrets:
        self.place, self.bare = place, bare
        return self

    def found(self, data: bytes | str) -> set[str]:
        """Where those secrets stood that are in *data*, in clear or in base64."""
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        text += "".join(map(decoded, re.findall(r"[A-Za-z0-9+/_-]{16,}", text)))
        return {self.where[key] for key in KEY.findall(text)}


def decoded(text: str) -> str:
    text = text.replace("-", "+").replace("_", "/")
    return base64.b64decode(text[: len(text) // 4 * 4]).decode("utf-8", "replace")


def test_what_is_packed_is_found_too() -> None:
    secrets = Secrets().inside("here")
    packed = base64.urlsafe_b64encode(json.dumps({"a": secrets("text")}).encode()).decode().rstrip("=")
    assert secrets.found(f'"gm1.{packed}"') == {"here: text"} == secrets.found("sk-000000")


async def mask(given: Texts) -> Replace:
    return Replace(tuple(KEY.sub("[key]", text) for text in given.texts))


async def refuse(given: Texts) -> Block | None:
    return Block("No keys here.") if any(map(KEY.search, given.texts)) else None


# What a request says...


def bodies(secrets: Secrets) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that have among them a secret in each text that a request can hold."""
    known = members_of(response_create_params.ResponseCreateParamsNonStreaming)
    others = [name for name in ResponsesRequest.model_fields if name not in known]
    hello = {"model": "m", "input": "Hello", "store": False}
    for name in [*others, "a_member_of_tomorrow"]:
        if name not in SETTINGS:
            secrets.inside(name, frozenset())
            yield (
                name,
                hello | {name: {"deep": [{"text": secrets("text"), "headers": secrets("heading"), "type": "x"}]}},
            )
            yield name, hello | {name: secrets("itself")}
    for name, kind in known.items():
        if name in SETTINGS:
            continue
        secrets.inside(name, BARE | {"name"} if name in TOOLS else BARE)
        for value in every(kind, secrets, name):
            for one in value if isinstance(value, list) else [value]:
                yield name, hello | {name: [one] if isinstance(value, list) else one}
    secrets.inside("a kind of item of tomorrow", frozenset({"type", "id"}))
    item = {"type": "of_tomorrow", "id": "x", "model": secrets("model"), "deep": [{"name": secrets("name")}]}
    yield "item", hello | {"input": [item, {"role": "user", "content": secrets("content")}]}
    secrets.inside("named by others", frozenset())
    odd = {name: secrets(name) for name in ("signature", "authorized", "format", "id")}
    properties = {name: {"description": secrets("described", name, "so")} for name in ("name", "id", "signature")}
    properties["headers"] = {"description": secrets("described")}
    schema = {"type": "object", "properties": properties}
    yield "metadata", hello | {"metadata": odd}
    yield "schema", hello | {"tools": [{"type": "function", "name": "f", "parameters": schema, "strict": False}]}
    yield "data", hello | {"input": f"data: {secrets('behind a colon')}"}
    yield "data", hello | {"input": [{"role": "user", "content": f"data:text/plain,{secrets('like a URL')}"}]}


DIALECTS = ["native", "lenient", "chat", "anthropic", "gemini"]


def house_of(upstream: FakeProvider, dialect: str) -> Provider:
    return Provider("house", upstream.base_url, dialect=upstream.dialect, normalize=dialect == "lenient")


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def upstream(dialect: str) -> Iterator[FakeProvider]:
    kind: Any = "responses" if dialect in ("native", "lenient") else dialect
    with FakeProvider(dialect=kind).run_in_thread() as running:
        yield running


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_text_of_a_request_reaches_an_upstream_unseen(upstream: FakeProvider, dialect: str) -> None:
    secrets, seen, refused, sent = Secrets(), Seen(), [], 0
    guards = [Guard("keys", input=mask)]
    async with Gateway(
        providers=[house_of(upstream, dialect)], guards=guards, retries=ONCE, observers=[seen], public=True
    ) as gateway:
        for name, body in bodies(secrets):
            upstream.clear()
            caller = await ask(gateway, body)
            assert caller.raised is None, (name, body)
            assert not secrets.found(caller.content)
            if caller.status != 200:
                refused.append(name)
            for request in upstream.requests:
                sent += request.body.count(b"[key]")
                assert not secrets.found(request.body), name
    assert not secrets.found(texts(seen.records))
    assert len(secrets.where) > 250 and sent > (300 if dialect in ("native", "lenient") else 5)
    if dialect in ("native", "lenient"):
        assert not refused


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_text_of_a_request_that_is_refused_reaches_no_upstream(upstream: FakeProvider, dialect: str) -> None:
    secrets, seen = Secrets(), Seen()
    guards = [Guard("keys", input=refuse)]
    async with Gateway(
        providers=[house_of(upstream, dialect)], guards=guards, retries=ONCE, observers=[seen], public=True
    ) as gateway:
        for name, body in bodies(secrets):
            caller = await ask(gateway, body)
            if KEY.search(json.dumps(body)):
                assert (caller.status, caller.error["code"]) == (400, "content_blocked"), (name, body)
            assert not secrets.found(caller.content)
    assert not any(KEY.search(request.body.decode()) for request in upstream.requests)
    assert not secrets.found(texts(seen.records))


# What a reply says...

EVENTS: tuple[Any, ...] = typing.get_args(typing.get_args(ResponseStreamEvent)[0])
ITEMS: tuple[Any, ...] = typing.get_args(typing.get_args(ResponseOutputItem)[0])
ECHOED = frozenset(members_of(response_create_params.ResponseCreateParamsNonStreaming))
"""What of a response the request has said; but for these all of it is the reply's own."""
OWN = [name for name in members_of(Response) if name not in ECHOED and name not in NAMES]
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")
SOUND = ("response.audio.delta",)


def response_of(status: str, output: list[Any] | None = None, **members: Any) -> dict[str, Any]:
    known = {"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "m", "error": None}
    return known | {"output": output or []} | members


def streamed(*events: dict[str, Any]) -> Reply:
    """A native stream of *events*, with a beginning and an end where they have none."""
    whole = [{"type": "response.created", "response": response_of("in_progress")}, *events]
    if whole[-1]["type"] not in ENDS:
        whole.append({"type": "response.completed", "response": response_of("completed")})
    lines = [
        f"event: {one['type']}\ndata: {json.dumps(one | {'sequence_number': at})}\n\n" for at, one in enumerate(whole)
    ]
    return Reply("".join(lines), content_type="text/event-stream")


def replies(secrets: Secrets) -> Iterator[tuple[str, bool, Reply]]:
    """Native replies that have among them a secret in each text that one can hold; whether each is a stream."""
    for kind in ITEMS:
        secrets.inside(kind.__name__)
        for item in every(kind, secrets):
            yield kind.__name__, False, Reply(response_of("completed", [item]))
            there = {"output_index": 0, "item": item}
            added, done = (
                {"type": "response.output_item.added", **there},
                {"type": "response.output_item.done", **there},
            )
            end = {"type": "response.completed", "response": response_of("completed", [item])}
            yield kind.__name__, True, streamed(added, done, end)
    for kind in EVENTS:
        secrets.inside(kind.__name__)
        for event in every(kind, secrets):
            if event["type"] in SOUND:
                continue
            if "response" in event:
                own = {name: value for name, value in event["response"].items() if name in OWN}
                status = event["type"].partition(".")[2]
                event["response"] = response_of(status) | own | {"of_tomorrow": [secrets("tomorrow")]}
            yield kind.__name__, True, streamed(event)
    secrets.inside("another object")
    yield (
        "object",
        False,
        Reply({"object": "chat.completion", "choices": [{"message": {"content": secrets("content")}}]}),
    )
    yield "object", False, Reply({"object": "response", "output": secrets("output")})
    yield "event", True, streamed({"type": "of.tomorrow", "said": {"deep": [secrets("said")]}})
    yield "event", True, streamed({"type": "response.of_tomorrow.delta", "delta": {"text": secrets("delta")}})
    secrets.inside("an error")
    error = {
        "message": secrets("message"),
        "type": "x",
        "code": "c",
        "param": None,
        "failed_generation": secrets("said"),
    }
    yield "error", False, Reply({"error": error}, status=400)
    yield "error", True, Reply({"error": error}, status=400)
    begun = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "item_id": "x",
        "delta": "So, ",
    }
    flat = {"type": "error", "code": "c", "message": secrets("flat"), "param": None}
    for failure in ({"type": "error", "error": error}, flat):
        yield "error", True, streamed(failure)
        yield "error", True, streamed(begun, failure)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("lenient", "hold"), [(False, 40), (True, "all")])
async def test_no_text_of_a_reply_leaves_unseen(provider: FakeProvider, lenient: bool, hold: Any) -> None:
    secrets, told = Secrets(), 0
    house = house_of(provider, "lenient" if lenient else "native")
    async with Gateway(
        providers=[house], guards=[Guard("keys", output=mask, hold=hold)], retries=ONCE, public=True
    ) as gateway:
        for name, stream, reply in replies(secrets):
            provider.script(reply)
            caller = await ask(gateway, {"model": "m", "input": "Hello", "store": False, "stream": stream})
            assert caller.raised is None, name
            assert not secrets.found(caller.content), name
            told += caller.content.count(b"[key]")
    assert len(secrets.where) > 500 and told > 500


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_refused_text_of_a_reply_does_not_leave(provider: FakeProvider) -> None:
    secrets = Secrets()
    guards = [Guard("keys", output=refuse, hold=40)]
    async with Gateway(providers=[house_of(provider, "native")], guards=guards, retries=ONCE, public=True) as gateway:
        for name, stream, reply in replies(secrets):
            provider.script(reply)
            caller = await ask(gateway, {"model": "m", "input": "Hello", "store": False, "stream": stream})
            assert not secrets.found(caller.content), name


SAYING = "I say {} and no more of it, as was agreed."


def answer(secrets: Secrets) -> Answer:
    secrets.inside("an answer", frozenset())
    call = ToolCall("look", {"at": secrets("arguments")})
    return Answer(reasoning=secrets("reasoning"), text=SAYING.format(secrets("text")), calls=(call,))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("hold", [40, "all"])
@pytest.mark.parametrize("refusal", [False, True])
async def test_no_dialect_says_what_a_guard_has_taken_out(
    upstream: FakeProvider, dialect: str, stream: bool, hold: Any, refusal: bool
) -> None:
    secrets = Secrets()
    said = Answer(refusal=secrets.inside("a refusal")("refusal")) if refusal else answer(secrets)
    upstream.script(said)
    body = {
        "model": "claude-sonnet-4-6" if dialect == "anthropic" else "gemini-3-flash-preview",
        "input": "Hello",
        "store": False,
        "stream": stream,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}],
    }
    if dialect not in ("native", "lenient", "chat"):
        body["include"] = ["reasoning.encrypted_content"]
    guards = [Guard("keys", output=mask, hold=hold)]
    async with Gateway(providers=[house_of(upstream, dialect)], guards=guards, retries=ONCE, public=True) as gateway:
        caller = await ask(gateway, body)
        assert caller.status == 200 and not secrets.found(caller.content)
        response = caller.events()[-1]["response"] if stream else caller.json()
        assert response["status"] in ("completed", "incomplete")
        # Its reply can be sent back, and says no more then.
        items = [{"role": "user", "content": "Hello"}, *response["output"]]
        called = [item["call_id"] for item in response["output"] if item["type"] == "function_call"]
        items += [{"type": "function_call_output", "call_id": id, "output": "seen"} for id in called]
        again = await ask(gateway, body | {"input": [*items, {"role": "user", "content": "And?"}]})
    assert again.status == 200, again.content
    assert not any(secrets.found(request.body) for request in upstream.requests)


# Where a match is cut...

TEXT = "Take sk-123456 now, it is yours and yours alone for all that I care."
MEMBERS = {
    "ResponseFunctionCallArgumentsDeltaEvent": "arguments", "ResponseMcpCallArgumentsDeltaEvent": "arguments",
    "ResponseCustomToolCallInputDeltaEvent": "input", "ResponseCodeInterpreterCallCodeDeltaEvent": "code",
    "ResponseRefusalDeltaEvent": "refusal", "ResponseShellCallCommandDeltaEvent": "command",
}  # fmt: skip
EVENT = TypeAdapter[Any](ResponseStreamEvent)
DELTAS = [kind for kind in EVENTS if members_of(kind).get("delta") is str]


def cut(kind: Any, pieces: list[str]) -> Reply:
    """A stream whose deltas of this *kind* are *pieces*."""
    (made,) = every(kind, lambda *path: "")[:1]
    there = {name: value for name, value in made.items() if name.endswith("_index") or name == "item_id"}
    there |= {name: 0 for name in there if name.endswith("_index")}
    deltas = [{"type": made["type"], **there, "delta": piece} for piece in pieces]
    member = MEMBERS.get(kind.__name__, "text")
    done = {"type": made["type"].removesuffix("delta") + "done", **there, member: "".join(pieces)}
    return streamed(*deltas, done)


def cuts() -> list[list[str]]:
    """*TEXT* cut in two at each place, in three around the key, into single characters, and in one piece."""
    ends = [[TEXT[:at], TEXT[at:]] for at in range(1, 30)]
    return [*ends, [TEXT[:6], TEXT[6:10], TEXT[10:]], [*TEXT], [TEXT]]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", [kind for kind in DELTAS if kind.__name__ != "ResponseAudioDeltaEvent"])
async def test_a_match_is_found_wherever_the_events_cut_it(provider: FakeProvider, kind: Any) -> None:
    masked, refused = KEY.sub("[key]", TEXT), 0
    house = house_of(provider, "native")
    options: Any = {"providers": [house], "retries": ONCE, "public": True}
    body = {"model": "m", "input": "Hello", "store": False, "stream": True}
    async with (
        Gateway(guards=[Guard("keys", output=mask, hold=20)], **options) as masking,
        Gateway(guards=[Guard("keys", output=refuse, hold=20)], **options) as refusing,
    ):
        for pieces in cuts():
            provider.script(cut(kind, pieces))
            events = (await ask(masking, body)).events()
            deltas = [event["delta"] for event in events if event["type"].endswith(".delta")]
            assert "".join(deltas) == masked, pieces
            assert masked in json.dumps([event for event in events if event["type"].endswith(".done")])
            assert "123456" not in json.dumps(events)
            provider.script(cut(kind, pieces))
            events = (await ask(refusing, body)).events()
            said = "".join(event["delta"] for event in events if event["type"].endswith(".delta"))
            assert "Take ".startswith(said) and "sk-" not in json.dumps(events), pieces
            assert events[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}
            for event in events:
                assert "response" in event or EVENT.validate_python(event, strict=False)
            refused += 1
    assert refused == len(cuts())


# Where it would lie...


class Witness:
    """All that a gateway keeps and tells of requests."""

    def __init__(self, folder: Path, store: Store, kind: str) -> None:
        self.folder, self.store, self.kind = folder, store, kind
        self.seen, self.spans = Seen(), InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.observers: list[Any] = [self.seen, OpenTelemetryObserver(tracers), LoggingObserver()]
        self.engine = sqlite_engine(folder / "ledger.sqlite3")

    async def ledger(self) -> Ledger:
        content = Content(lambda request: True, key=None)
        if self.kind == "json":
            return Ledger(JsonLines(self.folder / "ledger.jsonl"), content=content)
        return Ledger(SqlLedger(self.engine), content=content)

    async def all(self, store: Store, log: str) -> dict[str, str]:
        """What is kept and told, in clear."""
        kept = []
        for collection in ("owners", "turns", "items", "conversations", "events", "cached", "compactions", "usage"):
            async with aclosing(store.scan(collection)) as keys:
                async for key in keys:
                    record = await store.get(collection, key)
                    kept.append(f"{collection} {key} " + ("" if record is None else record.value.decode("latin-1")))
        rows = "".join(path.read_bytes().decode("latin-1") for path in self.folder.iterdir())
        async with self.engine.connect() as connection:
            for table in metadata.tables.values() if self.kind == "sql" else ():
                rows += "".join(repr(row) for row in await connection.execute(sql.select(table)))
        await self.engine.dispose()
        spans = "".join(span.to_json() for span in self.spans.get_finished_spans())
        return {
            "store": "\n".join(kept),
            "ledger": rows,
            "spans": spans,
            "records": texts(self.seen.records),
            "log": log,
        }


async def talked(gateway: Gateway, upstream: FakeProvider, secrets: Secrets) -> list[Caller]:
    """Requests of every kind that leave something behind."""

    def asking(**members: Any) -> dict[str, Any]:
        secrets.inside("a request", frozenset())
        said = {"role": "user", "content": [{"type": "input_text", "text": secrets("input")}]}
        return {"model": "m", "instructions": secrets("instructions"), "input": [said], **members}

    async def said(body: dict[str, Any]) -> Caller:
        upstream.script(answer(secrets))
        return await ask(gateway, body, tenant="acme", headers=[(b"content-type", b"application/json")])

    look = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
    found = [await said(asking(stream=stream, tools=[look])) for stream in (False, True)]
    conversation = await ask(
        gateway, {"items": [{"role": "user", "content": secrets("item")}]}, path="/v1/conversations"
    )
    found += [conversation, await said(asking(conversation=conversation.json()["id"]))]
    found.append(await said(asking(previous_response_id=found[0].json()["id"], metadata={"a": secrets("metadata")})))
    kept = asking(store=False, tools=[look])
    found += [await said(kept | {"stream": stream}) for stream in (False, True)]
    upstream.clear()
    upstream.fail_next(Status(400))
    found.append(await ask(gateway, asking(store=False)))
    work = await said(asking(background=True))
    found.append(work)
    path = f"/v1/responses/{work.json()['id']}"
    for _ in range(500):
        shown = await ask(gateway, path=path, method="GET", headers=())
        if shown.json()["status"] not in ("queued", "in_progress"):
            break
    assert shown.json()["status"] == "completed"
    found += [shown, await ask(gateway, path=path + "/input_items", method="GET", headers=())]
    found.append(await ask(gateway, path=path, query=b"stream=true", method="GET", headers=()))
    return found


async def shown(console: Console) -> str:
    """All pages of *console*, those of each request among them."""
    listed = (await data(console, "/"))["exchanges"]
    assert listed
    paths = ["/", "/providers", "/costs", "/tools", *(f"/requests/{one['id']}" for one in listed)]
    pages = [await look(console, path, accept=HTML) for path in paths]
    assert {page.status for page in pages} == {200}
    return "".join(page.content.decode() for page in pages)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["responses", "chat", "anthropic"])
async def test_what_a_guard_takes_out_lies_nowhere(
    open_atomic: Any, kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets, witness = Secrets(), Witness(tmp_path, open_atomic(), "sql" if kind == "chat" else "json")
    ledger = await witness.ledger()
    with FakeProvider(dialect=kind).run_in_thread() as upstream:
        async with Gateway(
            providers=[house_of(upstream, kind)],
            store=witness.store,
            guards=[Guard("keys", input=mask, output=mask, hold=40)],
            cache=ResponseCache(when=lambda request: True),
            ledger=ledger,
            observers=witness.observers,
            retries=ONCE,
            public=True,
        ) as gateway:
            console = Console(gateway, allow=lambda request: WHOLE)
            found = await talked(gateway, upstream, secrets)
            assert await ledger.flush()
            pages = await shown(console)
            if isinstance(witness.store, MemoryStore):
                kept = await witness.all(witness.store, caplog.text)
            sent = b"".join(request.body for request in upstream.requests)
    if not isinstance(witness.store, MemoryStore):
        left = open_atomic()
        kept = await witness.all(left, caplog.text)
        await left.aclose()
    assert [each.status for each in found].count(400) == 1
    assert not [where for caller in found for where in secrets.found(caller.content)]
    assert not secrets.found(sent) and not secrets.found(pages)
    for name, text in kept.items():
        assert text and not secrets.found(text), name
    assert "[key]" in kept["ledger"] + "".join(map(decoded, re.findall(r"[A-Za-z0-9+/]{16,}", kept["ledger"])))
