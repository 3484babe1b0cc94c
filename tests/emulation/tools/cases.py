"""One case for each hosted tool: what the host runs, what a client declares, what the model does, and all that the
client then gets of it, member by member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gomodel_asgi import tools
from gomodel_asgi.testing import Answer

from .hosting import Json, call, calls, lookup, search

ADDED, DONE = "response.output_item.added", "response.output_item.done"
INCLUDE = ["web_search_call.action.sources", "file_search_call.results", "code_interpreter_call.outputs"]
ASKED = "Look it up."
ANY = "…"
"""Stands for an id, which each response makes anew."""


def find(call: tools.Call) -> list[tools.Passage]:
    return [tools.Passage("file_1", "a.txt", "Four.", 0.5, {"year": 2026.0})]


async def execute(call: tools.Call) -> tools.Execution:
    return tools.Execution("4\n", files=[tools.File(b"x", "plot.csv", file_id="cfile_1")])


async def draw(call: tools.Call) -> tools.Image:
    await call.partial(b"draft")
    return tools.Image(b"png", revised_prompt="A grey cat.")


@dataclass(frozen=True)
class Case:
    """*emitted* are the events of the tool's items, in their order, without their places; deltas are one. *text* and
    *annotations* are those of the answer, *echo* is what the response says of the declaration."""

    tool: tools.Tool
    declared: Json
    asks: Answer
    answers: Answer
    emitted: Sequence[tuple[str, Json]]
    text: str
    echo: Json
    annotations: Sequence[Json] = field(default=())

    @property
    def script(self) -> list[Answer]:
        return [self.asks, self.answers]

    @property
    def items(self) -> list[Json]:
        """The tool's items as they end."""
        return [members["item"] for type, members in self.emitted if type == DONE]


def _item(type: str, **members: Any) -> Json:
    return {"item": {"id": ANY, "type": type, **members}}


SEARCHED = {
    "type": "search", "query": "rome", "queries": ["rome"],
    "sources": [{"type": "url", "url": "https://example.com/rome?a=1"}],
}  # fmt: skip
PASSAGE: Json = {
    "attributes": {"year": 2026.0}, "file_id": "file_1", "filename": "a.txt", "score": 0.5, "text": "Four.",
}  # fmt: skip
LOOKUP: Json = {
    "name": "lookup",
    "description": "Look an order up.",
    "input_schema": {
        "type": "object", "properties": {"order": {"title": "Order", "type": "string"}}, "required": ["order"],
        "additionalProperties": False,
    },
    "annotations": {"read_only": False},
}  # fmt: skip
SETTINGS: Json = {"size": "1024x1024", "quality": "low"}

