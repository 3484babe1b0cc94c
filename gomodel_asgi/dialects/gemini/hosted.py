"""Items for what Gemini's own tools did: code execution, search, file search.

The parts themselves travel back as opaque state; these items are for the client to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...wire.usage import count
from ..values import strings
from . import errors

Json = dict[str, Any]

HOSTED = ("web_search", "code_interpreter")
"""Families of hosted tools that Gemini has under other names."""


@dataclass(frozen=True, slots=True)
class HostedItem:
    """An item, and the event types between its start and its end."""

    item: Json
    phases: tuple[str, ...]


SEARCHING = ("in_progress", "searching", "completed")
INTERPRETING = ("in_progress", "interpreting", "completed")

STATUS_OF_OUTCOME = {"OUTCOME_OK": "completed", "OUTCOME_FAILED": "failed", "OUTCOME_DEADLINE_EXCEEDED": "failed"}


def hosted_item(item: Json, phases: tuple[str, ...]) -> HostedItem:
    """Returns *item* with the event types of its *phases*."""
    return HostedItem(item, tuple(f"response.{item['type']}.{phase}" for phase in phases))


def code(executable: Json) -> HostedItem:
    """Returns the item of an `executableCode`, whose result is still to come."""
    item: Json = {"type": "code_interpreter_call", "status": "completed", "code": errors.string(executable.get("code"))}
    return hosted_item({**item, "container_id": "", "outputs": []}, INTERPRETING)


def put_result(pending: list[HostedItem], result: Json) -> bool:
    """Puts a `codeExecutionResult` into the code that waits for it. Returns False where none does."""
    for waiting in reversed(pending):
        if waiting.item["type"] == "code_interpreter_call" and not waiting.item["outputs"]:
            waiting.item["outputs"].append({"type": "logs", "logs": errors.string(result.get("output"))})
            waiting.item["status"] = STATUS_OF_OUTCOME.get(errors.string(result.get("outcome")), "completed")
            return True
    return False


def tool_call(call: Json) -> HostedItem | None:
    """Returns the item of a `toolCall`, None for a tool that the Responses API has no item for."""
    kind, args = errors.string(call.get("toolType")), errors.record(call.get("args"))
    if kind in ("GOOGLE_SEARCH_WEB", "GOOGLE_SEARCH_IMAGE"):
        return search(_queries(args), [])
    if kind == "URL_CONTEXT":
        urls = strings(args.get("urls"))
        return page(urls[0] if urls else "")
    if kind == "FILE_SEARCH":
        item = {"type": "file_search_call", "status": "completed", "queries": _queries(args), "results": None}
        return hosted_item(item, SEARCHING)
    return None


def search(queries: list[str], urls: list[str]) -> HostedItem:
    """Returns the item of a web search for *queries* that found *urls*."""
    action: Json = {"type": "search", "query": queries[0] if queries else "", "queries": queries}
    action["sources"] = [{"type": "url", "url": url} for url in urls]
    return hosted_item({"type": "web_search_call", "status": "completed", "action": action}, SEARCHING)


def page(url: str) -> HostedItem:
    """Returns the item of a page that was read."""
    item = {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": url}}
    return hosted_item(item, SEARCHING)


def _queries(args: Json) -> list[str]:
    query = args.get("query")
    return strings(args.get("queries")) or ([query] if isinstance(query, str) else [])


# Citations: `groundingMetadata` and `citationMetadata` as `url_citation` annotations of the text they speak of.
#
# Gemini counts UTF-8 bytes, from the start of a part that may have come in pieces; annotations count characters. The
# words of a segment are quoted in it, so they decide where the numbers do not fit.


class Grounding:
    """Collects what the chunks of one reply say about sources; later values replace earlier ones."""

    def __init__(self) -> None:
        self.metadata: Json = {}
        self.citations: list[Json] = []
        self.cited: set[tuple[int, int, str]] = set()

    def read(self, candidate: Json) -> None:
        """Takes the sources and citations of *candidate*."""
        given = errors.record(candidate.get("groundingMetadata"))
        self.metadata |= {name: value for name, value in given.items() if value}
        cited = errors.record(candidate.get("citationMetadata"))
        self.citations += errors.records(cited.get("citations") or cited.get("citationSources"))

    def annotations(self, text: str) -> Iterator[Json]:
        """Yields the citations of *text* that were not yielded before."""
        for start, end, source in self._spans(text):
            url = errors.string(source.get("uri"))
            if url and (start, end, url) not in self.cited:
                self.cited.add((start, end, url))
                title = errors.string(source.get("title")) or errors.string(source.get("domain")) or url
                yield {"type": "url_citation", "start_index": start, "end_index": end, "url": url, "title": title}

    @property
    def queries(self) -> list[str]:
        """Returns what was searched for."""
        return errors.strings(self.metadata.get("webSearchQueries"))

    @property
    def urls(self) -> list[str]:
        """The addresses of all web sources, each once."""
        return list(dict.fromkeys(url for source in self._sources() if (url := errors.string(source.get("uri")))))

    @property
    def unnamed(self) -> int:
        """Sources without an address, which no annotation can name."""
        return sum(not source.get("uri") for source in self._sources())

    def _sources(self) -> list[Json]:
        return [source_of(chunk) for chunk in errors.records(self.metadata.get("groundingChunks"))]

    def _spans(self, text: str) -> Iterator[tuple[int, int, Json]]:
        sources, data = self._sources(), text.encode("utf-8", "surrogatepass")
        for support in errors.records(self.metadata.get("groundingSupports")):
            if (place := locate(text, data, errors.record(support.get("segment")))) is None:
                continue
            for index in errors.array(support.get("groundingChunkIndices")):
                if isinstance(index, int) and 0 <= index < len(sources):
                    yield *place, sources[index]
        for citation in self.citations:
            if (place := locate(text, data, citation)) is not None:
                yield *place, citation


def source_of(chunk: Json) -> Json:
    """The source that a grounding chunk names, of whatever kind."""
    for kind in ("web", "maps", "retrievedContext", "image"):
        if kind in chunk:
            source = errors.record(chunk[kind])
            return {**source, "uri": source.get("uri") or source.get("sourceUri")}
    return {}


def locate(text: str, data: bytes, segment: Json) -> tuple[int, int] | None:
    """Returns where *segment* stands in *text*, in characters, or None. *data* is the text in UTF-8."""
    start, end = count(segment.get("startIndex")), count(segment.get("endIndex"))
    words = errors.string(segment.get("text"))
    found = data[start:end].decode("utf-8", "ignore")
    if found and (not words or found == words):
        first = len(data[:start].decode("utf-8", "ignore"))
        return first, first + len(found)
    at = text.find(words) if words else -1
    return (at, at + len(words)) if at >= 0 else None
