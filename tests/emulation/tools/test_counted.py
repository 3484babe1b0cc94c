"""What is counted and what is compacted is what would be asked: with what tools gave the model, and their functions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.testing import Answer
from gomodel_asgi.wire.json_scan import run
from gomodel_asgi.wire.usage import estimated

from ...support.driving import ask
from .hosting import CRM, MODELS, WEB, Hosting, House, Json, call, calls, functions_in, lookup, search

HOST = (tools.web_search(search), tools.mcp({"crm": [lookup]}))
FEW = 12
"""Tokens that an estimate may differ by: the request for an answer has members that the one for a count lacks."""


async def searched(house: House, **more: Any) -> Json:
    """A response behind a search."""
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    return await house.ask({"input": "Weather?", "tools": [WEB, CRM], **more})


async def counted(house: House, body: Json) -> Json:
    caller = await ask(house.gateway, {"model": MODELS[house.dialect], **body}, path="/v1/responses/input_tokens")
    assert caller.status == 200, caller.content
    found: Json = caller.json()
    return found


@pytest.mark.parametrize("way", ["previous", "echoed"])
async def test_a_count_is_that_of_the_request_for_an_answer(hosting: Hosting, dialect: str, way: str) -> None:
    house = hosting(*HOST, dialect=dialect)
    first = await searched(house)
    body: Json = {"input": "And?", "previous_response_id": first["id"], "tools": [WEB, CRM]}
    if way == "echoed":
        said = {"role": "user", "content": "Weather?"}
        body = {"input": [said, *first["output"], {"role": "user", "content": "And?"}], "tools": [WEB, CRM]}
    house.fake.script(Answer(text="Still."))

    count = await counted(house, body)
    answer = await house.ask(body)
    if dialect == "chat":  # which cannot count
        sent = json.dumps(house.sent[-1], separators=(",", ":"), ensure_ascii=False).encode()
        assert count["estimated"] is True and abs(count["input_tokens"] - run(estimated(sent))) <= FEW
    else:
        assert count["input_tokens"] == answer["usage"]["input_tokens"]
        assert "Found for rome" in json.dumps(house.sent[-2])  # what was counted


async def test_a_count_knows_the_tools_that_the_model_is_shown(hosting: Hosting, dialect: str) -> None:
    house = hosting(*HOST, dialect=dialect)
    body: Json = {"input": "Hi", "tools": [WEB, CRM], "tool_choice": {"type": "web_search"}}
    count = await counted(house, body)
    if dialect == "chat":
        assert count["input_tokens"] > 10 * (await counted(house, {"input": "Hi"}))["input_tokens"]
        return
    await house.ask(body)
    asked, sent = house.sent[1], house.sent[0].get("generateContentRequest", house.sent[0])
    assert {"web_search", "lookup"} <= set(functions_in(dialect, sent))
    for name in ("tools", "tool_choice", "toolConfig"):
        assert sent.get(name) == asked.get(name)


async def test_a_native_compaction_is_given_what_the_tools_gave(hosting: Hosting) -> None:
    house = hosting(*HOST, dialect="responses")
    first = await searched(house)
    said = {"role": "user", "content": "Weather?"}
    for body in ({"input": [said, *first["output"]]}, {"previous_response_id": first["id"], "input": "And?"}):
        house.fake.clear()
        caller = await ask(house.gateway, {"model": "m", **body}, path="/v1/responses/compact")

        assert caller.status == 200, caller.content
        kinds = [item["type"] for item in house.sent[0]["input"] if "type" in item]
        assert "web_search_call" not in kinds and {"function_call", "function_call_output"} <= set(kinds)
        assert "Found for rome" in json.dumps(house.sent[0]["input"])


async def test_what_no_tool_of_ours_gave_is_compacted_as_it_came(hosting: Hosting) -> None:
    house = hosting(*HOST, dialect="responses", provider={"hosted_tools": None})
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
    caller = await ask(house.gateway, {"model": "m", "input": [item]}, path="/v1/responses/compact")

    assert caller.status == 200 and house.sent[0]["input"] == [item]
