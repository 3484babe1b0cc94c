"""What one connection remembers of its responses, so that `store: false` can be continued on it.

A conversation is a chain of chunks, each the comma-separated items of one turn's input or output as they went over the
wire. Chains share their chunks, so a turn costs its own bytes and a fork costs nothing; the bound counts every chunk
once. When it is reached the response that was used longest ago is forgotten, as one of another connection is: its id is
then unknown.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from copy import copy
from typing import Any, Self

import msgspec
from msgspec import Struct, field

from ..dialects.hosted_items import may_hold
from ..errors import InvalidRequest
from ..exchange.job import Continuation
from ..operations import BODY
from ..providers.credential import fingerprint
from ..providers.provider import Provider
from ..wire.json_body import Envelope
from ..wire.json_scan import parsed
from .continuation import Recalled
from .portable import carried
from .records import unknown_previous
from .turns import Line

LONGEST = 256
"""Responses that a connection remembers: more than an hour of turns, and forks from each."""


class Chunk(Struct, frozen=True):
    """Items as JSON, separated by commas; *account* and *type* say which upstream could have issued them. Of an output
    that hosted tools have a part in: its *response*, what is *remembered* of them (see `State.remembered`), and which
    of its requests for approval were *answered*."""

    items: bytes
    account: str
    type: str
    response: str = ""
    remembered: bytes = b""
    answered: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.items) + len(self.remembered)


class KeptResponse(Struct, frozen=True):
    """One response: who answered it, with which model, and all *chunks* of its conversation, its output included.

    *chunks* is None where the upstream's own socket holds the conversation.
    """

    provider: str
    model: str | None
    account: str
    chunks: tuple[Chunk, ...] | None


class Memory:
    """The responses of one connection by id, at most *limit* bytes of items."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.responses: OrderedDict[str, KeptResponse] = OrderedDict()
        self.uses: Counter[int] = Counter()
        self.of_tools: dict[str, Chunk] = {}
        """The outputs that hosted tools have a part in, by response."""

    def find(self, response_id: str | None) -> KeptResponse | None:
        """Returns the response of this id, or None where the connection does not know it."""
        found = None if response_id is None else self.responses.get(response_id)
        if found is not None and response_id is not None:
            self.responses.move_to_end(response_id)
        return found

    def keep(self, response_id: str, response: KeptResponse) -> None:
        """Remembers a response, in place of one of the same id; what no longer fits is forgotten."""
        self.evict(response_id)
        self.responses[response_id] = response
        for chunk in response.chunks or ():
            self.size += 0 if self.uses[id(chunk)] else chunk.size
            self.uses[id(chunk)] += 1
            if chunk.remembered:
                self.of_tools[chunk.response] = chunk
        while self.responses and (self.size > self.limit or len(self.responses) > LONGEST):
            self.evict(next(iter(self.responses)))

    def evict(self, response_id: str | None) -> None:
        """Forgets one response; the conversations that go on from it keep their chunks."""
        forgotten = None if response_id is None else self.responses.pop(response_id, None)
        chunks = () if forgotten is None else forgotten.chunks or ()
        for chunk in chunks:
            self.uses[id(chunk)] -= 1
            if not self.uses[id(chunk)]:
                del self.uses[id(chunk)]
                self.size -= chunk.size
                self.of_tools.pop(chunk.response, None)


NULL = msgspec.Raw(b"null")


def account_of(provider: Provider, key: str | None) -> str:
    """Returns what identifies the account that a response belongs to, in this process; *key* is a Target's own."""
    return f"{provider.name} {provider.base_url} {fingerprint(key)}"


