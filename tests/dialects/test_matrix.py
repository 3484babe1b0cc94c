"""Every translating dialect through the reader that the gateway uses: cut anywhere, broken off, failing, oversized."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.reader import TranslatedReader
from gomodel_asgi.errors import UpstreamProtocolError, UpstreamRejected
from gomodel_asgi.settings import MIB, Limits
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.response import encode

from ..support.chat_reader import exchanges

Json = dict[str, Any]

DIALECTS = ("chat", "anthropic", "gemini")
RECORDED = {
    name: sorted((e["reply"] for e in exchanges(name) if e["status"] == 200 and isinstance(e["reply"], str)), key=len)
    for name in DIALECTS
}
EACH = [pytest.param(name, stream, id=f"{name}-{at}") for name in DIALECTS for at, stream in enumerate(RECORDED[name])]
SHORTEST = [(name, RECORDED[name][0]) for name in DIALECTS if RECORDED[name]]
WITNESSES = 12
"""Random cuts of each longer stream; every byte of the shortest."""

needs_recordings = pytest.mark.skipif(not EACH, reason="../shared/recorded is not there")
DECIDED_LATER = ("status", "output", "usage", "error", "incomplete_details", "completed_at", "service_tier")
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def reader(dialect: str, *, limits: Limits | None = None) -> TranslatedReader:
    body = {"model": "m", "input": "Hi", "stream": True}
    call = Call("create", body, "m", True, dialect, dialect)
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo=body)
    return TranslatedReader(built_in(dialect).translator(call, emitter), emitter, limits or Limits())


def played(dialect: str, pieces: list[bytes]) -> bytes:
    """Everything that the client gets."""
    read = reader(dialect)
    return b"".join([read.feed(piece) for piece in pieces]) + read.close()


def events(data: bytes) -> list[Json]:
    """The events of *data*, whose `[DONE]` is the last."""
    blocks = data.split(b"\n\n")
    assert blocks[-2:] == [b"data: [DONE]", b""]
    return [json.loads(block.partition(b"\ndata: ")[2]) for block in blocks[:-2]]


# What a reader says of the response...


@needs_recordings
@pytest.mark.parametrize(("dialect", "stream"), EACH)
def test_what_is_kept_of_a_response_is_what_its_last_event_told(dialect: str, stream: str) -> None:
    read = reader(dialect)
    told = read.feed(stream.encode()) + read.close()
    kept = read.final()

    assert kept is not None and encode(read.emitter.response) == kept
    created, in_progress, *_, last = events(told)
    assert last["response"] == json.loads(kept)
    assert created["response"] == in_progress["response"]
    assert created["response"] == last["response"] | {name: created["response"][name] for name in DECIDED_LATER}
    assert created["response"]["status"] == "in_progress" and created["response"]["output"] == []


@each_dialect
def test_a_response_has_ended_for_its_reader_when_its_end_is_taken(dialect: str) -> None:
    read, error = reader(dialect), UpstreamRejected("no")
    read.emitter.message().text("Hello.")
    read.emitter.fail(error)
    before = (read.terminal, read.failure, read.meaningful, read.begun)

    taken = read.take()

    assert before == (None, None, False, False)
    assert (read.terminal, read.failure, read.meaningful) == ("failed", error, True)
    assert events(taken)[-1]["type"] == "response.failed" and read.take() == read.close() == b""


# Cut anywhere...


@needs_recordings
@pytest.mark.parametrize(("dialect", "stream"), SHORTEST)
def test_a_stream_cut_in_two_at_any_byte_gives_the_same_bytes(dialect: str, stream: str) -> None:
    data = stream.encode()
    expected = played(dialect, [data])

    for at in range(1, len(data)):
        assert played(dialect, [data[:at], data[at:]]) == expected


@needs_recordings
@pytest.mark.parametrize(("dialect", "stream"), EACH)
def test_a_stream_in_pieces_of_any_size_gives_the_same_bytes(dialect: str, stream: str) -> None:
    data, chance = stream.encode(), random.Random(len(stream))
    expected = played(dialect, [data])

    assert played(dialect, [data[at : at + 1] for at in range(len(data))]) == expected
    for _ in range(WITNESSES):
        cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(chance.randrange(1, 9)))})
        assert played(dialect, [data[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]) == expected


@needs_recordings
@pytest.mark.parametrize(("dialect", "stream"), EACH)
def test_the_server_s_line_ends_make_no_difference(dialect: str, stream: str) -> None:
    plain = stream.replace("\r\n", "\n")
    expected = played(dialect, [plain.encode()])

    for end in ("\r\n", "\r"):
        assert played(dialect, [plain.replace("\n", end).encode()]) == expected
    spaced = "\ufeff: a comment\n\n" + plain.replace("\ndata: ", "\nid: 7\ndata:")
    assert played(dialect, [spaced.encode()]) == expected


# What a small reply of each API looks like...

START: dict[str, list[Json | str]] = {
    "chat": [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}],
    "anthropic": [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ],
    "gemini": [{"candidates": [{"content": {"role": "model", "parts": []}}]}],
}
ERRORS: dict[str, Json] = {
    "chat": {"error": {"message": "Too much.", "type": "rate_limit_error", "code": 429}},
    "anthropic": {"type": "error", "error": {"type": "rate_limit_error", "message": "Too much."}},
    "gemini": {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Too much."}},
}
REFUSALS: dict[str, Json] = {
    "chat": {"error": {"message": "Bad key sk-canary-1.", "code": "invalid_api_key"}},
    "anthropic": {"type": "error", "error": {"type": "authentication_error", "message": "Bad key sk-canary-1."}},
    "gemini": {"error": {"code": 400, "message": "sk-canary-1", "details": [{"reason": "API_KEY_INVALID"}]}},
}


def text(dialect: str, words: str) -> Json:
    """One event that brings *words*."""
    if dialect == "chat":
        return {"choices": [{"index": 0, "delta": {"content": words}}]}
    if dialect == "gemini":
        return {"candidates": [{"content": {"role": "model", "parts": [{"text": words}]}}]}
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}


def end(dialect: str) -> list[Json | str]:
    """The events of a proper end."""
    if dialect == "chat":
        return [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]"]
    if dialect == "gemini":
        return [{"candidates": [{"finishReason": "STOP"}]}]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    return [{"type": "content_block_stop", "index": 0}, stop, {"type": "message_stop"}]


def wire(found: list[Json | str]) -> bytes:
    return b"".join(wired(each) for each in found)


def wired(each: Json | str) -> bytes:
    data = each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
    name = each.get("type") if isinstance(each, dict) else None
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def whole(dialect: str) -> bytes:
    return wire([*START[dialect], text(dialect, "Hällo"), text(dialect, " there"), *end(dialect)])


@each_dialect
def test_a_proper_stream_completes(dialect: str) -> None:
    found = events(played(dialect, [whole(dialect)]))

    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "Hällo there"


@each_dialect
def test_a_delta_leaves_with_the_bytes_that_brought_it(dialect: str) -> None:
    read = reader(dialect)
    read.feed(wire(START[dialect]))

    for words in ("Hel", "lo", " there"):
        assert json.dumps(words).encode() in read.feed(wire([text(dialect, words)]))


# 7, 8, 9: streams that stop...


@each_dialect
def test_the_last_event_counts_without_its_empty_line(dialect: str) -> None:
    found = events(played(dialect, [whole(dialect).rstrip(b"\n")]))

    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "Hällo there"


@each_dialect
def test_an_answer_that_says_it_is_over_in_each_event_is_cut_all_the_same(dialect: str) -> None:
    if dialect == "anthropic":
        data = whole(dialect)
    else:
        said = text(dialect, " there")
        choice = said["choices" if dialect == "chat" else "candidates"][0]
        choice |= {"finish_reason": "stop", "finishReason": "STOP"}
        data = wire([said, said])
    last = data.rindex(b"data: ")

    for at in range(last + 1, len(data.rstrip(b"\n")) - 1):
        assert events(played(dialect, [data[:at]]))[-1]["type"] == "response.failed", data[last:at]


@each_dialect
def test_wherever_a_stream_is_cut_the_whole_events_are_told_and_then_its_failure(dialect: str) -> None:
    data = whole(dialect)
    last = data.index(wire(end(dialect)[:1])) if dialect == "chat" else data.rindex(b"data: ")

    for at in range(1, last):
        found = events(played(dialect, [data[:at]]))
        assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
        assert found[-2]["code"] == "upstream_stream_truncated"
        deltas = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
        assert deltas == ["Hällo", " there"][: len(deltas)]
        assert found[-1]["response"]["id"] == found[0]["response"]["id"]


@pytest.mark.parametrize("dialect", ["chat", "anthropic"])  # Gemini's stream ends when it is closed
def test_after_the_terminal_event_nothing_more_is_passed(dialect: str) -> None:
    data = whole(dialect)
    read = reader(dialect)
    first = read.feed(data)
    later = read.feed(wire([text(dialect, "late")]) + data) + read.close()

    assert (first + later).count(b"data: [DONE]") == 1
    assert b"late" not in first + later
    assert events(first + later)[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([*START["chat"], text("chat", "Hi"), "[DONE]"], "completed"),
        ([*START["chat"], text("chat", "Hi")], "failed"),
        ([*START["chat"], text("chat", "Hi"), end("chat")[0]], "completed"),
        (["[DONE]"], "failed"),
    ],
    ids=["done after a choice", "eof", "eof after a finish_reason", "done alone"],
)
def test_done_ends_a_chat_stream_once_a_choice_has_come(found: list[Json | str], status: str) -> None:
    assert events(played("chat", [wire(found)]))[-1]["type"] == f"response.{status}"


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_done_alone_is_no_end_where_the_api_has_none(dialect: str) -> None:
    read = reader(dialect)
    try:
        data = read.feed(wire([*START[dialect], text(dialect, "Hi"), "[DONE]"])) + read.close()
    except UpstreamProtocolError as error:
        data = read.fail(error)

    assert b"response.failed" in data and b"response.completed" not in data


# 11: what is no event of the API...


@each_dialect
@pytest.mark.parametrize("data", ["<html>", "nonsense", "[[1]]", "5", '"x"', "{", "[" * 100_000])
def test_an_event_that_is_not_of_the_api_is_refused(dialect: str, data: str) -> None:
    read = reader(dialect)
    with pytest.raises(UpstreamProtocolError):
        read.feed(wire([data]))


@each_dialect
@pytest.mark.parametrize("body", [b"", b"<html>No.</html>", b"{}", b"[]", b"null", b"{", b"\xff"])
def test_a_whole_reply_that_is_none_of_the_api_is_refused(dialect: str, body: bytes) -> None:
    body_ = {"model": "m", "input": "Hi"}
    call = Call("create", body_, "m", False, dialect, dialect)
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo=body_, stream=False)
    read = TranslatedReader(built_in(dialect).translator(call, emitter), emitter, Limits())
    with pytest.raises(UpstreamProtocolError):
        read.whole(body)


# 12, 14: errors behind a 200...


@each_dialect
@pytest.mark.parametrize("begun", [False, True])
def test_an_error_before_anything_meaningful_is_a_failure_with_its_own_status(dialect: str, begun: bool) -> None:
    read = reader(dialect)
    read.feed(wire([*(START[dialect] if begun else []), ERRORS[dialect]]))

    assert isinstance(read.failure, UpstreamRejected)
    assert (read.failure.status, read.failure.message) == (429, "Too much.")
    assert (read.meaningful, read.begun) == (False, False)


@each_dialect
def test_an_error_in_mid_stream_keeps_what_came_and_is_told_in_both_forms(dialect: str) -> None:
    found = events(played(dialect, [wire([*START[dialect], text(dialect, "Hi"), ERRORS[dialect]])]))

    error, failed = found[-2:]
    assert error["message"] == error["error"]["message"] == failed["response"]["error"]["message"] == "Too much."
    assert failed["response"]["output"][0]["content"][0]["text"] == "Hi"


@each_dialect
def test_what_an_upstream_says_of_our_credentials_reaches_no_client(dialect: str) -> None:
    read = reader(dialect)
    data = read.feed(wire([*START[dialect], text(dialect, "Hi"), REFUSALS[dialect]])) + read.close()

    assert b"canary" not in data and b"upstream_auth_error" in data
    assert read.failure is not None and "canary" in (read.failure.detail or "")


# 19: size...


@each_dialect
def test_an_event_of_20_megabytes_is_refused_when_the_limit_is_reached(dialect: str) -> None:
    read, piece, fed = reader(dialect), b"x" * (MIB // 4), 0
    read.feed(wire(START[dialect]) + b"data: ")
    with pytest.raises(UpstreamProtocolError):
        while fed < 20 * MIB:
            fed += len(piece)
            read.feed(piece)

    assert fed <= Limits().event + len(piece)


@each_dialect
def test_an_event_within_the_limit_passes_whatever_its_size(dialect: str) -> None:
    words = "x" * (2 * MIB)
    data = wire([*START[dialect], text(dialect, words), *end(dialect)])

    found = events(played(dialect, [data[at : at + 65536] for at in range(0, len(data), 65536)]))
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == words
