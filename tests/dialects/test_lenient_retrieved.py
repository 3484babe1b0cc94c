"""Streams of a repaired provider that are sent again."""

from __future__ import annotations

import pytest

from gomodel_asgi import NoStore

from ..support.driving import events_of
from ..support.exchanges import STREAM, streamed
from ..support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

SLOPPY = [
    b'data: {"type":"response.created","response":{"id":"resp_1","created_at":7,"model":"gpt-5"}}\n\n',
    b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n',
    b'data: {"type":"response.output_text.delta","delta":"Ho"}\n\n',
    b'data: {"type":"response.completed"}\n\n',
]


@pytest.mark.parametrize(
    ("given", "after"),
    [("", None), *((f"starting_after={number}&", number) for number in (0, 4, 5, 9, 50))]
    + [("starting_after=9&starting_after=4&", 4), ("starting_after=x&starting%5Fafter=9&", 9)]
    + [("starting_after=4&starting_after=x&", None)],
)
async def test_a_repaired_stream_that_is_sent_again_goes_on_behind_the_number_that_the_client_names(
    lab: Lab, given: str, after: int | None
) -> None:
    lab.make(lab.provider(lab.bad, normalize=True), stamp=False, store=NoStore())
    lab.bad.script(streamed(*SLOPPY))
    first = await lab.ask(STREAM)
    lab.bad.script(streamed(*SLOPPY))
    query = f"stream=true&{given}a=b"
    again = await lab.ask(b"", path="/v1/responses/resp_1", method="GET", query=query.encode(), headers=[])

    told = events_of(first.content)
    assert events_of(again.content) == [
        one for one in told if one["sequence_number"] > (-1 if after is None else after)
    ]
    assert again.content.endswith(b"data: [DONE]\n\n") and again.complete
    asked = lab.bad.requests[-1]
    assert asked.query == (query.encode() if after is None else b"stream=true&a=b")
