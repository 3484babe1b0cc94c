"""The official client, through a real server and the gateway, to a provider on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gomodel_asgi import Provider, Retries, RoutingRequest, Target
from gomodel_asgi.testing import Answer, Cut, Scripted, Status, ToolCall

from ..support.stage import Stage

CLIENT_KEY = "sk-canary-client-key"


@pytest.fixture
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    """The client, pointed at the app."""
    stage.gateway()
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=20) as made:
        yield made


def two_providers(stage: Stage) -> list[str]:
    """A gateway of two providers; what the policy is asked goes into the list."""
    seen: list[str] = []

    async def policy(request: RoutingRequest) -> Target:
        seen.append(f"{request.operation} {request.provider}")
        return request.default()

    stage.gateway(providers=[Provider(name, stage.provider.base_url) for name in ("one", "two")], policy=policy)
    return seen


def test_create(client: openai.OpenAI, stage: Stage) -> None:
    """A response is created, stamped, and its request id is told."""
    stage.provider.script(Answer(text="Hello"))

    response = client.responses.create(model="gpt-5", input="hi")

    assert response.output_text == "Hello"
    assert response.status == "completed"
    assert response.usage is not None
    assert (response.model_extra or {})["provider"] == "fake"
    assert response._request_id
    assert CLIENT_KEY not in stage.provider.requests[0]


def test_create_as_a_stream(client: openai.OpenAI, stage: Stage) -> None:
    """Every event arrives, in order, from created to completed."""
    stage.provider.script(
        Answer(reasoning="Hm.", text="Hello you there", calls=[ToolCall("weather", {"city": "Oslo"})])
    )

    events = list(client.responses.create(model="gpt-5", input="hi", stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello you there"


def test_the_stream_helper(client: openai.OpenAI, stage: Stage) -> None:
    """The helper's state machine accepts the stream and gives the final response."""
    stage.provider.script(Answer(text="Hello you", calls=[ToolCall("weather", {"city": "Oslo"})]))

    with client.responses.stream(model="gpt-5", input="hi") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()

    assert final.output_text == "Hello you"
    assert [item.type for item in final.output] == ["message", "function_call"]


def test_the_lifecycle_of_a_stored_response(client: openai.OpenAI) -> None:
    """It is retrieved, its events replayed, its input listed, and it is deleted."""
    made = client.responses.create(model="gpt-5", input="hi")

    assert client.responses.retrieve(made.id).output_text == made.output_text
    replayed = list(client.responses.retrieve(made.id, stream=True, starting_after=1))
    assert (replayed[0].sequence_number, replayed[-1].type) == (2, "response.completed")
    listed = client.responses.input_items.list(made.id, order="asc", limit=5)
    assert [item.type for item in listed] == ["message"]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_cancel(client: openai.OpenAI) -> None:
    """A response in the background is cancelled."""
    made = client.responses.create(model="gpt-5", input="hi", background=True)

    assert client.responses.cancel(made.id).status == "cancelled"


def test_a_response_continues_another(client: openai.OpenAI, stage: Stage) -> None:
    """`previous_response_id` reaches the provider that issued it."""
    first = client.responses.create(model="gpt-5", input="one")
    second = client.responses.create(model="gpt-5", input="two", previous_response_id=first.id)

    assert second.previous_response_id == first.id
    assert stage.provider.requests[1].json()["previous_response_id"] == first.id


def test_compact(client: openai.OpenAI, stage: Stage) -> None:
    """A conversation is compacted."""
    compacted = client.responses.compact(model="gpt-5", input="hi")

    assert compacted.object == "response.compaction"
    assert stage.provider.requests[0].path == "/v1/responses/compact"


def test_input_tokens(client: openai.OpenAI) -> None:
    """The length of an input is counted."""
    assert client.responses.input_tokens.count(model="gpt-5", input="one two three").input_tokens == 3


