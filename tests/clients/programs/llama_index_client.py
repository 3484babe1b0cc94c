# mypy: ignore-errors
"""llama-index's model of the Responses API."""

import asyncio
import base64

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAIResponses
from pydantic import BaseModel
from talk import pieces, serve, want


def chat(**options):
    return OpenAIResponses(model="gpt-5", max_retries=0, **options)


model = chat()


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain at 7 degrees"


weather = FunctionTool.from_defaults(get_weather)


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


def user(text, *blocks):
    return ChatMessage(role="user", blocks=[TextBlock(text=text), *blocks])


def text(facts):
    want(model.complete("Is it lit?").text, facts["text"])


def stream(facts):
    texts = [chunk.delta for chunk in model.stream_chat([user("Is it lit?")])]
    pieces([text for text in texts if text], facts["text"])


def loop(question):
    """Calls until the model answers; how many calls each turn made."""
    messages, counts = [user(question)], []
    for _ in range(3):
        answer = model.chat_with_tools([weather], chat_history=messages, allow_parallel_tool_calls=True)
        messages.append(answer.message)
        calls = model.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
        if not calls:
            return answer.message.content, counts
        counts.append(len(calls))
        for call in calls:
            output = weather(**call.tool_kwargs).content
            messages.append(ChatMessage(role="tool", content=output, additional_kwargs={"tool_call_id": call.tool_id}))
    raise AssertionError("it never stopped calling")


def tools(facts):
    want(loop("What is the weather in Oslo?"), (facts["weather"], [1]))


def parallel_tools(facts):
    want(loop("What is the weather in Oslo and in Bergen?"), (facts["weathers"], [2]))


def structured_output(facts):
    want(model.as_structured_llm(City).complete("Describe Oslo.").raw.model_dump(), facts["city"])


def reasoning(facts):
    answer = chat(reasoning_options={"effort": "low", "summary": "auto"}).chat([user("Is it lit?")])
    thoughts = [block.content for block in answer.message.blocks if block.block_type == "thinking"]
    want(("".join(filter(None, thoughts)), answer.message.content), (facts["thought"], facts["text"]))


def images(facts):
    data = base64.b64decode(facts["pixel"].partition(",")[2])
    block = ImageBlock(image=data, image_mimetype="image/png")
    want(model.chat([user("Look.", block)]).message.content, facts["text"])


def turns(facts):
    messages = [user(facts["told"])]
    messages += [model.chat(messages).message, user(facts["asked"])]
    want(model.chat(messages).message.content, facts["recalled"])


def by_id(facts):
    remembering = chat(track_previous_responses=True)
    remembering.chat([user(facts["told"])])
    want(remembering.chat([user(facts["asked"])]).message.content, facts["recalled"])


def abort(facts):
    async def leave():
        chunks = await model.astream_chat([user("Is it lit?")])
        async for chunk in chunks:
            if chunk.delta:
                break
        await chunks.aclose()

    asyncio.run(leave())


serve(text, stream, tools, parallel_tools, structured_output, reasoning, images, turns, by_id, abort)
