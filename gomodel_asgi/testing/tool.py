"""Runs one hosted tool as the gateway does, without a model: what the model reads, what the client gets.

A gateway of its own answers one request, whose model calls the tool once and then cites all that it was shown. So the
arguments are checked, results are cut, time is limited and failures are worded as for a real model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio
from starlette.datastructures import State
from starlette.types import Scope

from ..emulation.tools.citations import LINK, MARK, SANDBOX
from ..emulation.tools.declarations import Toolbox
from ..emulation.tools.functions import FunctionSource
from ..errors import GatewayError, ToolsUnlisted
from ..gateway import Gateway
from ..observers import Record, ToolCalled
from ..providers.provider import Provider
from ..seams.transport import Transport, UpstreamReply, UpstreamRequest
from ..tools import McpTool, Tool
from ..transport.websocket_socket import WholeReply
from .model import Prompt
from .plan import Answer, HeaderList, ToolCall
from .policy import scope_of
from .provider import FakeProvider
from .received import ReceivedRequest, backend

Json = dict[str, Any]

INCLUDED = ("web_search_call.action.sources", "file_search_call.results", "code_interpreter_call.outputs")
SANDBOX_FILE = re.compile(rf"{re.escape(SANDBOX)}([^\]\n]+)")
HOST = "model.invalid"
MODEL = Provider("model", f"http://{HOST}/v1", hosted_tools=(), stateful=False)
"""The only upstream: nothing is ever sent there."""
REQUIRED: Mapping[str, Json] = {
    "file_search": {"vector_store_ids": []},
    "code_interpreter": {"container": {"type": "auto"}},
    "mcp": {"require_approval": "never"},
}
"""What the declaration of a family holds at the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came of one call.

    *text* is what the model reads, *images* what it sees (`data:` URLs). *item* is what the client gets, whole: with
    sources, results and outputs. *citations* are the annotations of a text that cites all it can. *error* is the
    message of a failure that model and client get, None without one; *detail* is what observers get of an exception.
    *outcome* is that of `ToolCalled`. *approval* is the request for approval that the client got first, if it did.
    *events* are those of the stream that are about the item, images that were not finished among them.
    """

    text: str
    item: Mapping[str, Any]
    outcome: str
    images: tuple[str, ...] = ()
    citations: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    detail: str | None = None
    approval: Mapping[str, Any] | None = None
    events: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


if TYPE_CHECKING:

    class Ran(ToolResult):
        """The result; inside an event loop, the awaitable that gives it."""

        def __await__(self) -> Generator[Any, None, ToolResult]: ...


def run_tool(
    tools: Gateway | Tool,
    name: str,
    arguments: Mapping[str, Any] | str = "{}",
    *,
    tenant: str | None = None,
    user: object = None,
    declaration: Mapping[str, Any] | None = None,
    headers: HeaderList = (),
    state: Mapping[str, Any] | State | None = None,
    scope: Scope | None = None,
) -> Ran:
    """Returns what a call of the tool *name* gives, which the model makes with *arguments*.

    *tools* is a gateway, whose limits and time-outs hold here too, or one tool (`tools.web_search(search)`). *name* is
    `"web_search"` or another kind, the label of an MCP server with one tool, a function's name, or both:
    `"crm.refund"`. *arguments* is JSON text or what to write as such. *declaration* adds members to what the client
    declares: filters, `vector_store_ids`, `partial_images`. The other arguments are those of `run_policy`.

    Where the host demands the client's approval, the client gives it. A failure of the tool is a result, not raised.
    Nothing goes over a network, but to an MCP server at a URL.

    A plain test gets the result; inside an event loop the call is awaited: `result = await run_tool(…)`.

    :raises LookupError: no such tool is configured, or several are meant.
    :raises ToolsUnlisted: the tools of the MCP server could not be listed.
    :raises InvalidRequest: the *declaration* is malformed.
    """
    run = Run(tools, name, arguments, declaration or {})
    whole_scope = scope_of(headers, user, state, scope)
    ran = run.result(whole_scope, tenant) if backend() else anyio.run(run.result, whole_scope, tenant)
    return cast("Ran", ran)


class Run:
    """One call: the gateway that makes it, and the model behind that."""

    def __init__(
        self, given: Gateway | Tool, name: str, arguments: Mapping[str, Any] | str, declaration: Mapping[str, Any]
    ) -> None:
        host = given if isinstance(given, Gateway) else Gateway(providers=[MODEL], tools=[given])
        toolbox = toolbox_of(host)
        self.name = name
        self.arguments = arguments
        self.declared = {**declared(toolbox, name), **declaration}
        self.prompt: Prompt | None = None
        self.record: ToolCalled | None = None
        self.model = FakeProvider(name="model")
        self.gateway = Gateway(
            providers=[MODEL],
            transport=InProcess(self.model, host.setup.transport),
            tools=[*toolbox.hosts.values(), McpTool(toolbox.servers)],
            limits=host.setup.limits,
            timeouts=host.setup.timeouts,
            tenant=host.tenant,
            observers=[self._observe],
        )

    async def result(self, scope: Scope, tenant: str | None) -> ToolResult:
        """Has the tool called, and returns its result."""
        approval = None
        body: Json = {"model": "model", "input": "Call the tool.", "tools": [self.declared], "include": INCLUDED}
        async with self.gateway:
            self.model.script(self._called, self._cited)
            events = await self._events(body, scope, tenant)
            response = events[-1]["response"]
            if found := items(response, "mcp_approval_request"):
                approval = found[0]
                answer = {"type": "mcp_approval_response", "approval_request_id": approval["id"], "approve": True}
                body |= {"previous_response_id": response["id"], "input": [answer]}
                self.model.clear()
                self.model.script(self._cited)
                events = await self._events(body, scope, tenant)
        return self._result(events, approval)

    def _result(self, events: list[Json], approval: Json | None) -> ToolResult:
        response, record, prompt = events[-1]["response"], self.record, self.prompt
        assert record is not None and prompt is not None
        item = items(response, f"{self.declared['type']}_call")[0]
        output = prompt.outputs[-1]
        failed = record.outcome != "completed"
        parts = [part for message in items(response, "message") for part in message["content"]]
        return ToolResult(
            text=output.text,
            item=item,
            outcome=record.outcome,
            images=output.media,
            citations=tuple(note for part in parts for note in part.get("annotations", ())),
            error=output.text if failed else None,
            detail=record.detail,
            approval=approval,
            events=tuple(event for event in events if about(event) == item["id"]),
        )

    async def _events(self, body: Json, scope: Scope, tenant: str | None) -> list[Json]:
        """Returns the events of one response.

        :raises ToolsUnlisted: it failed: the tools of the server are not known.
        """
        try:
            reply = await self.gateway.respond({**body, "stream": True}, scope=scope, tenant=tenant)
            events = [event async for event in reply]
        except GatewayError as error:
            raise next(iter(self.model.failures), error) from None
        response = events[-1].get("response", {})
        if response.get("status") != "completed":
            raise ToolsUnlisted(str((response.get("error") or events[-1]).get("message")))
        return events

    def _called(self, prompt: Prompt) -> Answer:
        """The model calls the tool, by the name under which it is shown.

        :raises LookupError: no tool has it, or several do.
        """
        shown = [tool.name for tool in prompt.tools]
        if len(shown) != 1:
            raise LookupError(
                f"{self.name!r} means {len(shown)} tools, and must mean one: {', '.join(shown) or 'none'}"
            )
        text = self.arguments if isinstance(self.arguments, str) else json.dumps(dict(self.arguments))
        return Answer(calls=[ToolCall(shown[0], text)])

    def _cited(self, prompt: Prompt) -> Answer:
        self.prompt = prompt
        return Answer(text="\n".join(citable(prompt.outputs[-1].text)) or "Done.")

    def _observe(self, record: Record) -> None:
        if isinstance(record, ToolCalled):
            self.record = record


def toolbox_of(gateway: Gateway) -> Toolbox:
    """Returns the tools of a gateway.

    :raises LookupError: it has none.
    """
    if gateway.state.tools is None:
        raise LookupError("The gateway has no tools: Gateway(tools=[…]).")
    return gateway.state.tools.toolbox


def declared(toolbox: Toolbox, name: str) -> Json:
    """Returns the declaration that a client makes to have the tool *name*, and no other, called.

    :raises LookupError: there is none, or several have this name.
    """
    if name in toolbox.hosts:
        return {"type": name, **REQUIRED.get(name, {})}
    found = [*places(toolbox, name)]
    if len(found) > 1:
        raise LookupError(f"Several tools are called {name!r}: {', '.join(f'{label}.{name}' for label, _ in found)}.")
    if not found:
        known = ", ".join([*toolbox.hosts, *toolbox.servers]) or "none"
        raise LookupError(f"No tool {name!r} is configured; there are: {known}.")
    label, function = found[0]
    only = {} if function is None else {"allowed_tools": [function]}
    return {"type": "mcp", "server_label": label, **REQUIRED["mcp"], **only}


def places(toolbox: Toolbox, name: str) -> Iterator[tuple[str, str | None]]:
    """Yields the servers that *name* may mean, and the function of each; None for the only one that it has."""
    if name in toolbox.servers:
        yield name, None
        return
    for label, source in toolbox.sources.items():
        if name.startswith(f"{label}."):
            yield label, name.removeprefix(f"{label}.")
        elif isinstance(source, FunctionSource) and name in source.plain:
            yield label, name


def citable(text: str) -> Iterator[str]:
    """Yields what a model writes to cite all that *text* offers."""
    yield from (match[0] for match in MARK.finditer(text))
    yield from (match[0] for match in LINK.finditer(text))
    yield from (f"[{match[1]}]({SANDBOX}{match[1]})" for match in SANDBOX_FILE.finditer(text))


def items(response: Json, type: str) -> list[Json]:
    """Returns the items of *type* in a response."""
    return [item for item in response["output"] if item["type"] == type]


def about(event: Json) -> Any:
    """Returns the id of the item that *event* is about."""
    return event["item"].get("id") if isinstance(event.get("item"), dict) else event.get("item_id")


# The model, without a network...


class InProcess:
    """A transport to *model* without a connection; *others* reaches MCP servers. See `seams.transport.Transport`."""

    def __init__(self, model: FakeProvider, others: Transport) -> None:
        self.model = model
        self.others = others

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        """Has the model answer at once."""
        if request.host != HOST:
            return await self.others.open(request)
        path, _, query = request.target.partition(b"?")
        method = request.method.decode("ascii")
        seen = ReceivedRequest(method, path.decode("latin-1"), query, request.headers, request.body or b"")
        plan = self.model.planned(seen)
        assert plan.head is not None
        return WholeReply(plan.head.status, list(plan.head.headers), b"".join(plan.bodies))

    async def aclose(self) -> None:
        """Closes what MCP servers have left open."""
        await self.others.aclose()
