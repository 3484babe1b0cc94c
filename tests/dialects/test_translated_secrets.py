"""A key that an upstream quotes in an answer which is translated: the client never reads it, however it is written."""

from __future__ import annotations

import pytest

from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.reader import TranslatedReader
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.event_writer import Emitter

KEY, OTHER = "sk-of/nobody+123", "other-key-456789"
WRITTEN = {
    "as it is": KEY,
    "with a slash escaped": KEY.replace("/", "\\/"),
    "with a plus escaped": KEY.replace("+", "\\u002B"),
    "with a letter escaped": KEY.replace("n", "\\u006e"),
}


@pytest.mark.parametrize("secrets", [(KEY,), (KEY, OTHER), (OTHER, KEY)])
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_key_in_any_spelling_is_taken_out_of_a_translated_event(written: str, secrets: tuple[str, ...]) -> None:
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo={})
    call = Call("create", {"input": "hi"}, "m", True, "p", "openai")
    reader = TranslatedReader(built_in("chat").translator(call, emitter), emitter, Limits(), secrets)
    chunk = '{"choices": [{"index": 0, "delta": {"content": "Your key is %s."}}]}' % written
    said = reader.feed(f"data: {chunk}\n\n".encode()).decode()

    assert "Your key is [redacted]." in said
    assert KEY not in said
