"""The official client reads guarded streams as they come, and raises what it has to raise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gomodel_asgi.guards import Guard
from gomodel_asgi.testing import Answer, Scripted, Stall

from ..support.guarding import PATTERN, mask, refuse
from ..support.stage import Stage

TEXT = "Nothing to see here, and nothing to hold back either. " * 20 + "The key is sk-1234567890."


@pytest.fixture
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key="sk-c", max_retries=2, timeout=20) as made:
        yield made


def test_text_comes_before_the_upstream_has_ended(client: openai.OpenAI, stage: Stage) -> None:
    stage.gateway(guards=[Guard("keys", output=mask, hold=200)])
    stage.provider.script(Scripted(Answer(text=TEXT), (Stall(after_events=150),)))
    with client.responses.create(model="gpt-5", input="hi", stream=True) as stream:
        first = next(event for event in stream if event.type == "response.output_text.delta")
        assert TEXT.startswith(first.delta)  # and the upstream is still silent behind its 150th event


def test_the_client_gets_the_same_text_from_deltas_and_from_the_response(client: openai.OpenAI, stage: Stage) -> None:
    stage.gateway(guards=[Guard("keys", output=mask, hold=200)])
    stage.provider.script(Answer(text=TEXT))
    with client.responses.stream(model="gpt-5", input="hi") as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final: Any = stream.get_final_response()
    assert said == final.output_text == PATTERN.sub("[key]", TEXT)


def test_a_block_is_raised_once_and_repeated_never(client: openai.OpenAI, stage: Stage) -> None:
    stage.gateway(guards=[Guard("keys", output=refuse)])
    stage.provider.script(Answer(text=TEXT))
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="gpt-5", input="hi")
    assert raised.value.code == "content_blocked" and len(stage.provider.requests) == 1
