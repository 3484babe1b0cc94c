# mypy: ignore-errors
"""LiteLLM as a client of the Responses API."""

import asyncio
import json

import litellm
from openai import OpenAI
from pydantic import BaseModel
from talk import pieces, serve, want

MODEL = "openai/gpt-5"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class City(BaseModel):
    name: str
    inhabitants: int


def ask(input, **options):
    return litellm.responses(model=MODEL, input=input, max_retries=0, **options)


def said(response):
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    return "".join(part.text for part in parts)


def text(facts):
    want(said(ask("Is it lit?")), facts["text"])


def stream(facts):
    events = ask("Is it lit?", stream=True)
    pieces([event.delta for event in events if event.type == "response.output_text.delta"], facts["text"])


def plain(item):
    return item if isinstance(item, dict) else item.model_dump(exclude_none=True)


def loop(question):
    """Calls until the model answers; how many calls each turn made."""
    items, counts = [{"role": "user", "content": question}], []
    for _ in range(3):
        response = ask(items, tools=[WEATHER])
        items += [plain(item) for item in response.output]
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return said(response), counts
        counts.append(len(calls))
        for call in calls:
            output = f"{json.loads(call.arguments)['city']}: rain at 7 degrees"
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    raise AssertionError("it never stopped calling")


def tools(facts):
    want(loop("What is the weather in Oslo?"), (facts["weather"], [1]))


def parallel_tools(facts):
    want(loop("What is the weather in Oslo and in Bergen?"), (facts["weathers"], [2]))


def structured_output(facts):
    want(json.loads(said(ask("Describe Oslo.", text_format=City))), facts["city"])


def reasoning(facts):
    response = ask("Is it lit?", reasoning={"effort": "low", "summary": "auto"})
    items = [plain(item) for item in response.output]
    thought = "".join(part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"])
    want((thought, said(response)), (facts["thought"], facts["text"]))


def images(facts):
    parts = [{"type": "input_text", "text": "Look."}, {"type": "input_image", "image_url": facts["pixel"]}]
    want(said(ask([{"role": "user", "content": parts}])), facts["text"])


def turns(facts):
    items = [{"role": "user", "content": facts["told"]}]
    items += [plain(item) for item in ask(items).output]
    items.append({"role": "user", "content": facts["asked"]})
    want(said(ask(items)), facts["recalled"])


def by_id(facts):
    first = ask(facts["told"])
    want(said(ask(facts["asked"], previous_response_id=first.id)), facts["recalled"])


def conversation(facts):
    id = OpenAI().conversations.create().id
    extra = {"extra_body": {"conversation": id}}
    ask(facts["told"], **extra)
    want(said(ask(facts["asked"], **extra)), facts["recalled"])


def compaction(facts):
    items = [{"role": "user", "content": facts["told"]}]
    items += [plain(item) for item in ask(items).output]
    compacted = litellm.compact_responses(model=MODEL, input=items)
    again = [*(plain(item) for item in compacted.output), {"role": "user", "content": facts["asked"]}]
    want(said(ask(again)), facts["recalled"])


def cancel(facts):
    created = ask("Is it lit?", background=True)
    want(created.status in ("queued", "in_progress"), True)
    want(litellm.cancel_responses(created.id).status, "cancelled")


def abort(facts):
    async def leave():
        events = await litellm.aresponses(model=MODEL, input="Is it lit?", stream=True, max_retries=0)
        async for event in events:
            if event.type == "response.output_text.delta":
                break
        await events.aclose()

    asyncio.run(leave())


serve(
    text, stream, tools, parallel_tools, structured_output, reasoning, images, turns, by_id, conversation,
    compaction, cancel, abort,
)  # fmt: skip
