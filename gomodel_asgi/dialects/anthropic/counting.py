"""The reply of `/messages/count_tokens`: one number."""

from __future__ import annotations

from typing import Any

from ...tree import parser
from ...wire.event_writer import Emitter
from .errors import error_of

decode = parser(dict[str, Any])


class CountTranslator:
    """Reads a count. What it leaves as the emitter's `response` is the whole answer, `response.input_tokens`."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter

    def feed(self, event: str, data: bytes) -> None:
        """The whole body.

        :raises ValueError: it is no count.
        """
        body = decode(data)
        if error := error_of(body):
            self.emitter.fail(error)
            return
        count = body.get("input_tokens")
        if not isinstance(count, int):
            raise ValueError("this is no count of tokens")
        self.emitter.complete()
        self.emitter.response = {"object": "response.input_tokens", "input_tokens": count}

    def close(self) -> None:
        """Nothing is left to say."""
