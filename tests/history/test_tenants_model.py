"""Random tenants, ids and operations over a whole gateway, against a model of what each of them may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gomodel_asgi import Gateway
from gomodel_asgi.testing import FakeProvider

from ..support.driving import Caller, ask
from ..support.remembering import MODELS, provider_of, says
from ..support.worker import tenant

TENANTS = ["a", "b", "None", ""]

Step = tuple[str, str, int, str]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "continue", "retrieve", "delete", "input_items", "refer", "forget"]),
        st.sampled_from(TENANTS),
        st.integers(0, 7),
        st.sampled_from(["responses", "chat"]),
    ),
    min_size=4,
    max_size=25,
)


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, FakeProvider]]:
    with FakeProvider(name="n").run_in_thread() as native, FakeProvider(name="c").run_in_thread() as chat:
        yield {"responses": native, "chat": chat}


@dataclass
class World:
    """*ids* are all responses ever made; *owned* those that each tenant has, with their first output item."""

    gateway: Gateway
    fakes: dict[str, FakeProvider]
    ids: list[tuple[str, str]] = field(default_factory=list)
    owned: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in TENANTS})

    async def step(self, operation: str, name: str, number: int, dialect: str) -> None:
        if operation == "forget":
            await self.gateway.forget(name)
            self.owned[name].clear()
        elif operation == "create" or not self.ids:
            await self._created(name, dialect, {"input": f"secret of {name!r}"})
        else:
            id, item = self.ids[number % len(self.ids)]
            await self._used(operation, name, dialect, id, item)

    async def _created(self, name: str, dialect: str, members: dict[str, Any]) -> Caller:
        if dialect == "chat":
            self.fakes["chat"].script(says("chat", f"answer for {name!r}"))
        headers = [(b"content-type", b"application/json"), (b"x-tenant", name.encode())]
        caller = await ask(self.gateway, {"model": MODELS[dialect], **members}, headers=headers)
        if caller.status == 200:
            response = caller.json()
            self.ids.append((response["id"], response["output"][0]["id"]))
            self.owned[name].add(response["id"])
        self.fakes["chat"]._queue.clear()
        return caller

    async def _used(self, operation: str, name: str, dialect: str, id: str, item: str) -> None:
        mine = id in self.owned[name]
        asked = sum(len(fake.requests) for fake in self.fakes.values())
        if operation == "continue":
            caller = await self._created(name, dialect, {"input": "more", "previous_response_id": id})
            allowed, refused = 200, 400
        elif operation == "refer":
            caller = await self._created(name, dialect, {"input": [{"type": "item_reference", "id": item}]})
            allowed, refused = 200, 404
        else:
            path = f"/v1/responses/{id}" + ("/input_items" if operation == "input_items" else "")
            method = "DELETE" if operation == "delete" else "GET"
            caller = await ask(self.gateway, path=path, method=method, headers=[(b"x-tenant", name.encode())])
            allowed, refused = 200, 404
        if not mine:
            assert caller.status == refused
            assert sum(len(fake.requests) for fake in self.fakes.values()) == asked
        elif operation not in ("continue", "refer"):  # these may need what has been deleted
            assert caller.status == allowed
        if mine and operation == "delete":
            self.owned[name].discard(id)
        for other in TENANTS:
            if other != name:
                assert f"secret of {other!r}".encode() not in caller.content

    async def run(self, steps: list[Step]) -> None:
        for step in steps:
            await self.step(*step)
        await self.gateway.aclose()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_no_tenant_ever_reaches_what_is_anothers(fakes: dict[str, FakeProvider], steps: list[Step]) -> None:
    for fake in fakes.values():
        fake.requests.clear()
    providers = [provider_of(dialect, fake) for dialect, fake in fakes.items()]
    world = World(Gateway(providers=providers, tenant=tenant), fakes)
    run: Callable[[list[Step]], Any] = world.run
    anyio.run(run, steps)
