"""What one tenant keeps, oldest first, so written down that of much only a little changes. No I/O.

    ◄── goes    oldest    leaf first, first + 1, …, next - 1    newest    comes ◄──

The head is the one record that every change replaces: it has the totals and both ends. What lies between is in leaves,
a record each, which are written once. What is kept anew (a conversation that has grown) moves to the end; where it was
in a leaf, the head notes the place as *gone* until the leaf is loaded or mended.

The head counts: leaves are only ever made to agree with it, so that a crash between two writes leaves nothing
wrong but perhaps a record that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

Kept = tuple[str, int]
"""An id, and the size in bytes of what is kept under it."""

# Entries in a leaf, and about as many at each end of the head: some 3 kB of it.
LEAF = 32

# Places in leaves that the head notes as gone, before leaves are mended.
MOST_GONE = 64

# What stands in a leaf where something was.
NOTHING: Kept = ("", 0)


class Head(msgspec.Struct):
    """*name* is this journal's own: one that begins anew, since its head was lost, finds no leaves of the one before.
    *bytes* and *count* are of all that is kept. *oldest* were in the leaf before *first*; *newest* will be the leaf
    *next*. *unwritten* is what the leaf before *next* has to hold, empty once that is known to be written. *gone* are
    places: leaf and index."""

    name: str
    bytes: int = 0
    count: int = 0
    oldest: list[Kept] = []
    newest: list[Kept] = []
    first: int = 0
    next: int = 0
    unwritten: list[Kept] = []
    gone: list[tuple[int, int]] = []

    def append(self, id: str, size: int) -> None:
        """Keeps *id* as the newest; whatever it had must have been taken out."""
        self.newest.append((id, size))
        self.bytes += size
        self.count += 1
        if len(self.newest) >= LEAF:
            self.unwritten, self.newest = self.newest, []
            self.next += 1

    def take(self, id: str) -> bool:
        """Takes *id* out of both ends. Returns whether it was there."""
        found = False
        for end in (self.oldest, self.newest):
            for kept in [kept for kept in end if kept[0] == id]:
                end.remove(kept)
                self._less(kept[1])
                found = True
        return found

    def take_from(self, number: int, leaf: Iterable[Kept], id: str) -> bool:
        """Takes *id* out of the *leaf* of this number. Returns whether it was there."""
        for index, (name, size) in enumerate(leaf):
            if name == id and (number, index) not in self.gone:
                self.gone.append((number, index))
                self._less(size)
                return True
        return False

    def pop(self) -> tuple[str, int]:
        """Takes out the oldest, where the leaf that it was in has been loaded. Returns its id and the number of that
        leaf."""
        number = self.first - 1 if self.oldest else self.next
        id, size = (self.oldest or self.newest).pop(0)
        self._less(size)
        return id, number

    def load(self, leaf: list[Kept] | None) -> None:
        """Makes the leaf *first* the oldest; None where it is lost. What a lost one held nobody knows: its part of what
        lies in leaves is taken off, and what that is wrong by is set right with the last of them."""
        number, leaves = self.first, self.next - self.first
        if leaf is None:
            bytes, count = self._ends()
            self._less((self.bytes - bytes) // leaves, (self.count - count) // leaves)
        else:
            self.oldest += [kept for kept in self.mended(number, leaf) if kept != NOTHING]
        self.forget_gone(number)
        self.first += 1
        if leaves == 1:
            self.unwritten = []
            self.bytes, self.count = self._ends()

    def most_gone(self) -> int | None:
        """Returns the number of the leaf of which most is gone, where it is time to mend one."""
        if len(self.gone) <= MOST_GONE:
            return None
        numbers = [number for number, _ in self.gone]
        return max(set(numbers), key=numbers.count)

    def mended(self, number: int, leaf: list[Kept]) -> list[Kept]:
        """Returns the *leaf* of this number without what is gone of it."""
        places = set(self.gone)
        return [NOTHING if (number, index) in places else kept for index, kept in enumerate(leaf)]

    def forget_gone(self, number: int) -> None:
        """Forgets the places in the leaf of this number: it is mended, or is none any more."""
        self.gone = [place for place in self.gone if place[0] != number]

    def _ends(self) -> tuple[int, int]:
        return sum(size for _, size in (*self.oldest, *self.newest)), len(self.oldest) + len(self.newest)

    def _less(self, bytes: int, count: int = 1) -> None:
        self.bytes = max(0, self.bytes - bytes)
        self.count = max(0, self.count - count)
