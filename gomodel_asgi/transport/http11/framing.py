"""Where a reply begins, what it holds, and whether it ended exactly (RFC 9112).

Strategy: httptools (llhttp) reads the syntax and refuses bare CR, NUL, obs-fold, two or odd content-lengths and
transfer-encoding beside content-length. Refused here is what it accepts: versions but 1.0 and 1.1, statuses
outside 200 to 599, every coding but one `chunked`, more than MAX_INTERIM interim replies, 101, and heads without
bound. One reader serves one connection, reply after reply.

The other half is isolation. llhttp starts on the next reply by itself and skips stray CR and LF, so a byte too many
could be read as the answer to somebody else's request. `exact` therefore becomes False as soon as anything follows
the reply's last byte, and then the connection must not be used again. When in doubt it is False.
"""

from __future__ import annotations

import httptools

from ...errors import UpstreamProtocolError
from ...seams.transport import Headers
from ..request import MAX_HEAD, MAX_HEADERS

MAX_INTERIM = 8
"""Interim replies (1xx) before the final one."""
LAST_BYTE_IS_CRLF = b"\r\n"
REQUEST_TIMEOUT = 408
"""What servers send on an idle connection before they close it (RFC 9110, 15.5.9): no reply to anything."""


class Refused(Exception):
    """Raised inside a parser callback, where httptools replaces it: the reason is kept in `ReplyReader.reason`."""


