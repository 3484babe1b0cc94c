"""How many tokens an input has, where the upstream does not count: an estimate that costs less than the input."""

from __future__ import annotations

import base64
import json
import tracemalloc

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.wire.json_scan import WINDOW, run
from gomodel_asgi.wire.usage import BYTES_PER_TOKEN, MEDIA, estimated

from ..support.driving import ask

MIB = 1 << 20


def tokens(text: int, media: int = 0) -> int:
    return -(-text // BYTES_PER_TOKEN) + media * MEDIA


def test_text_counts_by_its_bytes() -> None:
    for body in (b'{"a":"hello"}', b'{"a":"%b"}' % (b"some words " * 100), b'{"a":"%b"}' % (b"word," * 1000)):
        assert run(estimated(body)) == tokens(len(body))


@pytest.mark.parametrize(
    ("text", "is_media"),
    [
        (b"A" * 399, False),
        (b"A" * 400, True),
        (b"data:image/png;base64," + b"iVBOR/+w" * 60 + b"==", True),
        (b" " * 80 + b"A" * 400, True),
        (b" " * 81 + b"A" * 400, False),
        (b"A" * 400 + b" ", False),
        (rb"\\n" + b"A" * 1000, False),
        (b"A" * 3 * WINDOW, True),
        (b"A" * 2 * WINDOW + b" " + b"A" * WINDOW, False),
    ],
)
def test_media_counts_apart_whatever_it_holds(text: bytes, is_media: bool) -> None:
    for before, behind in (
        (b"", b""),
        (b'"x":"y",', b',"b":"c"'),
        (b'"%b":1,' % (b"k" * 250), b',"%b":1' % (b"k" * 250)),
    ):
        body = b'{%b"a":"%b"%b}' % (before, text, behind)
        counted = tokens(len(body) - len(text) - 2, 1) if is_media else tokens(len(body))
        assert run(estimated(body)) == counted


def test_every_piece_of_media_counts() -> None:
    pieces = [{"data": "QUJD" * 200, "text": "between"} for _ in range(20)]
    body = json.dumps(pieces, separators=(",", ":")).encode()
    assert run(estimated(body)) == tokens(len(body) - 20 * 802, 20)


@pytest.mark.parametrize("piece", [b"A", b'"', b'\\"', b"word ", b'"a",'])
def test_an_estimate_takes_no_memory_and_a_window_at_each_step(piece: bytes) -> None:
    body = b'{"a":"%b"}' % (piece * (4 * MIB // len(piece)))
    tracemalloc.start()
    try:
        steps = sum(1 for _ in estimated(body))
        assert tracemalloc.get_traced_memory()[1] < len(body) / 10
    finally:
        tracemalloc.stop()
    assert steps >= len(body) // WINDOW


async def test_an_image_of_any_size_counts_as_one() -> None:
    gateway = Gateway(providers=[Provider("c", "http://127.0.0.1:9/v1", dialect="chat", estimate_tokens=True)])
    image = {"type": "input_image", "image_url": "data:image/png;base64," + base64.b64encode(b"x" * 3 * MIB).decode()}
    body = {"model": "m", "input": [{"role": "user", "content": [image]}]}

    answer = await ask(gateway, body, path="/v1/responses/input_tokens")

    assert answer.json()["estimated"] is True
    assert MEDIA < answer.json()["input_tokens"] < MEDIA + 100
