"""Over HTTP nothing leaves, arrives or is kept that no guard has let pass, and a refusal says so once and for all."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, MemoryStore, Timeouts
from gomodel_asgi.errors import ContentBlocked
from gomodel_asgi.guards import Block, Guard, Note, Texts
from gomodel_asgi.observers import Ended, Guarded
from gomodel_asgi.testing import Answer, FakeProvider, Status, ToolCall

from ..support.driving import Caller, ask, encoded, scope_of
from ..support.guarding import MASKED, SAID, SECRET, broken, mask, refuse
from ..support.lab import ONCE, until
from ..support.seen import Seen, kept, native, texts

HELLO = {"model": "m", "input": "Hello"}


async def endless(given: Texts) -> None:
    await anyio.sleep_forever()


def gateway_of(provider: FakeProvider, *guards: Guard, observers: Any = (), **options: Any) -> Gateway:
    dialect = options.pop("dialect", "responses")
    options.setdefault("providers", [native(provider, dialect=dialect)])
    return Gateway(guards=guards, retries=ONCE, observers=observers, **options)


@pytest.fixture(params=["responses", "chat", "anthropic", "gemini"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sent(provider: FakeProvider) -> str:
    return " ".join(repr(request) + str(getattr(request, "body", "")) for request in provider.requests)


# Requests...


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_guard_replaces_in_a_request_reaches_nobody(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    seen, store = Seen(), MemoryStore()
    body = {
        "model": "m", "stream": stream, "instructions": SAID, "metadata": {"note": SECRET},
        "input": [
            {"role": "user", "content": SAID},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"key": SECRET})},
            {"type": "function_call_output", "call_id": "c", "output": SAID},
        ],
        "tools": [{"type": "function", "name": "f", "description": SAID, "parameters": {"type": "object"}}],
    }  # fmt: skip
    if dialect != "responses":
        del body["metadata"]
    async with gateway_of(provider, Guard("keys", input=mask), observers=[seen], store=store, dialect=dialect) as app:
        answer = await ask(app, body)

    assert answer.status == 200, answer.content
    assert SECRET not in sent(provider) and "[key]" in json.dumps(provider.requests[0].json())
    assert SECRET not in answer.content.decode() and SECRET not in texts(seen.records)
    assert SECRET not in kept(store)
    (record,) = seen.of(Guarded)
    assert (record.guard, record.stage, record.verdict) == ("keys", "input", "replaced")
    assert record.count >= 5 and record.noted == ()


TWICE = [
    '"input":[{"role":"user","content":"SECRET","content":"clean"}]',
    '"input":[{"role":"user","content":[{"type":"input_text","text":"SECRET","text":"clean"}]}]',
    '"input":"x","instructions":"SECRET","instructions":"clean"',
    '"input":"x","metadata":{"a":"SECRET","a":"clean"}',
    '"input":"x","tools":[{"type":"function","name":"f","description":"SECRET","description":"clean"}]',
    '"input":"x","text":{"format":{"type":"json_schema","name":"a","schema":{"title":"SECRET","title":"c"}}}',
]


@pytest.mark.parametrize("twice", TWICE)
@pytest.mark.parametrize("function", [mask, refuse, lambda given: None])
async def test_of_two_members_of_one_name_only_the_one_that_was_looked_at_is_sent(
    provider: FakeProvider, twice: str, function: Any
) -> None:
    async with gateway_of(provider, Guard("keys", input=function)) as app:
        await ask(app, ('{"model":"m",' + twice + "}").replace("SECRET", SECRET).encode())
    assert len(provider.requests) == 1 and SECRET not in sent(provider)


async def test_a_request_in_which_nothing_is_replaced_is_sent_as_it_came(provider: FakeProvider) -> None:
    body = b'{ "model":"m", "store": false, "input": [ {"role":"user", "content": "Zo\xc3\xab, \\n"} ], "top_p": 1E-1 }'
    async with gateway_of(provider, Guard("keys", input=mask)) as app:
        assert (await ask(app, body)).status == 200
    assert b'[ {"role":"user", "content": "Zo\xc3\xab, \\n"} ]' in provider.requests[-1].body
    assert b"1E-1" in provider.requests[-1].body


async def test_a_request_that_a_guard_blocks_is_a_400_that_nobody_repeats(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, Guard("keys", input=refuse), observers=[seen]) as app:
        answer = await ask(app, {"model": "m", "input": SAID})

    assert answer.status == 400 and not provider.requests
    assert answer.error["code"] == "content_blocked" and answer.error["message"] == "No keys here."
    assert answer.headers["x-should-retry"] == "false"
    assert [record.verdict for record in seen.of(Guarded)] == ["blocked"]


@pytest.mark.parametrize("function", [broken, endless])
async def test_a_request_passes_no_guard_that_fails(provider: FakeProvider, function: Any) -> None:
    seen = Seen()
    async with gateway_of(provider, Guard("keys", input=function, timeout=0.05), observers=[seen]) as app:
        answer = await ask(app, {"model": "m", "input": SECRET})

    assert answer.status == 503 and answer.error["code"] == "guard_unavailable" and not provider.requests
    assert answer.headers["x-should-retry"] == "false"
    assert [record.verdict for record in seen.of(Guarded)] == ["failed"]
    assert SECRET not in texts(seen.records) and answer.raised is None


async def test_a_guard_that_only_notes_may_fail(provider: FakeProvider) -> None:
    async with gateway_of(provider, Guard("keys", input=broken, output=broken, on_error="pass")) as app:
        assert (await ask(app, HELLO)).status == 200


async def test_a_guard_is_asked_only_where_it_says_so(provider: FakeProvider) -> None:
    seen = Seen()
    guard = Guard("keys", input=refuse, when=lambda request: request.model == "guarded")
    async with gateway_of(provider, guard, observers=[seen]) as app:
        assert (await ask(app, {"model": "m", "input": SAID})).status == 200
        assert (await ask(app, {"model": "guarded", "input": SAID})).status == 400


async def test_a_guard_whose_when_fails_is_asked(provider: FakeProvider) -> None:
    guard = Guard("keys", input=refuse, when=lambda request: request.headers["missing"] == "yes")
    async with gateway_of(provider, guard) as app:
        assert (await ask(app, {"model": "m", "input": SAID})).status == 400


async def test_what_guards_note_is_told_without_the_text(provider: FakeProvider) -> None:
    seen = Seen()
    guard = Guard("topics", input=lambda given: Note(("weather", "x" * 100)))
    async with gateway_of(provider, guard, observers=[seen]) as app:
        await ask(app, HELLO)
    (record,) = seen.of(Guarded)
    assert (record.verdict, record.noted) == ("noted", ("weather", "x" * 64))


async def test_guards_are_asked_in_their_order_each_with_what_the_one_before_has_left(provider: FakeProvider) -> None:
    guards = Guard("keys", input=mask), Guard("strict", input=refuse)
    async with gateway_of(provider, *guards) as app:
        assert (await ask(app, {"model": "m", "input": SAID})).status == 200


@pytest.mark.parametrize("path", ["/v1/responses/compact", "/v1/responses/input_tokens", "/v1/conversations"])
async def test_every_operation_with_a_body_is_guarded(provider: FakeProvider, path: str) -> None:
    body = {"model": "m", "input": SAID, "items": [{"type": "message", "role": "user", "content": SAID}]}
    async with gateway_of(provider, Guard("keys", input=refuse)) as app:
        answer = await ask(app, body, path=path)
    assert answer.status == 400 and answer.error["code"] == "content_blocked" and not provider.requests


async def test_what_was_said_before_stays_in_front_of_a_request_that_was_changed(
    provider: FakeProvider, dialect: str
) -> None:
    async with gateway_of(provider, Guard("keys", input=mask, output=mask), dialect=dialect) as app:
        provider.script(Answer(text=SAID), Answer(text="second"))
        first = (await ask(app, {"model": "m", "input": SAID})).json()
        again = await ask(app, {"model": "m", "input": SAID, "previous_response_id": first["id"]})
    assert again.status == 200, again.content
    last = json.dumps(provider.requests[-1].json())
    assert SECRET not in last and last.count("[key]") == 3


# Replies...


async def test_what_a_guard_replaces_in_a_reply_reaches_nobody(provider: FakeProvider, dialect: str) -> None:
    seen, store = Seen(), MemoryStore()
    provider.script(Answer(text=SAID, calls=[ToolCall("f", {"key": SECRET})]))
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    async with gateway_of(provider, Guard("keys", output=mask), observers=[seen], store=store, dialect=dialect) as app:
        answer = await ask(app, {**HELLO, "tools": tools})
        assert answer.status == 200, answer.content
        again = await ask(app, path=f"/v1/responses/{answer.json()['id']}", method="GET")

    for one in (answer, again):
        assert SECRET not in one.content.decode() and one.content.count(b"[key]") == 2
    assert SECRET not in kept(store) and SECRET not in texts(seen.records)
    assert [(record.verdict, record.count) for record in seen.of(Guarded)][0] == ("replaced", 2)


async def test_a_native_upstream_keeps_nothing_that_a_guard_has_not_seen(provider: FakeProvider) -> None:
    async with gateway_of(provider, Guard("keys", output=mask)) as app:
        assert (await ask(app, HELLO)).status == 200
    assert provider.requests[0].json()["store"] is False


async def test_a_reply_that_a_guard_blocks_is_a_400_and_kept_nowhere(provider: FakeProvider, dialect: str) -> None:
    seen, store = Seen(), MemoryStore()
    provider.script(Answer(text=SAID))
    async with gateway_of(
        provider, Guard("keys", output=refuse), observers=[seen], store=store, dialect=dialect
    ) as app:
        answer = await ask(app, HELLO)
    assert answer.status == 400 and answer.error["code"] == "content_blocked"
    assert len(provider.requests) == 1 and SECRET not in kept(store)
    (ended,) = seen.of(Ended)
    assert ended.usage is not None and ended.usage.output_tokens, "what was used is told all the same"


async def test_a_reply_passes_no_guard_that_fails(provider: FakeProvider, dialect: str) -> None:
    async with gateway_of(provider, Guard("keys", output=broken), dialect=dialect) as app:
        answer = await ask(app, HELLO)
    assert answer.status == 503 and answer.error["code"] == "guard_unavailable"


# Streams...


def said(answer: Caller) -> str:
    return "".join(event["delta"] for event in answer.events() if event["type"] == "response.output_text.delta")


@pytest.mark.parametrize("hold", [20, 200, "all"])
async def test_what_a_guard_replaces_in_a_stream_stands_in_none_of_its_events(
    provider: FakeProvider, dialect: str, hold: Any
) -> None:
    seen, store = Seen(), MemoryStore()
    provider.script(Answer(text=SAID, calls=[ToolCall("f", {"key": SECRET})]))
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    guard = Guard("keys", output=mask, hold=hold)
    async with gateway_of(provider, guard, observers=[seen], store=store, dialect=dialect) as app:
        answer = await ask(app, {**HELLO, "stream": True, "tools": tools})
        last = answer.events()[-1]
        again = await ask(app, path=f"/v1/responses/{last['response']['id']}", method="GET")

    assert last["type"] == "response.completed" and answer.complete
    assert said(answer) == MASKED == last["response"]["output"][0]["content"][0]["text"]
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert SECRET not in answer.content.decode() and SECRET not in kept(store)
    assert SECRET not in texts(seen.records)
    assert again.json()["output"] == last["response"]["output"]
    assert {record.verdict for record in seen.of(Guarded)} == {"replaced"}
    ended = seen.of(Ended)[0]
    assert ended.usage is not None and not ended.usage.estimated


async def test_a_stream_that_is_held_whole_and_blocked_is_a_400(provider: FakeProvider, dialect: str) -> None:
    provider.script(Answer(text=SAID))
    async with gateway_of(provider, Guard("keys", output=refuse), dialect=dialect) as app:
        answer = await ask(app, {**HELLO, "stream": True})
    assert answer.status == 400 and answer.error["code"] == "content_blocked"
    assert SECRET.encode() not in answer.content


async def test_a_stream_that_is_blocked_on_its_way_is_incomplete_and_keeps_what_had_left(
    provider: FakeProvider, dialect: str
) -> None:
    store = MemoryStore()
    provider.script(Answer(text="Nothing of it is secret, until now: " + SECRET + " and more"))
    async with gateway_of(provider, Guard("keys", output=refuse, hold=20), store=store, dialect=dialect) as app:
        answer = await ask(app, {**HELLO, "stream": True})
    last = answer.events()[-1]
    assert answer.status == 200 and last["type"] == "response.incomplete" and answer.complete
    assert last["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert SECRET not in answer.content.decode() and SECRET not in kept(store)
    assert "".join(part["text"] for item in last["response"]["output"] for part in item["content"]) == said(answer)
    assert not [event for event in answer.events() if event["type"] in ("error", "response.failed")]


async def test_past_the_gate_a_block_of_what_is_held_whole_is_incomplete(provider: FakeProvider) -> None:
    provider.script(Answer(text=SAID))
    answer = Caller(scope_of(), [encoded({**HELLO, "stream": True})])

    async def late(given: Texts) -> Block | None:
        await until(lambda: answer.messages)
        return await refuse(given)

    async with gateway_of(provider, Guard("keys", output=late), timeouts=Timeouts(gate=1e-9)) as app:
        await answer.run(app)
    last = answer.events()[-1]
    assert answer.status == 200 and last["type"] == "response.incomplete" and last["response"]["output"] == []
    assert [event["sequence_number"] for event in answer.events()] == [*range(len(answer.events()))]


@pytest.mark.parametrize("hold", [20, "all"])
async def test_a_guard_that_fails_on_the_way_ends_the_stream_with_nothing_of_what_is_held(
    provider: FakeProvider, dialect: str, hold: Any
) -> None:
    seen = Seen()
    provider.script(Answer(text=SECRET + " and much more than is held of it at any time"))
    guard = Guard("keys", output=broken, hold=hold)
    async with gateway_of(provider, guard, dialect=dialect, observers=[seen]) as app:
        answer = await ask(app, {**HELLO, "stream": True})
    assert SECRET.encode() not in answer.content and SECRET not in texts(seen.records)
    if hold == "all":
        assert answer.status == 503 and answer.error["code"] == "guard_unavailable"
        return
    kinds = [event["type"] for event in answer.events()]
    assert answer.status == 200 and kinds[-2:] == ["error", "response.failed"] and answer.complete


# Other doors...


async def test_the_hosts_own_code_gets_what_clients_get(provider: FakeProvider) -> None:
    provider.script(Answer(text=SAID), Answer(text=SAID), Answer(text=SAID))
    async with gateway_of(provider, Guard("keys", output=mask, hold=20)) as app:
        assert SECRET not in json.dumps(await (await app.respond(HELLO)).json())
        reply = await app.respond({**HELLO, "stream": True})
        assert SECRET not in json.dumps([event async for event in reply])
        reply = await app.respond({**HELLO, "stream": True})
        assert (await reply.json())["output"][0]["content"][0]["text"] == MASKED


async def test_what_is_worked_on_in_the_background_is_guarded_before_it_is_kept(
    provider: FakeProvider, dialect: str
) -> None:
    store = MemoryStore()
    provider.script(Answer(text=SAID))
    guard = Guard("keys", input=mask, output=mask)
    async with gateway_of(provider, guard, store=store, dialect=dialect) as app:
        begun = await ask(app, {"model": "m", "input": SAID, "background": True})
        assert begun.status == 200, begun.content
        path = f"/v1/responses/{begun.json()['id']}"
        followed = await ask(app, path=path, method="GET", query=b"stream=true")
        found = (await ask(app, path=path, method="GET")).json()
    assert found["status"] == "completed" and found["output"][0]["content"][0]["text"] == MASKED
    assert SECRET.encode() not in followed.content and SECRET not in kept(store) and SECRET not in sent(provider)


@pytest.mark.parametrize("guards", [[Guard("a", input=mask), Guard("a", input=mask)], ["no guard"]])
def test_what_is_no_list_of_different_guards_is_refused(provider: FakeProvider, guards: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="guards"):
        gateway_of(provider, *guards)


# Where there are none...


@contextmanager
def called() -> Iterator[set[str]]:
    """The names of all functions that are called meanwhile on this thread."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            names.add(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("guarded", [False, True])
