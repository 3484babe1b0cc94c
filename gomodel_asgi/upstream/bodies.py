"""Bodies before they are read: an encoding is undone, and what is nested too deeply is refused."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from anyio.lowlevel import checkpoint

from ..deadline import clock
from ..errors import InvalidRequest, UpstreamProtocolError, UpstreamTimeout
from ..seams.transport import UpstreamReply
from ..settings import Limits
from ..threads import paced
from ..wire.json_body import invalid_json
from ..wire.json_pieces import SMALL
from ..wire.json_scan import Unreadable, check, counted

GZIP_OR_ZLIB = 47  # window bits of zlib's automatic header detection
STEP = 64 * 1024  # bytes decoded at a time, and got by it, so that a bomb is noticed before it is unpacked


def decoded(reply: UpstreamReply, encoding: bytes, limit: int) -> UpstreamReply:
    """Returns *reply* with its body decoded, at most *limit* bytes of it, where the upstream applied an *encoding*
    although identity was requested.

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
    stream can be made of empty blocks, or of empty members (RFC 1952, 2.2: a file is a series of them). Between two
    steps of what has been read others have their turn: a reply a thousand times as long as what was sent is many.
    """

    def __init__(self, reply: UpstreamReply, limit: int) -> None:
        self.reply = reply
        self.status = reply.status
        self.headers = reply.headers
        self.resumable = reply.resumable
        self.left = self.input_left = limit
        self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        self.input = b""
        self.at = 0

    async def read(self, timeout: float) -> bytes:
        """See `UpstreamReply`: the next bytes without their content encoding."""
        deadline = clock() + timeout
        while True:
            if self.at < len(self.input):
                await checkpoint()
            else:
                await self._more(deadline)
                if not self.input:
                    self._check_end()
                    return b""
            if data := self._step():
                return data

    async def aclose(self) -> None:
        """Closes the encoded reply."""
        await self.reply.aclose()

    async def _more(self, deadline: float) -> None:
        """Reads more of the encoded body.

        :raises UpstreamTimeout: nothing came by *deadline*, on the clock.
        :raises UpstreamProtocolError: it is larger than the limit.
        """
        left = deadline - clock()
        if left <= 0:
            raise UpstreamTimeout("The upstream sent nothing for too long.")
        self.input, self.at = await self.reply.read(left), 0
        self.input_left -= len(self.input)
        if self.input_left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")

    def _step(self) -> bytes:
        """Returns some more of the decoded body.

        :raises UpstreamProtocolError: it is damaged, or larger than the limit.
        """
        if self.inflate.eof:  # what follows is another member: one that has ended would pile it up, unread
            self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        given = self.input[self.at : self.at + STEP]
        try:
            data = self.inflate.decompress(given, STEP)
        except zlib.error:
            raise UpstreamProtocolError("The upstream's compressed reply is damaged.") from None
        self.at += len(given) - len(self.inflate.unused_data if self.inflate.eof else self.inflate.unconsumed_tail)
        self.left -= len(data)
        if self.left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")
        return data

    def _check_end(self) -> None:
        """Checks that the body is whole.

        :raises UpstreamProtocolError: it is cut off.
        """
        if not self.inflate.eof:
            raise UpstreamProtocolError("The upstream's compressed reply is cut off.")


async def examine(body: bytes, limits: Limits) -> None:
    """Refuses a reply of which no tree may be built.

    :raises UpstreamProtocolError: it is nested too deeply, or has too many values.
    """
    try:
        if len(body) <= SMALL:
            check(body, depth=limits.depth, values=limits.values)
        else:
            await paced(counted(body, depth=limits.depth, values=limits.values))
    except Unreadable as error:
        raise UpstreamProtocolError("The upstream's reply holds too much to be read.") from error


@contextmanager
def refusing_depth() -> Iterator[None]:
    """Turns a RecursionError into a 400: the earlier conversation may be nested more deeply than a request, and what
    cannot be checked is not sent.

    :raises InvalidRequest: instead of a RecursionError.
    """
    try:
        yield
    except RecursionError:
        raise too_deep() from None


def too_deep() -> InvalidRequest:
    """Returns the 400 for an earlier conversation that is too deep to be looked at."""
    return invalid_json("what it holds or continues is nested too deeply.")
