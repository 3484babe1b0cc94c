"""A gateway whose host runs tools, in front of a model that calls them, in each dialect."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import anyio

from gomodel_asgi import Gateway, MemoryStore, Provider, tools
from gomodel_asgi.emulation.tools.seams import Listed, Opening, Visit
from gomodel_asgi.testing import Answer, FakeProvider, ToolCall

Json = dict[str, Any]

DIALECTS = ("chat", "anthropic", "gemini", "responses")
MODELS = {"chat": "m", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash-preview", "responses": "m"}

WEB: Json = {"type": "web_search"}
FILES: Json = {"type": "file_search", "vector_store_ids": ["vs_1"]}
CODE: Json = {"type": "code_interpreter", "container": {"type": "auto"}}
IMAGE: Json = {"type": "image_generation"}
CRM: Json = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
CLIENTS: Json = {
    "type": "function",
    "name": "book",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments)


def calls(*names: ToolCall, **options: Any) -> Answer:
    return Answer(calls=names, **options)


async def search(call: tools.Call) -> list[tools.Page]:
    return [tools.Page("https://example.com/rome?a=1", "Rome", f"Found for {call.arguments['query']}")]


def lookup(order: str) -> str:
    """Look an order up."""
    return f"Order {order} is on its way."


def refund(order: str, call: tools.Call) -> str:
    """Pay an order back."""
    return f"Paid back {order} for {call.request.tenant}."


class Hanging:
    """A function that never returns: *entered* once it was called, *left* once it was cancelled."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.entered, self.left = anyio.Event(), anyio.Event()

    async def __call__(self, call: tools.Call) -> str:
        self.entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.left.set()
        return ""


class Broken:
    """An MCP server of which nothing can be had; see `source.Source`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def admit(self, visit: Visit) -> Opening:
        return lambda deadline: nullcontext(self)  # type: ignore[arg-type]

    def place(self, visit: Visit) -> str | None:
        return None

    async def list_tools(self) -> Sequence[Listed]:
        raise self.error


class House:
    """A gateway of one provider, which speaks *dialect*; what it was asked is in `fake.requests`."""

    def __init__(self, fake: FakeProvider, dialect: str, *given: Any, **options: Any) -> None:
        self.fake = fake
        self.dialect = dialect
        provider: Json = {"hosted_tools": (), "stateful": False, **options.pop("provider", {})}
        self.provider = Provider("fake", fake.base_url, dialect=dialect, **provider)  # type: ignore[arg-type]
        self.gateway = Gateway(providers=[self.provider], tools=given, **options)

    async def ask(self, body: Json, **options: Any) -> Json:
        """The response to *body*, streamed or not."""
        reply = await self.gateway.respond({"model": MODELS[self.dialect], **body}, **options)
        found: Json = await reply.json()
        return found

    async def events(self, body: Json, **options: Any) -> list[Json]:
        reply = await self.gateway.respond({"model": MODELS[self.dialect], "stream": True, **body}, **options)
        return [event async for event in reply]

    @property
    def sent(self) -> list[Json]:
        """The bodies that the upstream got."""
        return [json.loads(request.body) for request in self.fake.requests]

    def outputs(self, at: int = -1) -> list[str]:
        """What request *at* says that tools have answered."""
        return outputs_in(self.dialect, self.sent[at])


def outputs_in(dialect: str, body: Json) -> list[str]:
    """The answers of tools in a request of *dialect*, as text."""
    if dialect == "chat":
        return [one["content"] for one in body["messages"] if one["role"] == "tool"]
    if dialect == "responses":
        return [_text(one["output"]) for one in body["input"] if one.get("type") == "function_call_output"]
    if dialect == "anthropic":
        blocks = [block for one in body["messages"] if isinstance(one["content"], list) for block in one["content"]]
        return [_text(block["content"]) for block in blocks if block["type"] == "tool_result"]
    parts = [part for one in body["contents"] for part in one["parts"] if "functionResponse" in part]
    return [str(next(iter(part["functionResponse"]["response"].values()))) for part in parts]


def _text(output: Any) -> str:
    return output if isinstance(output, str) else "".join(part.get("text", "") for part in output)


def functions_in(dialect: str, body: Json) -> list[str]:
    """The names of the functions that the model is shown."""
    shown = body.get("tools", [])
    if dialect == "chat":
        return [one["function"]["name"] for one in shown]
    if dialect == "gemini":
        return [one["name"] for group in shown for one in group.get("functionDeclarations", ())]
    return [one["name"] for one in shown if "name" in one]


def kinds(response: Json) -> list[str]:
    """The types of the items of a response, without reasoning."""
    return [item["type"] for item in response["output"] if item["type"] != "reasoning"]


def item_of(response: Json, type: str) -> Json:
    found: list[Json] = [item for item in response["output"] if item["type"] == type]
    assert len(found) == 1
    return found[0]


def text_of(response: Json) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


@contextmanager
def fake_of(dialect: str) -> Iterator[FakeProvider]:
    with FakeProvider(dialect=dialect).run_in_thread() as fake:  # type: ignore[arg-type]
        yield fake


Hosting = Callable[..., House]


def dump(store: MemoryStore) -> bytes:
    """All that a store holds."""
    values: list[Any] = []
    todo: list[Any] = [vars(store)]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
        elif isinstance(one, bytes):
            values.append(one)
        elif hasattr(one, "value"):
            todo.append(one.value)
    assert values
    return pickle.dumps(values)
