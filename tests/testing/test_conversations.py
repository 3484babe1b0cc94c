"""The fake provider keeps conversations as a native provider does: seen with the official SDK, on a real socket."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from gomodel_asgi.testing import FakeProvider
from gomodel_asgi.testing.api import Refused
from gomodel_asgi.testing.conversations import MOST, Conversations

from .clients import anyio_backend, client, dialect, provider

__all__ = ["anyio_backend", "client", "dialect", "provider"]


def user(text: str, **members: Any) -> Any:
    return {"role": "user", "content": text, **members}


async def test_a_conversation_is_created_retrieved_updated_and_deleted(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create(metadata={"topic": "a"}, items=[user("hi")])
    found = await client.conversations.retrieve(made.id)
    assert (found.object, found.metadata, found.created_at) == ("conversation", {"topic": "a"}, made.created_at)

    assert (await client.conversations.update(made.id, metadata={"topic": "b"})).metadata == {"topic": "b"}
    deleted = await client.conversations.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)


async def test_items_are_added_retrieved_and_deleted_one_by_one(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create()
    added = await client.conversations.items.create(made.id, items=[user("one"), user("two", id="msg_own")])
    assert (added.object, len(added.data), added.last_id, added.has_more) == ("list", 2, "msg_own", False)

    one: Any = await client.conversations.items.retrieve(added.first_id, conversation_id=made.id)
    assert (one.type, one.status, one.content[0].type, one.content[0].text) == (
        "message",
        "completed",
        "input_text",
        "one",
    )
    left = await client.conversations.items.delete("msg_own", conversation_id=made.id)
    assert left.object == "conversation"
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve("msg_own", conversation_id=made.id)
    assert [item.id async for item in client.conversations.items.list(made.id)] == [added.first_id]


async def test_items_come_in_pages_in_either_order(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create(items=[user(f"number {n}") for n in range(20)])
    await client.conversations.items.create(made.id, items=[user("number 20"), user("number 21")])

    first = await client.conversations.items.list(made.id)
    assert (len(first.data), first.has_more) == (20, True)
    forwards: list[Any] = [item async for item in client.conversations.items.list(made.id, limit=7, order="asc")]
    assert [item.content[0].text for item in forwards] == [f"number {n}" for n in range(22)]
    assert [item async for item in client.conversations.items.list(made.id)] == forwards[::-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_object", [False, True])
async def test_a_response_in_a_conversation_is_told_what_was_said_and_adds_to_it(
    client: openai.AsyncOpenAI, stream: bool, as_object: bool
) -> None:
    made = await client.conversations.create(items=[user("one two")])
    named: Any = {"id": made.id} if as_object else made.id
    response: Any
    if stream:
        async with client.responses.stream(model="m", input="three", conversation=named) as events:
            response = await events.get_final_response()
    else:
        response = await client.responses.create(model="m", input="three", conversation=named)

    assert response.conversation is not None and response.conversation.id == made.id
    assert response.usage is not None and response.usage.input_tokens == 3
    found: list[Any] = [item async for item in client.conversations.items.list(made.id, order="asc")]
    assert [item.content[0].text for item in found] == ["one two", "three", "You said: three"]
    assert found[-1].id == response.output[0].id
    counted = await client.responses.input_tokens.count(model="m", input="four", conversation=named)
    assert counted.input_tokens == 7


async def test_what_is_stored_nowhere_is_still_said_in_its_conversation(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create()
    response = await client.responses.create(model="m", input="hi", conversation=made.id, store=False)

    assert len([item async for item in client.conversations.items.list(made.id)]) == 2
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_an_unknown_conversation_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model="m", input="hi", conversation="conv_unknown")
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.list("conv_unknown")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/conversations", {"metadata": {"a": 1}}, "metadata"),
        ("/conversations", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ("/conversations", {"items": "hi"}, "items"),
        ("/conversations", {"items": ["hi"]}, "items"),
        ("/conversations", {"items": [{}] * 21}, "items"),
        ("/conversations/{id}", {}, "metadata"),
        ("/conversations/{id}/items", {}, "items"),
        ("/conversations/{id}/items", {"items": []}, "items"),
        ("/responses", {"model": "m", "conversation": 7}, "conversation"),
        ("/responses", {"model": "m", "conversation": {"id": "x"}, "previous_response_id": "y"}, "conversation"),
    ],
)
async def test_what_a_conversation_cannot_be_is_refused_by_name(
    provider: FakeProvider, client: openai.AsyncOpenAI, path: str, body: Any, param: str
) -> None:
    made = await client.conversations.create()
    async with httpx.AsyncClient() as http:
        reply = await http.post(provider.base_url + path.format(id=made.id), json=body)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("value", ["²", "9" * 5000, "-1", "x"])
@pytest.mark.parametrize("member", ["limit", "starting_after"])
async def test_numbers_that_are_none_are_refused(
    provider: FakeProvider, client: openai.AsyncOpenAI, member: str, value: str
) -> None:
    response = await client.responses.create(model="m", input="hi")
    below = "" if member == "starting_after" else "/input_items"
    async with httpx.AsyncClient() as http:
        reply = await http.get(
            f"{provider.base_url}/responses/{response.id}{below}", params={"stream": "true", member: value}
        )

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, member)


def test_the_oldest_make_room() -> None:
    conversations = Conversations("fake")
    plans = [conversations.create({}) for _ in range(MOST + 1)]
    first, last = (str((plan.response or {})["id"]) for plan in (plans[0], plans[-1]))

    assert conversations.find(last)
    with pytest.raises(Refused):
        conversations.find(first)
