"""Every way in which the upstream of the load runs misbehaves, and what the client must get then.

A fault makes of a good reply the steps of a bad one. `expects` holds the outcomes that are right, of a unary request
and of a stream (None: the fault has no such form):

    whole       status 200 and a proper end: the request's own response, untouched but for the stamp
    passed      status 200 and a proper end: the request's own response, with faults of the upstream's own in it
    event       status 200, the events so far, then the failure in band
    broken      the connection broken off
    502, …      an error response of that status
    FOREIGN     the answer to another request: what no client of HTTP/1.1 can prevent within one credential
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

CLOSE: Final = "close"
HOLD: Final = "hold"
Step = bytes | float | str
BIG = 3 << 20  # above the limits of `strained.impatient`


class Reply(NamedTuple):
    """The good reply: a stream's *events*, or the *body* of a unary one."""

    stream: bool
    tag: str
    events: list[bytes]
    body: bytes

    @property
    def data(self) -> bytes:
        return b"".join(self.events) if self.stream else self.body

    @property
    def type(self) -> bytes:
        return b"text/event-stream" if self.stream else b"application/json"

    def good(self, *lines: bytes) -> bytes:
        """All of it, with further header *lines*."""
        if self.stream:
            return head(*lines) + chunk(self.data) + chunk(b"")
        return sized(self.body, *lines)


class Fault(NamedTuple):
    script: Callable[[Reply], list[Step]]
    unary: str | None
    stream: str | None


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(*lines: bytes, type: bytes = b"text/event-stream") -> bytes:
    """The head of a chunked reply."""
    return raw_head(b"content-type: " + type, b"transfer-encoding: chunked", *lines)


def raw_head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"".join([b"HTTP/1.1 " + status, *(b"\r\n" + line for line in lines), b"\r\n\r\n"])


def sized(data: bytes, *lines: bytes, status: bytes = b"200 OK", type: bytes = b"application/json") -> bytes:
    """A whole reply with a content-length."""
    return raw_head(b"content-type: " + type, b"content-length: %d" % len(data), *lines, status=status) + data


def instead(data: bytes) -> Callable[[Reply], list[Step]]:
    """*data* instead of the reply, and then the connection closed."""
    return lambda reply: [data, CLOSE]


def answers(
    status: bytes, body: bytes = b"", *lines: bytes, type: bytes = b"application/json"
) -> Callable[[Reply], list[Step]]:
    return lambda reply: [sized(body, *lines, status=status, type=type)]


def error(status: bytes, *lines: bytes) -> Callable[[Reply], list[Step]]:
    return answers(status, b'{"error":{"message":"m","type":"t","param":null,"code":null}}', *lines)


def cut(at: Callable[[bytes], int], promise: int = 0) -> Callable[[Reply], list[Step]]:
    """Only the body up to *at*, then the connection closed; *promise* bytes of one more chunk announced."""

    def script(reply: Reply) -> list[Step]:
        kept = reply.data[: at(reply.data)]
        more = b"%x\r\n" % promise if promise else b""
        if reply.stream:
            return [head() + chunk(kept) + more, CLOSE]
        return [raw_head(b"content-type: application/json", b"content-length: %d" % len(reply.data)) + kept, CLOSE]

    return script


def boundary(data: bytes) -> int:
    return data.find(b"\n\n", len(data) // 2) + 2 or len(data) // 2


def inside(data: bytes) -> int:
    return boundary(data) + 30


def character(data: bytes) -> int:
    """Behind the first byte of a character of several, where there is one."""
    return next((at + 1 for at, byte in enumerate(data) if byte >= 0xC0), len(data) // 2)


def stalled(reply: Reply) -> list[Step]:
    at = boundary(reply.data)
    return [head(type=reply.type) + chunk(reply.data[:at]), HOLD]


def typed(body: bytes, type: bytes) -> Callable[[Reply], list[Step]]:
    return lambda reply: [sized(body, type=type)]


def swapped(reply: Reply) -> list[Step]:
    return [reply._replace(stream=not reply.stream).good()]


def events_of(*chosen: slice | bytes) -> Callable[[Reply], list[Step]]:
    """A stream of some of its events and some others, properly ended."""

    def script(reply: Reply) -> list[Step]:
        parts = [part if isinstance(part, bytes) else b"".join(reply.events[part]) for part in chosen]
        return [head() + chunk(b"".join(parts)) + chunk(b"")]

    return script


def headed(*lines: bytes) -> Callable[[Reply], list[Step]]:
    return lambda reply: [reply.good(*lines)]


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Reply], list[Step]]:
    def script(reply: Reply) -> list[Step]:
        data = change(reply.data)
        if not reply.stream:
            return [sized(data)]
        return [head() + chunk(data) + chunk(b"")]

    return script


