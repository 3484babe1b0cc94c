"""A client: an agent of the OpenAI Agents SDK that works through the gateway, with a tool of its own.

    GATEWAY_URL=http://127.0.0.1:8000/v1 GATEWAY_TOKEN=token-of-ada python examples/agents_client.py

Nothing in it knows of the gateway but the URL.
"""

from __future__ import annotations

import asyncio
import os

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI


@function_tool
def forecast(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain until noon."


async def main() -> None:
    """Ask one question and print what the agent does, as it comes."""
    set_tracing_disabled(True)
    url = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8000/v1")
    async with AsyncOpenAI(base_url=url, api_key=os.environ.get("GATEWAY_TOKEN", "none")) as client:
        agent = Agent(
            name="Weather",
            instructions="Say whether to take an umbrella.",
            model=OpenAIResponsesModel("gpt-5", client),
            model_settings=ModelSettings(tool_choice="required"),
            tools=[forecast],
        )
        run = Runner.run_streamed(agent, "Do I need an umbrella in Oslo?")
        async for event in run.stream_events():
            if event.type == "run_item_stream_event":
                print(event.name, flush=True)
        print("answer:", run.final_output)


if __name__ == "__main__":
    asyncio.run(main())
