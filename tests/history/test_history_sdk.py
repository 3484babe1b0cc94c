"""Conversations of a real client over each dialect and each store: `previous_response_id` and all that hangs on it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseInputItemParam

from gomodel_asgi import Gateway, MemoryStore, RoutingRequest, Target
from gomodel_asgi.observers import Completed, Warned
from gomodel_asgi.testing import Answer, FakeProvider, Reply, Status, ToolCall

from ..support.engines import Open
from ..support.remembering import MODELS, TRANSLATED, calls, provider_of, says, texts_sent
from ..support.serving import Served
from ..support.stage import until

DIALECTS = ["responses", *TRANSLATED]


def text_of(item: Any) -> str:
    """The text of a message's first part."""
    return str(item.content[0].text)


Fakes = dict[str, FakeProvider]


@pytest.fixture(scope="module")
def running() -> Iterator[Fakes]:
    """An upstream of each dialect."""
    started = {dialect: FakeProvider(name=dialect).run_in_thread() for dialect in DIALECTS}
    fakes = {dialect: context.__enter__() for dialect, context in started.items()}
    yield fakes
    for context in started.values():
        context.__exit__(None, None, None)


@pytest.fixture
def fakes(running: Fakes) -> Fakes:
    for fake in running.values():
        fake.clear()
    return running


Client = Callable[..., openai.OpenAI]


