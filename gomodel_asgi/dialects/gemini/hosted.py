"""Items for what Gemini's own tools did: code execution, search, file search.

The parts themselves travel back in the sealed state; these items are for the client to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import wire

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """An item, and the event types between its start and its end."""

    item: Json
    phases: tuple[str, ...]


SEARCHING = ("in_progress", "searching", "completed")
INTERPRETING = ("in_progress", "interpreting", "completed")

STATUS_OF_OUTCOME = {"OUTCOME_OK": "completed", "OUTCOME_FAILED": "failed", "OUTCOME_DEADLINE_EXCEEDED": "failed"}


def receipt(item: Json, phases: tuple[str, ...]) -> Receipt:
    return Receipt(item, tuple(f"response.{item['type']}.{phase}" for phase in phases))


def code(executable: Json) -> Receipt:
    """An `executableCode`, whose result is still to come."""
    item: Json = {"type": "code_interpreter_call", "status": "completed", "code": wire.string(executable.get("code"))}
    return receipt({**item, "container_id": "", "outputs": []}, INTERPRETING)


def put_result(pending: list[Receipt], result: Json) -> bool:
    """Put a `codeExecutionResult` into the code that waits for it; False where none does."""
    for waiting in reversed(pending):
        if waiting.item["type"] == "code_interpreter_call" and not waiting.item["outputs"]:
            waiting.item["outputs"].append({"type": "logs", "logs": wire.string(result.get("output"))})
            waiting.item["status"] = STATUS_OF_OUTCOME.get(wire.string(result.get("outcome")), "completed")
            return True
    return False


def tool_call(call: Json) -> Receipt | None:
    """A `toolCall`; None for a tool that the Responses API has no item for."""
    kind, args = wire.string(call.get("toolType")), wire.record(call.get("args"))
    if kind in ("GOOGLE_SEARCH_WEB", "GOOGLE_SEARCH_IMAGE"):
        return search(_queries(args), [])
    if kind == "URL_CONTEXT":
        urls = _strings(args.get("urls"))
        return opened(urls[0] if urls else "")
    if kind == "FILE_SEARCH":
        item = {"type": "file_search_call", "status": "completed", "queries": _queries(args), "results": None}
        return receipt(item, SEARCHING)
    return None


def search(queries: list[str], urls: list[str]) -> Receipt:
    """A web search for *queries* that found *urls*."""
    action: Json = {"type": "search", "query": queries[0] if queries else "", "queries": queries}
    action["sources"] = [{"type": "url", "url": url} for url in urls]
    return receipt({"type": "web_search_call", "status": "completed", "action": action}, SEARCHING)


def opened(url: str) -> Receipt:
    """A page that was read."""
    item = {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": url}}
    return receipt(item, SEARCHING)


def _queries(args: Json) -> list[str]:
    query = args.get("query")
    return _strings(args.get("queries")) or ([query] if isinstance(query, str) else [])


def _strings(value: Any) -> list[str]:
    """The strings of *value*: arguments are the model's, of no fixed shape."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