def encoded(name: bytes, change: Callable[[bytes], bytes]) -> Callable[[Reply], list[Step]]:
    return lambda reply: [sized(change(reply.data), b"content-encoding: " + name, type=reply.type)]


def bytewise(reply: Reply) -> list[Step]:
    data = reply.good()
    return [step for at in range(0, len(data), 97) for step in (data[at : at + 97], 0.001)]


def oversized(reply: Reply) -> list[Step]:
    if reply.stream:
        opening = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"'
        return [head() + chunk(reply.events[0]) + chunk(opening) + chunk(b"x" * BIG), CLOSE]
    return [sized(reply.body[:-1] + b" " * BIG + b"}")]


def surplus(reply: Reply) -> list[Step]:
    return [reply.good() + FOREIGN]


def late_surplus(reply: Reply) -> list[Step]:
    return [reply.good(), 0.005, FOREIGN]


def closes_after(reply: Reply) -> list[Step]:
    return [reply.good(), CLOSE]


def silent(reply: Reply) -> list[Step]:
    return [HOLD]


def head_only(reply: Reply) -> list[Step]:
    return [head(type=reply.type), HOLD]


def slow_head(reply: Reply) -> list[Step]:
    return [step for byte in reply.good()[:60] for step in (bytes([byte]), 0.2)]


def odd_length(more: int) -> Callable[[Reply], list[Step]]:
    def script(reply: Reply) -> list[Step]:
        lines = (b"content-type: " + reply.type, b"content-length: %d" % (len(reply.data) + more))
        return [raw_head(*lines) + reply.data, CLOSE]

    return script


FOREIGN = sized(b'{"id":"resp_foreign","object":"response","status":"completed","output":[]}')
FAILED = b'event: response.failed\ndata: {"type":"response.failed","sequence_number":1,"response":{"id":"resp_f",\
"object":"response","status":"failed","error":{"code":"server_error","message":"m"},"output":[]}}\n\n'
ERROR = b'event: error\ndata: {"type":"error","sequence_number":1,"code":"server_error","message":"m","param":null}\n\n'
DONE = b"data: [DONE]\n\n"
PAGE = b"<!doctype html><h1>Oops</h1>"
MALFORMED = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

