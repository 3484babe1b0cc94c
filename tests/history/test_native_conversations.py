"""Conversations that a native upstream keeps: forwarded to the account that owns them, for their tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.history.turns import TURNS
from gomodel_asgi.observers import Warned
from gomodel_asgi.testing import FakeProvider

from ..support.driving import Caller, ask
from ..support.remembering import provider_of
from ..support.tenants import anyio_backend, of, one, tenant

__all__ = ["anyio_backend", "one"]


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
async def gateway(one: FakeProvider, told: list[Any]) -> AsyncIterator[Gateway]:
    made = Gateway(providers=[provider_of("responses", one, "one")], tenant=tenant, observers=[told.append])
    yield made
    await made.aclose()


async def send(
    gateway: Gateway, method: str, path: str, body: Any = b"", *, name: str | None = "acme", query: bytes = b""
) -> Caller:
    return await ask(gateway, body, path=f"/v1/{path}", method=method, headers=of(name), query=query)


async def test_every_operation_on_a_conversation_is_done_by_its_owner(gateway: Gateway, one: FakeProvider) -> None:
    made = (await send(gateway, "POST", "conversations", {"items": [{"role": "user", "content": "hi"}]})).json()
    at = f"conversations/{made['id']}"
    listed = (await send(gateway, "GET", f"{at}/items", query=b"limit=1&order=asc")).json()
    item = listed["data"][0]["id"]

    assert (await send(gateway, "GET", at)).json() == made
    assert (await send(gateway, "POST", at, {"metadata": {"a": "b"}})).json()["metadata"] == {"a": "b"}
    more = {"items": [{"role": "user", "content": "more"}]}
    assert len((await send(gateway, "POST", f"{at}/items", more)).json()["data"]) == 1
    assert (await send(gateway, "GET", f"{at}/items/{item}")).json()["id"] == item
    assert (await send(gateway, "DELETE", f"{at}/items/{item}")).json()["object"] == "conversation"
    assert (await send(gateway, "DELETE", at)).json()["deleted"] is True
    assert (await send(gateway, "GET", at)).status == 404
    assert len(one.requests) == 8


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_in_a_native_conversation_is_remembered_like_any_other(
    gateway: Gateway, one: FakeProvider, told: list[Any], stream: bool
) -> None:
    id = (await send(gateway, "POST", "conversations", {})).json()["id"]
    caller = await send(
        gateway, "POST", "responses", {"model": "gpt-5", "input": "hi", "conversation": id, "stream": stream}
    )
    response = caller.events()[-1]["response"] if stream else caller.json()

    assert response["conversation"] == {"id": id}
    assert (await send(gateway, "GET", f"responses/{response['id']}")).json()["id"] == response["id"]
    reference = [{"type": "item_reference", "id": response["output"][0]["id"]}]
    assert (await send(gateway, "POST", "responses", {"model": "gpt-5", "input": reference})).status == 200
    assert not [record for record in told if isinstance(record, Warned)]
    assert not [key async for key in gateway.store.scan(TURNS)], "not a word of what was said"
    listed = (await send(gateway, "GET", f"conversations/{id}/items")).json()
    assert [item["role"] for item in listed["data"]] == ["assistant", "user"]


async def test_another_tenants_conversation_is_an_unknown_one(gateway: Gateway, one: FakeProvider) -> None:
    id = (await send(gateway, "POST", "conversations", {})).json()["id"]
    told: dict[str, list[Any]] = {}
    for asked in (id, id[:-1] + "9"):
        body = {"model": "gpt-5", "input": "hi", "conversation": asked}
        callers = [
            await send(gateway, "GET", f"conversations/{asked}", name="other"),
            await send(gateway, "POST", f"conversations/{asked}", {"metadata": {}}, name="other"),
            await send(gateway, "GET", f"conversations/{asked}/items", name="other"),
            await send(gateway, "POST", "responses", body, name="other"),
            await send(gateway, "DELETE", f"conversations/{asked}", name="other"),
        ]
        told[asked] = [(caller.status, caller.error["code"], caller.error["message"]) for caller in callers]

    assert told[id] == told[id[:-1] + "9"]
    assert {status for status, _, _ in told[id]} == {404}
    assert len(one.requests) == 1
    assert (await send(gateway, "GET", f"conversations/{id}")).status == 200
