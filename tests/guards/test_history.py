"""What was kept before there were guards passes them on its way to a model and to a client, and stays as it lies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi import Gateway, MemoryStore, Provider
from gomodel_asgi.guards import Guard, Texts
from gomodel_asgi.observers import Guarded
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import JSON, ask
from ..support.guarding import MASKED, SAID, SECRET, mask, refuse
from ..support.lab import ONCE
from ..support.seen import Seen, kept, native


def upstream(provider: FakeProvider, dialect: Any) -> Provider:
    return native(provider, dialect=dialect, stateful=dialect != "responses")


def gateway_of(provider: FakeProvider, dialect: Any, store: Any, *guards: Guard, observers: Any = ()) -> Gateway:
    return Gateway(
        providers=[upstream(provider, dialect)], store=store, guards=guards, retries=ONCE, observers=observers
    )


async def stored(provider: FakeProvider, dialect: str, store: Any, **members: Any) -> Any:
    """A response that was kept before there were guards."""
    provider.script(Answer(text=SAID))
    async with gateway_of(provider, dialect, store) as gateway:
        answer = await ask(gateway, {"model": "m", "input": SAID, **members})
        assert SECRET in answer.content.decode()
        return answer.json()


async def test_history_from_before_there_were_guards_reaches_a_model_masked_and_stays_as_it_lies(
    provider: FakeProvider, dialect: str
) -> None:
    seen, store = Seen(), MemoryStore()
    first = await stored(provider, dialect, store)
    async with gateway_of(provider, dialect, store, Guard("keys", input=mask), observers=[seen]) as gateway:
        answer = await ask(gateway, {"model": "m", "input": "And?", "previous_response_id": first["id"]})
        assert answer.status == 200, answer.content
    sent = json.dumps(provider.requests[-1].json())
    assert SECRET not in sent and sent.count("[key]") == 2
    assert [(one.verdict, one.count) for one in seen.of(Guarded)] == [("passed", 1), ("replaced", 2)]
    async with gateway_of(provider, dialect, store) as gateway:
        again = await ask(gateway, path=f"/v1/responses/{first['id']}", method="GET")
    assert SECRET in again.content.decode()


async def test_history_that_a_guard_blocks_is_a_400_and_no_attempt(provider: FakeProvider, dialect: str) -> None:
    store = MemoryStore()
    first = await stored(provider, dialect, store)
    sent = len(provider.requests)
    async with gateway_of(provider, dialect, store, Guard("keys", input=refuse)) as gateway:
        answer = await ask(gateway, {"model": "m", "input": "And?", "previous_response_id": first["id"]})
    assert answer.status == 400 and answer.error["code"] == "content_blocked"
    assert len(provider.requests) == sent


async def test_a_conversation_from_before_there_were_guards_is_masked_both_ways(
    provider: FakeProvider, dialect: str
) -> None:
    store = MemoryStore()
    async with gateway_of(provider, dialect, store) as gateway:
        item = {"type": "message", "role": "user", "content": SAID}
        made = (await ask(gateway, {"items": [item]}, path="/v1/conversations")).json()
    path = f"/v1/conversations/{made['id']}/items"
    async with gateway_of(provider, dialect, store, Guard("keys", input=mask, output=mask)) as gateway:
        answer = await ask(gateway, {"model": "m", "input": "And?", "conversation": made["id"]})
        assert answer.status == 200, answer.content
        assert SECRET not in json.dumps(provider.requests[-1].json())
        listed = await ask(gateway, path=path, method="GET")
        one = await ask(gateway, path=f"{path}/{listed.json()['data'][-1]['id']}", method="GET")
    assert listed.status == one.status == 200
    assert b"[key]" in listed.content and b"[key]" in one.content
    assert SECRET.encode() not in listed.content + one.content


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_request_said_before_there_were_guards_is_shown_as_they_let_it_pass(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    store = MemoryStore()
    first = await stored(provider, dialect, store, instructions=SAID)
    async with gateway_of(provider, dialect, store) as gateway:
        made = (await ask(gateway, {"metadata": {"note": SAID}}, path="/v1/conversations")).json()
    async with gateway_of(provider, dialect, store, Guard("keys", output=mask, hold=20)) as gateway:
        query = b"stream=true" if stream else b""
        shown = await ask(gateway, path=f"/v1/responses/{first['id']}", method="GET", query=query)
        conversation = await ask(gateway, path=f"/v1/conversations/{made['id']}", method="GET")
    assert SECRET not in shown.content.decode() and MASKED in shown.content.decode()
    assert conversation.json()["metadata"] == {"note": MASKED}


@pytest.mark.parametrize("background", [False, True])
async def test_a_response_from_before_there_were_guards_is_shown_as_they_let_it_pass(
    provider: FakeProvider, dialect: str, background: bool
) -> None:
    store = MemoryStore()
    members = {"background": True} if background else {}
    provider.script(Answer(text=SAID))
    async with gateway_of(provider, dialect, store) as gateway:
        first = (await ask(gateway, {"model": "m", "input": SAID, **members})).json()
        path = f"/v1/responses/{first['id']}"
        await ask(gateway, path=path, method="GET", query=b"stream=true" if background else b"")
    async with gateway_of(provider, dialect, store, Guard("keys", output=mask, hold=20)) as gateway:
        whole = await ask(gateway, path=path, method="GET")
        stream = await ask(gateway, path=path, method="GET", query=b"stream=true")
        items = await ask(gateway, path=path + "/input_items", method="GET")
        end = await ask(gateway, path=path, method="GET", query=b"stream=true&starting_after=999")
    assert end.status == 200 and end.content == b"data: [DONE]\n\n"
    assert whole.json()["output"][0]["content"][0]["text"] == MASKED
    assert items.json()["data"][0]["content"][0]["text"] == MASKED
    assert [event["sequence_number"] for event in stream.events()] == [*range(len(stream.events()))]
    said = "".join(one["delta"] for one in stream.events() if one["type"] == "response.output_text.delta")
    assert said == MASKED and SECRET not in stream.content.decode()
    assert stream.events()[-1]["response"]["output"] == whole.json()["output"]


async def test_a_stored_response_that_a_guard_blocks_is_not_shown(provider: FakeProvider, dialect: str) -> None:
    store = MemoryStore()
    first = await stored(provider, dialect, store)
    async with gateway_of(provider, dialect, store, Guard("keys", output=refuse)) as gateway:
        for query in (b"", b"stream=true"):
            answer = await ask(gateway, path=f"/v1/responses/{first['id']}", method="GET", query=query)
            assert answer.status == 400 and answer.error["code"] == "content_blocked"


async def test_what_the_same_guards_have_let_pass_is_shown_without_asking_them_again(
    provider: FakeProvider, dialect: str
) -> None:
    seen, store = Seen(), MemoryStore()
    guards = [Guard("keys", output=mask)]
    async with gateway_of(provider, dialect, store, *guards, observers=[seen]) as gateway:
        provider.script(Answer(text=SAID))
        first = (await ask(gateway, {"model": "m", "input": "Hello"})).json()
        count = len(seen.of(Guarded))
        for query in (b"", b"stream=true"):
            again = await ask(gateway, path=f"/v1/responses/{first['id']}", method="GET", query=query)
            assert again.status == 200 and b"[key]" in again.content
    assert len(seen.of(Guarded)) == count
    async with gateway_of(provider, dialect, store, Guard("new", output=refuse), *guards) as gateway:
        again = await ask(gateway, path=f"/v1/responses/{first['id']}", method="GET")
        assert again.status == 200


async def test_a_text_is_asked_about_once_whatever_it_is_sent_with(provider: FakeProvider, dialect: str) -> None:
    asked: list[str] = []

    def note(given: Texts) -> None:
        asked.extend(given.texts)

    async with gateway_of(provider, dialect, MemoryStore(), Guard("all", input=note)) as gateway:
        await ask(gateway, {"model": "m", "input": "Hello", "instructions": "Be short."})
    assert asked == ["Be short.", "Hello"]


# Summaries...


LONG = "The word is heron. " * 200
MANAGED = [{"type": "compaction", "compact_threshold": 500}]


async def test_a_summary_passes_the_output_guards_before_it_is_kept(provider: FakeProvider, dialect: str) -> None:
    store = MemoryStore()
    guard = Guard("keys", output=mask)
    provider.script(Answer(text=SAID), Answer(text="Well."))
    async with gateway_of(provider, dialect, store, guard) as gateway:
        body = {"model": "m", "input": [{"role": "user", "content": "Hello"}]}
        compacted = await ask(gateway, body, path="/v1/responses/compact")
        assert compacted.status == 200, compacted.content
        assert SECRET not in compacted.content.decode()
        again = [*compacted.json()["output"], {"role": "user", "content": "And?"}]
        answer = await ask(gateway, {"model": "m", "input": again})
        assert answer.status == 200, answer.content
    assert SECRET not in json.dumps(provider.requests[-1].json())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_that_is_compacted_holds_what_the_guards_have_let_pass(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    store = MemoryStore()
    earlier = [{"role": "system", "content": SAID}, {"role": "user", "content": LONG}]
    first = await stored(provider, dialect, store, input=earlier)
    provider.script(Answer(text=SAID), Answer(text="Yes."), Answer(text="No."))
    async with gateway_of(provider, dialect, store, Guard("keys", input=mask, output=mask)) as gateway:
        body = {"model": "m", "input": "And?", "previous_response_id": first["id"], "context_management": MANAGED}
        answer = await ask(gateway, {**body, "stream": stream})
        assert answer.status == 200, answer.content
        response = answer.events()[-1]["response"] if stream else answer.json()
        assert response["output"][0]["type"] == "compaction"
    sent = [json.dumps(request.json()) for request in provider.requests]
    assert len(sent) == 3 and SECRET in sent[0] and SECRET not in sent[1] + sent[2]
    async with gateway_of(provider, dialect, store) as gateway:
        again = await ask(gateway, {"model": "m", "input": [response["output"][0], {"role": "user", "content": "So?"}]})
        assert again.status == 200, again.content
    last = json.dumps(provider.requests[-1].json())
    assert SECRET not in last and last.count("[key]") == 2, "the system's word, and the summary"


@pytest.mark.parametrize("dialect", ["chat"])
@pytest.mark.parametrize("path", ["/v1/responses/compact", "/v1/responses"])
async def test_a_summary_that_a_guard_blocks_is_a_400_and_kept_nowhere(
    provider: FakeProvider, dialect: str, path: str
) -> None:
    store = MemoryStore()
    provider.script(Answer(text=SAID))
    async with gateway_of(provider, dialect, store, Guard("k", output=refuse)) as app:
        items = [{"role": "user", "content": LONG}, {"role": "user", "content": "And?"}]
        managed = {} if path.endswith("compact") else {"context_management": MANAGED}
        answer = await ask(app, {"model": "m", "input": items, **managed}, path=path)
    assert answer.status == 400 and answer.error["code"] == "content_blocked"
    assert len(provider.requests) == 1 and SECRET not in kept(store)


# Work that waits in a queue...


@pytest.mark.parametrize("function", [mask, refuse])
async def test_a_worker_guards_what_was_guarded_when_it_was_queued(
    provider: FakeProvider, dialect: str, function: Any
) -> None:
    """The worker has no headers: there the guard says that it is not concerned."""
    store = MemoryStore()
    guard = Guard("keys", input=mask, output=function, when=lambda request: request.headers.get("x-guard") == "yes")
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    async with gateway_of(provider, dialect, store, guard) as gateway:
        gateway.background.enqueue = enqueue
        provider.script(Answer(text=SAID))
        headers = [JSON, (b"x-guard", b"yes")]
        body = {"model": "m", "input": SAID, "background": True}
        begun = (await ask(gateway, body, headers=headers)).json()
        assert SECRET not in kept(store)
        assert await gateway.run_background(tickets[0])
        assert SECRET not in kept(store) and SECRET not in json.dumps(provider.requests[-1].json())
        found = await ask(gateway, path=f"/v1/responses/{begun['id']}", method="GET", headers=headers)
    if function is mask:
        assert found.json()["output"][0]["content"][0]["text"] == MASKED
    else:
        assert found.json()["status"] == "incomplete" and found.json()["output"] == []