class ConnectionContinuation(Recalled):
    """A continuation of what the connection itself remembers; see `exchange.job.Continuation`.

    *own* is the continuation of what the request's own input names elsewhere, if any. *files*: the host gives files.
    """

    def __init__(
        self, envelope: Envelope, earlier: KeptResponse, own: Continuation | None, warn: Any, files: bool = False
    ) -> None:
        self.original = envelope
        self.earlier = earlier
        self.own = own
        self.warn = warn
        self.files = files
        self.lines: list[Line] | None = None
        """The conversation so far, where it is not as the chunks have it."""

    def said_before(self) -> list[Line] | None:
        """See `Recalled`: read only where a hosted tool may have a part in it, since reading takes long."""
        chunks = self.earlier.chunks
        if chunks is None:
            return None
        return _lines(chunks) if any(chunk.remembered or may_hold(chunk.items) for chunk in chunks) else []

    def changed(self, change: Callable[[Line], Line], answered: Container[str]) -> Self:
        """See `Recalled`."""
        made = copy(self)
        if lines := self.said_before():
            made.lines = [change(line) for line in lines]
        if isinstance(made.own, Recalled):
            made.own = made.own.changed(change, answered)
        return made

    @property
    def bound(self) -> bool:
        """Whether only the upstream that holds the conversation can be asked."""
        return self.earlier.chunks is None or (self.own is not None and self.own.bound)

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """Returns the request for a native upstream, the conversation so far put before its own input.

        :raises InvalidRequest: another upstream's socket holds the conversation.
        """
        account = account_of(provider, key)
        chunks = self.earlier.chunks
        original = self.original
        if self.own is not None:
            given = self.own.envelope(provider, key).members
            lists = {name: given[name] for name in BODY.items if name in given}
            original = original.with_members({**original.members, "input": NULL, **lists})
        if chunks is None:
            if account != self.earlier.account:
                raise unknown_previous()
            return original
        pieces = [chunk.items for chunk in chunks if chunk.items]
        if self.lines is not None or any(chunk.account != account for chunk in chunks):
            pieces = [msgspec.json.encode(self._carried(chunks, account, provider, native=True))[1:-1]]
        members = {name: raw for name, raw in original.members.items() if name != "previous_response_id"}
        items = b",".join(filter(None, (*pieces, own_items(original))))
        return original.with_members({**members, "input": msgspec.Raw(b"[%s]" % items)})

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """Returns the request for a dialect, the conversation so far put before its own input.

        :raises InvalidRequest: an upstream's socket holds the conversation.
        """
        if self.earlier.chunks is None:
            raise unknown_previous()
        items = self._carried(self.earlier.chunks, account_of(provider, key), provider, native=False)
        own: Any = parsed(b"[%s]" % own_items(self.original))
        if self.own is not None:
            own = self.own.body(provider, key).get("input") or []
        return {**self.original.body, "input": items + own}

    def earlier_json(self) -> bytes:
        """Returns what the connection remembers, as JSON; nothing where the upstream's socket does."""
        before = [chunk.items for chunk in self.earlier.chunks or () if chunk.items]
        own = b"" if self.own is None else self.own.earlier_json()
        return b"[%s]" % b",".join([*before, own] if own else before) if before or own else b""

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """Returns *error* as it is: a connection does not count its items."""
        return error

    def _carried(self, chunks: Iterable[Chunk], account: str, provider: Provider, *, native: bool) -> list[Any]:
        left: set[str] = set()
        lines = _lines(chunks) if self.lines is None else self.lines
        items = carried(lines, account, provider.type or provider.name, native, left, self.files)
        self.warn(f"{what}: left out, since another provider cannot read it" for what in sorted(left))
        return items


def _lines(chunks: Iterable[Chunk]) -> list[Line]:
    return [Line(parsed(b"[%s]" % one.items), one.account, one.type, one.response) for one in chunks]


def own_items(envelope: Envelope) -> bytes:
    """Returns the items of a request's own `input`, separated by commas; a string is the user's message.

    :raises InvalidRequest: it is neither a string nor a list.
    """
    raw = bytes(envelope.members.get("input", b"null"))
    if raw == b"null":
        return b""
    if raw.startswith(b'"'):
        return b'{"type":"message","role":"user","content":%s}' % raw
    if not raw.startswith(b"["):
        raise InvalidRequest("'input' must be a string or a list.", param="input", code="invalid_type")
    return raw.strip()[1:-1].strip()
