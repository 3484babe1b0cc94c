"""What the model had of hosted tools, kept with the response.

An item of a hosted tool does not say what the model read: a search names its query and no page. So each is kept with
the call and the answer as the model had them, and where an item comes back (by `previous_response_id`, in a
conversation, by reference, or echoed) the model gets exactly that (`replay`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...dialects.hosted_items import HOSTED, RESPONSE, kind_of
from ...dialects.values import object_in, objects, string_in
from ...exchange.job import Job
from ...history.references import response_of
from ...settings import KIB
from ...wire.json_scan import parser
from .declarations import Filter
from .listing import Found
from .seams import Json, Listed, Unlisted


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call as the model had it: the function's *name*, its *arguments* and *output*, and the *call_id*, by which
    some upstreams know what they signed; *round* tells which calls were made at once. Of a request for an approval:
    *label* and *tool* are the server's, and *forced* says that the host demands it. Of a list: all *tools* of the
    server at *place* (a digest). *images* are those of the output, as `data:` URLs, which the item does not hold."""

    name: str
    arguments: str
    output: str = ""
    round: int = 0
    call_id: str = ""
    label: str = ""
    tool: str = ""
    forced: bool = False
    place: str = ""
    tools: tuple[Listed, ...] = ()
    images: tuple[str, ...] = ()


_decode = parser(dict[str, Remembered])
encode = msgspec.json.Encoder().encode


async def remembered_of(job: Job, items: Iterable[Any]) -> dict[str, Remembered]:
    """What is remembered of those among *items* that are ours, by id.

    :raises StoreUnavailable: the store does not answer.
    """
    found: dict[str, Remembered] = {}
    for response_id in dict.fromkeys(map(response_of, ids_in(items))):
        if response_id is not None and (kept := await job.setup.state.remembered(job.request.tenant, response_id)):
            found |= _decode(kept)
    return found


MOST_KEPT = 256 * KIB
"""Bytes of a list that is kept with a response; a larger one is fetched again."""
UNKNOWN_CODES = frozenset({-32601, -32602})
"""JSON-RPC errors by which a server refuses a tool that it does not know (MCP, revision 2025-11-25, "Tools")."""
UNKNOWN_TOOL = re.compile(r"unknown tool|no such tool|tool\b.{0,160}\bnot found", re.IGNORECASE)
"""How the SDKs of Python and TypeScript say so in the result of a call."""


@dataclass(frozen=True, slots=True)
class KnownList:
    """What a conversation knows of one server: its *tools*, None where they have to be fetched, and whether the client
    *has* the list."""

    tools: Sequence[Listed] | None
    has: bool


def kept_list(place: str | None, tools: Sequence[Listed]) -> Remembered:
    """What is remembered of a list; nothing of one that is too large, or has no *place* to be known by."""
    kept = Remembered("", "", place=place or "", tools=tuple(tools))
    return kept if place is not None and len(encode(kept)) <= MOST_KEPT else Remembered("", "")


def known_list(
    label: str,
    place: str | None,
    before: Sequence[Any],
    own: Sequence[Any],
    known: Mapping[str, Remembered],
    wanted: Filter | None = None,
) -> KnownList:
    """What the last list of the server *label* holds, where that is the server at *place*. *before* are the items of
    earlier turns, *own* those of the request.

    A list that is remembered is all that the server gave. One that the client brings, and of which nothing is known, is
    its word: it stands for the list of a server that only the client names (*wanted* is what it asks for there), where
    it could as well have had its server say so, and for that of no other.
    """
    for brought, items in ((True, own), (False, before)):
        for item in reversed(items):
            kind = kind_of(item)
            if kind not in ("mcp_list_tools", "mcp_call") or string_in(item, "server_label") != label:
                continue
            if kind == "mcp_call":
                if is_of_unknown_tool(item):
                    return KnownList(None, has=False)
                continue
            kept = known.get(string_in(item, "id"))
            if kept is not None and kept.place:
                return KnownList(kept.tools, has=True) if kept.place == place else KnownList(None, has=False)
            return KnownList(brought_list(item, wanted) if brought and wanted is not None else None, has=True)
    return KnownList(None, has=False)


def brought_list(item: Json, wanted: Filter) -> Sequence[Listed] | None:
    """The tools in *item*, a list of the client's, as they would be read from a server; None where they cannot stand
    for the server's."""
    found = Found(lambda text: None)
    try:
        for tool in objects(item.get("tools")):
            only_reads = object_in(tool, "annotations").get("read_only") is True
            given = {"inputSchema": tool.get("input_schema"), "annotations": {"readOnlyHint": only_reads}}
            found.add({**tool, **given})
    except Unlisted:
        return None
    missing = (wanted.names or frozenset()) - found.tools.keys()
    return [*found.tools.values()] if found.tools and not missing else None


def is_of_unknown_tool(item: Json) -> bool:
    """Returns whether the call *item* failed since its server knows no such tool."""
    error = object_in(item, "error")
    if error.get("type") == "mcp_protocol_error":
        return error.get("code") in UNKNOWN_CODES
    return any(UNKNOWN_TOOL.search(string_in(part, "text")) for part in objects(error.get("content")))


def ids_in(items: Iterable[Any]) -> Iterator[str]:
    """The ids of the items of hosted tools, and of what approvals and references name."""
    for item in items:
        if not isinstance(item, dict):
            continue
        kind = kind_of(item)
        id = string_in(item, "approval_request_id" if kind == RESPONSE else "id")
        if id and (kind in HOSTED or kind == "item_reference" or item.get("type") is None):
            yield id