@pytest.fixture
def connect(serve: Served, fakes: Fakes) -> Iterator[Client]:
    """A client of a gateway in front of all upstreams."""
    clients: list[openai.OpenAI] = []

    def connect(**options: Any) -> openai.OpenAI:
        providers = [provider_of(dialect, fake) for dialect, fake in fakes.items()]
        origin = serve(Gateway(providers=providers, **options))
        clients.append(openai.OpenAI(api_key="sk-canary-client", base_url=f"{origin}/v1", max_retries=0))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Client) -> openai.OpenAI:
    return connect()


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_a_conversation_goes_on_over_every_store(connect: Client, fakes: Fakes, open_store: Open, dialect: str) -> None:
    fake, model = fakes[dialect], MODELS[dialect]
    first_worker, second_worker = connect(store=open_store()), connect(store=open_store())
    fake.script(says(dialect, "Hello Ada."), says(dialect, "You are Ada.", stream=True), says(dialect, "Still Ada."))

    first = first_worker.responses.create(model=model, input="I am Ada.", instructions="Be brief.")
    with second_worker.responses.stream(model=model, input="Who am I?", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    third = first_worker.responses.create(model=model, input="Sure?", previous_response_id=second.id)

    assert third.output_text == "Still Ada."
    assert third.previous_response_id == second.id
    sent = texts_sent(fake)
    places = [sent.index(said) for said in ("I am Ada.", "Hello Ada.", "Who am I?", "You are Ada.", "Sure?")]
    assert places == sorted(places)
    assert "Be brief." not in sent


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_a_stored_response_is_retrieved_replayed_listed_and_deleted(
    client: openai.OpenAI, fakes: Fakes, dialect: str
) -> None:
    fakes[dialect].script(says(dialect, "Hello."))
    created = client.responses.create(model=MODELS[dialect], input="Hi.")

    assert client.responses.retrieve(created.id) == created
    events = list(client.responses.retrieve(created.id, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response == created
    later = list(client.responses.retrieve(created.id, stream=True, starting_after=4))
    assert [event.sequence_number for event in later] == [event.sequence_number for event in events][5:]
    assert [text_of(item) for item in client.responses.input_items.list(created.id)] == ["Hi."]
    client.responses.delete(created.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODELS[dialect], input="More.", previous_response_id=created.id)
    assert refused.value.code == "previous_response_not_found"
    assert len(fakes[dialect].requests) == 1


def test_input_items_come_in_pages(client: openai.OpenAI, fakes: Fakes) -> None:
    previous = None
    for number in range(5):
        fakes["chat"].script(says("chat", f"a{number}"))
        created = client.responses.create(model="qwen3", input=f"q{number}", previous_response_id=previous)
        previous = created.id
    assert previous is not None

    def texts(**options: Any) -> list[str]:
        return [text_of(item) for item in client.responses.input_items.list(previous, **options)]

    said = ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3", "q4"]
    assert texts(order="asc", limit=2) == said  # the client asks for page after page
    assert texts(limit=4) == said[::-1]
    page = client.responses.input_items.list(previous, limit=4)
    assert (len(page.data), page.has_more, page.to_dict()["first_id"]) == (4, True, page.data[0].id)
    with pytest.raises(openai.BadRequestError):
        client.responses.input_items.list(previous, limit=101)
    with pytest.raises(openai.BadRequestError):
        client.responses.input_items.list(previous, after="msg_nothing")


@pytest.mark.parametrize("dialect", TRANSLATED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_must_not_be_stored_is_stored_nowhere(connect: Client, fakes: Fakes, dialect: str, stream: bool) -> None:
    store = MemoryStore()
    client = connect(store=store)
    fakes[dialect].script(says(dialect, "Hello.", stream=stream))
    answer: Any = client.responses.create(model=MODELS[dialect], input="Hi.", store=False, stream=stream)
    created = list(answer)[-1].response if stream else answer

    assert len(store) == 0
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_a_reference_stands_for_the_item_that_it_names(client: openai.OpenAI, fakes: Fakes, dialect: str) -> None:
    fakes[dialect].script(says(dialect, "The word is heron."), says(dialect, "ok"))
    created = client.responses.create(model=MODELS[dialect], input="A word, please.")
    given = client.responses.input_items.list(created.id).data[0]
    items: list[ResponseInputItemParam] = [
        {"type": "item_reference", "id": str(given.id)},
        {"type": "item_reference", "id": created.output[0].id or ""},
        {"role": "user", "content": "Again."},
    ]
    client.responses.create(model=MODELS[dialect], input=items)

    sent = texts_sent(fakes[dialect])
    assert sent.index("A word, please.") < sent.index("The word is heron.") < sent.index("Again.")


WEATHER: Any = {
    "type": "function", "name": "weather", "strict": False, "description": None,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


@pytest.mark.parametrize("begun", DIALECTS)
@pytest.mark.parametrize("continued", DIALECTS)
def test_a_tool_loop_begun_on_each_provider_goes_on_at_each_other(
    client: openai.OpenAI, fakes: Fakes, begun: str, continued: str
) -> None:
    call = ToolCall("weather", {"city": "Oslo"})
    fakes[begun].script(
        Answer(reasoning="hm", calls=[call]) if begun == "responses" else calls(begun, "weather", {"city": "Oslo"})
    )
    first = client.responses.create(model=MODELS[begun], input="Weather in Oslo?", tools=[WEATHER])
    asked = next(item for item in first.output if item.type == "function_call")
    assert json.loads(asked.arguments) == {"city": "Oslo"}
    fakes[continued].script(Answer(text="Snow.") if continued == "responses" else says(continued, "Snow."))

    output: Any = [{"type": "function_call_output", "call_id": asked.call_id, "output": "-3 degrees"}]
    second = client.responses.create(
        model=MODELS[continued], input=output, previous_response_id=first.id, tools=[WEATHER]
    )

    assert second.output_text == "Snow."
    sent = texts_sent(fakes[continued])
    assert "-3 degrees" in sent
    if begun != continued or begun != "responses":
        assert "Weather in Oslo?" in sent
        assert "previous_response_id" not in sent
        assert "fake-encrypted-reasoning" not in sent
        assert '"gm1.' not in sent


def test_what_cannot_be_carried_is_left_out_and_told(connect: Client, fakes: Fakes) -> None:
    told: list[Any] = []
    client = connect(observers=[told.append])
    content: Any = [{"type": "input_file", "file_id": "file_1"}, {"type": "input_text", "text": "Read this."}]
    fakes["responses"].script(Answer(reasoning="hm", text="Read."))
    first = client.responses.create(model="gpt-5", input=[{"role": "user", "content": content}])
    fakes["chat"].script(says("chat", "ok"))
    client.responses.create(model="qwen3", input="And?", previous_response_id=first.id)

    assert "file_1" not in texts_sent(fakes["chat"])
    assert "Read this." in texts_sent(fakes["chat"])
    assert any("file ids" in record.message for record in told if isinstance(record, Warned))


def test_a_fallback_crosses_to_another_provider_with_the_conversation(connect: Client, fakes: Fakes) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("chat", model="qwen3", fallbacks=[Target("responses", model="gpt-5")])

    client = connect(policy=policy)
    fakes["chat"].script(says("chat", "Hello Ada."))
    first = client.responses.create(model="qwen3", input="I am Ada.")
    for _ in range(2):
        fakes["chat"].fail_next(Status(503))
    second = client.responses.create(model="qwen3", input="Who?", previous_response_id=first.id)

    sent = fakes["responses"].requests[-1].json()
    assert [item["content"][0]["text"] for item in sent["input"]] == ["I am Ada.", "Hello Ada.", "Who?"]
    assert "previous_response_id" not in sent
    assert second.output_text == "You said: Who?"


# Conversations...


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_a_conversation_object_collects_what_is_said(
    connect: Client, fakes: Fakes, open_store: Open, dialect: str
) -> None:
    client = connect(store=open_store())
    hint: Any = {"x-gomodel-provider": dialect}
    items: Any = [{"type": "message", "role": "user", "content": "I am Ada."}]
    made = client.conversations.create(items=items, metadata={"a": "b"}, extra_headers=hint)
    fakes[dialect].script(says(dialect, "Hello."), says(dialect, "Ada.", stream=True))
    answer = client.responses.create(model=MODELS[dialect], input="Hi.", conversation=made.id)
    with client.responses.stream(model=MODELS[dialect], input="Who?", conversation={"id": made.id}) as stream:
        stream.get_final_response()

    assert answer.conversation is not None
    assert answer.conversation.id == made.id
    sent = texts_sent(fakes[dialect])
    assert sent.index("I am Ada.") < sent.index("Hi.") < sent.index("Hello.") < sent.index("Who?")
    texts = [text_of(item) for item in client.conversations.items.list(made.id, order="asc", limit=2)]
    assert texts == ["I am Ada.", "Hi.", "Hello.", "Who?", "Ada."]
    assert client.conversations.retrieve(made.id).metadata == {"a": "b"}
    assert client.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    added = client.conversations.items.create(made.id, items=items)
    item = added.data[0]
    assert client.conversations.items.retrieve(item.id or "", conversation_id=made.id) == item
    client.conversations.items.delete(item.id or "", conversation_id=made.id)
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(item.id or "", conversation_id=made.id)
    assert client.conversations.delete(made.id).deleted is True
    for request in (
        lambda: client.conversations.retrieve(made.id),
        lambda: client.responses.create(model=MODELS[dialect], input="Hi.", conversation=made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            request()


@pytest.mark.parametrize(("below", "name"), [("", "metadata"), ("/items", "items")])
def test_a_change_of_a_conversation_says_what_is_changed(client: openai.OpenAI, below: str, name: str) -> None:
    hint: Any = {"x-gomodel-provider": "chat"}
    made = client.conversations.create(metadata={"a": "b"}, extra_headers=hint)
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(f"/conversations/{made.id}{below}", body={}, cast_to=object)

    assert (refused.value.param, refused.value.code) == (name, "missing_required_parameter")
    assert client.conversations.retrieve(made.id).metadata == {"a": "b"}


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_end_even_where_ids_repeat(client: openai.OpenAI, order: Any) -> None:
    said: Any = [{"role": "user", "content": "x", "id": "msg_same"}] * 3 + [{"role": "user", "content": "y"}]
    made = client.conversations.create(items=said, extra_headers={"x-gomodel-provider": "chat"})
    listed = client.conversations.items.list(made.id, limit=1, order=order)

    assert {text_of(item) for item in itertools.islice(listed, 10)} == {"x", "y"}
    assert len(list(itertools.islice(listed, 10))) < 5


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_what_was_said_before_is_named_once(client: openai.OpenAI, fakes: Fakes, dialect: str) -> None:
    fakes[dialect].script(says(dialect, "Hello."))
    first = client.responses.create(model=MODELS[dialect], input="Hi.")
    made = client.conversations.create(extra_headers={"x-gomodel-provider": dialect})
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODELS[dialect], input="Hi.", conversation=made.id, previous_response_id=first.id)

    assert refused.value.code == "mutually_exclusive_parameters"
    assert len(fakes[dialect].requests) == 1


def test_a_conversation_of_a_native_upstream_is_asked_there(client: openai.OpenAI, fakes: Fakes) -> None:
    fake = fakes["responses"]
    hint: Any = {"x-gomodel-provider": "responses"}
    made = client.conversations.create(metadata={"x": "y"}, extra_headers=hint)

    assert client.conversations.retrieve(made.id).metadata == {"x": "y"}
    assert fake.requests[-1].path == f"/v1/conversations/{made.id}"
    client.responses.create(model="gpt-5", input="Hi.", conversation=made.id)
    assert fake.requests[-1].json()["conversation"] == made.id
    assert [text_of(item) for item in client.conversations.items.list(made.id)] == ["You said: Hi.", "Hi."]


# Counting and compaction...


def test_tokens_are_counted_by_who_can_count(client: openai.OpenAI, fakes: Fakes) -> None:
    fakes["anthropic"].script(Reply({"input_tokens": 7}))
    fakes["gemini"].script(Reply({"totalTokens": 8}))
    counts = {
        dialect: client.responses.input_tokens.count(model=MODELS[dialect], input="How long is this?")
        for dialect in DIALECTS
    }

    assert counts["anthropic"].input_tokens == 7
    assert counts["gemini"].input_tokens == 8
    assert counts["responses"].input_tokens == 4
    assert counts["chat"].input_tokens > 4
    assert counts["chat"].to_dict()["estimated"] is True
    assert fakes["anthropic"].requests[-1].path == "/v1/messages/count_tokens"
    assert not fakes["chat"].requests


def test_a_count_is_of_what_would_be_sent(client: openai.OpenAI, fakes: Fakes) -> None:
    fakes["chat"].script(says("chat", "word " * 400))
    first = client.responses.create(model="qwen3", input="Hi.")
    short = client.responses.input_tokens.count(model="qwen3", input="Hi.")
    long = client.responses.input_tokens.count(model="qwen3", input="Hi.", previous_response_id=first.id)

    assert long.input_tokens > short.input_tokens + 400


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_a_compaction_stands_for_the_conversation_at_any_provider(
    client: openai.OpenAI, fakes: Fakes, dialect: str
) -> None:
    fakes[dialect].script(says(dialect, "Hello Ada."), says(dialect, "Ada said hello."))
    first = client.responses.create(model=MODELS[dialect], input="I am Ada.")
    compacted = client.responses.compact(model=MODELS[dialect], previous_response_id=first.id)
    assert "I am Ada." in texts_sent(fakes[dialect])
    assert compacted.object == "response.compaction"
    item: Any = compacted.output[-1].to_dict()
    assert item["type"] == "compaction"
    assert "Ada" not in json.dumps(item)

    for other in DIALECTS:
        fakes[other].script(Answer(text="ok") if other == "responses" else says(other, "ok"))
        client.responses.create(model=MODELS[other], input=[item, {"role": "user", "content": "Go on."}])
        sent = texts_sent(fakes[other])
        assert sent.index("Ada said hello.") < sent.index("Go on.")
        assert item["encrypted_content"] not in sent


def test_a_compaction_without_a_model_is_refused(client: openai.OpenAI, fakes: Fakes) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/responses/compact", body={"input": "x", "provider": "chat"}, cast_to=object)

    assert refused.value.param == "model"


# Bad input...


@pytest.mark.parametrize("id", ["x" * 513, "../x", "a b", "ü", "", "resp_\u0000", "."])
def test_an_impossible_id_is_an_unknown_one(client: openai.OpenAI, fakes: Fakes, id: str) -> None:
    for dialect in TRANSLATED:
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODELS[dialect], input="x", previous_response_id=id)
        assert refused.value.code == "previous_response_not_found"
        assert not fakes[dialect].requests


@pytest.mark.parametrize("value", ["5", '{"id":{}}', "[]", '"\\ud800"', "[[[[", '{"id":"conv_x"}'])
def test_a_malformed_or_unknown_conversation_is_refused(client: openai.OpenAI, value: str) -> None:
    body = f'{{"model":"qwen3","input":"x","conversation":{value}}}'.encode()
    answer = client._client.post(
        "/responses", content=body, headers={"content-type": "application/json", "authorization": "Bearer x"}
    )

    assert answer.status_code in (400, 404)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_half_a_surrogate_pair_in_an_id_is_refused(client: openai.OpenAI) -> None:
    body = b'{"model":"qwen3","input":"x","previous_response_id":"\\ud800"}'
    answer = client._client.post("/responses", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_an_error_in_the_own_input_is_placed_there(client: openai.OpenAI, fakes: Fakes) -> None:
    fakes["chat"].script(says("chat", "Hello."))
    first = client.responses.create(model="qwen3", input="Hi.")
    items: Any = [{"role": "user", "content": "x"}, {"role": "king", "content": "x"}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="qwen3", input=items, previous_response_id=first.id)

    assert refused.value.param == "input[1].role"
    assert "`input[1].role`" in refused.value.message


def test_the_work_in_the_background_is_observed_once(connect: Client, fakes: Fakes) -> None:

    told: list[Any] = []
    client = connect(observers=[told.append])
    fakes["chat"].script(says("chat", "Done.", stream=True))
    with client.responses.create(model="qwen3", input="x", background=True, stream=True) as stream:
        assert list(stream)[-1].type == "response.completed"
    client.close()

    def used() -> list[Any]:
        return [record.usage for record in told if isinstance(record, Completed) and record.usage is not None]

    until(lambda: len(used()) == 1)
    assert used()[0].output_tokens == 2
