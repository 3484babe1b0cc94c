"""Credentials in a client's declarations are found nowhere: not upstream, not in a reply, not in what is stored, told,
logged or printed. (That no log holds one, every test here checks.)"""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gomodel_asgi import MemoryStore, Target, tools
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver
from gomodel_asgi.observers import Record, ToolCalled
from gomodel_asgi.testing import Answer

from ...support.driving import ask, encoded
from .hosting import CODE, MODELS, Hosting, House, Json, call, calls, kinds

pytestmark = pytest.mark.anyio

CANARY = "canary"
SECRET: Json = {
    "type": "mcp",
    "server_label": "crm",
    "server_url": f"https://{CANARY}-user:{CANARY}-pw@crm.example.com/{CANARY}-path?key={CANARY}-query#{CANARY}-part",
    "authorization": f"{CANARY}-token",
    "headers": {"x-api-key": f"{CANARY}-header", "cookie": f"a={CANARY}-cookie"},
}
NEVER: Json = {**SECRET, "require_approval": "never"}
SANDBOX: Json = {
    "type": "code_interpreter",
    "container": {
        "type": "auto",
        "network_policy": {
            "type": "allowlist",
            "allowed_domains": ["example.com"],
            "domain_secrets": [{"domain": "example.com", "name": "key", "value": f"{CANARY}-domain"}],
        },
    },
}


def lookup(order: str, call: tools.Call) -> str:
    """Look an order up."""
    assert CANARY not in repr(call) and CANARY not in json.dumps(dict(call.tool))
    if order == "8":
        raise RuntimeError(f"no answer from {SECRET['server_url']} with {SECRET['authorization']}")
    return "On its way."


def execute(call: tools.Call) -> str:
    assert CANARY not in json.dumps(dict(call.tool))
    return "4"


