"""Undoes a content encoding that the upstream applied although identity was asked for, within bounds."""

from __future__ import annotations

import zlib

from ..errors import UpstreamProtocolError
from ..transport.base import UpstreamReply

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
    """A reply whose body is decompressed while it is read."""

    def __init__(self, reply: UpstreamReply, limit: int) -> None:
        self.reply = reply
        self.status = reply.status
        self.headers = reply.headers
        self.resumable = reply.resumable
        self.left = limit
        self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        self.input = b""

    async def read(self, timeout: float) -> bytes:
        while True:
            if not self.input:
                self.input = await self.reply.read(timeout)
                if not self.input:
                    self._check_end()
                    return b""
            if data := self._step():
                return data

    async def aclose(self) -> None:
        await self.reply.aclose()

    def _step(self) -> bytes:
        try:
            data = self.inflate.decompress(self.input, STEP)
        except zlib.error:
            raise UpstreamProtocolError("The upstream's compressed reply is damaged.") from None
        self.input = self.inflate.unconsumed_tail
        self.left -= len(data)
        if self.left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")
        return data

    def _check_end(self) -> None:
        if not self.inflate.eof:
            raise UpstreamProtocolError("The upstream's compressed reply is cut off.")
