"""Hosted tools behind `background: true`: the gateway does the work, whatever background the upstream has."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from gomodel_asgi import tools
from gomodel_asgi.observers import Completed, Record, ToolCalled
from gomodel_asgi.testing import Answer

from ...support.driving import TIMEOUT, ask
from ...support.lab import until
from .hosting import WEB, Hanging, Hosting, Json, call, calls, kinds, search, text_of

pytestmark = pytest.mark.anyio

BODY: Json = {"input": "Weather?", "tools": [WEB], "background": True}


async def look(house: Any, id: str, method: str = "GET", path: str = "") -> Json:
    found: Json = (await ask(house.gateway, path=f"/v1/responses/{id}{path}", method=method)).json()
    return found


async def ended(house: Any, id: str) -> Json:
    """The response, once nobody works on it any more."""
    with anyio.fail_after(TIMEOUT):
        while True:
            response = await look(house, id)
            if response["status"] not in ("queued", "in_progress"):
                return response
            await anyio.sleep(0.01)


async def test_a_response_that_needs_the_hosts_tools_waits_in_the_gateways_background(
    hosting: Hosting, dialect: str
) -> None:
    house = hosting(tools.web_search(search), dialect=dialect, provider={"stateful": dialect == "responses"})
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    first = await house.ask(BODY)
    assert (first["status"], first["output"], first["background"]) == ("queued", [], True)
    response = await ended(house, first["id"])
    assert (response["status"], response["background"]) == ("completed", True)
    assert kinds(response) == ["web_search_call", "message"]
    assert all("background" not in body for body in house.sent)


async def test_a_search_that_the_client_forbids_and_the_host_owns_is_left_out_in_the_background_too(
    hosting: Hosting,
) -> None:
    house = hosting(tools.web_search(search, use="always"), dialect="responses", provider={"stateful": True})
    cached = {"type": "web_search", "external_web_access": False}
    first = await house.ask({"input": "Weather?", "tools": [cached], "background": True})
    assert (await ended(house, first["id"]))["status"] == "completed"
    assert [(body.get("background"), body.get("tools")) for body in house.sent] == [(None, None)]


async def test_a_response_that_needs_none_waits_in_the_upstreams_background(hosting: Hosting) -> None:
    house = hosting(tools.web_search(search), dialect="responses", provider={"stateful": True})
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    first = await house.ask({"input": "Weather?", "tools": [WEB]})
    history = [{"role": "user", "content": "Weather?"}, *first["output"], {"role": "user", "content": "And?"}]
    for given in (history, "Hi"):
        second = await house.ask({"input": given, "background": True})
        assert second["status"] == "queued" and house.sent[-1]["background"] is True


async def test_work_in_the_background_is_recorded_once_it_has_ended(hosting: Hosting, dialect: str) -> None:
    records: list[Record] = []
    house = hosting(tools.web_search(search), dialect=dialect, observers=[records.append])
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    response = await ended(house, (await house.ask(BODY))["id"])

    def completed() -> list[Completed]:
        return [record for record in records if isinstance(record, Completed) and record.operation == "create"]

    await until(lambda: len(completed()) == 2)
    queued, worked = completed()
    assert queued.usage is None and worked.usage is not None
    assert worked.usage.total_tokens == response["usage"]["total_tokens"]
    (called,) = [record for record in records if isinstance(record, ToolCalled)]
    assert records.index(called) < records.index(worked)


async def test_a_stream_of_the_hosts_own_code_is_recorded_once_it_has_ended(hosting: Hosting) -> None:
    records: list[Record] = []
    house = hosting(tools.web_search(search), observers=[records.append])
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    events = await house.events({"input": "Weather?", "tools": [WEB]})
    (completed,) = [record for record in records if isinstance(record, Completed)]
    assert records[-1] is completed and completed.usage is not None
    assert completed.usage.total_tokens == events[-1]["response"]["usage"]["total_tokens"]
    assert completed.events == len(events)


async def test_a_cancel_ends_the_hosts_function(hosting: Hosting, dialect: str) -> None:
    hanging = Hanging()
    house = hosting(tools.web_search(hanging), dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome")))
    id = (await house.ask(BODY))["id"]
    with anyio.fail_after(TIMEOUT):
        await hanging.entered.wait()
        assert (await look(house, id))["status"] == "in_progress"
        assert (await look(house, id, "POST", "/cancel"))["status"] == "cancelled"
        await hanging.left.wait()
    assert (await look(house, id))["status"] == "cancelled" and len(house.sent) == 1


async def test_a_later_turn_sees_what_was_found_in_the_background(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.web_search(search), dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."), Answer(text="Still."))
    id = (await house.ask(BODY))["id"]
    await ended(house, id)
    response = await house.ask({"input": "And?", "previous_response_id": id, "tools": [WEB]})
    assert text_of(response) == "Still." and "Found for rome" in house.outputs()[0]
