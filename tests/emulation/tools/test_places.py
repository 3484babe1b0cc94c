"""Where explain says that a tool would run is where it runs: what was sent is the judge."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.errors import GatewayError

from .hosting import DIALECTS, MODELS, Hosting, House, Json, functions_in, lookup, search

URL = "https://mcp.example/mcp"
REMOTE: Json = {"type": "mcp", "server_label": "far", "server_url": URL}
NEVER: Json = {**REMOTE, "require_approval": "never"}
SETTINGS: dict[str, Json] = {
    "web": {"type": "web_search"},
    "preview": {"type": "web_search_preview"},
    "web filters": {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}},
    "web cache": {"type": "web_search", "external_web_access": False},
    "web size": {"type": "web_search", "search_context_size": "high"},
    "files": {"type": "file_search", "vector_store_ids": ["vs_1"]},
    "code": {"type": "code_interpreter", "container": {"type": "auto"}},
    "code container": {"type": "code_interpreter", "container": "cntr_1"},
    "code files": {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}},
    "code memory": {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
    "image": {"type": "image_generation"},
    "mapped": {"type": "mcp", "server_label": "crm", "require_approval": "never"},
    "mapped always": {"type": "mcp", "server_label": "crm"},
    "server": NEVER,
    "server token": {**NEVER, "authorization": "token"},
    "server headers": {**NEVER, "headers": {"x-key": "1"}},
    "server bearer": {**NEVER, "headers": {"Authorization": "Bearer 1"}},
    "server always": {**REMOTE, "require_approval": "always"},
    "server default": REMOTE,
    "server some": {**REMOTE, "require_approval": {"never": {"tool_names": ["a"]}}},
    "server names": {**NEVER, "allowed_tools": ["a"]},
    "server read only": {**NEVER, "allowed_tools": {"read_only": True}},
    "connector": {"type": "mcp", "server_label": "far", "connector_id": "connector_x", "require_approval": "never"},
}
CLIENTS: Json = {"type": "function", "name": "book", "parameters": {"type": "object", "properties": {}}}
OWN = {"anthropic": ("web_search_", "code_execution_", "mcp_toolset"), "gemini": ("googleSearch", "codeExecution")}
MODELS_HERE = {**{dialect: [MODELS[dialect]] for dialect in DIALECTS}, "gemini": [MODELS["gemini"], "gemini-2.5-flash"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # which tools are shown where does not depend on the event loop


def run(call: tools.Call) -> str:
    return "1"


def hosts(use: str) -> list[Any]:
    """What the host runs: nothing, what is missing, all of it, or also servers that clients name."""
    if use == "none":
        return []
    how: Json = {"use": "always" if use == "always" else "missing"}
    remote = (lambda url, call: False) if use == "remote" else None
    return [
        tools.web_search(search, live=use == "always", **how),
        tools.code_interpreter(run, **how),
        tools.mcp({"crm": [lookup]}, remote=remote),
    ]


async def outcome(house: House, body: Json, tool: Json) -> str:
    """Where the one tool of *body* ran."""
    try:
        await house.ask(body)
    except GatewayError as error:
        if error.code == "mcp_server_not_allowed":
            return "here"  # the server was asked from here
        if error.code == "unsupported_parameter":
            assert str(error.param).startswith("tools")
            return "nowhere"
    sent = house.sent[-1]
    functions = set(functions_in(house.dialect, sent)) - {"book", "code_execution"}
    shown = sent.get("tools", [])
    if house.dialect == "responses":
        return "upstream" if tool in shown else "here" if functions else "nowhere"
    kinds = [str(one.get("type")) for one in shown] + [name for one in shown for name in one]
    if any(kind.startswith(OWN.get(house.dialect, ())) for kind in kinds):
        return "upstream"
    return "here" if functions else "nowhere"


@pytest.mark.parametrize("use", ["none", "missing", "always", "remote"])
@pytest.mark.parametrize("strictness", ["auto", "reject", "drop"])
async def test_a_tool_runs_where_explain_says(hosting: Hosting, dialect: str, use: str, strictness: str) -> None:
    provider = {"hosted_tools": None, "unsupported": strictness}
    house = hosting(*hosts(use), dialect=dialect, provider=provider)
    different = {}
    for model in MODELS_HERE[dialect]:
        for name, tool in SETTINGS.items():
            for beside in ([], [CLIENTS]):
                house.fake.clear()
                body = {"model": model, "input": "Hi", "tools": [*beside, tool]}
                (found,) = (await house.gateway.explain(body)).candidates
                happened = await outcome(house, body, tool)
                if [*found.tools.values()] != [happened]:
                    different[name, model, bool(beside)] = (found.tools, happened)
    assert different == {}


@pytest.mark.parametrize("setting", ["server always", "server default", "server some", "server headers"])
async def test_a_server_that_anthropic_would_refuse_is_asked_from_here_where_the_host_admits_it(
    hosting: Hosting, setting: str
) -> None:
    asked: list[str] = []

    def admits(url: str, call: tools.Call) -> bool:
        asked.append(url)
        return False

    house = hosting(tools.mcp({}, remote=admits), dialect="anthropic", provider={"hosted_tools": None})
    body = {"input": "Hi", "tools": [SETTINGS[setting]]}

    with pytest.raises(GatewayError) as refused:
        await house.ask(body)
    assert refused.value.code != "unsupported_parameter" and asked == [URL]

    assert await outcome(house, {"input": "Hi", "tools": [NEVER]}, NEVER) == "upstream" and len(asked) == 1


async def test_a_search_that_its_upstream_could_not_hold_to_its_filters_runs_here(hosting: Hosting) -> None:
    house = hosting(*hosts("missing"), dialect="gemini", provider={"hosted_tools": None})
    tool = SETTINGS["web filters"]

    assert await outcome(house, {"input": "Hi", "tools": [tool]}, tool) == "here"
    assert await outcome(house, {"input": "Hi", "tools": [SETTINGS["web"]]}, SETTINGS["web"]) == "upstream"
