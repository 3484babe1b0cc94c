"""Errors and streams of the Chat Completions API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..wire import Failure, Json, data_of, openai_error, unnamed


@dataclass(frozen=True, slots=True)
class ChatWire:
    """Errors are OpenAI's; inside a stream they are an event without a name, or (Groq) one that is called `error`."""

    request_id: str = ""

    endless = (
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"finish_reason":null,"delta":{"content":"',
        b'"}}]}\n\n',
    )

    @property
    def headers(self) -> Mapping[str, str]:
        return {"x-request-id": self.request_id}

    def error(self, failure: Failure) -> Json:
        return openai_error(failure)

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        if form not in (None, "body", "event"):
            raise ValueError(f"the chat API has no error of the form '{form}'")
        return openai_error(failure)

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        return (b"event: error\n" if form == "event" else b"") + unnamed(value)

    def ends(self, event: bytes) -> bool:
        chunk = data_of(event)
        if not isinstance(chunk, Mapping) or "choices" not in chunk:
            return False
        return not chunk["choices"] or chunk["choices"][0].get("finish_reason") is not None
