"""The reader of replies, without a network: every reply cut at every byte, and what follows one is never lost."""

from __future__ import annotations

import pytest

from gomodel_asgi.errors import UpstreamProtocolError
from gomodel_asgi.transport.http11.framing import ReplyReader

from ..support.scripted_upstream import chunked, reply

REPLIES = {
    "length": (reply(b"hello", b"X-Y: z"), b"hello"),
    "length, ending in a newline": (reply(b"hello\r\n"), b"hello\r\n"),
    "chunks": (chunked(b"hel", b"lo"), b"hello"),
    "chunks with extensions and trailers": (chunked(b"hello", end=b"0;a=b\r\nX-Y: z\r\n\r\n"), b"hello"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "an empty body": (reply(b""), b""),
    "after interim replies": (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: x\r\n\r\n" + reply(b"hello"), b"hello"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_reads_the_same_wherever_it_is_cut(name: str) -> None:
    raw, body = REPLIES[name]
    for cut in range(len(raw) + 1):
        reader = read(raw[:cut], raw[cut:])

        assert (reader.done, reader.take()) == (True, body)
        assert (b"link", b"x") not in reader.headers


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_reads_the_same_byte_by_byte(name: str) -> None:
    raw, body = REPLIES[name]

    reader = read(*(raw[i : i + 1] for i in range(len(raw))))

    assert (reader.done, reader.take()) == (True, body)


@pytest.mark.parametrize("name", [name for name in REPLIES if "interim" not in name])
def test_a_reply_that_comes_whole_ends_exactly_and_can_be_followed_by_the_next(name: str) -> None:
    raw, body = REPLIES[name]
    reader = ReplyReader()

    for _ in range(2):
        reader.begin()
        reader.feed(raw)
        assert (reader.exact, reader.keep_alive, reader.take()) == (True, True, body)


@pytest.mark.parametrize("surplus", [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\r\r\n\r\n", b"x", b"H", reply(b"hello")])
@pytest.mark.parametrize("name", REPLIES)
def test_whatever_follows_a_reply_is_noticed_wherever_it_is_cut(name: str, surplus: bytes) -> None:
    raw, body = REPLIES[name]
    whole = raw + surplus
    for cut in range(len(whole) + 1):
        reader = read(whole[:cut], whole[cut:])

        assert not reader.exact
        assert (reader.done, reader.take()) == (True, body)


def test_the_reply_to_head_has_no_body_and_is_the_last() -> None:
    reader = ReplyReader()
    reader.begin(bodiless=True)

    reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")

    assert (reader.done, reader.exact, reader.take()) == (True, False, b"")


def test_the_end_of_the_connection_ends_only_a_body_without_a_length() -> None:
    without, with_length = read(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"), read(reply(b"hello")[:-1])

    without.eof()
    with_length.eof()

    assert (without.done, without.take()) == (True, b"hello")
    assert not with_length.done


def test_what_came_before_a_broken_chunk_is_kept() -> None:
    reader = ReplyReader()

    with pytest.raises(UpstreamProtocolError):
        reader.feed(chunked(b"hello", end=b"zz\r\n"))

    assert reader.take() == b"hello"


def test_eight_interim_replies_are_skipped_and_nine_are_not() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"

    assert read(interim * 8 + reply(b"hello")).take() == b"hello"
    with pytest.raises(UpstreamProtocolError, match="interim"):
        read(interim * 9 + reply(b"hello"))


def test_two_hundred_headers_and_64_kib_are_accepted() -> None:
    assert len(read(reply(b"", *[b"x: y"] * 199)).headers) == 200
    assert read(reply(b"hello", b"x: " + b"y" * 65_000)).take() == b"hello"


def test_a_reason_or_header_name_without_end_is_refused_while_it_comes() -> None:
    for start in (b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n"):
        reader = read(start)
        with pytest.raises(UpstreamProtocolError, match="too large"):
            for _ in range(70):
                reader.feed(b"x" * 1024)


def read(*pieces: bytes) -> ReplyReader:
    reader = ReplyReader()
    for piece in pieces:
        if piece:
            reader.feed(piece)
    return reader
