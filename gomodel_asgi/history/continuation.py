"""What a request names of earlier ones, as each upstream that it may go to has to see it.

Strategy: the account that issued an id gets the client's own bytes, since there the id means something. Any other gets
the conversation itself: what the id stands for, followed by the request's own input. So one request can fall back from
an upstream that remembers to one that does not, and neither ever sees an id that it has not issued.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from copy import copy
from typing import Any, Self

import msgspec
from msgspec import Raw

from ..errors import InvalidRequest
from ..operations import Row
from ..providers.provider import Provider
from ..wire.ambiguity import ARRAY
from ..wire.json_body import Envelope
from ..wire.json_scan import parsed
from .compaction_item import is_ours
from .mentions import Referrals, Warn, is_item
from .ownership import Accounts, Owner
from .portable import carried, since_compaction
from .records import exclusive, unknown_conversation, unknown_item, unknown_previous, unknown_response, unopened
from .references import without
from .turns import Line, encoded

Json = dict[str, Any]

PLACE = re.compile(r"input\[(\d+)\](.*)", re.DOTALL)
PATH = "path"


class Named(msgspec.Struct, frozen=True):
    """A response or conversation that a request names. *place* is the member that does, or `PATH`; *id* is None where
    what stands there can be none; *owner* is None where nobody is known to own it."""

    place: str
    id: str | None
    owner: Owner | None


class Recalled(ABC):
    """A continuation of what is known here, if it is."""

    @abstractmethod
    def said_before(self) -> list[Line] | None:
        """Returns the conversation so far, as far as it may concern a hosted tool; None where it is not known here."""
        ...

    @abstractmethod
    def changed(self, change: Callable[[Line], Line], answered: Container[str]) -> Self:
        """Returns the same with the conversation so far as *change* gives it, and without the approvals that name one
        of *answered*: no upstream has to know these."""
        ...


class Continuation(Recalled):
    """What one request of the kind *row* continues.

    *named* are the responses and conversations that it names; *lines* are their items, None where they are not known
    here; *referrals* are the items that it refers to. *opened* are the items that compaction items of ours stand for,
    by their content, None for one that does not open; *compacted*: the request's own are among them. *whole*, where it
    is set, is the whole conversation with the new input, in place of all that the request names. *files*: the host
    gives the bytes of files that were named before.
    """

    def __init__(
        self,
        envelope: Envelope,
        row: Row,
        accounts: Accounts,
        *,
        warn: Warn,
        trusted: bool = False,
        files: bool = False,
    ) -> None:
        self.original = envelope
        self.row = row
        self.accounts = accounts
        self.warn = warn
        self.referrals = Referrals(trusted=trusted, warn=warn)
        self.files = files
        self.opened: dict[str, list[Json] | None] = {}
        self.compacted = False
        self.whole: list[Json] | None = None
        self.named: list[Named] = []
        self.lines: list[Line] | None = None
        self.before = 0
        """How many items of the last body come before the client's own."""

    def said_before(self) -> list[Line] | None:
        """See `Recalled`."""
        return self.lines

    def changed(self, change: Callable[[Line], Line], answered: Container[str]) -> Self:
        """See `Recalled`."""
        made = copy(self)
        made.lines = None if self.lines is None else [change(line) for line in self.lines]
        made.referrals = self.referrals.without_approvals(answered)
        return made

    @property
    def owner(self) -> Owner | None:
        """Who holds what the path names, else `previous_response_id`, else the conversation."""
        return self.named[0].owner if self.asks else None

    @property
    def asks(self) -> bool:
        """Whether the request goes on from a response or a conversation."""
        return any(one.place in self._members or one.place == PATH for one in self.named)

    @property
    def _members(self) -> tuple[str, ...]:
        """The members that name what is gone on from, where that can be sent along instead."""
        return self.row.body.members if self.row.body is not None else ()

    @property
    def holds_all(self) -> bool:
        """Returns whether the request can be sent as it came: it refers to nothing but itself."""
        return not (self.named or self.referrals.references or self.opened or self.compacted) and self.whole is None

    @property
    def bound(self) -> bool:
        """Whether only the upstream that holds the state can make anything of the request."""
        if self.whole is not None:
            return False
        if self.row.path_names is not None or any(one.place not in self._members for one in self.named):
            return True
        if not self.row.continues:
            return bool(self.referrals.required)
        return None in map(self.referrals.item, self.referrals.required) or (self.asks and self.lines is None)

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """Returns the request for a native upstream, with a Target's own *key* (None: the provider's).

        :raises InvalidRequest: it names state that does not lie there and cannot be carried there.
        """
        account, upstream = self.accounts.of(provider, key), self.accounts.upstream(provider)
        if not provider.keeps_state or self.whole is not None:
            return self._whole(account, provider.type or provider.name)
        if self._at_home(account, upstream):
            return self._rewritten(account, upstream)
        if not self.row.continues:
            raise self._elsewhere(account, upstream)
        return self._replayed(account, upstream, provider.type or provider.name)

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """Returns the request for an upstream that keeps nothing.

        :raises InvalidRequest: as `envelope`.
        """
        body = dict(self.original.body)
        if isinstance(body.get("conversation"), str):
            body["conversation"] = {"id": body["conversation"]}
        if self.whole is not None:
            body["input"] = self.whole
        elif body.get("input") is None or isinstance(body["input"], str | list):
            account, type = self.accounts.of(provider, key), provider.type or provider.name
            body["input"] = self._items(account, None, type, native=False)
        return body

    def given_items(self) -> Any:
        """Returns the elements of `items`, with what they refer to put in: for a conversation that is kept here.

        :raises InvalidRequest: nothing is known here of what one of them refers to.
        """
        items = self.original.body.get("items")
        if not isinstance(items, list):
            return items
        items = [*items]
        for one in self.referrals.required:
            if one.member == "items":
                found = self.referrals.item(one)
                if found is not None:
                    items[one.index] = found
                elif not self.referrals.trusted:
                    raise unknown_item()
        return self._opened(items)

    def earlier_json(self) -> bytes:
        """Returns the conversation so far as JSON, as far as it has been read, and what compaction items stand for."""
        if self.whole is not None:
            return b""
        items: list[Any] = [line.items for line in self.lines or ()]
        items += [opened for opened in self.opened.values() if opened is not None]
        return encoded(items) if items else b""

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """Returns *error* about a body, with its path counted from where the client's own input begins."""
        match = PLACE.fullmatch(error.param or "")
        if match is not None and self.before:
            number = int(match[1]) - self.before
            place = f"input[{number}]{match[2]}" if number >= 0 else "previous_response_id"
            error.message = error.message.replace(match[0], place)
            error.param = place
        return error

    def own_input(self, *, strict: bool = False) -> bytes:
        """Returns the request's own input as JSON with what it refers to put in: what a turn keeps.

        :raises InvalidRequest: *strict*, and nothing is known here of what it refers to.
        """
        raw = bytes(self.original.members.get("input", b"null"))
        stands = [one for one in self.referrals.references if one.member == "input" and one.kind == "item"]
        if not stands or not raw.startswith(b"["):
            return raw
        items = parsed(raw)
        for one in stands:
            found = self.referrals.item(one)
            if found is not None:
                items[one.index] = found
            elif strict and not is_item(items[one.index]):
                raise unknown_item()
        return encoded(items)

    def unknown(self) -> InvalidRequest:
        """Returns the answer to the first id that this request names, where it has no owner."""
        return self._unknown(self.named[0])

    # Where it lies...

    def _at_home(self, account: str, upstream: str) -> bool:
        """Returns whether *account* has everything that is named.

        :raises InvalidRequest: something lies nowhere that is known.
        """
        here = True
        for one in self.named:
            if one.owner is not None:
                here = here and not one.owner.held and one.owner.credential == account
            elif not self.referrals.may_pass(one.id, upstream):
                raise self._unknown(one)
        return here and all(self.referrals.lies_at(one, account, upstream) for one in self.referrals.required)

    def _elsewhere(self, account: str, upstream: str) -> InvalidRequest:
        """The answer to what lies at another account, and cannot be carried to this one."""
        for one in self.named:
            if one.owner is not None and (one.owner.held or one.owner.credential != account):
                return self._unknown(one)
        return unknown_item()

    def _unknown(self, one: Named) -> InvalidRequest:
        if one.place == PATH:
            return unknown_response() if self.row.path_names == "response" else unknown_conversation()
        return unknown_conversation() if one.place == "conversation" else unknown_previous(one.place)

    # How it is put together...

    def _rewritten(self, account: str, upstream: str) -> Envelope:
        """Returns the request without items that the *account* must not look up, or could not read."""
        members = self.original.members
        for member in self.row.body.items if self.row.body is not None else ():
            if member in members and memoryview(members[member])[0] == ARRAY:
                gone = self.referrals.left_out(member, account, upstream)
                if self.compacted:
                    items = self._opened(self._shortened(self.original.body[member], gone))
                    members = {**members, member: Raw(encoded(items))}
                elif gone:
                    members = {**members, member: Raw(without(bytes(members[member]), gone))}
        return self.original if members is self.original.members else self.original.with_members(members)

    def _whole(self, account: str, type: str) -> Envelope:
        """Returns the request for an upstream of the same API that keeps nothing: what it names is in its input."""
        if not self.row.continues or not (self.asks or self.referrals.references or self.compacted or self.whole):
            return self.original
        members = {name: value for name, value in self.original.members.items() if name not in self._members}
        if self.whole is not None:
            members["input"] = Raw(encoded(self.whole))
        elif self.original.has("input") or self.asks:
            members["input"] = Raw(encoded(self._items(account, None, type, native=True)))
        return self.original.with_members(members)

    def _replayed(self, account: str, upstream: str, type: str) -> Envelope:
        """The request with everything that it names put into its input.

        :raises InvalidRequest: something of it lies neither here nor at this *account*.
        """
        for one in self.named:
            if one.place not in self._members and (one.owner is None or one.owner.credential != account):
                raise self._unknown(one)
        for reference in self.referrals.required:
            if reference.member != "input" and not self.referrals.lies_at(reference, account, upstream):
                raise unknown_item()
        members = {name: value for name, value in self.original.members.items() if name not in self._members}
        members["input"] = Raw(encoded(self._items(account, upstream, type, native=True)))
        return self.original.with_members(members)

    def _items(self, account: str, upstream: str | None, type: str, *, native: bool) -> list[Any]:
        """Returns the conversation with the new input, for *account* at *upstream*, or (None) for one that looks
        nothing up. *native*: it reads the items themselves.

        :raises InvalidRequest: it is named in two ways, or not known here.
        """
        if self._members and all(map(self.original.has, self._members)):
            raise exclusive()
        if self.asks and self.lines is None:
            raise self.unknown()
        left: set[str] = set()
        lines = since_compaction(self.lines or (), self._expanded, left)
        items = carried(lines, account, type, native, left, self.files)
        self.warn(f"{what}: left out, since another provider cannot read it" for what in sorted(left))
        self.before = len(items)
        return items + self._own(account, upstream)

    def _own(self, account: str, upstream: str | None) -> list[Any]:
        """The request's own input for *account* at *upstream*, or (None) for one that looks nothing up.

        :raises InvalidRequest: it is neither text nor a list.
        """
        own = self.original.body.get("input")
        if own is None:
            return []
        if isinstance(own, str):
            own = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": own}]}]
        if not isinstance(own, list):
            raise InvalidRequest("'input' must be a string or an array of items.", param="input", code="invalid_type")
        own = [*own]
        for one in self.referrals.required:
            if one.member == "input":
                own[one.index] = self.referrals.resolved(one, own[one.index], account, upstream)
        gone = [] if upstream is None else self.referrals.left_out("input", account, upstream)
        return self._opened(self._shortened(own, gone))

    def _shortened(self, items: list[Any], gone: list[int]) -> list[Any]:
        return parsed(without(encoded(items), gone)) if gone else items

    def _opened(self, items: list[Any]) -> list[Any]:
        if not self.compacted:
            return items
        return [one for item in items for one in (self._expanded(item) if isinstance(item, dict) else [item])]

    def _expanded(self, item: Json) -> list[Json]:
        """*item*, or what it stands for.

        :raises InvalidRequest: it is one of ours that does not open.
        """
        if not is_ours(item):
            return [item]
        items = self.opened.get(item["encrypted_content"])
        if items is None:
            raise unopened()
        return [*items]
