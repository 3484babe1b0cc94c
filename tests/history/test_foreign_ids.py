"""Wherever an id may stand, in whichever operation: one that is another tenant's is never written to an upstream.

Generated from the table of operations: an operation that is added to it is asked here as well. What a row says of path,
query and body is filled with ids, and every id is written in every way that a client might think of.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.types import ASGIApp

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.contrib.fastapi import responses_router
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.history.references import CONTENT
from gomodel_asgi.operations import BODY, FRAMES, PLACEHOLDER, TABLE, Row
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import Caller, ask
from ..support.tenants import of, tenant
from ..support.websocket_client import ENDS, connected
from ..support.websocket_upstream import Upstream, running

HTTP = [row for row in TABLE if row.upstream]
BODIED = [row for row in HTTP if row.body is not None]


def name_of(row: Row) -> str:
    return f"{row.method} {row.path}"


@dataclass
class Owned:
    """What one tenant has: ids by the name of the placeholder, the ids of items, and one of reasoning."""

    ids: dict[str, str]
    items: list[str]
    reasoning: str

    @property
    def all(self) -> list[str]:
        return [*self.ids.values(), *self.items, self.reasoning]


@dataclass
class World:
    """A gateway before *fake*, with what *mine* and *theirs* have there."""

    gateway: Gateway
    app: ASGIApp
    fake: FakeProvider
    mine: Owned
    theirs: Owned

    def written(self) -> str:
        """All that the upstream was sent, as it stands there and as it is read."""
        sent = []
        for request in self.fake.requests:
            sent += [request.path, request.query.decode(), request.body.decode()]
            sent.append(json.dumps(json.loads(request.body)) if request.body else "")
        return "\n".join(sent)

    def check(self, what: object, foreign: Iterable[str]) -> None:
        """Nothing *foreign* has been written; begin anew."""
        written = self.written()
        self.fake.requests.clear()
        assert not [id for id in foreign if id in written], what


async def owned(gateway: Gateway, fake: FakeProvider, name: str) -> Owned:
    fake.script(Answer(reasoning=f"{name} thinks.", text=f"Secret of {name}."))
    response = (await ask(gateway, {"model": "m", "input": "hi"}, headers=of(name))).json()
    body = {"items": [{"role": "user", "content": f"word of {name}"}]}
    conversation = (await ask(gateway, body, path="/v1/conversations", headers=of(name))).json()["id"]
    path = f"/v1/conversations/{conversation}/items"
    item = (await ask(gateway, path=path, method="GET", headers=of(name))).json()["data"][0]["id"]
    reasoning, message = response["output"]
    ids = {"response_id": response["id"], "conversation_id": conversation, "item_id": item}
    return Owned(ids, [message["id"]], reasoning["id"])


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as fake:
        yield fake


@asynccontextmanager
async def world_of(fake: FakeProvider, door: str = "mount") -> AsyncIterator[World]:
    gateway = Gateway(providers=[Provider("fake", fake.base_url, api_key="sk-house")], tenant=tenant)
    async with gateway:
        theirs, mine = [await owned(gateway, fake, name) for name in ("victim", "attacker")]
        app: ASGIApp = gateway
        if door == "fastapi":
            app = FastAPI()
            app.include_router(responses_router(gateway))
        fake.requests.clear()
        yield World(gateway, app, fake, mine, theirs)


@pytest.fixture(params=["mount", "fastapi"])
async def world(request: pytest.FixtureRequest, fake: FakeProvider) -> AsyncIterator[World]:
    async with world_of(fake, request.param) as made:
        yield made


@pytest.fixture(params=["attacker", None])
def caller(request: pytest.FixtureRequest) -> str | None:
    """Who asks: another tenant, or somebody who has none."""
    assert request.param is None or isinstance(request.param, str)
    return request.param


# What is asked...


def path_of(row: Row, ids: dict[str, str]) -> str:
    """The path of *row*; a placeholder that nobody has an id for fails here, and wants one in `owned`."""
    return "/v1" + PLACEHOLDER.sub(lambda match: ids[match[1]], row.path)


def members_of(row: Row) -> dict[str, str]:
    """The members of an ordinary body, each as JSON."""
    if "conversations" not in row.path:
        return {"model": '"m"', "input": '"hi"'}
    return {"metadata": "{}", "items": "[]"}


def body_of(members: dict[str, str]) -> str:
    return "{%s}" % ",".join(f'"{name}":{value}' for name, value in members.items())


async def send(world: World, row: Row, name: str | None, body: str = "", *, ids: Any = None, query: str = "") -> Caller:
    path = path_of(row, ids or world.mine.ids)
    given = body or (body_of(members_of(row)) if row.body is not None else "")
    return await ask(world.app, given, path=path, method=row.method, headers=of(name), query=query.encode())


def escaped(name: str) -> str:
    return f"\\u{ord(name[0]):04x}{name[1:]}"


def written(name: str, value: str, mine: str) -> Iterator[str]:
    """A member in every way in which it can be written; *mine* is a value that is no foreign one."""
    yield f'"{name}":{value}'
    yield f'"{name}" :\t{value}'
    yield f'"{escaped(name)}":{value}'
    yield f'"{name.title()}":{value}'
    yield f'"{name.upper()}":{value}'
    yield f'"{name}":{value},"{name}":{mine}'
    yield f'"{name}":{mine},"{name}":{value}'
    yield f'"{name}":{mine},"{escaped(name).upper()[:6]}{name[1:]}":{value}'
    yield f'"{name.title()}":{value},"{name}":{mine}'
    yield f'"more":1,"{name}":{value},"other":[]'


def texts(id: str) -> Iterator[str]:
    """An id as JSON, in every way in which that can be written."""
    yield json.dumps(id)
    yield '"%s"' % escaped(id)


TYPES = [*CONTENT, "item_reference", "function_call_output", "apply_patch_call", "mcp_list_tools", "acme:thing"]


def items_of(id: str, mine: str) -> Iterator[str]:
    """Items that stand for the one with this id, in every way in which they can be written."""
    for text in texts(id):
        yield '{"id":%s}' % text
        yield '{"type":null,"id":%s,"status":"completed"}' % text
        for member in written("id", text, json.dumps(mine)):
            yield '{"type":"item_reference",%s}' % member
            yield '{%s,"type":"image_generation_call","result":null}' % member
        for member in written("approval_request_id", text, json.dumps(mine)):
            yield '{"type":"mcp_approval_response","approve":true,%s}' % member
    for type in TYPES:
        yield '{"type":"%s","id":"%s"}' % (type, id)
        yield '{"type":"%s","id":"%s","role":"assistant","status":"completed","more":"text","n":1}' % (type, id)
        for name in CONTENT.get(type, ("output",)):
            for empty in ("null", '""', "[]", "{ }", "false"):
                if (type, empty) != ("message", "[]"):
                    yield '{"type":"%s","id":"%s","%s":%s}' % (type, id, name, empty)
            yield '{"type":"%s","id":"%s","%s":"x","%s":null}' % (type, id, name, name.title())
    for member in written("type", '"item_reference"', '"message"'):
        yield '{%s,"role":"user","content":"hi","id":"%s"}' % (member, id)


def places_in(row: Row, theirs: Owned, mine: Owned) -> Iterator[dict[str, str]]:
    """Bodies with a foreign id, one in each place that the row knows of; the members are those of `members_of`."""
    assert row.body is not None
    ordinary = members_of(row)
    for name in row.body.members:
        kind = "conversation_id" if name == "conversation" else "response_id"
        for text in texts(theirs.ids[kind]):
            own = json.dumps(mine.ids[kind])
            for member in written(name, text, own):
                yield {**ordinary, "": member}
            for member in written("id", text, own):
                yield {**ordinary, name: "{%s}" % member}
            yield {**ordinary, name: f"[{text}]"}
    for name, below in row.body.nested:
        for text in texts(theirs.ids["response_id"]):
            for member in written(below, text, json.dumps(mine.ids["response_id"])):
                yield {**ordinary, name: "{%s}" % member}
    for name in row.body.items:
        for id in (*theirs.items, theirs.reasoning):
            for item in items_of(id, mine.items[0]):
                yield {**ordinary, name: f"[{item}]"}
                yield {**ordinary, name: '[{"role":"user","content":"hi"},7,%s]' % item}
            reference = '{"type":"item_reference","id":"%s"}' % id
            yield {**ordinary, name: reference}
            yield {**ordinary, "": '"%s":[%s]' % (name.title(), reference)}


def json_of(members: dict[str, str]) -> str:
    """*members* as a body; that of no name is one or several as they are written."""
    more = members.pop("", "")
    body = body_of(members)
    return body[:-1] + "," + more + "}" if more else body


# What must never be...


@pytest.mark.parametrize("row", HTTP, ids=name_of)
async def test_a_foreign_id_in_a_path_is_never_written_to_an_upstream(
    world: World, caller: str | None, row: Row
) -> None:
    for name in row.placeholders:
        ids = {**world.mine.ids, name: world.theirs.ids[name]}
        if caller is None:
            ids = {**world.theirs.ids}
        answer = await send(world, row, caller, ids=ids)
        assert answer.status == 404
        world.check(name, world.theirs.all)


@pytest.mark.parametrize("row", HTTP, ids=name_of)
async def test_a_foreign_id_in_a_query_is_never_written_to_an_upstream(
    world: World, caller: str | None, row: Row
) -> None:
    for name in row.query:
        for id in world.theirs.all:
            for query in (f"{name}={id}", f"limit=1&{name.upper()}={id}", f"{name}={world.mine.items[0]}&{name}={id}"):
                answer = await send(world, row, caller, query=query)
                assert answer.status == 404
                world.check(query, world.theirs.all)


@pytest.mark.parametrize("row", BODIED, ids=name_of)
async def test_a_foreign_id_in_a_body_is_never_written_to_an_upstream(
    world: World, caller: str | None, row: Row
) -> None:
    step = 1 if world.app is world.gateway else 11  # behind the router it is the same gateway
    for members in islice(places_in(row, world.theirs, world.mine), 0, None, step):
        body = json_of(members)
        await send(world, row, caller, body)
        world.check(body, world.theirs.all)


@pytest.mark.parametrize("row", BODIED, ids=name_of)
async def test_what_is_the_callers_own_is_written(world: World, row: Row) -> None:
    """Else the others would show nothing."""
    assert row.body is not None
    for name in row.body.items:
        id = world.mine.items[0]
        for item in (f'{{"id":"{id}"}}', f'{{"type":"message","role":"assistant","id":"{id}"}}'):
            await send(world, row, "attacker", json_of({**members_of(row), name: f"[{item}]"}))
            assert id in world.written()
            world.fake.requests.clear()


@pytest.mark.parametrize("row", [row for row in HTTP if row.gives in ("response", "conversation")], ids=name_of)
async def test_the_id_that_a_reply_gives_is_claimed(world: World, row: Row) -> None:
    answer = await send(world, row, "attacker")
    claims, provider = world.gateway.state.records.claims, world.gateway.setup.registry.by_name["fake"]
    upstream = world.gateway.state.records.accounts.upstream(provider)

    assert answer.status == 200
    assert await claims.is_anothers("somebody", upstream, answer.json()["id"])


@pytest.mark.parametrize("row", [row for row in HTTP if row.gives == "items"], ids=name_of)
async def test_the_items_that_a_reply_lists_may_be_named_in_a_path(world: World, row: Row) -> None:
    more = json_of({**members_of(row), "items": '[{"role":"user","content":"more"}]'}) if row.body is not None else ""
    answer = await send(world, row, "attacker", more)
    container, records = world.mine.ids[f"{row.path_names}_id"], world.gateway.state.records

    assert answer.status == 200
    for item in answer.json()["data"]:
        assert await records.is_listed("attacker", container, item["id"])


# Depth...


def nested_in(kind: str, depth: int, inner: str) -> str:
    opening, closing = {"list": ("[", "]"), "object": ('{"a":', "}"), "content": ('{"content":[', "]}")}[kind]
    return opening * depth + inner + closing * depth


DEPTHS = [1, 2, 3, 50, 126, 127, 128, 129, 500, 900, *range(950, 1002, 3), *range(963, 975), 1500, 2000]


@pytest.mark.parametrize("kind", ["list", "object", "content"])
@pytest.mark.parametrize("row", BODIED, ids=name_of)
async def test_a_foreign_id_at_any_depth_is_never_written_to_an_upstream(
    fake: FakeProvider, caller: str | None, row: Row, kind: str
) -> None:
    async with world_of(fake) as world:
        reference = '{"type":"item_reference","id":"%s"}' % world.theirs.items[0]
        assert row.body is not None
        for depth in DEPTHS:
            inside, beside = nested_in(kind, depth, reference), nested_in(kind, depth, "1")
            for name in row.body.items:
                hidden = f'[{{"role":"user","x":{beside}}},{reference}]'
                for items in (f"[{inside}]", inside, f"[{beside},{reference}]", hidden):
                    await send(world, row, caller, json_of({**members_of(row), name: items}))
                    world.check((name, depth), world.theirs.all)


# Everything at once...

SPELLED = st.sampled_from(range(10))


MORE = ['"a":1', '"b":"text"', '"Content":null', '"status":"completed"', '"c":[]']


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.sampled_from(BODIED),
    caller=st.sampled_from(["attacker", None]),
    type=st.sampled_from(TYPES),
    type_spelled=SPELLED,
    id_spelled=SPELLED,
    more=st.lists(st.sampled_from(MORE), max_size=3),
    kind=st.sampled_from(["list", "object", "content"]),
    depth=st.integers(0, 2000),
    before=st.integers(0, 3),
)
def test_however_an_id_is_written_a_foreign_one_is_never_written_to_an_upstream(
    fake: FakeProvider,
    row: Row,
    caller: str | None,
    type: str,
    type_spelled: int,
    id_spelled: int,
    more: list[str],
    kind: str,
    depth: int,
    before: int,
) -> None:
    async def asked() -> None:
        async with world_of(fake) as world:
            id, own = world.theirs.items[0], json.dumps(world.mine.items[0])
            types = [*written("type", json.dumps(type), '"message"')]
            ids = [*written("id", json.dumps(id), own)]
            deep = depth if type == "item_reference" or kind == "list" else 0
            item = nested_in(kind, deep, "{%s}" % ",".join([types[type_spelled], ids[id_spelled], *more]))
            items = "[%s]" % ",".join(['{"role":"user","content":"hi"}'] * before + [item])
            assert row.body is not None
            for name in row.body.items:
                body = json_of({**members_of(row), name: items})
                await send(world, row, caller, body)
                world.check(body, [id])

    anyio.run(asked)


# Other doors...


async def test_what_the_hosts_own_code_asks_is_no_exception(fake: FakeProvider, caller: str | None) -> None:
    async with world_of(fake) as world:
        for members in places_in(FRAMES["response.create"], world.theirs, world.mine):
            body = json_of(members)
            try:
                await world.gateway.respond(body, tenant=caller)
            except GatewayError:
                pass
            world.check(body, world.theirs.all)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("type", FRAMES)
async def test_a_foreign_id_in_a_frame_is_never_written_to_an_upstream(
    fake: FakeProvider, upstream: Upstream, caller: str | None, type: str, relayed: bool
) -> None:
    """*relayed*: to an upstream with a WebSocket of its own; where the ids are from matters not there."""
    async with world_of(fake) as world:
        gateway = world.gateway
        if relayed:
            gateway.reload(providers=[Provider("fake", upstream.base_url, api_key="sk-house", websocket=True)])
            upstream_of = gateway.state.records.accounts.upstream(gateway.setup.registry.by_name["fake"])
            for id in world.theirs.all:
                await gateway.state.records.claims.keep("victim", upstream_of, id)
        foreign = [id for id in world.theirs.all if not relayed or caller is not None or id != world.theirs.reasoning]
        headers = [(b"host", b"testserver"), *of(caller)[1:]]
        async with connected(gateway, headers=headers) as client:
            first = await client.talk("hello", model="m")
            fake.requests.clear()
            for members in places_in(FRAMES[type], world.theirs, world.mine):
                steered = {"previous_response_id": json.dumps(first["id"])} if type == "response.steer" else {}
                more = {name: value for name, value in members.items() if name not in steered}
                body = json_of({"type": json.dumps(type), **steered, **more})
                await client.send(body)
                await client.until(*ENDS, "error", "response.steer.accepted", "response.steer.failed")
                world.check(body, foreign)
                frames = json.dumps(upstream.frames) + "".join(map(str, upstream.texts))
                assert not [id for id in foreign if id in frames], body


def test_the_table_names_every_place_where_the_api_has_an_id() -> None:
    """What is taken out of the table is asked no longer, so it is said once more here."""
    assert {row.body for row in TABLE} == {BODY, None}
    assert {*BODY.members} == {"previous_response_id", "conversation"}
    assert {*BODY.items} == {"input", "items"}
    assert {*BODY.nested} == {("prompt_cache_options", "comparison_response_id")}
    assert {name_of(row) for row in TABLE if row.query} == {
        "GET /responses/{response_id}/input_items",
        "GET /conversations/{conversation_id}/items",
    }