FAULTS: dict[str, Fault] = {
    "close": Fault(instead(b""), "502", "502"),
    "close in head": Fault(instead(b"HTTP/1.1 200 OK\r\ncontent-ty"), "502", "502"),
    "garbage": Fault(instead(b"\x16\x03\x01\x00\xff\xfe not HTTP\r\n\r\n"), "502", "502"),
    "long header": Fault(lambda reply: [reply.good(b"x: " + b"x" * (1 << 20))], "502", "502"),
    "many headers": Fault(lambda reply: [reply.good(*[b"x: y"] * 10_000)], "502", "502"),
    "closes after": Fault(closes_after, "whole", "whole"),
    "silent": Fault(silent, "504", "504"),
    "head only": Fault(head_only, "504", "504"),
    "slow head": Fault(slow_head, "504", "504"),
    "stall": Fault(stalled, "504", "event"),
    "cut at event": Fault(cut(boundary), "502", "event"),
    "cut in event": Fault(cut(inside), "502", "event"),
    "cut in character": Fault(cut(character), "502", "event"),
    "cut in chunk": Fault(cut(boundary, promise=500), "502", "event"),
    "no terminal": Fault(events_of(slice(0, -1)), None, "event"),
    "done only": Fault(events_of(slice(0, -1), DONE), None, "event"),
    "after terminal": Fault(events_of(slice(0, None), ERROR, DONE), None, "passed"),
    "length too small": Fault(odd_length(-30), "502", "event"),
    "length too large": Fault(odd_length(30), "502", "whole"),
    "both framings": Fault(lambda reply: [head(b"content-length: 5") + chunk(b"{}") + chunk(b"")], "502", "502"),
    "page": Fault(typed(PAGE, b"text/html"), "502", "502"),
    "empty": Fault(typed(b"", b"application/json"), "502", "502"),
    "half JSON": Fault(typed(b'{"id": "resp_', b"application/json"), "502", "502"),
    "swapped": Fault(swapped, "passed", "passed"),
    "error inside": Fault(answers(b"200 OK", b'{"error":{"message":"m","type":"server_error"}}'), "502", "502"),
    "error event": Fault(events_of(ERROR), None, "502"),
    "failed first": Fault(events_of(FAILED), None, "event"),
    "failed later": Fault(events_of(slice(0, 3), FAILED), None, "event"),
    "400": Fault(error(b"400 Bad Request"), "400", "400"),
    "404": Fault(error(b"404 Not Found"), "404", "404"),
    "422 page": Fault(answers(b"422 Unprocessable", PAGE, type=b"text/html"), "422", "422"),
    "401": Fault(error(b"401 Unauthorized"), "502", "502"),
    "403": Fault(error(b"403 Forbidden"), "502", "502"),
    "429": Fault(error(b"429 Too Many Requests", b"retry-after: 0"), "429", "429"),
    "429 for long": Fault(error(b"429 Too Many Requests", b"retry-after: 9999"), "429", "429"),
    "500": Fault(error(b"500 Internal Server Error"), "500", "500"),
    "503": Fault(error(b"503 Service Unavailable", b"retry-after: -5"), "503", "503"),
    "529": Fault(error(b"529 Overloaded"), "529", "529"),
    "redirect": Fault(answers(b"302 Found", b"", b"location: http://127.0.0.1:1/"), "502", "502"),
    "interim": Fault(lambda reply: [b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + reply.good()], "whole", "whole"),
    "endless interim": Fault(instead(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000), "502", "502"),
    "204": Fault(instead(b"HTTP/1.1 204 No Content\r\n\r\n"), "502", "502"),
    "206": Fault(answers(b"206 Partial Content", b"{}"), "502", "502"),
    "304": Fault(instead(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "502", "502"),
    "gzip": Fault(encoded(b"gzip", gzip.compress), "whole", "whole"),
    "bad gzip": Fault(encoded(b"gzip", lambda data: data), "502", "502"),
    "bomb": Fault(encoded(b"gzip", lambda data: gzip.compress(data[:-1] + b" " * (4 * BIG), 1)), "502", "event"),
    "unknown coding": Fault(encoded(b"zstd", zlib.compress), "502", "502"),
    "oversized": Fault(oversized, "502", "broken"),
    "byte by byte": Fault(bytewise, "whole", "whole"),
    "CRLF": Fault(rewritten(lambda data: data.replace(b"\n", b"\r\n")), "whole", "passed"),
    "CR": Fault(rewritten(lambda data: data.replace(b"\n", b"\r")), "whole", "passed"),
    "BOM": Fault(rewritten(lambda data: b"\xef\xbb\xbf" + data), None, "passed"),
    "comments": Fault(rewritten(lambda data: data.replace(b"\n\n", b"\n\n: hm\n\n")), "whole", "passed"),
    "no space": Fault(rewritten(lambda data: data.replace(b"\ndata: ", b"\nid: 7\ndata:")), "whole", "passed"),
    "cookie": Fault(headed(b"set-cookie: a=b", b"server: x", b"connection: x-hop", b"x-hop: 1"), "whole", "whole"),
    "surplus": Fault(surplus, "whole", "whole"),
    "late surplus": Fault(late_surplus, "whole FOREIGN", "whole FOREIGN"),
    "early error": Fault(lambda reply: [*error(b"413 Too Large")(reply), CLOSE], "413", "413"),
    "099": Fault(instead(MALFORMED % b"099 Low"), "502", "502"),
    "199": Fault(instead(MALFORMED % b"199 Interim"), "502", "502"),
    "600": Fault(instead(MALFORMED % b"600 High"), "502", "502"),
    "999": Fault(instead(MALFORMED % b"999 High"), "502", "502"),
    "HTTP/0.9": Fault(instead(b'{"id":"resp_old"}'), "502", "502"),
    "HTTP/3.7": Fault(instead(MALFORMED.replace(b"1.1", b"3.7") % b"200 OK"), "502", "502"),
    "two lengths": Fault(lambda reply: [reply.good(b"content-length: 1", b"content-length: 2")], "502", "502"),
    "negative length": Fault(instead(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}"), "502", "502"),
    "gzip, chunked": Fault(
        instead(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "502", "502"
    ),
    "NUL in header": Fault(lambda reply: [reply.good(b"x: a\0b")], "502", "502"),
    "folded header": Fault(lambda reply: [reply.good(b"x: a\r\n b")], "502", "502"),
}
