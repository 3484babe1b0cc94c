"""Compaction where an upstream has none: of a context that grows past its threshold, and of what is stored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.emulation.compaction import ASK, compaction_wanted, turn_of
from gomodel_asgi.testing import Answer, FakeProvider, Reply, ToolCall

from ..support.driving import Caller, ask, events_of

Json = dict[str, Any]

DIALECTS = ("chat", "anthropic", "gemini", "responses")
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
each_form = pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
LONG = "The word is heron. " * 200
MANAGED = [{"type": "compaction", "compact_threshold": 500}]
TOOLS = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]


@pytest.fixture
def fakes() -> Iterator[dict[str, FakeProvider]]:
    made = {dialect: FakeProvider(dialect=dialect) for dialect in DIALECTS}  # type: ignore[arg-type]
    with (
        made["chat"].run_in_thread(),
        made["anthropic"].run_in_thread(),
        made["gemini"].run_in_thread(),
        made["responses"].run_in_thread(),
    ):
        yield made


def gateway_of(upstream: FakeProvider, dialect: str, **options: Any) -> Gateway:
    provider = Provider("up", upstream.base_url, dialect=dialect, stateful=False)  # type: ignore[arg-type]
    return Gateway(providers=[provider], **options)


async def say(gateway: Gateway, **body: Any) -> Json:
    """The response to a create."""
    caller: Caller = await ask(gateway, {"model": "m", **body})
    assert caller.status == 200, caller.content
    if body.get("stream"):
        events = events_of(caller.content)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        return events[-1]["response"]  # type: ignore[no-any-return]
    return caller.json()  # type: ignore[no-any-return]


def told(upstream: FakeProvider, number: int = -1) -> str:
    """All that a request told the model."""
    return json.dumps(upstream.requests[number].json())


def visible(response: Json) -> list[Json]:
    """The items of a response but for reasoning, in which some upstreams keep signatures."""
    return [item for item in response["output"] if item["type"] != "reasoning"]


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def said(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


# Past the threshold...


@each_form
@each_dialect
async def test_past_the_threshold_the_context_is_compacted_before_the_upstream_is_asked(
    fakes: dict[str, FakeProvider], dialect: str, stream: bool
) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."))
    async with gateway_of(upstream, dialect) as gateway:
        items = [{"role": "developer", "content": "Be brief."}, user(LONG), said("Noted."), user("The word?")]
        response = await say(gateway, input=items, context_management=MANAGED, stream=stream)

    assert len(upstream.requests) == 2
    assert ASK in told(upstream, 0) and "The word?" not in told(upstream, 0)
    assert "They spoke of a heron." in told(upstream) and "The word?" in told(upstream)
    assert "Be brief." in told(upstream) and "Noted." not in told(upstream)
    assert "context_management" not in told(upstream)
    compaction, message = visible(response)
    assert (compaction["type"], message["content"][0]["text"]) == ("compaction", "Heron.")
    assert response["status"] == "completed"


@each_dialect
async def test_the_usage_is_that_of_both_requests(fakes: dict[str, FakeProvider], dialect: str) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="a heron"), Answer(text="Heron."))
    async with gateway_of(upstream, dialect) as gateway:
        both = (await say(gateway, input=[user(LONG), said("Noted."), user("?")], context_management=MANAGED))["usage"]
        upstream.script(Answer(text="Heron."))
        one = (await say(gateway, input=[user("?")]))["usage"]

    assert both["output_tokens"] == one["output_tokens"] + 2
    assert both["input_tokens"] > one["input_tokens"] + 700
    assert both["total_tokens"] == both["input_tokens"] + both["output_tokens"]


@each_form
@each_dialect
async def test_the_next_turn_goes_on_from_the_compaction(
    fakes: dict[str, FakeProvider], dialect: str, stream: bool
) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."), Answer(text="Yes."))
    async with gateway_of(upstream, dialect) as gateway:
        first = await say(
            gateway, input=[user(LONG), said("Noted."), user("The word?")], context_management=MANAGED, stream=stream
        )
        await say(gateway, input="Sure?", previous_response_id=first["id"], context_management=MANAGED)

    assert len(upstream.requests) == 3
    for text in ("They spoke of a heron.", "The word?", "Heron.", "Sure?"):
        assert text in told(upstream)
    assert told(upstream).count("The word?") == 1
    assert "Noted." not in told(upstream)


@each_dialect
async def test_a_client_may_send_the_compaction_itself(fakes: dict[str, FakeProvider], dialect: str) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."), Answer(text="Yes."))
    async with gateway_of(upstream, dialect) as gateway:
        items = [user(LONG), said("Noted."), user("The word?")]
        first = await say(gateway, input=items, context_management=MANAGED, store=False)
        await say(gateway, input=[*first["output"], user("Sure?")], store=False)

    assert all(text in told(upstream) for text in ("They spoke of a heron.", "The word?", "Heron.", "Sure?"))


@each_dialect
async def test_work_in_the_background_is_compacted_too(fakes: dict[str, FakeProvider], dialect: str) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."))
    async with gateway_of(upstream, dialect) as gateway:
        items = [user(LONG), said("Noted."), user("The word?")]
        caller = await ask(
            gateway,
            {"model": "m", "input": items, "context_management": MANAGED, "background": True, "stream": True},
        )

    response = caller.events()[-1]["response"]
    assert [item["type"] for item in visible(response)] == ["compaction", "message"]


@each_dialect
async def test_below_the_threshold_nothing_is_compacted(fakes: dict[str, FakeProvider], dialect: str) -> None:
    upstream = fakes[dialect]
    async with gateway_of(upstream, dialect) as gateway:
        response = await say(gateway, input=[user("hi"), said("Hello."), user("?")], context_management=MANAGED)

    assert len(upstream.requests) == 1
    assert [item["type"] for item in visible(response)] == ["message"]


async def test_an_upstream_that_keeps_state_manages_its_own_context(fakes: dict[str, FakeProvider]) -> None:
    upstream = fakes["responses"]
    async with Gateway(providers=[Provider("up", upstream.base_url)]) as gateway:
        await say(gateway, input=[user(LONG), said("Noted."), user("?")], context_management=MANAGED)

    assert len(upstream.requests) == 1
    assert upstream.requests[0].json()["context_management"] == MANAGED


async def test_anthropic_is_left_what_it_can_compact_itself(fakes: dict[str, FakeProvider]) -> None:
    upstream, managed = fakes["anthropic"], [{"type": "compaction", "compact_threshold": 60_000}]
    async with gateway_of(upstream, "anthropic") as gateway:
        await say(gateway, model="claude-opus-4-6", input=[user(LONG * 80), user("?")], context_management=managed)

    assert len(upstream.requests) == 1
    assert upstream.requests[0].json()["context_management"]["edits"][0]["trigger"]["value"] == 60_000


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-haiku-4-5", "kimi-k2"])
async def test_a_model_that_cannot_compact_itself_is_asked_with_its_context_compacted(
    fakes: dict[str, FakeProvider], model: str
) -> None:
    upstream, managed = fakes["anthropic"], [{"type": "compaction", "compact_threshold": 60_000}]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."))
    async with gateway_of(upstream, "anthropic") as gateway:
        items = [user(LONG * 80), said("Noted."), user("The word?")]
        response = await say(gateway, model=model, input=items, context_management=managed)
        await say(gateway, model=model, input="hi", context_management=[{"type": "compaction"}])

    assert visible(response)[0]["type"] == "compaction" and "They spoke of a heron." in told(upstream, 1)
    assert all("context_management" not in request.json() for request in upstream.requests)


@each_dialect
async def test_a_tool_loop_without_a_word_of_the_users_is_compacted_up_to_its_last_calls(
    fakes: dict[str, FakeProvider], dialect: str
) -> None:
    upstream = fakes[dialect]
    loop: list[Json] = [user("Find the word.")]
    for number in range(6):
        call = {"type": "function_call", "call_id": f"c{number}", "name": "look", "arguments": "{}"}
        loop += [call, {"type": "function_call_output", "call_id": f"c{number}", "output": f"{LONG} page {number}"}]
    upstream.script(Answer(text="Pages 0 to 4 say heron."), Answer(calls=[ToolCall("look", "{}")]))
    async with gateway_of(upstream, dialect) as gateway:
        response = await say(gateway, input=loop, tools=TOOLS, context_management=MANAGED)

    assert "page 5" in told(upstream) and "page 4" not in told(upstream)
    assert [item["type"] for item in visible(response)] == ["compaction", "function_call"]


# What is stored...


@each_dialect
async def test_a_compaction_in_stored_history_stands_for_what_it_was_made_of(
    fakes: dict[str, FakeProvider], dialect: str
) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Noted."), Answer(text="Heron."))
    if dialect == "responses":
        upstream.clear()
        upstream.script(Answer(text="They spoke of a heron."), Answer(text="Noted."), Answer(text="Heron."))
    async with gateway_of(upstream, dialect) as gateway:
        compacted = (await ask(gateway, {"model": "m", "input": LONG}, path="/v1/responses/compact")).json()
        first = await say(gateway, input=[*compacted["output"], user("Remember.")])
        await say(gateway, input="The word?", previous_response_id=first["id"])

    assert all(text in told(upstream) for text in ("Remember.", "Noted.", "The word?"))


@each_dialect
async def test_a_conversation_keeps_what_was_compacted(fakes: dict[str, FakeProvider], dialect: str) -> None:
    upstream = fakes[dialect]
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Noted."), Answer(text="Heron."))
    async with gateway_of(upstream, dialect) as gateway:
        managed = [user(LONG), said("Noted."), user("The word?")]
        first = await say(gateway, input=managed, context_management=MANAGED, store=False)
        made = (await ask(gateway, {"items": first["output"]}, path="/v1/conversations")).json()
        await say(gateway, input="Sure?", conversation=made["id"])

    assert all(text in told(upstream) for text in ("They spoke of a heron.", "The word?", "Sure?"))


# What is parted off...


@pytest.mark.parametrize(
    ("value", "threshold", "others"),
    [
        (MANAGED, 500, []),
        ([{"type": "compaction"}], 200_000, []),
        ([{"type": "compaction", "compact_threshold": None}], 200_000, []),
        ([*MANAGED, {"type": "clear"}], 500, [{"type": "clear"}]),
        ([], None, []),
        ([{"type": "clear"}], None, [{"type": "clear"}]),
        (
            [{"type": "compaction", "compact_threshold": "500"}],
            None,
            [{"type": "compaction", "compact_threshold": "500"}],
        ),
        ({"type": "compaction"}, None, [{"type": "compaction"}]),
    ],
)
def test_only_a_compaction_with_a_number_is_ours(value: Any, threshold: float | None, others: list[Any]) -> None:
    assert compaction_wanted(value) == (threshold, others)


CALL = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "x"}
OTHER_CALL, OTHER_OUTPUT = {**CALL, "call_id": "b"}, {**OUTPUT, "call_id": "b"}
THOUGHT: Json = {"type": "reasoning", "summary": []}


@pytest.mark.parametrize(
    ("items", "begins"),
    [
        ([user(LONG), said("a"), user("b")], 2),
        ([user("a"), CALL, OUTPUT], 1),
        ([user("a"), THOUGHT, CALL, OUTPUT], 1),
        ([user("a"), CALL, OUTPUT, THOUGHT, OTHER_CALL, OTHER_OUTPUT], 3),
        ([user("a"), CALL, OTHER_CALL, OUTPUT, OTHER_OUTPUT], 1),
        ([user("a"), CALL, OUTPUT, said("b")], 3),
        ([CALL, user(LONG), OUTPUT], 0),
        ([user("a")], 0),
        ([], 0),
    ],
)
def test_no_output_is_parted_from_its_call_and_no_call_from_its_reasoning(items: list[Json], begins: int) -> None:
    assert turn_of(items, 1000) == begins


# What another upstream did...


@each_dialect
async def test_what_a_hosted_tool_found_elsewhere_is_told_in_words(
    fakes: dict[str, FakeProvider], dialect: str
) -> None:
    search = {
        "type": "web_search_call", "id": "ws_1", "status": "completed",
        "action": {"type": "search", "query": "the word", "sources": [{"type": "url", "url": "https://heron.example"}]},
    }  # fmt: skip
    answer = {"id": "msg_1", "status": "completed", **said("Heron.")}
    given = {"id": "resp_up", "object": "response", "created_at": 1, "status": "completed", "model": "big"}
    elsewhere, upstream = FakeProvider(), fakes[dialect]
    elsewhere.script(Reply({**given, "output": [search, answer]}))
    with elsewhere.run_in_thread():
        big = Provider("big", elsewhere.base_url, models=("big",))
        small = gateway_of(upstream, dialect).setup.registry.by_name["up"]
        async with Gateway(providers=[big, dataclasses.replace(small, models=("m",))]) as gateway:
            first = await say(gateway, model="big", input="Search.", tools=[{"type": "web_search"}])
            await say(gateway, input="Sure?", previous_response_id=first["id"])

    assert "Web search: the word" in told(upstream) and "Heron." in told(upstream)


# What a conversation holds...


@pytest.mark.parametrize("place", ["previous_response_id", "conversation"])
@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
async def test_a_stored_file_is_shown_in_every_turn_to_the_upstream_that_has_it(
    fakes: dict[str, FakeProvider], dialect: str, place: str
) -> None:
    upstream, file = fakes[dialect], "https://files.test/v1beta/files/f1" if dialect == "gemini" else "file_1"
    given = [{"role": "user", "content": [{"type": "input_file", "file_id": file, "filename": "a.pdf"}]}]
    goes_on: Json = {}
    async with gateway_of(upstream, dialect) as gateway:
        if place == "conversation":
            goes_on = {place: (await ask(gateway, {}, path="/v1/conversations")).json()["id"]}
        first = await say(gateway, input=given, **goes_on)
        await say(gateway, input="And now?", **(goes_on or {place: first["id"]}))

    assert file in told(upstream)
