# mypy: ignore-errors
"""pydantic-ai with its model of the Responses API."""

import asyncio
import base64

from openai import OpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAICompaction, OpenAIResponsesModel, OpenAIResponsesModelSettings
from talk import pieces, serve, want

model = OpenAIResponsesModel("gpt-5")
agent = Agent(model)
caller = Agent(model)


@caller.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain at 7 degrees"


class City(BaseModel):
    name: str
    inhabitants: int


def text(facts):
    want(agent.run_sync("Is it lit?").output, facts["text"])


def stream(facts):
    async def listen():
        async with agent.run_stream("Is it lit?") as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    pieces(asyncio.run(listen()), facts["text"])


def called(result):
    parts = [part for message in result.all_messages() for part in message.parts]
    return sum(part.part_kind == "tool-call" for part in parts)


def tools(facts):
    result = caller.run_sync("What is the weather in Oslo?")
    want((result.output, called(result)), (facts["weather"], 1))


def parallel_tools(facts):
    result = caller.run_sync("What is the weather in Oslo and in Bergen?")
    want((result.output, called(result)), (facts["weathers"], 2))


def structured_output(facts):
    want(Agent(model, output_type=City).run_sync("Describe Oslo.").output.model_dump(), facts["city"])


def reasoning(facts):
    settings = OpenAIResponsesModelSettings(openai_reasoning_effort="low", openai_reasoning_summary="auto")
    result = agent.run_sync("Is it lit?", model_settings=settings)
    parts = [part for message in result.all_messages() for part in message.parts]
    thought = "".join(part.content for part in parts if part.part_kind == "thinking")
    want((thought, result.output), (facts["thought"], facts["text"]))


def images(facts):
    data = base64.b64decode(facts["pixel"].partition(",")[2])
    want(agent.run_sync(["Look.", BinaryContent(data, media_type="image/png")]).output, facts["text"])


def turns(facts):
    first = agent.run_sync(facts["told"])
    want(agent.run_sync(facts["asked"], message_history=first.all_messages()).output, facts["recalled"])


def by_id(facts):
    settings = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
    first = agent.run_sync(facts["told"], model_settings=settings)
    history = first.all_messages()
    second = agent.run_sync(facts["asked"], message_history=history, model_settings=settings)
    want(second.output, facts["recalled"])


def conversation(facts):
    settings = OpenAIResponsesModelSettings(openai_conversation_id=OpenAI().conversations.create().id)
    agent.run_sync(facts["told"], model_settings=settings)
    want(agent.run_sync(facts["asked"], model_settings=settings).output, facts["recalled"])


def compaction(facts):
    short = Agent(model, capabilities=[OpenAICompaction(message_count_threshold=2)])
    first = short.run_sync(facts["told"])
    second = short.run_sync(facts["asked"], message_history=first.all_messages())
    want(second.output, facts["recalled"])
    kinds = [part.part_kind for message in second.all_messages() for part in message.parts]
    want("compaction" in kinds, True)


def abort(facts):
    async def leave():
        async with agent.run_stream("Is it lit?") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break

    asyncio.run(leave())


serve(
    text, stream, tools, parallel_tools, structured_output, reasoning, images, turns, by_id, conversation,
    compaction, abort,
)  # fmt: skip
