"""The Messages API of Anthropic, also as Vertex, Bedrock's successor surface and other makers offer it."""

from __future__ import annotations

import math
import re

from ...errors import GatewayError
from ...wire.event_writer import Emitter
from ...wire.json_scan import parsed
from ..base import Call, Outgoing, Translator
from ..content import MEDIA_TYPES
from ..files import Named, ending_of
from .models import model_of
from .options import LEAST_COMPACTION
from .reply import AnthropicTranslator, CountTranslator, error_of
from .request import outgoing

__all__ = ["AnthropicDialect"]

OWN_FILE = re.compile("file_01[A-Za-z0-9]{16,}")
"""Ids that the Files API gives out (`file_011CNha8iCJcU1wXNR6q4V8w`)."""
OTHER_FILES = frozenset(MEDIA_TYPES) - {"pdf"}
"""Endings of files that are no PDF, the one kind of document that is read by URL."""


class AnthropicDialect:
    """Translates to and from `POST /messages`; the header `anthropic-version` is the provider's."""

    name = "anthropic"
    counts_tokens = True

    def reads_file(self, call: Call, named: Named) -> bool:
        """Returns whether Anthropic reads the file that *named* names: its own Files API's, and images and PDFs by
        URL."""
        if named.file_id is not None:
            return OWN_FILE.fullmatch(named.file_id) is not None
        return named.is_image or ending_of(named.url or "") not in OTHER_FILES

    def compacts_from(self, model: str) -> float:
        """Tokens of context from which on the API compacts it for *model*, when it is asked to."""
        return LEAST_COMPACTION if model_of(model).compacts else math.inf

    def most_output(self, model: str) -> int:
        """Tokens of output that *model* is allowed where a request does not bound it: the API demands a bound."""
        return model_of(model).max_tokens

    def request(self, call: Call) -> Outgoing:
        """See `Dialect.request`. Betas that a request needs go out as the header `anthropic-beta`."""
        return outgoing(call)

    def translator(self, call: Call, emitter: Emitter) -> Translator:
        """See `Dialect.translator`."""
        if call.operation == "input_tokens":
            return CountTranslator(emitter)
        return AnthropicTranslator(call, emitter)

    def error(self, status: int, body: bytes) -> GatewayError | None:
        """See `Dialect.error`."""
        try:
            return error_of(parsed(body), status)
        except (ValueError, RecursionError):
            return None