@pytest.mark.parametrize(
    "hint",
    [
        {"extra_body": {"provider": "two"}},
        {"extra_headers": {"x-gomodel-provider": "two"}},
        {"extra_query": {"provider": "two"}},
    ],
    ids=["body", "header", "query"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_hint_chooses_the_provider_and_goes_no_further(stage: Stage, hint: dict[str, Any], stream: bool) -> None:
    seen = two_providers(stage)
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=20) as client:
        raw = client.responses.with_raw_response.create(model="gpt-5", input="hi", stream=stream, **hint)
        assert raw.headers["x-gomodel-provider"] == "two"
        raw.http_response.read() if not stream else list(raw.parse())

    request = stage.provider.requests[0]
    assert seen == ["create two"]
    assert request.query == b""
    assert request.header("x-gomodel-provider") is None
    assert "provider" not in request.json()


def test_a_hint_reaches_the_operations_without_a_body(stage: Stage) -> None:
    seen = two_providers(stage)
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=20) as client:
        made = client.responses.create(model="gpt-5", input="hi", extra_body={"provider": "one"})
        query = {"provider": "one"}
        client.responses.retrieve(made.id, extra_query=query, include=["message.output_text.logprobs"])
        client.responses.input_items.list(made.id, extra_headers={"x-gomodel-provider": "one"})
        client.responses.delete(made.id, extra_query=query)

    assert [one.split()[0] for one in seen] == ["create", "retrieve", "input_items", "delete"]
    assert stage.provider.requests[1].query == b"include%5B%5D=message.output_text.logprobs"
    assert all(b"provider" not in request.query for request in stage.provider.requests)


def test_hints_that_disagree_are_refused_before_the_policy(stage: Stage) -> None:
    seen = two_providers(stage)
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key=CLIENT_KEY, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(
                model="gpt-5", extra_body={"provider": "one"}, extra_headers={"x-gomodel-provider": "two"}
            )

    assert caught.value.code == "provider_conflict"
    assert (seen, stage.provider.requests) == ([], [])


def test_errors_are_the_clients_own_classes(client: openai.OpenAI, stage: Stage) -> None:
    classes: dict[int, type[openai.APIStatusError]] = {
        400: openai.BadRequestError, 404: openai.NotFoundError, 409: openai.ConflictError,
        422: openai.UnprocessableEntityError, 429: openai.RateLimitError, 500: openai.InternalServerError,
    }  # fmt: skip
    stage.gateway(retries=Retries(attempts=1))
    for status, kind in classes.items():
        stage.provider.fail_next(Status(status, message="As scripted.", code="c", param="p"))
        with pytest.raises(kind) as caught:
            client.responses.create(model="gpt-5", input="hi")
        assert (caught.value.status_code, caught.value.code, caught.value.param) == (status, "c", "p")
        assert caught.value.request_id


def test_a_stream_that_breaks_off_raises_in_the_client(client: openai.OpenAI, stage: Stage) -> None:
    """It is never a silent end."""
    stage.provider.script(Scripted(Answer(text="one two three"), (Cut(after_events=5),)))

    with pytest.raises(openai.APIError) as caught:
        list(client.responses.create(model="gpt-5", input="hi", stream=True))

    assert caught.value.code == "upstream_stream_truncated"


def test_raw_members_that_the_client_does_not_know_pass(client: openai.OpenAI, stage: Stage) -> None:
    client.responses.create(model="gpt-5", input="hi", extra_body={"new": {"deep": [1.10, None]}, "nothing": None})

    assert b'"new":{"deep":[1.1,null]}' in stage.provider.requests[0].body
    assert stage.provider.requests[0].json()["nothing"] is None


def test_beta_query_and_header_pass(client: openai.OpenAI, stage: Stage) -> None:
    client.responses.create(
        model="gpt-5",
        input="hi",
        extra_query={"beta": "true"},
        extra_headers={"openai-beta": "responses_multi_agent=v1"},
    )

    assert stage.provider.requests[0].query == b"beta=true"
    assert stage.provider.requests[0].header("openai-beta") == "responses_multi_agent=v1"