class Witness:
    """All that a gateway says about requests to whoever watches it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracing = OpenTelemetryObserver(provider)
        self.store = MemoryStore()

    @property
    def options(self) -> Json:
        return {"observers": [self.records.append, self.tracing], "store": self.store}

    async def said(self, house: House) -> str:
        """What has become of the requests so far, all of it."""
        upstream = [
            f"{one.method} {one.path} {one.query!r} {one.headers!r} {one.body!r}" for one in house.fake.requests
        ]
        spans = [span.to_json() for span in self.spans.get_finished_spans()]
        kept = kept_in(self.store)
        assert upstream and spans and kept and self.records
        records = [repr(record) + repr(getattr(record, "raw_usage", "")) for record in self.records]
        return "\n".join([*upstream, *spans, *kept, *records, repr(house.gateway), repr(house.provider)])


def kept_in(store: MemoryStore) -> list[str]:
    """Every record of *store*, as it would lie on a disk."""
    entries = [entry for share in store._shares.by_owner.values() for entry in share.entries.items()]
    entries += store._lasting.items()
    return [f"{place} {one.value if isinstance(one.value, bytes) else one.value.packed()!r}" for place, one in entries]


@pytest.fixture
def witness() -> Witness:
    return Witness()


HOST = (tools.mcp({"crm": [lookup]}), tools.code_interpreter(execute))
SCRIPT = [
    calls(call("lookup", order="7"), call("lookup", order="8"), call("code_interpreter", code="2+2")),
    Answer(text="Done."),
]


@pytest.mark.parametrize("form", ["unary", "stream", "background"])
async def test_no_credential_of_a_declaration_goes_anywhere(
    hosting: Hosting, dialect: str, form: str, witness: Witness
) -> None:
    house = hosting(*HOST, dialect=dialect, **witness.options)
    house.fake.script(SCRIPT)
    body: Json = {"model": MODELS[dialect], "input": "Hi", "tools": [NEVER, SANDBOX], "stream": form == "stream"}
    caller = await ask(house.gateway, {**body, "background": form == "background"})
    id = caller.events()[-1]["response"]["id"] if form == "stream" else caller.json()["id"]
    response = caller.events()[-1]["response"] if form == "stream" else caller.json()
    while response["status"] in ("queued", "in_progress"):
        response = (await ask(house.gateway, path=f"/v1/responses/{id}", method="GET")).json()
    assert response["status"] == "completed"
    assert [kind for kind in kinds(response) if kind != "message"] == [
        "mcp_list_tools", "mcp_call", "mcp_call", "code_interpreter_call",
    ]  # fmt: skip
    replies = [caller.content, repr(caller.headers).encode()]
    for path in ("", "/input_items"):
        replies.append((await ask(house.gateway, path=f"/v1/responses/{id}{path}", method="GET")).content)
    assert CANARY.encode() not in b"\n".join(replies)
    assert CANARY not in await witness.said(house)
    called = [record for record in witness.records if isinstance(record, ToolCalled)]
    assert any(record.detail is not None and "no answer from" in record.detail for record in called)


async def test_no_credential_is_in_an_error(hosting: Hosting, dialect: str, witness: Witness) -> None:
    house = hosting(*HOST, dialect=dialect, **witness.options)
    wrong: list[Json] = [
        {"tools": [NEVER, NEVER]},
        {"tools": [{**NEVER, "require_approval": f"{CANARY}-approval"}]},
        {"tools": [{**NEVER, "headers": [f"{CANARY}-header"]}]},
        {"tools": [NEVER], "tool_choice": {"type": "mcp", "server_label": "other"}},
        {"tools": [{**NEVER, "allowed_tools": 3}]},
        {"tools": [NEVER], "input": [{"type": "mcp_approval_response", "approval_request_id": "x", "approve": True}]},
    ]
    for body in wrong:
        caller = await ask(house.gateway, encoded({"model": "m", "input": "Hi", **body}))
        assert caller.status == 400 and CANARY.encode() not in caller.content
    assert CANARY not in repr(witness.records)


async def test_no_credential_is_in_an_explanation(hosting: Hosting, witness: Witness) -> None:
    house = hosting(*HOST, policy=lambda request: Target("fake", tools=[SECRET]), **witness.options)
    explained = await house.gateway.explain({"model": "m", "input": "Hi", "tools": [SANDBOX]})
    assert CANARY not in repr(explained) and CANARY not in str(explained)


async def test_a_request_for_approval_keeps_no_credential(hosting: Hosting, dialect: str, witness: Witness) -> None:
    house = hosting(*HOST, dialect=dialect, **witness.options)
    house.fake.script(calls(call("lookup", order="7")), Answer(text="Done."))
    first = await house.ask({"input": "Hi", "tools": [SECRET]})
    approval = {"type": "mcp_approval_response", "approval_request_id": first["output"][-1]["id"], "approve": True}
    body = {"input": [approval], "previous_response_id": first["id"], "tools": [SECRET]}
    second = await house.ask(body)
    assert kinds(second) == ["mcp_call", "message"]
    assert CANARY not in json.dumps([first, second]) and CANARY not in await witness.said(house)


async def test_no_credential_lies_in_the_store_for_another_worker(
    hosting: Hosting, dialect: str, witness: Witness
) -> None:
    house = hosting(*HOST, dialect=dialect, **witness.options)
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    house.gateway.background.enqueue = enqueue
    body: Json = {"input": "Hi", "tools": [NEVER, SANDBOX], "background": True}
    first = await house.ask(body)
    assert first["status"] == "queued" and CANARY not in "\n".join(kept_in(witness.store)) + repr(tickets)

    house.fake.script(calls(call("lookup", order="7"), call("code_interpreter", code="2+2")), Answer(text="Done."))
    await house.gateway.run_background(tickets[0])
    response = (await ask(house.gateway, path=f"/v1/responses/{first['id']}", method="GET")).json()
    assert response["status"] == "completed" and "mcp_call" in kinds(response)
    assert CANARY not in json.dumps(response) and CANARY not in await witness.said(house)


async def test_work_that_needs_a_credential_is_not_given_to_another_worker(hosting: Hosting, witness: Witness) -> None:
    house = hosting(*HOST, dialect="responses", **witness.options)
    given: list[str] = []

    async def enqueue(ticket: str) -> None:
        given.append(ticket)

    house.gateway.background.enqueue = enqueue
    elsewhere = {**NEVER, "server_label": "elsewhere"}
    for tools_ in ([CODE, elsewhere], [NEVER, elsewhere]):
        caller = await ask(house.gateway, encoded({"model": "m", "input": "Hi", "tools": tools_, "background": True}))
        assert (caller.status, caller.error["param"]) == (400, "tools[1]")
    assert not given and CANARY not in "\n".join(kept_in(witness.store))


def test_no_repr_of_what_the_host_configures_holds_a_credential() -> None:
    server = tools.Server(SECRET["server_url"], headers={"authorization": f"Bearer {CANARY}"})
    mapped = tools.mcp({"wiki": server})
    assert CANARY not in repr(server) and CANARY not in repr(mapped)
