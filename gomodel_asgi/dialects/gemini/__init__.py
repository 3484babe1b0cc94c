"""The Gemini API (generateContent, streamGenerateContent, countTokens), public and at Vertex."""

from __future__ import annotations

from ...errors import GatewayError
from ...wire.event_writer import Emitter
from ..base import Call, Outgoing, Translator
from ..files import Named
from .contents import ADDRESSES
from .errors import read_body
from .reply import CountReply, Reply
from .request import count, generate

__all__ = ["GeminiDialect"]


class GeminiDialect:
    """Speaks Gemini; holds no state."""

    name = "gemini"
    counts_tokens = True

    def reads_file(self, call: Call, named: Named) -> bool:
        """Returns whether Gemini fetches the file that *named* names: it reads addresses, those of its own Files API
        too."""
        return (named.url or named.file_id or "").startswith(ADDRESSES)

    def request(self, call: Call) -> Outgoing:
        """Translates *call*: `input_tokens` is a countTokens, all else a generateContent.

        :raises InvalidRequest: a member is malformed, or cannot be carried and `call.unsupported` is `"reject"`.
        """
        return count(call) if call.operation == "input_tokens" else generate(call)

    def translator(self, call: Call, emitter: Emitter) -> Translator:
        """A reader for the reply, which ends the response in `close`. That of `input_tokens` leaves the object
        `response.input_tokens` in the emitter."""
        return CountReply(emitter) if call.operation == "input_tokens" else Reply(call, emitter)

    def error(self, status: int, body: bytes) -> GatewayError | None:
        """Reads one of Google's error bodies, bare or in a list; None where *body* is not one."""
        return read_body(status, body)
