# mypy: ignore-errors
"""LangChain's ChatOpenAI over the Responses API."""

import asyncio

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel
from talk import pieces, serve, want


def chat(**options):
    return ChatOpenAI(model="gpt-5", use_responses_api=True, max_retries=0, **options)


model = chat()


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain at 7 degrees"


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


def text(facts):
    want(model.invoke("Is it lit?").text, facts["text"])


def stream(facts):
    texts = [chunk.text for chunk in model.stream("Is it lit?")]
    pieces([text for text in texts if text], facts["text"])


def loop(question):
    """Calls until the model answers; how many calls each turn made."""
    bound, messages, counts = model.bind_tools([get_weather]), [HumanMessage(question)], []
    for _ in range(3):
        answer = bound.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            return answer.text, counts
        counts.append(len(answer.tool_calls))
        for call in answer.tool_calls:
            messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
    raise AssertionError("it never stopped calling")


def tools(facts):
    want(loop("What is the weather in Oslo?"), (facts["weather"], [1]))


def parallel_tools(facts):
    want(loop("What is the weather in Oslo and in Bergen?"), (facts["weathers"], [2]))


def structured_output(facts):
    want(model.with_structured_output(City).invoke("Describe Oslo.").model_dump(), facts["city"])


def reasoning(facts):
    answer = chat(reasoning={"effort": "low", "summary": "auto"}).invoke("Is it lit?")
    thought = "".join(block.get("reasoning", "") for block in answer.content_blocks if block["type"] == "reasoning")
    want((thought, answer.text), (facts["thought"], facts["text"]))


def images(facts):
    parts = [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": facts["pixel"]}}]
    want(model.invoke([HumanMessage(parts)]).text, facts["text"])


def turns(facts):
    messages = [HumanMessage(facts["told"])]
    messages += [model.invoke(messages), HumanMessage(facts["asked"])]
    want(model.invoke(messages).text, facts["recalled"])


def by_id(facts):
    remembering = chat(use_previous_response_id=True)
    messages = [HumanMessage(facts["told"])]
    messages += [remembering.invoke(messages), HumanMessage(facts["asked"])]
    want(remembering.invoke(messages).text, facts["recalled"])


def conversation(facts):
    bound = model.bind(conversation=OpenAI().conversations.create().id)
    bound.invoke(facts["told"])
    want(bound.invoke(facts["asked"]).text, facts["recalled"])


def compaction(facts):
    """It has the upstream compact by itself, from so many tokens on."""
    short = chat(context_management=[{"type": "compaction", "compact_threshold": 1000}])
    messages = [HumanMessage("x " * 1500), HumanMessage(facts["told"])]
    messages += [short.invoke(messages), HumanMessage(facts["asked"])]
    want("compaction" in [block["type"] for block in messages[2].content], True)
    want(short.invoke(messages).text, facts["recalled"])


def abort(facts):
    async def leave():
        chunks = model.astream("Is it lit?")
        async for chunk in chunks:
            if chunk.text:
                break
        await chunks.aclose()

    asyncio.run(leave())


serve(
    text, stream, tools, parallel_tools, structured_output, reasoning, images, turns, by_id, conversation,
    compaction, abort,
)  # fmt: skip
