# mypy: ignore-errors
"""The OpenAI SDK for Python."""

import asyncio
import json

import openai
from pydantic import BaseModel
from talk import pieces, release, serve, want

MODEL = "gpt-5"
client = openai.OpenAI(max_retries=0)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class City(BaseModel):
    name: str
    inhabitants: int


def text(facts):
    want(client.responses.create(model=MODEL, input="Is it lit?").output_text, facts["text"])


def stream(facts):
    with client.responses.stream(model=MODEL, input="Is it lit?") as events:
        pieces([event.delta for event in events if event.type == "response.output_text.delta"], facts["text"])
        want(events.get_final_response().output_text, facts["text"])


def loop(question):
    """Calls until the model answers; how many calls each turn made."""
    items, calls = [{"role": "user", "content": question}], []
    for _ in range(3):
        response = client.responses.create(model=MODEL, input=items, tools=[WEATHER])
        items += response.output
        called = [item for item in response.output if item.type == "function_call"]
        if not called:
            return response.output_text, calls
        calls.append(len(called))
        for call in called:
            output = f"{json.loads(call.arguments)['city']}: rain at 7 degrees"
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    raise AssertionError("it never stopped calling")


def tools(facts):
    want(loop("What is the weather in Oslo?"), (facts["weather"], [1]))


def parallel_tools(facts):
    want(loop("What is the weather in Oslo and in Bergen?"), (facts["weathers"], [2]))


def structured_output(facts):
    response = client.responses.parse(model=MODEL, input="Describe Oslo.", text_format=City)
    want(response.output_parsed.model_dump(), facts["city"])


def reasoning(facts):
    response = client.responses.create(model=MODEL, input="Is it lit?", reasoning={"effort": "low", "summary": "auto"})
    thought = [part.text for item in response.output if item.type == "reasoning" for part in item.summary]
    want(("".join(thought), response.output_text), (facts["thought"], facts["text"]))


def images(facts):
    parts = [{"type": "input_text", "text": "Look."}, {"type": "input_image", "image_url": facts["pixel"]}]
    response = client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    want(response.output_text, facts["text"])


def turns(facts):
    items = [{"role": "user", "content": facts["told"]}]
    items += client.responses.create(model=MODEL, input=items).output
    items.append({"role": "user", "content": facts["asked"]})
    want(client.responses.create(model=MODEL, input=items).output_text, facts["recalled"])


def by_id(facts):
    first = client.responses.create(model=MODEL, input=facts["told"])
    second = client.responses.create(model=MODEL, input=facts["asked"], previous_response_id=first.id)
    want(second.output_text, facts["recalled"])


def conversation(facts):
    conversation = client.conversations.create()
    client.responses.create(model=MODEL, input=facts["told"], conversation=conversation.id)
    response = client.responses.create(model=MODEL, input=facts["asked"], conversation=conversation.id)
    want(response.output_text, facts["recalled"])
    kept = list(client.conversations.items.list(conversation.id, order="asc"))
    roles = [item.role for item in kept if item.type == "message"]
    want(roles, ["user", "assistant", "user", "assistant"])


def compaction(facts):
    first = client.responses.create(model=MODEL, input=facts["told"])
    compacted = client.responses.compact(model=MODEL, previous_response_id=first.id)
    items = [*compacted.output, {"role": "user", "content": facts["asked"]}]
    response = client.responses.create(model=MODEL, input=items)
    want(response.output_text, facts["recalled"])
    again = client.responses.create(model=MODEL, input=facts["asked"], previous_response_id=response.id)
    want(again.output_text, facts["recalled"])


def cancel(facts):
    created = client.responses.create(model=MODEL, input="Is it lit?", background=True)
    want(created.status in ("queued", "in_progress"), True)
    want(client.responses.cancel(created.id).status, "cancelled")
    want(client.responses.retrieve(created.id).status, "cancelled")


def cached(facts):
    asking = {"model": MODEL, "input": "Is it lit?", "store": False}
    first, second = [client.responses.with_raw_response.create(**asking) for _ in range(2)]
    want([one.headers["x-gomodel-cache"] for one in (first, second)], ["miss", "hit"])
    want([one.parse().output_text for one in (first, second)], [facts["text"]] * 2)
    with client.responses.stream(**asking) as events:
        want("".join(event.delta for event in events if event.type == "response.output_text.delta"), facts["text"])
        third = events.get_final_response()
    want((third.output_text, len({first.parse().id, second.parse().id, third.id})), (facts["text"], 3))


def guarded(facts):
    texts = []
    with client.responses.stream(model=MODEL, input="Speak.") as events:
        for event in events:
            if event.type == "response.output_text.delta":
                if not texts:
                    release()
                texts.append(event.delta)
        pieces(texts, facts["masked"])
        want(events.get_final_response().output_text, facts["masked"])


def abort(facts):
    async def leave():
        async with openai.AsyncOpenAI(max_retries=0) as hasty:
            events = await hasty.responses.create(model=MODEL, input="Is it lit?", stream=True)
            async for event in events:
                if event.type == "response.output_text.delta":
                    break
            await events.close()

    asyncio.run(leave())


serve(
    text, stream, tools, parallel_tools, structured_output, reasoning, images, turns, by_id, conversation,
    compaction, cancel, abort, cached, guarded,
)  # fmt: skip
