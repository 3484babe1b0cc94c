"""Clients read guarded streams while the model still speaks: the first text is theirs before the upstream has sent its
last event. The upstream waits for the client, so that the order of events decides, and no clock."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import agents
import openai
import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.guards import Block, Guard, Replace, Texts
from gomodel_asgi.testing import Answer, FakeProvider, Scripted, Stall, ToolCall

from ..support.serving import Served

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
KEY = re.compile(r"sk-\d+")
SAID = "There is much to be said of lanterns, and little of it is secret. " * 12
TEXT = f"{SAID}The key is sk-1234567890. {SAID}"
MASKED = KEY.sub("[key]", TEXT)
STALL = Stall(after_events=80)
"""Some 80 words of the first half have come by then, and nothing of the key."""


async def mask(given: Texts) -> Replace:
    return Replace(tuple(KEY.sub("[key]", text) for text in given.texts))


async def refuse(given: Texts) -> Block | None:
    return Block("No keys here.") if any(map(KEY.search, given.texts)) else None


@pytest.fixture(params=["responses", "chat", "anthropic", "gemini"])
def upstream(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    with FakeProvider(dialect=request.param).run_in_thread() as running:
        yield running
        running.release()


@pytest.fixture
async def client(upstream: FakeProvider, serve: Served) -> AsyncGenerator[openai.AsyncOpenAI, None]:
    house = Provider("house", upstream.base_url, dialect=upstream.dialect)
    guards = [
        Guard("keys", output=mask, hold=200, when=lambda request: request.model == "m"),
        Guard("no-keys", output=refuse, hold=200, when=lambda request: request.model == "strict"),
    ]
    origin = serve(Gateway(providers=[house], guards=guards, public=True))
    async with openai.AsyncOpenAI(
        base_url=f"{origin}/v1", api_key="sk", max_retries=0, timeout=20, _strict_response_validation=True
    ) as made:
        yield made


async def test_openais_client_has_text_before_the_upstream_has_ended(
    client: openai.AsyncOpenAI, upstream: FakeProvider
) -> None:
    upstream.script(Scripted(Answer(text=TEXT), (STALL,)))
    said: list[str] = []
    async with client.responses.stream(model="m", input="Speak.") as events:
        async for event in events:
            if event.type == "response.output_text.delta":
                if not said:
                    upstream.release()  # until here it is silent behind its 80th event
                said.append(event.delta)
        final = await events.get_final_response()
    assert MASKED.startswith(said[0]) and len(said) > 3
    assert "".join(said) == final.output_text == MASKED


async def test_an_agent_has_text_before_the_upstream_has_ended(
    client: openai.AsyncOpenAI, upstream: FakeProvider
) -> None:
    agents.set_tracing_disabled(True)
    upstream.script(Scripted(Answer(text=TEXT), (STALL,)))
    agent = agents.Agent(name="Ada", model=agents.OpenAIResponsesModel("m", client))
    said: list[str] = []
    running = agents.Runner.run_streamed(agent, "Speak.")
    async for event in running.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            if not said:
                upstream.release()
            said.append(event.data.delta)
    assert MASKED.startswith(said[0]) and len(said) > 3
    assert "".join(said) == running.final_output == MASKED


async def test_an_agent_calls_its_tool_with_what_the_guard_has_let_pass(
    client: openai.AsyncOpenAI, upstream: FakeProvider
) -> None:
    agents.set_tracing_disabled(True)
    given: list[str] = []

    @agents.function_tool
    def look(at: str) -> str:
        """Look at it."""
        given.append(at)
        return "Seen."

    call = ToolCall("look", {"at": f"{SAID} sk-1234567890"})
    upstream.script(Answer(calls=(call,)), Answer(text=TEXT))
    agent = agents.Agent(name="Ada", model=agents.OpenAIResponsesModel("m", client), tools=[look])
    running = agents.Runner.run_streamed(agent, "Look.")
    async for _ in running.stream_events():
        pass
    assert given == [f"{SAID} [key]"] and running.final_output == MASKED
    assert not any(b"1234567890" in request.body for request in upstream.requests)


async def test_what_a_guard_has_cut_off_is_a_whole_stream_for_openais_client(
    client: openai.AsyncOpenAI, upstream: FakeProvider
) -> None:
    upstream.script(Answer(text=TEXT))
    async with client.responses.stream(model="strict", input="Speak.") as events:
        found: list[Any] = [event async for event in events]
    said = "".join(event.delta for event in found if event.type == "response.output_text.delta")
    last = found[-1].response
    assert (last.status, last.incomplete_details.reason) == ("incomplete", "content_filter")
    assert said and last.output_text == said and TEXT.startswith(said) and KEY.search(said) is None


async def test_an_agent_fails_once_where_a_guard_has_cut_off_and_does_not_repeat(
    client: openai.AsyncOpenAI, upstream: FakeProvider
) -> None:
    agents.set_tracing_disabled(True)
    upstream.script(Answer(text=TEXT))
    agent = agents.Agent(name="Ada", model=agents.OpenAIResponsesModel("strict", client))
    running = agents.Runner.run_streamed(agent, "Speak.")
    with pytest.raises(agents.ModelBehaviorError, match="content_filter"):
        async for _ in running.stream_events():
            pass
    assert len(upstream.requests) == 1
