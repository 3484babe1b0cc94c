"""The items that a request refers to: which of them are known, and which upstream may look which up."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from copy import copy
from typing import Any, Self

import msgspec

from .records import unknown_item
from .references import Reference

Json = dict[str, Any]
Warn = Callable[[Iterable[str]], None]


class Referred(msgspec.Struct, frozen=True):
    """A stored item that an `item_reference` names. *item* is None where only the upstream account has its content."""

    item: Json | None
    account: str
    type: str


class Referrals:
    """What one request refers to. *trusted*: ids without a record may go to native upstreams, since the caller has no
    tenant."""

    def __init__(self, *, trusted: bool, warn: Warn) -> None:
        self.trusted = trusted
        self.warn = warn
        self.references: list[Reference] = []
        self.known: dict[str, Referred] = {}
        """Those that are found in the store, by id."""
        self.foreign: dict[str, set[str]] = {}
        """Ids that are a tenant's, by upstream: no trusted caller's."""

    def without_approvals(self, answered: Container[str]) -> Self:
        """Returns the same without those that name one of *answered*."""
        made = copy(self)
        made.references = [one for one in self.references if one.kind != "approval" or one.id not in answered]
        return made

    @property
    def required(self) -> list[Reference]:
        """What may not be left out: all but reasoning."""
        return [one for one in self.references if one.kind != "reasoning"]

    def item(self, reference: Reference) -> Json | None:
        """Returns the item that *reference* stands for; None where its content is not known here."""
        found = self.known.get(reference.id)
        return found.item if found is not None and reference.kind == "item" else None

    def may_pass(self, id: str | None, upstream: str) -> bool:
        """Returns whether *id*, of which nothing is known, may go to *upstream*."""
        return self.trusted and id is not None and id not in self.foreign.get(upstream, ())

    def lies_at(self, reference: Reference, account: str, upstream: str) -> bool:
        """Returns whether *account* at *upstream* may look *reference* up."""
        found = self.known.get(reference.id)
        return self.may_pass(reference.id, upstream) if found is None else found.account == account

    def left_out(self, member: str, account: str, upstream: str) -> list[int]:
        """Returns the places of reasoning that *account* would look up, and that it has not issued for this tenant."""
        soft = [one for one in self.references if one.member == member and one.kind == "reasoning"]
        gone = [one.index for one in soft if not self.lies_at(one, account, upstream)]
        if gone:
            self.warn(["reasoning without its content: left out, since it is not known to lie at this provider"])
        return gone

    def resolved(self, reference: Reference, item: Json, account: str, upstream: str | None) -> Json:
        """Returns *item*, or what it stands for; a reference stays one at the *account* that knows it. *upstream* is
        None for one that looks nothing up.

        :raises InvalidRequest: it is known neither here nor there (404).
        """
        found, content = self.known.get(reference.id), self.item(reference)
        if found is not None and upstream is not None and account == found.account:
            return item
        if content is not None:
            return content
        if upstream is None or (found is None and self.may_pass(reference.id, upstream)):
            if reference.kind == "approval" or is_item(item):
                return item  # nobody looks it up: the upstream's dialect says what becomes of it
        raise unknown_item()


def is_item(item: Json) -> bool:
    """Returns whether *item* is one of its own, if an empty one."""
    return item.get("type") not in (None, "item_reference")
