"""A scripted model calls tools over rounds, says and thinks something beside, and looks at what it was shown."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider, tools
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.testing import Answer, FakeProvider, ToolCall
from gomodel_asgi.testing.provider import APIS, Dialect

pytestmark = pytest.mark.anyio

CRM = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
MODELS = {"responses": "m", "chat": "m", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash-preview"}


def lookup(order: str) -> str:
    """Look an order up."""
    return f"Order {order} is on its way."


async def answered(fake: FakeProvider, **body: Any) -> dict[str, Any]:
    """The last event of a stream."""
    upstream = Provider("fake", fake.base_url, dialect=fake.dialect, hosted_tools=())
    async with Gateway(providers=[upstream], tools=[tools.mcp({"crm": [lookup]})]) as gateway:
        asked = {"model": MODELS[fake.dialect], "input": "Where is it?", "tools": [CRM], "stream": True, **body}
        events = [event async for event in await gateway.respond(asked)]
    last: dict[str, Any] = events[-1]["response"]
    return last


def kinds(response: dict[str, Any]) -> list[str]:
    return [item["type"] for item in response["output"]]


@pytest.mark.parametrize("fake_provider", APIS, indirect=True)
async def test_a_round_holds_reasoning_text_and_several_calls_and_the_next_sees_what_they_gave(
    fake_provider: FakeProvider,
) -> None:
    fake_provider.script(
        Answer(
            reasoning="Two orders.",
            text="I look.",
            calls=[ToolCall("lookup", {"order": "7"}), ToolCall("lookup", {"order": "8"})],
        ),
        Answer(calls=[ToolCall("lookup", {"order": "9"})], shown=["Order 7", "Order 8"]),
        Answer(text="All three are on their way.", shown=["Order 9"]),
    )
    response = await answered(fake_provider)
    found = [kind for kind in kinds(response) if kind != "reasoning"]
    assert found == ["mcp_list_tools", "message", "mcp_call", "mcp_call", "mcp_call", "message"]
    assert "reasoning" in kinds(response)
    assert fake_provider.pending == 0


@pytest.mark.parametrize("fake_provider", ["responses", "chat", "anthropic"], indirect=True)
async def test_malformed_arguments_go_out_as_they_are_scripted(fake_provider: FakeProvider) -> None:
    fake_provider.script(
        Answer(calls=[ToolCall("lookup", '{"order": '), ToolCall("lookup", {"order": 7})]),
        Answer(text="Sorry.", shown=["no JSON object", "order: Input should be a valid string"]),
    )
    response = await answered(fake_provider)
    calls = [item for item in response["output"] if item["type"] == "mcp_call"]
    assert [(call["status"], call["arguments"]) for call in calls] == [
        ("failed", '{"order": '),
        ("failed", '{"order": 7}'),
    ]


@pytest.mark.parametrize("dialect", APIS)
@pytest.mark.parametrize("shown", [["Order 8"], [], ["Order 7", "Order 7"]])
async def test_a_model_that_is_shown_something_else_fails_the_test(dialect: Dialect, shown: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"was shown \['Order 7 is on its way.'\]"):
        with FakeProvider(dialect=dialect).run_in_thread() as fake:
            fake.script(Answer(calls=[ToolCall("lookup", {"order": "7"})]), Answer(text="Done.", shown=shown))
            response = await answered(fake)
            assert response["status"] == "failed"


async def test_what_a_function_gives_is_held_to_what_it_expects_to_be_shown() -> None:
    with pytest.raises(AssertionError, match="was shown"):
        with FakeProvider().run_in_thread() as fake:
            fake.script(lambda prompt: Answer(text="Done.", shown=["anything"]))
            with pytest.raises(GatewayError):
                await answered(fake)
