"""Chat Completions (`/chat/completions`), as OpenAI defined it and as everyone else understood it."""

from __future__ import annotations

from ...errors import GatewayError
from ...wire.event_writer import Emitter
from ..base import Call
from ..files import Named
from .flavors import FLAVORS, OPEN_SERVER
from .output import read_error
from .reply import ChatTranslator
from .request import chat_request

__all__ = ["ChatDialect"]

OWN_FILE = "file-"
"""How the ids of files begin that OpenAI gives out."""


class ChatDialect:
    """Speaks Chat Completions. What a server of a certain `Call.type` does differently is in `flavors`."""

    name = "chat"
    takes_text_files = False
    """Servers that take files take documents with pages; a text is a part of the message."""

    def reads_file(self, call: Call, named: Named) -> bool:
        """Returns whether the server reads the file that *named* names. An image that no image may be sent for is left
        to be refused."""
        flavor = FLAVORS.get(call.type, OPEN_SERVER)
        if named.is_image:
            return "image" not in flavor.media or named.file_id is None
        if "file" not in flavor.media:
            return False
        if named.url:
            return flavor.file_urls
        return flavor.file_ids and (named.file_id or "").startswith(OWN_FILE)

    request = staticmethod(chat_request)

    def translator(self, call: Call, emitter: Emitter) -> ChatTranslator:
        """Returns a reader of `chat.completion.chunk` events or of one `chat.completion` body."""
        return ChatTranslator(call, emitter)

    def error(self, status: int, body: bytes) -> GatewayError | None:
        """Reads an error body in one of the forms that chat servers use; see `read_error`."""
        return read_error(status, body)