async def test_only_a_request_that_has_guards_is_parsed_for_them(provider: FakeProvider, guarded: bool) -> None:
    guard = Guard("keys", input=mask, output=mask, when=lambda request: guarded)
    provider.script(Answer(text=SAID), Answer(text=SAID))
    async with gateway_of(provider, guard, stamp=False) as app:
        with called() as names:
            for stream in (False, True):
                answer = await ask(app, {**HELLO, "stream": stream})
                assert (SECRET in answer.content.decode()) is not guarded
    assert {"Inspection.looked", "parsed"} & names == ({"Inspection.looked", "parsed"} if guarded else set())


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstreams_error_says_nothing_that_a_guard_has_taken_out(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    said: Any = {name: f"of {SECRET}, that is" for name in ("message", "type", "code", "param")}
    async with gateway_of(provider, Guard("keys", output=mask), dialect=dialect) as app:
        provider.fail_next(Status(400, **said))
        answer = await ask(app, {**HELLO, "stream": stream})
        assert answer.status == 400 and SECRET not in answer.content.decode()
        assert "of [key], that is" in answer.json()["error"]["message"]
        provider.fail_next(Status(400, code="a_code", type="a_type", param="input[0].content"))
        answer = await ask(app, {**HELLO, "stream": stream})
        assert "[key]" not in answer.content.decode() and "a_" in answer.content.decode()


def test_a_block_is_no_failure_of_an_upstream() -> None:
    assert ContentBlocked("no").status == 400 and ContentBlocked("no").should_retry is False
