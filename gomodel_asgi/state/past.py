"""What a request names of earlier ones, as each upstream that it may go to has to see it.

Strategy: the account that issued an id gets the client's own bytes, since there the id means something. Any other gets
the conversation itself: what the id stands for, followed by the request's own input. So one request can fall back from
an upstream that remembers to one that does not, and neither ever sees an id that it has not issued.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ..envelope import Envelope
from ..errors import InvalidRequest
from ..providers.provider import Provider
from .accounts import Accounts
from .ownership import Owner
from .portable import carried
from .references import is_reference, without
from .turns import Line
from .unknown import exclusive, unknown_conversation, unknown_item, unknown_previous, unknown_response

Json = dict[str, Any]
Warn = Callable[[Iterable[str]], None]

PLACE = re.compile(r"input\[(\d+)\](.*)", re.DOTALL)

encode = msgspec.json.encode


class Referred(msgspec.Struct, frozen=True):
    """A stored item that an `item_reference` names; *item* is None where only its account knows what it is."""

    item: Json | None
    account: str
    type: str


class Past:
    """What one request continues.

    *owner* holds the response that `previous_response_id` or the path names, or the conversation; *lines* is what was
    said in it, None where that is not known here. *referred* has the items that the input refers to, *references* the
    ids of all of them, each with whether the item may be left out. *trusted* says that ids without a record may go to
    native upstreams: the host has no tenants. *expand* gives items that stand for others (our compactions) as those.
    """

    def __init__(
        self,
        envelope: Envelope,
        accounts: Accounts,
        *,
        warn: Warn,
        by_id: bool = False,
        trusted: bool = False,
        expand: Callable[[Json], list[Json]] | None = None,
    ) -> None:
        self.original = envelope
        self.accounts = accounts
        self.warn = warn
        self.by_id = by_id
        self.trusted = trusted
        self.expand = expand
        self.owner: Owner | None = None
        self.lines: list[Line] | None = None
        self.referred: dict[str, Referred] = {}
        self._references: dict[str, bool] = {}
        self.asks = by_id or envelope.has("previous_response_id") or envelope.has("conversation")
        """Whether an id is named that must have an owner."""
        self.before = 0
        """How many items of the last body were said before the client's own."""

    @property
    def references(self) -> dict[str, bool]:
        """The ids that the input refers to; without tenants, only those that have to be resolved."""
        return self._references

    @references.setter
    def references(self, found: dict[str, bool]) -> None:
        self._references = {id: False for id, may_go in found.items() if not may_go} if self.trusted else found

    @property
    def bound(self) -> bool:
        """Whether only the upstream that holds the state can make anything of the request."""
        known = all(name in self.referred and self.referred[name].item is not None for name in self._required)
        return self.by_id or not known or (self.asks and self.lines is None)

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """The request for a native upstream, asked with a Target's own *key* (None: the provider's).

        :raises InvalidRequest: it names state that does not lie there and cannot be carried there.
        """
        account = self.accounts.of(provider, key)
        if self._at_home(account):
            return self._trimmed(account)
        if self.by_id:
            raise unknown_response()
        return self._replayed(account, provider.type or provider.name)

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """The request for an upstream that keeps nothing.

        :raises InvalidRequest: as `envelope`.
        """
        body = dict(self.original.body)
        if isinstance(body.get("conversation"), str):
            body["conversation"] = {"id": body["conversation"]}
        if body.get("input") is None or isinstance(body["input"], (str, list)):
            account, type = self.accounts.of(provider, key), provider.type or provider.name
            body["input"] = self._items(account, type, native=False)
        return body

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """*error* about a body, with its path counted from where the client's own input begins."""
        match = PLACE.fullmatch(error.param or "")
        if match is not None and self.before:
            number = int(match[1]) - self.before
            place = f"input[{number}]{match[2]}" if number >= 0 else "previous_response_id"
            error.message = error.message.replace(match[0], place)
            error.param = place
        return error

    def own_input(self, *, strict: bool = False) -> bytes:
        """The request's own input as JSON with what it refers to put in: what a turn keeps.

        :raises InvalidRequest: *strict*, and nothing is known here of what it refers to.
        """
        raw = bytes(self.original.members.get("input", b"null"))
        if not self._required or not raw.startswith(b"["):
            return raw
        items = msgspec.json.decode(raw)
        if strict:
            return encode([self._resolved(item, None) for item in items])
        return encode([self._resolved(item, None) if self._is_known(item) else item for item in items])

    # How it is put together...

    def _at_home(self, account: str) -> bool:
        if self.expand is not None:
            return False
        if self.asks and self.owner is None:
            if not self.trusted:
                raise self.unknown()
            return self._all_at(account)
        held_there = self.owner is None or (not self.owner.held and self.owner.credential == account)
        return held_there and self._all_at(account)

    def _all_at(self, account: str) -> bool:
        return all(
            self.referred[name].account == account if name in self.referred else self.trusted for name in self._required
        )

    @property
    def _required(self) -> list[str]:
        return [name for name, may_go in self._references.items() if not may_go]

    def _left_out(self, account: str) -> list[str]:
        """The ids of reasoning that *account* would look up, and that it has not issued for this tenant."""
        soft = [name for name, may_go in self._references.items() if may_go]
        gone = [name for name in soft if name not in self.referred or self.referred[name].account != account]
        if gone:
            self.warn(["reasoning without its content: left out, since it is not known to lie at this provider"])
        return gone

    def _trimmed(self, account: str) -> Envelope:
        """The request as it is, but for items that the *account* must not look up."""
        gone = self._left_out(account)
        if not gone:
            return self.original
        trimmed = msgspec.Raw(without(bytes(self.original.members["input"]), gone))
        return self.original.with_members({**self.original.members, "input": trimmed})

    def _replayed(self, account: str, type: str) -> Envelope:
        """The request with everything that it names put into its input."""
        members = {
            name: value
            for name, value in self.original.members.items()
            if name not in ("previous_response_id", "conversation")
        }
        members["input"] = msgspec.Raw(encode(self._items(account, type, native=True)))
        return self.original.with_members(members)

    def _items(self, account: str, type: str, *, native: bool) -> list[Any]:
        if self.original.has("previous_response_id") and self.original.has("conversation"):
            raise exclusive()
        if self.asks and self.lines is None:
            raise self.unknown()
        left: set[str] = set()
        items = carried(self.lines or (), account, type, native, left)
        self.warn(f"{what}: left out, since another provider cannot read it" for what in sorted(left))
        self.before = len(items)
        return items + self._own(account if native else None)

    def _own(self, account: str | None) -> list[Any]:
        own = self.original.body.get("input")
        if own is None:
            return []
        if isinstance(own, str):
            own = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": own}]}]
        if not isinstance(own, list):
            raise InvalidRequest("'input' must be a string or an array of items.", param="input", code="invalid_type")
        if account is not None and (gone := self._left_out(account)):
            own = msgspec.json.decode(without(encode(own), gone))
        resolved = [self._resolved(item, account) for item in own]
        if self.expand is None:
            return resolved
        return [one for item in resolved for one in (self.expand(item) if isinstance(item, dict) else [item])]

    def _resolved(self, item: Any, account: str | None) -> Any:
        """*item*, or what it refers to; a reference stays one at the *account* that knows it."""
        if not isinstance(item, dict) or not is_reference(item):
            return item
        found = self._found(item)
        if found is not None and account == found.account:
            return item
        if found is not None and found.item is not None:
            return found.item
        if (account is None or self.trusted) and is_item(item):
            return item  # nobody looks it up: the upstream's dialect says what becomes of it
        raise unknown_item()

    def _found(self, item: Any) -> Referred | None:
        id = item.get("id") if isinstance(item, dict) else None
        return self.referred.get(id) if isinstance(id, str) else None

    def _is_known(self, item: Any) -> bool:
        found = self._found(item)
        return found is not None and found.item is not None

    def unknown(self) -> InvalidRequest:
        """The answer to the id that this request names, where it has no owner."""
        if self.by_id:
            return unknown_response()
        return unknown_previous() if self.original.has("previous_response_id") else unknown_conversation()


def is_item(item: Json) -> bool:
    """Whether *item* is one of its own, if an empty one."""
    return item.get("type") not in (None, "item_reference")
