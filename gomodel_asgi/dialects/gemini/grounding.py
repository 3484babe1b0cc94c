"""Citations: `groundingMetadata` and `citationMetadata` as `url_citation` annotations of the text they speak of.

Gemini counts UTF-8 bytes, from the start of a part that may have come in pieces; annotations count characters. The
words of a segment are quoted in it, so they decide where the numbers do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import wire

Json = dict[str, Any]


class Grounding:
    """Collects what the chunks of one reply say about sources; later values replace earlier ones."""

    def __init__(self) -> None:
        self.metadata: Json = {}
        self.citations: list[Json] = []
        self.cited: set[tuple[int, int, str]] = set()

    def read(self, candidate: Json) -> None:
        """Take over what *candidate* says."""
        given = wire.record(candidate.get("groundingMetadata"))
        self.metadata |= {name: value for name, value in given.items() if value}
        cited = wire.record(candidate.get("citationMetadata"))
        self.citations += wire.records(cited.get("citations") or cited.get("citationSources"))

    def annotations(self, text: str) -> Iterator[Json]:
        """The citations of *text* that have not been given yet."""
        for start, end, source in self._spans(text):
            url = wire.string(source.get("uri"))
            if url and (start, end, url) not in self.cited:
                self.cited.add((start, end, url))
                title = wire.string(source.get("title")) or wire.string(source.get("domain")) or url
                yield {"type": "url_citation", "start_index": start, "end_index": end, "url": url, "title": title}

    @property
    def queries(self) -> list[str]:
        return wire.strings(self.metadata.get("webSearchQueries"))

    @property
    def urls(self) -> list[str]:
        """The addresses of all web sources, each once."""
        return list(dict.fromkeys(url for source in self._sources() if (url := wire.string(source.get("uri")))))

    @property
    def unnamed(self) -> int:
        """Sources without an address, which no annotation can name."""
        return sum(not source.get("uri") for source in self._sources())

    def _sources(self) -> list[Json]:
        return [source_of(chunk) for chunk in wire.records(self.metadata.get("groundingChunks"))]

    def _spans(self, text: str) -> Iterator[tuple[int, int, Json]]:
        sources, data = self._sources(), text.encode("utf-8", "surrogatepass")
        for support in wire.records(self.metadata.get("groundingSupports")):
            if (place := locate(text, data, wire.record(support.get("segment")))) is None:
                continue
            for index in wire.array(support.get("groundingChunkIndices")):
                if isinstance(index, int) and 0 <= index < len(sources):
                    yield *place, sources[index]
        for citation in self.citations:
            if (place := locate(text, data, citation)) is not None:
                yield *place, citation


def source_of(chunk: Json) -> Json:
    """The source that a grounding chunk names, of whatever kind."""
    for kind in ("web", "maps", "retrievedContext", "image"):
        if kind in chunk:
            source = wire.record(chunk[kind])
            return {**source, "uri": source.get("uri") or source.get("sourceUri")}
    return {}


def locate(text: str, data: bytes, segment: Json) -> tuple[int, int] | None:
    """Where *segment* stands in *text*, in characters; None where it does not. *data* is the text in UTF-8."""
    start, end = wire.count(segment.get("startIndex")), wire.count(segment.get("endIndex"))
    words = wire.string(segment.get("text"))
    found = data[start:end].decode("utf-8", "ignore")
    if found and (not words or found == words):
        first = len(data[:start].decode("utf-8", "ignore"))
        return first, first + len(found)
    at = text.find(words) if words else -1
    return (at, at + len(words)) if at >= 0 else None
