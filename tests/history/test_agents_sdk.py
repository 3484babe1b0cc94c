"""The Agents SDK with `previous_response_id`: it sends only what is new, and the gateway remembers the rest."""

from __future__ import annotations

from collections.abc import Iterator

import agents
import openai
import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.testing import FakeProvider

from ..support.remembering import MODELS, TRANSLATED, calls, provider_of, says, texts_sent
from ..support.serving import Served


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as running:
        yield running


@agents.function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Snow in {city}."


@pytest.mark.parametrize("dialect", TRANSLATED)
async def test_an_agent_goes_on_from_its_last_response(serve: Served, fake: FakeProvider, dialect: str) -> None:
    agents.set_tracing_disabled(True)
    origin = serve(Gateway(providers=[provider_of(dialect, fake)]))
    fake.script(calls(dialect, "weather", {"city": "Oslo"}), says(dialect, "It snows."), says(dialect, "In Oslo."))
    async with openai.AsyncOpenAI(api_key="sk-canary-client", base_url=f"{origin}/v1", max_retries=0) as client:
        model = agents.OpenAIResponsesModel(MODELS[dialect], client)
        agent = agents.Agent(name="Ada", instructions="Be brief.", tools=[weather], model=model)
        first = await agents.Runner.run(agent, "Weather in Oslo?", auto_previous_response_id=True)
        second = await agents.Runner.run(agent, "Where?", previous_response_id=first.last_response_id)

    assert (first.final_output, second.final_output) == ("It snows.", "In Oslo.")
    sent = texts_sent(fake)
    places = [sent.index(said) for said in ("Weather in Oslo?", "Snow in Oslo.", "It snows.", "Where?")]
    assert places == sorted(places)
    assert sent.count("Be brief.") == 1
