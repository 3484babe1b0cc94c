"""Who has how much of a bounded store, and who gives way when it is full.

A *share* is what one owner has: its entries, in the order of last use. The shares stand in a heap, the largest on top
and the second largest below it, so that a change of one of very many costs a step or two; and in the order in which
they were last used, for the time when nobody has much.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Share(Generic[K, V]):
    """The entries of one *owner*, and their *bytes*; call `Shares.settle` after each change."""

    __slots__ = ("at", "bytes", "entries", "owner", "weight")

    def __init__(self, owner: str, at: int) -> None:
        self.owner = owner
        self.entries: OrderedDict[K, V] = OrderedDict()
        self.bytes = 0
        self.weight = 0
        """What it is compared by."""
        self.at = at
        """Its place in the heap."""


class Shares(Generic[K, V]):
    """The shares of all owners. An entry counts for its bytes, but for *least* where it has fewer: as much of them as
    it takes up of the number of entries that there may be. A share of *small* or less gives way to none that is
    larger."""

    def __init__(self, least: int, small: int = 0) -> None:
        self.least = least
        self.small = small
        self.by_owner: OrderedDict[str, Share[K, V]] = OrderedDict()
        """In the order of last use; `move_to_end` marks an owner as not idle."""
        self._heap: list[Share[K, V]] = []

    def opened(self, owner: str) -> Share[K, V]:
        """Returns a share for *owner*, who has none. Give it an entry and `settle` it."""
        share = self.by_owner[owner] = Share(owner, len(self._heap))
        self._heap.append(share)
        return share

    def weight(self, bytes: int, count: int) -> int:
        """Returns what so many entries of so many bytes count for."""
        return max(bytes, count * self.least)

    def settle(self, share: Share[K, V]) -> None:
        """Puts *share* where it belongs after its entries have changed, and takes it away if it has none."""
        count = len(share.entries)
        if not count:
            return self._leave(share)
        weight, by_count = share.bytes, count * self.least
        share.weight = weight = by_count if by_count > weight else weight
        heap, at = self._heap, share.at
        while at and (above := heap[(at - 1) >> 1]).weight < weight:
            heap[at], above.at, at = above, at, (at - 1) >> 1
        end = len(heap)
        while (below := 2 * at + 1) < end:
            if below + 1 < end and heap[below + 1].weight > heap[below].weight:
                below += 1
            larger = heap[below]
            if larger.weight <= weight:
                break
            heap[at], larger.at, at = larger, at, below
        heap[at], share.at = share, at

    def giving_way(self, mine: Share[K, V] | None, size: int, *, fits: bool) -> Share[K, V] | None:
        """Returns the share that gives way to an entry of *size* bytes (0: one of no owner's) in *mine*; None where
        there is no share. *fits*: the entry would find room in place of all of *mine*.

        :raises LookupError: all others have less.
        """
        largest = self.largest_but(mine)
        if largest is None:
            return mine
        bytes, entries = (0, 0) if mine is None else (mine.bytes, len(mine.entries))
        own = self.weight(bytes + size, entries + 1) if size else 0
        if largest.weight >= own and largest.weight > self.small:
            return largest
        if own <= self.small:
            return next((one for one in self.by_owner.values() if one is not mine), None)  # idle for longest
        # Mine is the largest. It is not emptied for an entry that would not fit after all.
        if mine is None or (not fits and largest.weight <= self.weight(size, 1)):
            raise LookupError(mine)
        return mine

    def largest_but(self, share: Share[K, V] | None) -> Share[K, V] | None:
        """Returns the largest share of all others."""
        heap = self._heap
        if not heap or heap[0] is not share:
            return heap[0] if heap else None
        return max(heap[1:3], key=lambda one: one.weight, default=None)

    def _leave(self, share: Share[K, V]) -> None:
        del self.by_owner[share.owner]
        last = self._heap.pop()
        if last is not share:
            self._heap[share.at], last.at = last, share.at
            self.settle(last)
