"""Anthropic's citations as annotations of the text they support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def annotation(citation: Mapping[str, Any], start: int, end: int) -> Json | None:
    """*citation* of the characters *start* to *end* of the part; None where no annotation has a place for it.

    Web and search results become `url_citation`. Places in a document of the request become `file_citation` if the
    document was an uploaded file, and are otherwise without an address that a client could follow.
    """
    if url := citation.get("url") or citation.get("source"):
        title = citation.get("title") or url
        return {"type": "url_citation", "url": url, "title": title, "start_index": start, "end_index": end}
    if file_id := citation.get("file_id"):
        filename = citation.get("document_title") or file_id
        return {"type": "file_citation", "file_id": file_id, "filename": filename, "index": start}
    return None