class ReplyReader:
    """Reads one reply at a time: `begin`, then `feed` until `done`; `eof` when the peer has closed its side.

    *status* is 0 until the head is complete. *chunks* (*size* bytes in all) is the payload not yet taken. *after* is
    what followed the reply, None where nothing was seen to.
    """

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self, bodiless: bool = False) -> None:
        """Begins a reply. *bodiless*: the request was a HEAD, whose reply has no body, whatever its headers say."""
        self.bodiless = bodiless
        self.started = self.done = self.interim = self.keep_alive = False
        self.chunked = self.until_close = False
        self.exact = True
        self.status = self.interims = self.size = self.overhead = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.after: After | None = None
        self.reason = "it is not HTTP/1.1"

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the connection.

        :raises UpstreamProtocolError: this is not a reply that we accept. What came before it stays in *chunks*.
        """
        if self.done:
            self.exact = False
            self.after = self.after or After()
            self.after.feed(data)
            return
        in_head, held = self.status == 0, self.size
        try:
            if not self.started:
                self.started = True
                if data[:1] != b"H":  # llhttp also reads RTSP and ICE, and skips empty lines
                    self._refuse("it is not HTTP/1.1")
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, Refused) as error:
            if not self.done:
                raise self._refusal(str(error)) from error
            self.exact, self.after = False, After(stray=True)  # the parser skips line ends, so it was something else
        if self.size == held or self.overhead or (in_head and len(data) > MAX_HEAD):
            self._bound(data, in_head, held)
        if self.done and self.exact and (self.chunked or self.size == held or data[-1] in LAST_BYTE_IS_CRLF):
            self.exact = self._ends_with_reply(data, in_head, self.size - held)

    def eof(self) -> None:
        """The peer has closed: the proper end of a body that has no length of its own."""
        if self.status and not self.done and self.until_close:
            self.done = True
        self.exact = False

    def close(self) -> None:
        """Lets go of the parser, which refers to us as we do to it; called once, after the last `feed`."""
        del self.parser

    def take(self) -> bytes:
        """Returns all payload that has come since the last call."""
        data = b"".join(self.chunks)  # a single one is not copied
        self.chunks.clear()
        self.size = 0
        return data

    # Called by the parser...

    def on_message_begin(self) -> None:
        """The parser begins a message.

        :raises Refused: the reply was complete, so this is another one.
        """
        if self.done:
            raise Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header, or a trailer, which is left out."""
        if not self.status:  # else a trailer
            self.headers.append((name.lower(), value.rstrip(b" \t")))  # the parser leaves what trails

    def on_headers_complete(self) -> None:
        """The parser has read the head; an interim one (RFC 9110, 15.2) is passed over.

        :raises Refused: version, status or framing cannot be used.
        """
        status = self.parser.get_status_code()
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            self._refuse("its version is not HTTP/1.1")
        if len(self.headers) > MAX_HEADERS:
            self._refuse("it has too many headers")
        if 100 <= status < 200 and status != 101:
            return self._skip_interim()
        if not 200 <= status <= 599:
            self._refuse("its status is out of range")
        self._read_framing()
        self.status = status

    def on_body(self, body: bytes) -> None:
        """The parser has read a piece of the body."""
        if not self.done:
            self.chunks.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        """The parser has read the end of a message."""
        if self.interim:
            self.interim = False
        elif not self.done:
            self.done = True
            self.keep_alive = self.parser.should_keep_alive()

    # What we make of it...

    def _skip_interim(self) -> None:
        self.interim = True
        self.headers = []
        self.interims += 1
        if self.interims > MAX_INTERIM:
            self._refuse("its interim replies do not end")

    def _read_framing(self) -> None:
        fields = dict(self.headers)
        if b"transfer-encoding" in fields:
            self._check_coding()
            self.chunked = True
        elif b"content-length" not in fields:
            self.until_close = True
        if self.bodiless:
            # The parser would wait for a body: it is left where it stands, and the connection with it.
            self.done, self.exact = True, False

    def _check_coding(self) -> None:
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            self._refuse("its transfer coding is not chunked")
        if self.parser.get_http_version() == "1.0":
            self._refuse("it is chunked in HTTP/1.0")

    def _bound(self, data: bytes, in_head: bool, held: int) -> None:
        """Limits what is not payload: heads, trailers, chunk extensions. Counted by piece, which costs nothing.

        :raises UpstreamProtocolError: they are too large.
        """
        if not self.done and self.size == held:
            self.overhead += len(data)
            if self.overhead > MAX_HEAD:
                raise self._refusal("over the limit", "its head or trailer is too large")
        elif in_head and self.overhead + len(data) > MAX_HEAD:
            if sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
                self.status = 0
                raise self._refusal("over the limit", "its head is too large")
        else:
            self.overhead = 0

    def _ends_with_reply(self, data: bytes, in_head: bool, payload: int) -> bool:
        """Returns whether the last byte of *data* is the last byte of the reply.

        Only CR and LF can follow without the parser's noticing. Where the reply ends in an empty line (chunks, no
        body), one more would follow another. Where it ends in *payload* bytes, the last of them CR or LF, the rest of
        *data* must be its head.
        """
        if payload and not self.chunked:
            head, end, _ = data.partition(b"\r\n\r\n") if in_head else (b"", b"", b"")
            return len(data) - payload == len(head) + len(end)
        return data[-4:] == b"\r\n\r\n" and data[-5:-4] not in (b"\r", b"\n", b"")

    def _refuse(self, reason: str) -> None:
        """Ends the reply.

        :raises Refused: always, with *reason*.
        """
        self.reason = reason
        raise Refused(reason)

    def _refusal(self, detail: str, reason: str = "") -> UpstreamProtocolError:
        return UpstreamProtocolError(f"The upstream's reply cannot be used: {reason or self.reason}.", detail=detail)


class After:
    """What came after a complete reply: *stray* once it is neither a mere line end nor the beginning of one 408.

    By a 408 a server announces that it closes a connection on which it has waited long enough (RFC 9110, 15.5.9); that
    it does is known once the connection is closed.
    """

    def __init__(self, stray: bool = False) -> None:
        self.stray = stray
        self.size = 0
        self.reader: ReplyReader | None = None

    @property
    def open(self) -> bool:
        """Whether only what comes next can decide."""
        return self.reader is not None and not self.stray

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        data = data if self.open else data.lstrip(LAST_BYTE_IS_CRLF)
        if self.stray or not data:
            return
        self.reader = reader = self.reader or ReplyReader()
        self.size += len(data)
        try:
            reader.feed(data)
        except UpstreamProtocolError:
            self.stray = True
        reader.take()  # its payload is of no interest
        more = reader.after is not None and (reader.after.stray or reader.after.open)
        if more or reader.status not in (0, REQUEST_TIMEOUT) or self.size > MAX_HEAD:
            self.stray = True

    def eof(self) -> None:
        """The peer has closed: what was still open is decided."""
        if self.reader is not None and self.reader.status != REQUEST_TIMEOUT:
            self.stray = True
        self.reader = None
