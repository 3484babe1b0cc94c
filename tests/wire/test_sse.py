"""Server-sent events: the specification's own examples (WHATWG HTML, 9.2), each cut in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.errors import UpstreamProtocolError, UpstreamTruncated
from gomodel_asgi.wire.sse import Decoder, Event, Framer, end_of_events, split

SPEC: dict[str, tuple[bytes, list[Event]]] = {
    "two fields of one event": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("", b"YHOO\n+2\n10")]),
    "comments, ids and a missing end": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        [Event("", b"first event"), Event("", b"second event")],
    ),
    "empty data": (b"data\n\ndata\ndata\n\ndata:", [Event("", b""), Event("", b"\n")]),
    "one space is taken off": (b"data:test\n\ndata: test\n\n", [Event("", b"test"), Event("", b"test")]),
    "named events": (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [Event("add", b"73857293"), Event("remove", b"2153"), Event("add", b"113411")],
    ),
    "a name without data": (b"event: ping\n\ndata: x\n\n", [Event("", b"x")]),
    "unknown fields": (b"retry: 10\nfoo: bar\ndata: x\n\n", [Event("", b"x")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: x\n\n", [Event("", b"x")]),
    "a colon in the data": (b"data: a:b: c\n\n", [Event("", b"a:b: c")]),
    "characters of several bytes": ("data: Grüße 😀\n\n".encode(), [Event("", "Grüße 😀".encode())]),
}
ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}

cases = pytest.mark.parametrize(("stream", "events"), SPEC.values(), ids=SPEC)
ends = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)


def pieces(stream: bytes) -> Iterator[list[bytes]]:
    """*stream* whole, byte by byte, and cut in two at every place."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]


def decoded(chunks: list[bytes]) -> list[Event]:
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@cases
@ends
def test_a_stream_is_read_as_the_specification_says_however_it_is_cut(
    stream: bytes, events: list[Event], end: bytes
) -> None:
    stream = stream.replace(b"\n", end) + (end if end == b"\r" else b"")
    for chunks in pieces(stream):
        assert decoded(chunks) == events


@cases
@ends
def test_a_framer_gives_whole_events_and_changes_no_byte(stream: bytes, events: list[Event], end: bytes) -> None:
    stream = stream.replace(b"\n", end)
    for chunks in pieces(stream):
        framer = Framer()
        given = [framer.feed(chunk) for chunk in chunks]
        assert stream.startswith(b"".join(given))
        assert bytes(framer.pending) == stream[len(b"".join(given)) :]
        assert all(end_of_events(piece) == len(piece) for piece in given if piece and end != b"\r")


def test_a_whole_event_is_given_at_once() -> None:
    for end in ENDS.values():
        framer = Framer()
        event = b"data: x" + end + end
        if end != b"\n":
            given = framer.feed(event)
            assert given in (event, event[:-1])  # after CRLF CR the next byte may still be its LF
        else:
            assert framer.feed(event) == event


def test_events_are_split_where_they_end() -> None:
    whole = b"data: a\n\ndata: b\r\n\r\ndata: c\n\n"
    assert list(split(whole)) == [b"data: a\n\n", b"data: b\r\n\r\n", b"data: c\n\n"]
    assert list(split(b"data: a\r\n\r")) == [b"data: a\r\n\r"]


def test_an_event_is_not_lost_that_ends_with_lf_and_cr() -> None:
    stream = b"data: a\r\n\rdata: b\r\r"

    for chunks in pieces(stream):
        assert decoded(chunks) == [Event("", b"a"), Event("", b"b")]


@pytest.mark.parametrize("make", [lambda: Framer(limit=100), lambda: Decoder(limit=100)], ids=["framer", "decoder"])
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_an_event_over_the_limit_is_refused(make: Callable[[], Framer | Decoder], size: int) -> None:
    reader = make()
    with pytest.raises(UpstreamProtocolError):
        for _ in range(0, 1000, size):
            reader.feed(b"x" * size)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_an_event_over_the_buffer_is_given_in_parts_that_are_the_whole(size: int) -> None:
    framer = Framer(buffer=50, limit=10_000)
    stream = b"data: a\n\ndata: %s\n\ndata: b\n\n" % (b"x" * 500)
    given = []
    for at in range(0, len(stream), size):
        given.append(framer.feed(stream[at : at + size]))
        assert len(framer.pending) <= 50 + size
    assert b"".join(given) == stream
    assert not framer.inside


def test_what_must_be_whole_is_held_beyond_the_buffer() -> None:
    framer = Framer(buffer=50, whole=lambda head: b"keep" in head)
    assert framer.feed(b"data: keep " + b"x" * 500) == b""
    assert framer.feed(b"\n\n").startswith(b"data: keep")


@pytest.mark.parametrize(
    "last", [b"data: [DONE]\n", b"data: [DONE]", b'data: {"a": 1}', b'event: x\ndata: {"a": 1}\r\n']
)
def test_a_whole_event_that_lacks_its_empty_line_counts_at_the_end(last: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(last) == []
    [event] = decoder.close()
    assert event.data in (b"[DONE]", b'{"a": 1}')


@pytest.mark.parametrize(
    "last", [b"data: half", b'data: {"a": ', b"dat", b"event: x\n", b'data: {"a": 1}\ndata: {', b"data:"]
)
def test_a_stream_that_ends_inside_an_event_was_cut(last: bytes) -> None:
    decoder = Decoder()
    decoder.feed(last)
    with pytest.raises(UpstreamTruncated):
        decoder.close()


@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n \n", b": a comment", b": one\n: two\n"])
def test_blank_lines_and_comments_at_the_end_are_no_event(last: bytes) -> None:
    decoder = Decoder()
    decoder.feed(last)
    assert decoder.close() == []


@pytest.mark.parametrize("end", [b"\r\r", b"\r\n\r\n", b"\n\n"])
@pytest.mark.parametrize("begun", [b"", b"data: first\n\n"])
def test_events_of_one_piece_are_told_apart_however_each_ends(begun: bytes, end: bytes) -> None:
    decoder = Decoder()
    decoder.feed(begun)
    assert [event.data for event in decoder.feed(b"data: x" + end + b"data: y\n\n")] == [b"x", b"y"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"data: x", b": c", b"event: e", b"\xc3\xa9", b" "]), max_size=30),
    st.data(),
)
def test_the_way_a_stream_is_cut_never_changes_what_is_read(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    tail = b"\n\n"  # what a CR at the end may still become is then decided
    assert decoded([*chunks, tail]) == decoded([stream, tail])
    framer = Framer()
    assert b"".join([framer.feed(chunk) for chunk in [*chunks, tail]]) + bytes(framer.pending) == stream + tail
