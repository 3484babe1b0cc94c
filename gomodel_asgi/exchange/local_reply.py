"""Replies that no upstream was asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from .reply import JSON_TYPE, STREAM_HEADERS, STREAM_TYPE, Reply, named


def told(value: Any, provider: str, model: str | None) -> Reply:
    """*value* (JSON, or bytes of it) as the reply; *provider* and *model* are those that once gave it."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    headers = [JSON_TYPE, *named(provider, (model or "")[:257], 0)]
    return Reply(status=200, raw_headers=headers, provider=provider, model=model, attempts=0, body=body)


def streamed(events: bytes, provider: str, model: str | None) -> Reply:
    """*events* as the reply."""
    headers = [STREAM_TYPE, *named(provider, (model or "")[:257], 0), *STREAM_HEADERS]
    return Reply(status=200, raw_headers=headers, provider=provider, model=model, attempts=0, body=events)
