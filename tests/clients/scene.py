"""A gateway on a socket in front of a fake provider, and what went in and out of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, RoutingRequest, Target, providers, tools
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.guards import Guard, Replace, Texts
from gomodel_asgi.testing import Answer, FakeProvider, Prompt, Scripted
from gomodel_asgi.testing.provider import Dialect

from ..support.serving import serve_with_uvicorn
from .features import KEY as SPOKEN, Feature

KEY = "sk-of-the-house"
MODELS: dict[Dialect, str] = {
    "responses": "gpt-5",
    "chat": "qwen3-32b",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-3-flash-preview",
}
"""What the policy makes of whatever model a client names."""
SHOWN = 1500
"""Characters of a body in a report."""


# The hosted tools of the scene, run here whatever the upstream has...


def search(call: tools.Call) -> list[tools.Page]:
    return [tools.Page("https://example.com/oslo", "Oslo", "Rain at 7 degrees.")]


def find(call: tools.Call) -> list[tools.Passage]:
    return [tools.Passage("file_1", "lamp.txt", "The lantern is lit.", 0.5)]


def execute(call: tools.Call) -> tools.Execution:
    return tools.Execution("4\n", files=[tools.File(b"x", "plot.csv", file_id="cfile_1")])


async def draw(call: tools.Call) -> tools.Image:
    await call.partial(b"draft")
    return tools.Image(b"png")


def lookup(order: str) -> str:
    """Look an order up."""
    return f"Order {order} is on its way."


async def mask(given: Texts) -> Replace:
    return Replace(tuple(text.replace(SPOKEN, "[key]") for text in given.texts))


TOOLS = (
    tools.web_search(search, use="always"),
    tools.file_search(find, use="always"),
    tools.code_interpreter(execute, use="always"),
    tools.image_generation(draw, use="always"),
    tools.mcp({"crm": [lookup]}),
)


@dataclass
class Exchange:
    """One request of the client, and what it got."""

    line: str
    body: bytearray = field(default_factory=bytearray)
    status: int = 0
    reply: bytearray = field(default_factory=bytearray)

    def shown(self) -> str:
        return f"{self.line} {clipped(bytes(self.body))}\n  → {self.status} {clipped(bytes(self.reply))}"


class Recorder:
    """Keeps what passes through an app, for reports."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.exchanges: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange(f"{scope['method']} {scope['path']}")
        self.exchanges.append(exchange)

        async def received() -> Message:
            message = await receive()
            exchange.body += message.get("body", b"")
            return message

        async def sent(message: Message) -> None:
            exchange.status = message.get("status", exchange.status)
            exchange.reply += message.get("body", b"")
            await send(message)

        await self.app(scope, received, sent)


@dataclass
class Scene:
    """*base_url* is the gateway's; *fake* is upstream of it."""

    dialect: Dialect
    base_url: str
    fake: FakeProvider
    recorder: Recorder
    feature: Feature

    def set(self, feature: Feature) -> None:
        """What the model does from now on, with nothing left of what was before."""
        self.fake.release()
        self.fake.clear()
        self.recorder.exchanges.clear()
        self.feature = feature
        faults = feature.faults.get(self.dialect) or feature.faults.get("")
        if faults:
            self.fake.script(Scripted(None, faults))

    def script(self, *steps: Answer | Callable[[Prompt], Answer]) -> None:
        """What the model says next, instead of what the feature has it say."""
        self.fake.script(*steps)

    def streaming(self, seconds: float) -> bool:
        """Wait for the gateway to have begun a stream, so many seconds at most; whether it has."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(b"delta" in exchange.reply for exchange in self.recorder.exchanges):
                return True
            time.sleep(0.02)
        return False

    def report(self) -> str:
        """What went through the gateway, and what went upstream."""
        upstream = [f"{each.method} {each.path} {clipped(each.body)}" for each in self.fake.requests]
        return "\n".join([*(exchange.shown() for exchange in self.recorder.exchanges), "upstream:", *upstream])


@contextmanager
def set_up(dialect: Dialect, feature: Feature, options: Mapping[str, Any]) -> Iterator[Scene]:
    """The scene of one dialect; upstreams are as strict as they can be. *options* are the provider's."""

    def model(prompt: Prompt) -> Answer:
        return scene.feature.model(prompt)

    fake = FakeProvider(
        dialect=dialect, api_key=KEY, model=model, strict=dialect == "responses", template=dialect == "chat"
    )
    with fake.run_in_thread(), serve_with_uvicorn() as serve:
        gateway = Gateway(
            providers=[provider_of(fake, options)],
            policy=policy_of(dialect),
            tools=TOOLS,
            cache=ResponseCache(when=lambda request: scene.feature.name == "cached"),
            guards=[Guard("keys", output=mask, hold=200, when=lambda request: scene.feature.name == "guarded")],
        )

        async def release(request: Request) -> Response:
            fake.release()
            return Response()

        host = Starlette(routes=[Route("/release", release, methods=["POST"])])
        recorder = Recorder(GoModelMiddleware(host, gateway=gateway))
        scene = Scene(dialect, f"{serve(recorder)}/v1", fake, recorder, feature)
        yield scene
        fake.release()


def provider_of(fake: FakeProvider, options: Mapping[str, Any]) -> Provider:
    """The provider as a host would name it: a preset with nothing but URL and key."""
    given: Any = {"name": "upstream", "api_key": KEY, **options}
    match fake.dialect:
        case "responses":
            return providers.openai(fake.base_url, **given)
        case "anthropic":
            return providers.anthropic(fake.base_url, **given)
        case "gemini":
            return providers.gemini(fake.base_url, **given)
    return Provider(**given, base_url=fake.base_url, dialect="chat")


def policy_of(dialect: Dialect) -> Any:
    async def route(request: RoutingRequest) -> Target:
        return Target("upstream", model=MODELS[dialect])

    return route


def clipped(body: bytes) -> str:
    """*body* as a report shows it: the end of long texts is left out, where it is JSON each long string by itself."""
    try:
        text = json.dumps(shortened(json.loads(body)), ensure_ascii=False)
    except ValueError:
        text = body.decode("utf-8", "replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= 120 else f"{value[:100]}…"
    if isinstance(value, list):
        return [shortened(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: named(member) if name == "tools" else shortened(member) for name, member in value.items()}


def named(tools: Any) -> Any:
    """Tools by their type and name."""
    if not isinstance(tools, list):
        return tools
    return [" ".join(filter(None, (tool.get("type"), tool.get("name")))) for tool in tools if isinstance(tool, dict)]
