"""Undoes a content encoding that the upstream applied although identity was asked for, within bounds."""

from __future__ import annotations

import zlib

from ..errors import UpstreamProtocolError, UpstreamTimeout
from ..transport.base import UpstreamReply
from .job import clock

GZIP_OR_ZLIB = 47  # window bits of zlib's automatic header detection
STEP = 64 * 1024  # decoded at a time, so that a bomb is noticed before it is unpacked


def decoded(reply: UpstreamReply, encoding: bytes, limit: int) -> UpstreamReply:
    """*reply* with its body decoded, at most *limit* bytes of it.

    :raises UpstreamProtocolError: an encoding that is not gzip or deflate.
    """
    if encoding in (b"", b"identity"):
        return reply
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise UpstreamProtocolError("The upstream encoded its reply in a way that was not asked for.")
    return Inflated(reply, limit)


class Inflated:
    """A reply whose body is decompressed while it is read.

    *limit* bounds what goes in as well as what comes out, and one `read` all that it takes to get a byte out of it: a
    stream can be made of empty blocks, or of empty members (RFC 1952, 2.2: a file is a series of them).
    """

    def __init__(self, reply: UpstreamReply, limit: int) -> None:
        self.reply = reply
        self.status = reply.status
        self.headers = reply.headers
        self.resumable = reply.resumable
        self.left = self.input_left = limit
        self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        self.input = b""

    async def read(self, timeout: float) -> bytes:
        deadline = clock() + timeout
        while True:
            if not self.input:
                await self._more(deadline)
                if not self.input:
                    self._check_end()
                    return b""
            if data := self._step():
                return data

    async def aclose(self) -> None:
        await self.reply.aclose()

    async def _more(self, deadline: float) -> None:
        left = deadline - clock()
        if left <= 0:
            raise UpstreamTimeout("The upstream sent nothing for too long.")
        self.input = await self.reply.read(left)
        self.input_left -= len(self.input)
        if self.input_left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")

    def _step(self) -> bytes:
        if self.inflate.eof:  # what follows is another member: one that has ended would pile it up, unread
            self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        try:
            data = self.inflate.decompress(self.input, STEP)
        except zlib.error:
            raise UpstreamProtocolError("The upstream's compressed reply is damaged.") from None
        self.input = self.inflate.unused_data if self.inflate.eof else self.inflate.unconsumed_tail
        self.left -= len(data)
        if self.left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")
        return data

    def _check_end(self) -> None:
        if not self.inflate.eof:
            raise UpstreamProtocolError("The upstream's compressed reply is cut off.")