CASES: dict[str, Case] = {
    "web_search": Case(
        tools.web_search(search),
        {"type": "web_search"},
        calls(call("web_search", query="rome"), text="Let me look.", cached=1),
        Answer(text="Sunny ([Rome](https://example.com/rome/?a=1&utm_source=x)).", cached=2),
        [
            (ADDED, _item("web_search_call", status="in_progress")),
            ("response.web_search_call.in_progress", {}),
            ("response.web_search_call.searching", {}),
            ("response.web_search_call.completed", {}),
            (DONE, _item("web_search_call", status="completed", action=SEARCHED)),
        ],
        "Sunny ([Rome](https://example.com/rome/?a=1&utm_source=x)).",
        {"type": "web_search"},
        [
            {
                "type": "url_citation", "start_index": 6, "end_index": 58, "title": "Rome",
                "url": "https://example.com/rome?a=1",
            }
        ],
    ),
    "file_search": Case(
        tools.file_search(find),
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        calls(call("file_search", queries=["two", "2+2"]), text="Let me look.", cached=1),
        Answer(text="It is four【1†a.txt】.", cached=2),
        [
            (ADDED, _item("file_search_call", status="in_progress", queries=[], results=None)),
            ("response.file_search_call.in_progress", {}),
            ("response.file_search_call.searching", {}),
            ("response.file_search_call.completed", {}),
            (DONE, _item("file_search_call", status="completed", queries=["two", "2+2"], results=[PASSAGE])),
        ],
        "It is four.",
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        [{"type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": 10}],
    ),
    "code_interpreter": Case(
        tools.code_interpreter(execute),
        {"type": "code_interpreter", "container": "cntr_mine"},
        calls(call("code_interpreter", code="print('2' * 2)\n"), text="Let me look.", cached=1),
        Answer(text="See [the plot](sandbox:/mnt/data/plot.csv).", cached=2),
        [
            (
                ADDED,
                _item("code_interpreter_call", status="in_progress", code="", container_id="cntr_mine", outputs=[]),
            ),
            ("response.code_interpreter_call.in_progress", {}),
            ("response.code_interpreter_call_code.delta", {"delta": "print('2' * 2)\n"}),
            ("response.code_interpreter_call_code.done", {"code": "print('2' * 2)\n"}),
            ("response.code_interpreter_call.interpreting", {}),
            ("response.code_interpreter_call.completed", {}),
            (
                DONE,
                _item(
                    "code_interpreter_call",
                    status="completed",
                    code="print('2' * 2)\n",
                    container_id="cntr_mine",
                    outputs=[{"type": "logs", "logs": "4\n"}],
                ),
            ),
        ],
        "See [the plot](sandbox:/mnt/data/plot.csv).",
        {"type": "code_interpreter", "container": "cntr_mine"},
        [
            {
                "type": "container_file_citation", "container_id": "cntr_mine", "file_id": "cfile_1",
                "filename": "plot.csv", "start_index": 15, "end_index": 41,
            }
        ],
    ),
    "image_generation": Case(
        tools.image_generation(draw),
        {"type": "image_generation", "partial_images": 1, **SETTINGS},
        calls(call("image_generation", prompt="a cat"), text="Let me look.", cached=1),
        Answer(text="Here it is.", cached=2),
        [
            (ADDED, _item("image_generation_call", status="in_progress")),
            ("response.image_generation_call.in_progress", {}),
            ("response.image_generation_call.generating", {}),
            (
                "response.image_generation_call.partial_image",
                {"partial_image_b64": "ZHJhZnQ=", "partial_image_index": 0},
            ),
            ("response.image_generation_call.completed", {}),
            (
                DONE,
                _item(
                    "image_generation_call",
                    status="completed",
                    result="cG5n",
                    output_format="png",
                    revised_prompt="A grey cat.",
                    **SETTINGS,
                ),
            ),
        ],
        "Here it is.",
        {"type": "image_generation", "partial_images": 1, **SETTINGS},
    ),
    "mcp": Case(
        tools.mcp({"crm": [lookup]}),
        {
            "type": "mcp", "server_label": "crm", "server_url": "https://me:pw@crm.example.com/mcp?key=hers#x",
            "require_approval": "never", "headers": {"x-key": "hers"}, "authorization": "hers",
        },
        calls(call("lookup", order="7"), text="Let me look.", cached=1),
        Answer(text="It is on its way.", cached=2),
        [
            (ADDED, _item("mcp_list_tools", server_label="crm", tools=[])),
            ("response.mcp_list_tools.in_progress", {}),
            ("response.mcp_list_tools.completed", {}),
            (DONE, _item("mcp_list_tools", server_label="crm", tools=[LOOKUP])),
            (
                ADDED,
                _item(
                    "mcp_call",
                    status="in_progress",
                    server_label="crm",
                    name="lookup",
                    arguments="",
                    output=None,
                    error=None,
                    approval_request_id=None,
                ),
            ),
            ("response.mcp_call.in_progress", {}),
            ("response.mcp_call_arguments.delta", {"delta": '{"order":"7"}'}),
            ("response.mcp_call_arguments.done", {"arguments": '{"order":"7"}'}),
            ("response.mcp_call.completed", {}),
            (
                DONE,
                _item(
                    "mcp_call",
                    status="completed",
                    server_label="crm",
                    name="lookup",
                    arguments='{"order":"7"}',
                    output="Order 7 is on its way.",
                    error=None,
                    approval_request_id=None,
                ),
            ),
        ],
        "It is on its way.",
        {
            "type": "mcp", "server_label": "crm", "server_url": "https://crm.example.com", "require_approval": "never",
            "headers": None,
        },
    ),
}  # fmt: skip
