# mypy: ignore-errors
"""The OpenAI Agents SDK."""

import asyncio

from agents import Agent, ModelSettings, OpenAIConversationsSession, Runner, SQLiteSession, function_tool
from agents.memory import OpenAIResponsesCompactionSession
from openai.types.shared import Reasoning
from pydantic import BaseModel
from talk import pieces, release, serve, want

MODEL = "gpt-5"


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain at 7 degrees"


class City(BaseModel):
    name: str
    inhabitants: int


agent = Agent(name="Keeper", instructions="Be brief.", model=MODEL)
caller = Agent(name="Keeper", instructions="Be brief.", model=MODEL, tools=[get_weather])


loop = asyncio.new_event_loop()
"""One for all: the SDK's client lives on the loop of its first request."""


def run(*arguments, **options):
    return loop.run_until_complete(Runner.run(*arguments, **options))


def text(facts):
    want(run(agent, "Is it lit?").final_output, facts["text"])


def stream(facts):
    async def listen():
        result = Runner.run_streamed(agent, "Is it lit?")
        texts = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        return texts, result.final_output

    texts, final = loop.run_until_complete(listen())
    pieces(texts, facts["text"])
    want(final, facts["text"])


def called(result):
    return sum(item.type == "tool_call_item" for item in result.new_items)


def tools(facts):
    result = run(caller, "What is the weather in Oslo?")
    want((result.final_output, called(result)), (facts["weather"], 1))


def parallel_tools(facts):
    result = run(caller, "What is the weather in Oslo and in Bergen?")
    want((result.final_output, called(result)), (facts["weathers"], 2))


def structured_output(facts):
    describer = Agent(name="Keeper", instructions="Be brief.", model=MODEL, output_type=City)
    want(run(describer, "Describe Oslo.").final_output.model_dump(), facts["city"])


def reasoning(facts):
    settings = ModelSettings(reasoning=Reasoning(effort="low", summary="auto"))
    result = run(Agent(name="Keeper", model=MODEL, model_settings=settings), "Is it lit?")
    items = [item.raw_item for item in result.new_items if item.type == "reasoning_item"]
    thought = "".join(part.text for item in items for part in item.summary)
    want((thought, result.final_output), (facts["thought"], facts["text"]))


def images(facts):
    parts = [{"type": "input_text", "text": "Look."}, {"type": "input_image", "image_url": facts["pixel"]}]
    want(run(agent, [{"role": "user", "content": parts}]).final_output, facts["text"])


def turns(facts):
    first = run(agent, facts["told"])
    items = [*first.to_input_list(), {"role": "user", "content": facts["asked"]}]
    want(run(agent, items).final_output, facts["recalled"])


def by_id(facts):
    first = run(agent, facts["told"])
    second = run(agent, facts["asked"], previous_response_id=first.last_response_id)
    want(second.final_output, facts["recalled"])


def conversation(facts):
    async def talk():
        session = OpenAIConversationsSession()
        await Runner.run(agent, facts["told"], session=session)
        return (await Runner.run(agent, facts["asked"], session=session)).final_output

    want(loop.run_until_complete(talk()), facts["recalled"])


def compaction(facts):
    async def talk():
        session = OpenAIResponsesCompactionSession(
            "lantern", SQLiteSession("lantern"), should_trigger_compaction=lambda context: True
        )
        await Runner.run(agent, facts["told"], session=session)
        kinds = [item.get("type", "message") for item in await session.get_items()]
        said = [(await Runner.run(agent, facts["asked"], session=session)).final_output for _ in range(2)]
        return kinds, said

    kinds, said = loop.run_until_complete(talk())
    want(("compaction" in kinds, said), (True, [facts["recalled"]] * 2))


def cached(facts):
    alike = Agent(name="Keeper", instructions="Be brief.", model=MODEL, model_settings=ModelSettings(store=False))
    want([run(alike, "Is it lit?").final_output for _ in range(2)], [facts["text"]] * 2)

    async def listen():
        result = Runner.run_streamed(alike, "Is it lit?")
        async for _ in result.stream_events():
            pass
        return result.final_output

    want(loop.run_until_complete(listen()), facts["text"])


def guarded(facts):
    async def listen():
        result, texts = Runner.run_streamed(agent, "Speak."), []
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                if not texts:
                    await asyncio.to_thread(release)
                texts.append(event.data.delta)
        return texts, result.final_output

    texts, final = loop.run_until_complete(listen())
    pieces(texts, facts["masked"])
    want(final, facts["masked"])


def abort(facts):
    async def leave():
        result = Runner.run_streamed(agent, "Is it lit?")
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                result.cancel()

    loop.run_until_complete(leave())


serve(
    text, stream, tools, parallel_tools, structured_output, reasoning, images, turns, by_id, conversation,
    compaction, abort, cached, guarded,
)  # fmt: skip
