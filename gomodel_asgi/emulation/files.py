"""Files that a request names by id or by URL, read by the host's own function for upstreams that cannot read them.

The dialect says which it cannot read (`reads_file`), the host gives their bytes, and these are put in their place;
then the request is translated like any other. The host is asked when a Target that needs a file is tried, and once for
each file of a request, whichever Targets come after.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from ..deadline import DeadlineExceeded, within
from ..dialects.base import Call
from ..dialects.files import PLAIN, Contents, Key, Named, named_in, put_in, sniffed, text_of
from ..errors import GatewayError, InvalidRequest, PolicyFailed, PolicyTimeout
from ..exchange.job import Job
from ..routing.request import RoutingRequest
from ..routing.target import ResolvedTarget
from ..threads import awaitable, beside
from ..tools import File, FileReference, FileSource, ToolError

PARALLEL = 4
"""How many files of one request are read at a time."""
MOST = 1000
"""How many files may be named by one request: a name takes few bytes, and reading what it names may be dear."""

Read = Callable[[FileReference, RoutingRequest], Coroutine[Any, Any, Any]]


class HostFiles:
    """The host's files.

    :raises TypeError: *source* is no function.
    """

    def __init__(self, source: FileSource) -> None:
        if not callable(source):
            raise TypeError(f"files: give a function of a tools.FileReference, not {type(source).__name__}.")
        self.read: Read = awaitable(source)

    def of_request(self) -> RequestFiles:
        """What one request has read of them."""
        return RequestFiles(self.read)


class RequestFiles:
    """The files of one request, each read once."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[Key, Contents] = {}

    async def put_in(self, call: Call, candidate: ResolvedTarget, job: Job) -> Call:
        """*call* with the bytes of those files that *candidate* cannot read.

        :raises InvalidRequest: there is no such file, they are more than `MOST`, or together larger than `Limits.body`.
        :raises PolicyFailed: the host's function failed; the cause is for the host.
        :raises PolicyTimeout: it took longer than `Timeouts.tool`.
        """
        reads = getattr(candidate.dialect, "reads_file", None)
        if reads is None:
            return call
        unread = [named for named in named_in(call.body) if not reads(call, named)]
        text_files = getattr(candidate.dialect, "takes_text_files", True)
        return replace(call, body=await self._filled(call.body, unread, job, text_files))

    async def put_into(self, items: list[Any], job: Job) -> list[Any]:
        """*items* of an input with the bytes of those files that they name by id.

        :raises GatewayError: as `put_in`.
        """
        body: Mapping[str, Any] = {"input": items}
        unread = [named for named in named_in(body) if named.file_id is not None]
        filled: list[Any] = (await self._filled(body, unread, job, text_files=False))["input"]
        return filled

    async def _filled(
        self, body: Mapping[str, Any], unread: list[Named], job: Job, text_files: bool
    ) -> Mapping[str, Any]:
        if not unread:
            return body
        room = job.setup.limits.body - len(job.request.envelope.raw)
        await self._fetch(unread, job.request, job.setup.timeouts.tool, room)
        _check_room(unread, self._known, room)
        contents = {named.path: self._known[named.key] for named in unread}
        return put_in(body, contents, text_files=text_files)

    async def _fetch(self, unread: Iterable[Named], request: RoutingRequest, seconds: float, room: int) -> None:
        """Reads those that are not known yet, a few at a time; the first failure ends all.

        :raises GatewayError: one could not be read.
        :raises InvalidRequest: they are too many.
        """
        waiting: dict[Key, Named] = {}
        for named in unread:
            if named.key not in self._known:
                waiting.setdefault(named.key, named)
        if len(self._known) + len(waiting) > MOST:
            raise InvalidRequest(f"The request names more than {MOST} files.", param="input", code="too_many_items")
        queue = deque(waiting.values())
        failures: list[Exception] = []

        async def worker() -> None:
            while queue and not failures:
                named = queue.popleft()
                try:
                    self._known[named.key] = await self._contents(named, request, seconds, room)
                except Exception as error:
                    failures.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for _ in range(min(PARALLEL, len(queue))):
                group.start_soon(worker)
        if failures:
            raise failures[0]

    async def _contents(self, named: Named, request: RoutingRequest, seconds: float, room: int) -> Contents:
        """Returns what the host gives for *named*, at most *room* bytes in base64.

        :raises InvalidRequest: there is no such file, or it is larger.
        :raises PolicyFailed: the host gave what is no file.
        """
        found = await self._ask_host(named, request, seconds)
        if found is None:
            raise InvalidRequest(f"There is no such file: `{named.param}`.", code="file_not_found", param=named.param)
        file = found if isinstance(found, File) else File(found)
        if not isinstance(file.data, (bytes, bytearray, memoryview)):
            raise _failed(named) from TypeError(f"files: bytes, a tools.File or None, not {type(found).__name__}.")
        if _encoded(len(file.data)) > room:
            raise _too_large(named)
        return await beside(len(file.data), partial(contents_of, file))

    async def _ask_host(self, named: Named, request: RoutingRequest, seconds: float) -> Any:
        """Returns the host's answer.

        :raises InvalidRequest: the host's function refused it with a `ToolError`.
        :raises PolicyTimeout: it took longer than so many *seconds*.
        :raises PolicyFailed: it failed.
        """
        try:
            return await within(seconds, self._read(FileReference(named.file_id, named.url, named.filename), request))
        except GatewayError:
            raise
        except ToolError as error:
            raise InvalidRequest(str(error), code="invalid_value", param=named.param) from None
        except DeadlineExceeded:
            message = "A file that the request names could not be read in time; try again later."
            raise PolicyTimeout(message, code="file_timeout", param=named.param) from None
        except Exception as error:
            raise _failed(named) from error


def contents_of(file: File) -> Contents:
    """Returns *file* as it is sent. Its bytes tell its media type; where they do not, the host does."""
    data = bytes(file.data)
    media_type, text = sniffed(data), None
    if media_type == PLAIN:
        text = text_of(data)
        data = (text or "").encode()
    elif media_type == "application/octet-stream" and file.media_type:
        media_type = file.media_type
    return Contents(base64.b64encode(data).decode("ascii"), media_type, file.filename, text)


def _encoded(size: int) -> int:
    """Bytes of *size* bytes in base64."""
    return -(-size // 3) * 4


def _check_room(unread: Iterable[Named], known: dict[Key, Contents], room: int) -> None:
    """Refuses what is too large to be sent: a file counts wherever it stands.

    :raises InvalidRequest: they need more than *room*, in bytes.
    """
    for named in unread:
        room -= len(known[named.key].data)
        if room < 0:
            raise _too_large(named)


def _too_large(named: Named) -> InvalidRequest:
    message = f"The files that the request names are too large to be sent: `{named.param}`."
    return InvalidRequest(message, code="file_too_large", param=named.param)


def _failed(named: Named) -> PolicyFailed:
    return PolicyFailed("A file that the request names could not be read.", param=named.param)
