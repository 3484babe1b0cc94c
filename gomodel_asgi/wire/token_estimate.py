"""About how many tokens a JSON body is, from its bytes alone.

Four bytes of JSON text are one token, but no word is less than one. That is near for English and for code, and too low
for scripts whose characters take three bytes; inline media counts `MEDIA` tokens a piece, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Generator

from .json_scan import WINDOW, window_of

BYTES_PER_TOKEN = 4
"""An English token has about four (OpenAI, "What are tokens")."""

# What a picture of middling size costs at most makers of models.
MEDIA = 1000

# Bytes of a string that is media: base64 of more than a paragraph, behind as much as `data:image/png;base64,` takes.
SHORTEST = 400
LONGEST_PREFIX = 80
"""Characters that may stand before base64, as `data:image/png;base64,` does."""
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

# Of two neighbouring quotes that are so far apart that media may stand between them, one such block has neither.
BLOCK = SHORTEST // 2


def estimated(body: bytes) -> Generator[None, None, int]:
    """About how many tokens the JSON *body* is, a window at each step."""
    text, words, media, at = len(body), 0, 0, 0
    for end in range(WINDOW, len(body) + WINDOW, WINDOW):
        words += body.count(b" ", end - WINDOW, end)
        while at < min(end, len(body)):
            if body.find(b'"', at, at + BLOCK) < 0:
                start, at = body.rfind(b'"', 0, at) + 1, body.find(b'"', at)
                at = len(body) if at < 0 else at
                if (yield from _is_media(body, start, at)):
                    media += 1
                    text -= at - start + 2
                    words -= body.count(b" ", start, start + LONGEST_PREFIX)
            at += BLOCK
        yield
    return max(1, -(-text // BYTES_PER_TOKEN), words) + media * MEDIA


def _is_media(body: bytes, start: int, end: int) -> Generator[None, None, bool]:
    """Returns whether what stands from *start* to *end* is base64, but for its beginning."""
    behind = start + min(LONGEST_PREFIX, end - start - SHORTEST)
    if behind < start or b"\\" in body[start:behind]:
        return False
    size = window_of(len(body))
    for at in range(behind, end, size):
        if body[at : min(at + size, end)].translate(None, BASE64):
            return False
        yield
    return True
