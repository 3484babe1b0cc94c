"""Native upstreams that keep nothing: the gateway keeps what they forget, as it does for translated ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, NoStore, Provider, providers
from gomodel_asgi.observers import Record, Warned
from gomodel_asgi.testing import Answer, FakeProvider, Reply, Status

from ..support.driving import TIMEOUT, Caller, ask, events_of

Json = dict[str, Any]

HELLO = {"model": "m", "input": "hi"}
STATE = {"previous_response_id", "conversation", "background"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["as it is", "read leniently"])
def normalize(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as fake:
        yield fake


@pytest.fixture
async def records() -> list[Record]:
    return []


@pytest.fixture
async def gateway(upstream: FakeProvider, normalize: bool, records: list[Record]) -> AsyncIterator[Gateway]:
    provider = Provider("vllm", upstream.base_url, stateful=False, normalize=normalize)
    async with Gateway(providers=[provider], tenant=tenant, observers=[records.append]) as made:
        yield made


def tenant(scope: Any) -> str | None:
    found = dict(scope["headers"]).get(b"x-tenant")
    return None if found is None else str(found.decode())


async def say(gateway: Gateway, path: str = "/v1/responses", *, who: str | None = None, **body: Any) -> Caller:
    headers = [(b"content-type", b"application/json"), *([] if who is None else [(b"x-tenant", who.encode())])]
    return await ask(gateway, {**HELLO, **body}, path=path, headers=headers)


async def look(gateway: Gateway, path: str, method: str = "GET", who: str | None = None) -> Caller:
    headers = [] if who is None else [(b"x-tenant", who.encode())]
    return await ask(gateway, path=path, method=method, headers=headers)


def response_of(caller: Caller) -> Json:
    assert caller.status == 200, caller.content
    streams = caller.headers["content-type"].startswith("text/event-stream")
    return events_of(caller.content)[-1]["response"] if streams else caller.json()  # type: ignore[no-any-return]


def sent(upstream: FakeProvider) -> Json:
    """The body of the last request; none has ever asked the upstream to keep anything."""
    for request in upstream.requests:
        body = request.json()
        assert not STATE & body.keys()
        assert "input_tokens" in request.path or "compact" in request.path or body["store"] is False
    return upstream.requests[-1].json()  # type: ignore[no-any-return]


def texts(items: list[Json]) -> list[str]:
    return [part["text"] for item in items for part in item.get("content", ())]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_what_goes_on_from_a_response_is_told_whole(
    gateway: Gateway, upstream: FakeProvider, stream: bool
) -> None:
    upstream.script(Answer(text="Heron."), Answer(text="Still heron."), Answer(text="Yes."))
    first = response_of(await say(gateway, input="The word?", stream=stream))
    second = response_of(await say(gateway, input="And now?", previous_response_id=first["id"], stream=stream))
    await say(gateway, input="Sure?", previous_response_id=second["id"], stream=stream)

    assert texts(sent(upstream)["input"]) == ["The word?", "Heron.", "And now?", "Still heron.", "Sure?"]


async def test_the_id_is_the_upstreams_and_its_bytes_pass(upstream: FakeProvider) -> None:
    given = {"id": "chosen", "object": "response", "status": "completed", "output": [], "temperature": 1.0, "x": 1e2}
    upstream.script(Reply(given))
    async with Gateway(providers=[Provider("vllm", upstream.base_url, stateful=False)], stamp=False) as gateway:
        caller = await say(gateway)
        assert caller.content == json.dumps(given).encode()
        assert (await look(gateway, "/v1/responses/chosen")).json() == given


async def test_a_response_is_retrieved_listed_and_deleted_here(gateway: Gateway, upstream: FakeProvider) -> None:
    upstream.script(Answer(text="Heron."))
    id = response_of(await say(gateway, input="The word?"))["id"]
    asked = len(upstream.requests)

    assert texts((await look(gateway, f"/v1/responses/{id}")).json()["output"]) == ["Heron."]
    assert texts((await look(gateway, f"/v1/responses/{id}/input_items")).json()["data"]) == ["The word?"]
    assert (await look(gateway, f"/v1/responses/{id}", "DELETE")).json()["deleted"] is True
    assert (await look(gateway, f"/v1/responses/{id}")).status == 404
    assert len(upstream.requests) == asked


async def test_a_conversation_is_kept_here(gateway: Gateway, upstream: FakeProvider) -> None:
    made = (await ask(gateway, {}, path="/v1/conversations")).json()
    upstream.script(Answer(text="Heron."), Answer(text="Still heron."))
    await say(gateway, input="The word?", conversation=made["id"])
    await say(gateway, input="And now?", conversation={"id": made["id"]})

    assert texts(sent(upstream)["input"]) == ["The word?", "Heron.", "And now?"]
    assert all("conversations" not in request.path for request in upstream.requests)


@pytest.mark.parametrize("place", ["previous_response_id", "conversation"])
async def test_an_upstream_is_told_again_all_that_it_was_given(
    gateway: Gateway, upstream: FakeProvider, place: str
) -> None:
    call = {"type": "shell_call", "id": "sh_1", "call_id": "c", "action": {"commands": ["ls"]}, "status": "completed"}
    output = {"type": "shell_call_output", "id": "sho_1", "call_id": "c", "output": [{"stdout": "a", "stderr": ""}]}
    picture = {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}], "type": "message", "id": "m1"}
    given = [{"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}, call, output, picture]
    goes_on = {}
    if place == "conversation":
        goes_on = {place: (await ask(gateway, {}, path="/v1/conversations")).json()["id"]}
    first = response_of(await say(gateway, input=given, **goes_on))
    await say(gateway, input="Go on.", **(goes_on or {place: first["id"]}))

    assert sent(upstream)["input"][: len(given)] == given


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_work_in_the_background_is_done_here_under_an_id_of_ours(
    gateway: Gateway, upstream: FakeProvider, stream: bool
) -> None:
    upstream.script(Answer(text="Heron."))
    begun = await say(gateway, background=True, stream=stream)
    assert begun.status == 200
    id = (begun.events()[0]["response"] if stream else begun.json())["id"]
    with anyio.fail_after(TIMEOUT):
        found: Json = {"status": "queued"}
        while found["status"] in ("queued", "in_progress"):
            await anyio.sleep(0.01)
            found = (await look(gateway, f"/v1/responses/{id}")).json()

    assert (found["id"], found["status"], texts(found["output"])) == (id, "completed", ["Heron."])
    assert sent(upstream)["stream"] is True


@pytest.mark.parametrize("kept", [True, False], ids=["store: false", "NoStore"])
async def test_nothing_is_kept_where_nothing_may_be(upstream: FakeProvider, kept: bool) -> None:
    options: Json = {} if kept else {"store": NoStore()}
    async with Gateway(providers=[Provider("vllm", upstream.base_url, stateful=False)], **options) as gateway:
        id = response_of(await say(gateway, store=not kept))["id"]
        refused = await say(gateway, previous_response_id=id)
        assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")
        assert (await look(gateway, f"/v1/responses/{id}")).status in (404, 501)
        assert len(upstream.requests) == 1


async def test_an_id_that_another_tenant_holds_is_not_given_a_second_owner(
    gateway: Gateway, upstream: FakeProvider, records: list[Record]
) -> None:
    given = {"id": "chosen", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": []}
    upstream.script(Reply(given), Reply(given))
    for who in ("acme", "other"):
        assert response_of(await say(gateway, who=who))["id"] == "chosen"

    assert (await look(gateway, "/v1/responses/chosen", who="acme")).status == 200
    assert (await look(gateway, "/v1/responses/chosen", who="other")).status == 404
    refused = await say(gateway, who="other", previous_response_id="chosen")
    assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")
    assert any(isinstance(record, Warned) for record in records)


async def test_what_an_item_refers_to_is_put_in_its_place(gateway: Gateway, upstream: FakeProvider) -> None:
    upstream.script(Answer(text="Heron."))
    item = response_of(await say(gateway))["output"][0]
    reference = {"type": "item_reference", "id": item["id"]}
    await say(gateway, input=[reference, {"role": "user", "content": "And now?"}])

    assert texts(sent(upstream)["input"][:1]) == ["Heron."]
    assert (await say(gateway, input=[{"type": "item_reference", "id": "msg_unknown"}])).status == 404


async def test_a_turn_keeps_what_its_items_refer_to_and_goes_on_when_the_referred_is_gone(
    gateway: Gateway, upstream: FakeProvider
) -> None:
    upstream.script(Answer(text="Heron."))
    first = response_of(await say(gateway))
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    second = response_of(await say(gateway, input=[reference, {"role": "user", "content": "And now?"}]))
    gone = await look(gateway, f"/v1/responses/{first['id']}", method="DELETE")
    await say(gateway, input="Sure?", previous_response_id=second["id"])

    assert gone.status == 200
    assert texts(sent(upstream)["input"])[:2] == ["Heron.", "And now?"]


async def test_a_policy_may_move_a_conversation_to_an_upstream_that_keeps_its_own(upstream: FakeProvider) -> None:
    known = [
        Provider("vllm", upstream.base_url, stateful=False, models=("small",)),
        Provider("openai", upstream.base_url, models=("big",)),
    ]
    upstream.script(Answer(text="Heron."), Answer(text="Still heron."), Answer(text="Yes."))
    async with Gateway(providers=known) as gateway:
        first = response_of(await say(gateway, model="small", input="The word?"))
        second = response_of(await say(gateway, model="big", input="And now?", previous_response_id=first["id"]))
        await say(gateway, model="small", input="Sure?", previous_response_id=second["id"])

    assert texts(upstream.requests[1].json()["input"]) == ["The word?", "Heron.", "And now?"]
    assert "store" not in upstream.requests[1].json()
    assert texts(upstream.requests[2].json()["input"]) == ["The word?", "Heron.", "And now?", "Still heron.", "Sure?"]


SEARCHED = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "bird"},
}
COMPACTED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
RAN = {"type": "shell_call", "id": "sh_1", "call_id": "c", "action": {"commands": ["ls"]}, "status": "completed"}
LISTED = {"type": "shell_call_output", "id": "sho_1", "call_id": "c", "output": [{"stdout": "heron.txt", "stderr": ""}]}


@pytest.mark.parametrize("place", ["previous_response_id", "conversation"])
@pytest.mark.parametrize("stateful", [False, True], ids=["keeps nothing", "keeps its own"])
async def test_another_native_upstream_is_told_in_words_what_it_cannot_read(
    upstream: FakeProvider, stateful: bool, place: str
) -> None:
    body = {"id": "resp_1", "object": "response", "status": "completed", "created_at": 1, "model": "m"}
    upstream.script(Reply({**body, "output": [COMPACTED, THOUGHT, SEARCHED, RAN]}))
    with FakeProvider(name="other").run_in_thread() as other:
        known = [
            Provider("vllm", upstream.base_url, stateful=False),
            Provider("other", other.base_url, stateful=stateful),
        ]
        async with Gateway(providers=known) as gateway:
            goes_on: Json = {}
            if place == "conversation":
                made = await ask(gateway, {"provider": "vllm"}, path="/v1/conversations")
                goes_on = {place: made.json()["id"]}
            first = response_of(await say(gateway, provider="vllm", **goes_on))
            goes_on = goes_on or {place: first["id"]}
            upstream.script(Reply({**body, "id": "resp_2", "output": []}))
            second = response_of(await say(gateway, provider="vllm", input=[LISTED], **goes_on))
            goes_on = goes_on if place == "conversation" else {place: second["id"]}
            assert (await say(gateway, provider="other", input="Go on.", **goes_on)).status == 200

        items = other.requests[-1].json()["input"]
        assert {item["type"] for item in items[:-1]} == {"message"}
        assert [(item["role"], item["content"][0]["text"]) for item in items[1:-1]] == [
            ("assistant", "[What was said before is in a form that only another provider can read.]"),
            ("assistant", "[Web search: bird]"),
            ("assistant", "[Ran shell commands: ls]"),
            ("user", "[Output of shell_call:]\nheron.txt"),
        ]


@pytest.mark.parametrize(("preset", "stateful"), [
    ("ollama", False), ("vllm", False), ("llamacpp", False), ("openrouter", False), ("groq", False),
    ("deepseek", False), ("openai", True), ("xai", True),
])  # fmt: skip
def test_presets_know_what_their_services_keep(preset: str, stateful: bool) -> None:
    made: Provider = getattr(providers, preset)("http://localhost/v1", api_key="k", dialect="responses")

    assert (made.stateful, made.keeps_state) == (stateful, stateful)
    assert getattr(providers, preset)("http://localhost/v1", api_key="k", stateful=True).stateful


# Operations that a native upstream does not have...

MISSING = {
    "FastAPI": Status(404, body=b'{"detail":"Not Found"}'),
    "text": Status(404, body=b"404 page not found", content_type="text/plain"),
    "method": Status(405, body=b'{"detail":"Method Not Allowed"}'),
}


@pytest.mark.parametrize("fault", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("stateful", [True, False])
async def test_tokens_are_estimated_where_a_native_upstream_does_not_count(
    upstream: FakeProvider, fault: Status, stateful: bool
) -> None:
    async with Gateway(providers=[Provider("up", upstream.base_url, stateful=stateful)]) as gateway:
        upstream.fail_next(fault)
        counted = (await say(gateway, "/v1/responses/input_tokens", input="word " * 400)).json()

    assert counted["object"] == "response.input_tokens" and counted["estimated"] is True
    assert 400 <= counted["input_tokens"] <= 600


@pytest.mark.parametrize("stateful", [True, False])
async def test_an_upstream_that_counts_is_believed(upstream: FakeProvider, stateful: bool) -> None:
    async with Gateway(providers=[Provider("up", upstream.base_url, stateful=stateful)]) as gateway:
        counted = (await say(gateway, "/v1/responses/input_tokens")).json()

    assert "estimated" not in counted


async def test_a_model_that_is_not_there_is_told_and_not_estimated(upstream: FakeProvider) -> None:
    async with Gateway(providers=[Provider("up", upstream.base_url)]) as gateway:
        upstream.fail_next(Status(404, code="model_not_found", message="No such model."))
        refused = await say(gateway, "/v1/responses/input_tokens")

    assert (refused.status, refused.error["message"]) == (404, "No such model.")


@pytest.mark.parametrize("fault", MISSING.values(), ids=MISSING)
async def test_a_native_upstream_that_does_not_compact_sums_up(upstream: FakeProvider, fault: Status) -> None:
    async with Gateway(providers=[Provider("up", upstream.base_url, stateful=False)]) as gateway:
        upstream.fail_next(fault)
        upstream.script(Answer(text="The word is heron."), Answer(text="Heron."))
        compacted = (await say(gateway, "/v1/responses/compact", input="The word is heron.")).json()
        assert compacted["object"] == "response.compaction"
        await say(gateway, input=[*compacted["output"], {"role": "user", "content": "The word?"}])

    told = texts([item for item in upstream.requests[-1].json()["input"] if item.get("type") == "message"])
    assert "The word is heron." in told[0]
