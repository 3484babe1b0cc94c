"""A unary and a streamed exchange with an upstream, and what a test says of the answer."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import Target
from gomodel_asgi.testing import (
    Answer,
    Reply,
)
from gomodel_asgi.wire.response import stream_of
from gomodel_asgi.wire.sse import split

from .driving import Caller, events_of, told_failure
from .lab import KEY, Lab
from .scripted_upstream import Upstream

UNARY: dict[str, Any] = {"model": "gpt-5", "input": "hi"}
STREAM: dict[str, Any] = {**UNARY, "stream": True}
TEXT = {"type": "output_text", "text": "Grüße", "annotations": [], "logprobs": []}
MESSAGE = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [TEXT]}
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5", "output": [MESSAGE],
    "error": None, "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}  # fmt: skip


EVENTS = list(split(stream_of(RESPONSE)))
EVENT_STREAM = "text/event-stream; charset=utf-8"


def streamed(*chunks: bytes, **options: Any) -> Reply:
    return Reply(content_type=EVENT_STREAM, chunks=chunks or EVENTS, **options)


def refused(answer: Caller, status: int, code: str | None) -> Caller:
    """The answer is this error, in the envelope, with nothing of the upstream's key in it."""
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.complete and answer.raised is None
    assert answer.headers["content-type"] == "application/json"
    assert "x-request-id" in answer.headers
    assert KEY.encode() not in answer.content
    return answer


def broke_off(answer: Caller, whole: bytes) -> str:
    """The code of the failure that *answer* ends with; before it stands *whole*, byte for byte."""
    assert answer.status == 200 and answer.complete and answer.raised is None
    assert answer.content.startswith(whole)
    return told_failure(events_of(answer.content), answer.content)


async def succeeds(lab: Lab) -> None:
    """The next request on the same gateway gets its answer."""
    lab.bad.script(Answer(text="well again"))
    answer = await lab.ask(UNARY)
    assert (answer.status, answer.json()["output"][0]["content"][0]["text"]) == (200, "well again")


both = pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])


def with_fallback(lab: Lab, **options: Any) -> None:
    """A gateway whose policy names *good* behind *bad*."""
    policy = lambda request: Target("bad", fallbacks=[Target("good")])  # noqa: E731
    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=policy, **options)


def answered_by(answer: Caller, name: str) -> None:
    assert answer.status == 200 and answer.complete
    assert answer.headers["x-gomodel-provider"] == name


def nowhere(lab: Lab) -> str:
    """A port where nobody listens."""
    gone = Upstream(lambda peer: None)
    gone.close()
    return f"http://127.0.0.1:{gone.port}/v1"
