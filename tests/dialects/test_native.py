"""What a native stream must not give away and must not lose, however the network has cut it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gomodel_asgi.dialects.native import NativeReader
from gomodel_asgi.errors import UpstreamAuthError, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.sse import Decoder

Json = dict[str, Any]

KEY = "sk-canary-house-key"


def reader(secret: str | tuple[str, ...] | None = KEY, **limits: int) -> NativeReader:
    return NativeReader(
        name=None, model="m", limits=Limits(**limits), secrets=(secret,) if isinstance(secret, str) else secret or ()
    )


def event(type: str, number: int | None = None, *, first: bool = False, name: bool = True, **members: Any) -> bytes:
    """An event whose number stands last, as OpenAI writes it, or *first* behind the type."""
    numbered = {} if number is None else {"sequence_number": number}
    data = {"type": type, **(numbered if first else {}), **members, **numbered}
    return (f"event: {type}\n" if name else "").encode() + b"data: %s\n\n" % json.dumps(data).encode()


def delta(text: str, number: int | None = None, *, first: bool = False) -> bytes:
    return event("response.output_text.delta", number, first=first, delta=text)


CREATED = event("response.created", 0, response={"id": "resp_1", "object": "response", "output": []})
COMPLETED = event("response.completed", 9, response={"id": "resp_1", "status": "completed", "output": []})


def cuttings(data: bytes) -> Iterator[list[bytes]]:
    """*data* cut in two at every byte, and in equal pieces."""
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    for size in (1, 2, 3, len(data)):
        yield [data[start : start + size] for start in range(0, len(data), size)]


def fed(read: NativeReader, pieces: list[bytes]) -> bytes:
    return b"".join([read.feed(piece) for piece in pieces])


def told(data: bytes) -> list[Json]:
    """The events in *data* that are JSON."""
    return [json.loads(one.data) for one in Decoder().feed(data) if one.data.startswith(b"{")]


# Our key...


@pytest.mark.parametrize("name", [True, False])
def test_a_key_that_a_delta_quotes_is_taken_out_wherever_the_network_cuts(name: bool) -> None:
    quoting = event("response.output_text.delta", 2, name=name, delta=f"Your key is {KEY}.")
    stream = CREATED + delta("a", 1) + quoting + delta("b", 3) + COMPLETED

    for pieces in cuttings(stream):
        assert fed(reader(), pieces) == stream.replace(KEY.encode(), b"[redacted]")


def test_a_key_in_a_delta_that_comes_alone_behind_others_is_taken_out() -> None:
    read = reader()
    read.feed(CREATED)
    for number in range(1, 20):
        given = read.feed(delta("a" if number % 5 else KEY, number))
        assert given == delta("a" if number % 5 else "[redacted]", number)


@pytest.mark.parametrize("spelled", [r"ab\/cd-0123456789\u002B==", "ab/cd-0123456789+==", r"ab\u002fcd-0123456789+=="])
def test_a_key_that_json_has_escaped_is_taken_out(spelled: str) -> None:
    data = b'data: {"type":"response.output_text.delta","delta":"%s"}\n\n'

    for pieces in cuttings(data % spelled.encode()):
        assert fed(reader("ab/cd-0123456789+=="), pieces) == data % b"[redacted]"


@pytest.mark.parametrize("secret", [(KEY, "another-key-77"), ("another-key-77", KEY), ("", KEY)])
def test_every_credential_that_goes_with_the_request_is_taken_out(secret: tuple[str, ...]) -> None:
    read = reader(secret)
    given = [read.feed(delta(text, number)) for number, text in enumerate(["a", *secret, "b", *secret])]

    assert not [one for one in given if KEY.encode() in one or b"another-key-77" in one]


@pytest.mark.parametrize("before", [b"event: x\ndata: ", b'event: x\ndata: {"error":', b": comment "])
def test_a_key_in_an_event_that_leaves_in_parts_is_taken_out_wherever_the_part_ends(before: bytes) -> None:
    stream = before + b"x" * 50 + KEY.encode() + b"y" * 120 + KEY.encode() + b"\n\n"

    for size in (1, 2, 3, 5, 7, 40, 41, 42, 43, 60, 100):
        for ahead in range(25):
            data = before + b"z" * ahead + stream[len(before) :]
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            assert fed(reader(buffer=64), pieces) == data.replace(KEY.encode(), b"[redacted]")


def test_no_byte_of_a_key_leaves_before_it_is_known_to_be_one() -> None:
    read, out = reader(buffer=64), b""
    for byte in b"data: " + b"x" * 100 + KEY.encode()[:-1]:
        out += read.feed(bytes([byte]))

    assert read.inside and b"sk-" not in out


def test_a_part_is_no_larger_held_than_the_buffer_and_a_key() -> None:
    read = reader(buffer=64)
    for _ in range(100):
        read.feed(b"x" * 10)
        assert len(read.framer.pending) <= 64 + 10 + len(KEY)


def test_a_buffer_that_is_shorter_than_a_key_still_gives_the_event() -> None:
    data = b"data: " + b"x" * 200 + b"\n\n"

    assert fed(reader(buffer=1), [data[at : at + 1] for at in range(len(data))]) == data


def test_an_event_of_which_nothing_has_left_is_not_begun() -> None:
    read = reader(buffer=1)

    assert read.feed(b"data: x") == b"" and not read.inside
    assert told(read.close())[-1]["type"] == "response.failed"


@pytest.mark.parametrize("secret", ["EMPTY", "ollama", "placeholder", "none", "x", ""])
def test_a_key_that_is_a_word_is_left_in_texts_that_have_the_word(secret: str) -> None:
    stream = CREATED + delta(f"It is {secret}, is it not?", 1) + COMPLETED

    assert reader(secret).feed(stream) == stream


@pytest.mark.parametrize("data", ['{"type":"error","message":"Bad %s"}', '{"message":"Bad %s","code":401}', "Bad %s"])
def test_a_failure_does_not_quote_the_key(data: str) -> None:
    read = reader()
    given = read.feed(f"event: error\ndata: {data % KEY}\n\n".encode()) + read.close()

    assert KEY.encode() not in given
    assert read.failure is not None and KEY not in f"{read.failure.message} {read.failure.detail}"


# Numbers of the events that end a stream for its upstream...

UNNUMBERED = {
    "nothing": b"",
    "a comment": b": ping\n\n",
    "a part of an event": b'event: response.output_text.delta\ndata: {"type":"response.output_text',
    "an event without a number": event("keepalive"),
    "deltas without a number": delta("c") + delta("d") * 12,
    "no JSON": b"data: nonsense\n\n",
    "a number inside a text": delta('"sequence_number":99'),
    "a name that is no number": event("x", item={"sequence_number": "99", "properties": {"sequence_number": {}}}),
    "an error": event("error", message="No."),
    "a lifecycle event without a number": event("response.in_progress", response={"id": "resp_1"}),
    "[DONE]": b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("last", UNNUMBERED.values(), ids=UNNUMBERED)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("error", [None, UpstreamTimeout("It stopped.")], ids=["closed", "timeout"])
def test_our_events_go_on_from_the_highest_number_that_was_seen(
    last: bytes, first: bool, error: UpstreamError | None
) -> None:
    read = reader()
    given = [read.feed(CREATED), *(read.feed(delta("a", number, first=first)) for number in range(7, 12))]
    given += [read.feed(one + b"\n\n" if last.endswith(b"\n\n") else one) for one in last.split(b"\n\n") if one]
    given.append(read.close() if error is None else read.fail(error))

    ours = told(b"".join(given))[-2 if b"error" not in last or error else -1 :]
    assert [one["sequence_number"] for one in ours] == [*range(12, 12 + len(ours))]
    assert ours[-1]["type"] == "response.failed"


@pytest.mark.parametrize("last", UNNUMBERED.values(), ids=UNNUMBERED)
def test_the_number_does_not_depend_on_how_the_stream_was_cut(last: bytes) -> None:
    stream = CREATED + delta("a", 1) + delta("b", 2) + last

    for pieces in cuttings(stream):
        read = reader()
        out = fed(read, pieces) + read.close()
        failed = told(out)[-1]
        assert (failed["type"], failed["response"]["id"]) == ("response.failed", "resp_1")
        assert failed["sequence_number"] == (3 if last.startswith(b"event: error") else 4)


def test_a_number_that_falls_does_not_make_ours_fall() -> None:
    read = reader()
    for number in (5, 9, 2):
        read.feed(event("response.output_item.added", number, item={}))

    assert told(read.close())[0]["sequence_number"] == 10


def test_nothing_is_kept_of_what_has_passed_but_the_last_piece() -> None:
    read = reader()
    for number in range(1000):
        read.feed(delta("x" * 1000, number))
    read.feed(delta("x" * 100_000) * 10)

    assert len(read._last) == 0


# Failures that only the event's name tells...


NAMELESS = {
    '{"message":"No.","code":"rate_limit_exceeded"}': ("No.", 429),
    '{"message":"No.","code":503}': ("No.", 503),
    '{"type":"overloaded_error","message":"No."}': ("No.", 529),
    '{"detail":"No."}': ("No.", 502),
    '{"error":"No."}': ("No.", 502),
    '[{"error":{"message":"No.","status":"UNAVAILABLE"}}]': ("No.", 503),
    '"No."': ("No.", 502),
    "No.": ("No.", 502),
    "No.\ndata: Not now.": ("No.\nNot now.", 502),
    "": ("The upstream reported an error.", 502),
    "{": ("{", 502),
    "null": ("The upstream reported an error.", 502),
}


@pytest.mark.parametrize(("data", "expected"), NAMELESS.items(), ids=NAMELESS)
@pytest.mark.parametrize("name", ["event: error", "event:error"])
def test_an_event_named_error_is_a_failure_whatever_it_holds(data: str, expected: tuple[str, int], name: str) -> None:
    stream = f"{name}\ndata: {data}\n\n".encode()

    for pieces in cuttings(stream):
        read = reader()
        assert fed(read, pieces) == stream
        assert read.failure is not None and (read.failure.message, read.failure.status) == expected
        assert not read.meaningful


@pytest.mark.parametrize("data", ['{"message":"No.","code":401}', '{"type":"authentication_error","message":"No."}'])
def test_an_event_named_error_may_refuse_our_key(data: str) -> None:
    read = reader()
    read.feed(f"event: error\ndata: {data}\n\n".encode())

    assert isinstance(read.failure, UpstreamAuthError)


def test_an_event_of_this_api_is_what_its_type_says_whatever_its_name() -> None:
    read = reader()
    read.feed(b"event: error\n" + event("response.output_item.added", 1, name=False, item={}))

    assert read.failure is None and read.meaningful


def test_the_name_stands_for_a_missing_type() -> None:
    read = reader()
    read.feed(b'event: response.completed\ndata: {"response":{"id":"resp_1"}}\n\n')

    assert (read.terminal, read.response_id, read.close()) == ("completed", "resp_1", b"")


@pytest.mark.parametrize("error", ["null", "{}", '""'])
def test_an_error_member_that_holds_nothing_is_no_failure(error: str) -> None:
    read = reader()
    read.feed(f'data: {{"object":"response","error":{error}}}\n\n'.encode())

    assert read.failure is None


# What comes at the end, and behind it...


@pytest.mark.parametrize(
    "done", [b"data: [DONE]", b"data:[DONE]", b"data:  [DONE]", b"data: [DONE] ", b": x\ndata:[DONE]"]
)
def test_a_failure_is_told_before_the_done_at_which_clients_stop_reading(done: bytes) -> None:
    read = reader()
    out = read.feed(CREATED + delta("a", 1) + done + b"\n\n")

    assert [one["type"] for one in told(out)][-2:] == ["error", "response.failed"]
    assert out.count(b"[DONE]") == 1 and out.endswith(b"data: [DONE]\n\n")


def test_a_large_event_behind_the_end_is_not_passed_in_parts() -> None:
    read = reader(buffer=64)
    assert read.feed(COMPLETED) == COMPLETED

    late = b"data: " + b"x" * 500 + b"\n\ndata: [DONE]\n\n"
    assert fed(read, [late[at : at + 10] for at in range(0, len(late), 10)]) == b"data: [DONE]\n\n"


def test_a_stream_that_closes_inside_an_event_of_which_a_part_was_given_is_not_ended_in_band() -> None:
    read = reader(buffer=64)
    read.feed(CREATED)
    assert read.feed(b"data: " + b"x" * 500)

    with pytest.raises(UpstreamError):
        read.close()


def test_an_event_over_the_limit_is_refused_though_it_leaves_in_parts() -> None:
    read = reader(buffer=64, event=1000)

    with pytest.raises(UpstreamProtocolError):
        for _ in range(30):
            read.feed(b"x" * 50)


@pytest.mark.parametrize("behind", [b"\nd", b"\n:", b"\n\ndata: x\n", b"\n\n" + COMPLETED[:-1]])
def test_a_delta_with_more_behind_it_in_its_piece_is_not_taken_for_one_alone(behind: bytes) -> None:
    read = reader()
    read.feed(delta("a", 1))
    one = delta("b", 2).removesuffix(b"\n\n")

    out = read.feed(one + behind)
    assert out == (one + b"\n\n" if behind.startswith(b"\n\n") else b"")
    rest = read.feed(b"\n\n")
    assert out + rest == one + behind + b"\n\n" or read.terminal == "completed"
