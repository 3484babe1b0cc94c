"""Chat Completions (`/chat/completions`), as OpenAI defined it and as everyone else understood it."""

from __future__ import annotations

from ...errors import GatewayError
from ...wire.event_writer import Emitter
from ..base import Call, Outgoing
from ..conversation import offered_tools
from .output import read_error
from .reply import ChatTranslator
from .request import chat_request

__all__ = ["ChatDialect"]


class ChatDialect:
    """Speaks Chat Completions. What a server of a certain `Call.type` does differently is in `flavors`."""

    name = "chat"

    def request(self, call: Call) -> Outgoing:
        """*call* as a POST of `/chat/completions`; see `Dialect.request`."""
        return chat_request(call)

    def translator(self, call: Call, emitter: Emitter) -> ChatTranslator:
        """A reader of `chat.completion.chunk` events or of one `chat.completion` body."""
        return ChatTranslator(call, emitter, offered_tools(call))

    def error(self, status: int, body: bytes) -> GatewayError | None:
        """Read an error body in one of the forms that chat servers use; see `read_error`."""
        return read_error(status, body)
