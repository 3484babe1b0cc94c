"""What of a declared tool waits in the store for a worker of the host's own task queue."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.stores import Encrypted, MemoryStore
from gomodel_asgi.testing import Answer

from ...support.driving import Caller, ask
from .hosting import MODELS, Hosting, House, Json, dump, search

PATH = "canary-path"
URL = f"https://mcp.example/{PATH}"
NEVER: Json = {"type": "mcp", "server_label": "far", "server_url": URL, "require_approval": "never"}
BARE: Json = {**NEVER, "server_url": "https://mcp.example"}
TOKEN: Json = {**BARE, "authorization": "canary-token"}
HEADERS: Json = {**BARE, "headers": {"x-key": "canary-header"}}
QUERY: Json = {**BARE, "server_url": "https://mcp.example/?key=canary-query"}


class Queue:
    """A house whose background work waits for `work`; *engine* is what its store keeps."""

    def __init__(self, hosting: Hosting, dialect: str, *, sealed: bool, remote: Any = None) -> None:
        self.engine = MemoryStore()
        self.tickets: list[str] = []
        store = Encrypted(self.engine, os.urandom(32)) if sealed else self.engine
        given = (tools.web_search(search), tools.mcp({}, remote=remote))
        options: Json = {"provider": {"hosted_tools": None}, "store": store}
        self.house: House = hosting(*given, dialect=dialect, **options)
        self.house.gateway.background.enqueue = self.enqueue

    async def enqueue(self, ticket: str) -> None:
        self.tickets.append(ticket)

    async def ask(self, *declared: Json) -> Caller:
        body = {"model": MODELS[self.house.dialect], "input": "Hi", "tools": [*declared], "background": True}
        return await ask(self.house.gateway, body)

    async def work(self) -> None:
        await self.house.gateway.run_background(self.tickets[-1])

    def kept(self) -> str:
        """All that lies in the engine and the queue."""
        return repr(dump(self.engine)) + repr(self.tickets)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "plain"])
@pytest.mark.parametrize("tool", [TOKEN, HEADERS, QUERY], ids=["token", "headers", "query"])
async def test_a_credential_waits_in_no_store(hosting: Hosting, tool: Json, sealed: bool) -> None:
    for remote in (None, lambda url, call: False):
        queue = Queue(hosting, "anthropic", sealed=sealed, remote=remote)
        caller = await queue.ask({"type": "web_search"}, tool)

        assert (caller.status, caller.error["param"]) == (400, "tools[1]")
        assert not queue.tickets and "canary" not in queue.kept()


async def test_the_path_of_a_clients_server_waits_in_no_store_that_others_can_read(hosting: Hosting) -> None:
    queue = Queue(hosting, "anthropic", sealed=False)
    caller = await queue.ask(NEVER)

    assert (caller.status, caller.error["param"]) == (400, "tools[0]") and "path" in caller.error["message"]
    assert not queue.tickets and PATH not in queue.kept()


async def test_a_sealed_store_keeps_the_path_until_the_work_begins(hosting: Hosting) -> None:
    queue = Queue(hosting, "anthropic", sealed=True)
    queue.house.fake.script(Answer(text="Done."))
    caller = await queue.ask(NEVER)
    id = caller.json()["id"]
    assert caller.json()["status"] == "queued" and PATH.encode() not in caller.content
    assert PATH not in queue.kept()
    assert PATH in repr(await queue.house.gateway.state.records.turns.find(None, id))
    await queue.work()

    assert queue.house.sent[0]["mcp_servers"][0]["url"] == URL
    assert PATH not in repr(await queue.house.gateway.state.records.turns.find(None, id))


async def test_a_server_that_is_asked_from_here_is_asked_at_its_whole_address(hosting: Hosting) -> None:
    asked: list[str] = []

    def admits(url: str, call: tools.Call) -> bool:
        asked.append(url)
        return False

    queue = Queue(hosting, "chat", sealed=True, remote=admits)
    await queue.ask(NEVER)
    await queue.work()

    assert asked == [URL]


async def test_an_address_without_a_path_waits_in_any_store(hosting: Hosting) -> None:
    queue = Queue(hosting, "anthropic", sealed=False)
    queue.house.fake.script(Answer(text="Done."))

    assert (await queue.ask(BARE)).json()["status"] == "queued"
    await queue.work()
    assert queue.house.sent[0]["mcp_servers"][0]["url"] == BARE["server_url"]
