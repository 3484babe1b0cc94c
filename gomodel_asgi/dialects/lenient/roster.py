"""Which item an event speaks of.

Strategy: the upstream's own index says so, whatever ids come with it, for as long as no two items have shared one. From
then on, and where there is none, an id says so, then a call id; and where nobody knows the id either, the order does:
the event is for an item that is open and of its type.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice
from typing import Any

from ...wire.items import Json
from ..values import string_in
from .slot import Slot, content_of

MOST_SEARCHED = 256  # open items among which one is looked for by order; no upstream has as many


class Roster:
    """The items of one reply, in the order in which events first mentioned them. *kinds* are the slots of item types
    that have one of their own."""

    def __init__(self, kinds: Mapping[str, type[Slot]]) -> None:
        self.kinds = kinds
        self.slots: list[Slot] = []
        self.open: OrderedDict[Slot, None] = OrderedDict()  # its first is found at once, however many have gone
        """Those that have not ended."""
        self.by_number: dict[int, Slot] = {}
        self.by_id: dict[str, Slot] = {}
        self.by_call: dict[str, Slot] = {}
        self.ambiguous: set[str] = set()
        """Ids and call ids that two items have had."""
        self.shared = False
        """Whether two items have had the same index."""
        self.announces = False
        """Whether the upstream announces its items."""
        self.faithful: set[str] = set()
        """The types of items that events have named by the id that they were announced under."""

    def add(self, type: str, number: Any, given: Json) -> Slot:
        """Adds an item, and returns its slot."""
        slot = self.kinds.get(type, Slot)(type, number if isinstance(number, int) else None, given)
        self.slots.append(slot)
        self.open[slot] = None
        if slot.number is not None:
            self.shared = self.shared or slot.number in self.by_number
            self.by_number[slot.number] = slot
        self._learn(slot, given)
        return slot

    def unannounced(self, type: str, number: Any, id: Any) -> Slot:
        """Adds an item that an event mentions before it was announced, and returns its slot."""
        slot = self.add(type, number, {"id": id} if isinstance(id, str) and id else {})
        slot.named = "id" in slot.given
        return slot

    def find(self, number: Any, id: Any, type: str, *, begins: bool = False) -> Slot | None:
        """Returns the item of *type* that an event speaks of, or None.

        It may have ended: then the event comes late. Only an event that *begins* something can mean an item that was
        never mentioned, since vLLM sends ends under the index of the next item.
        """
        at = self.by_number.get(number) if isinstance(number, int) else None
        if at is not None and at.type == type and not self.shared and at in self.open:
            return at
        id = id if isinstance(id, str) else ""
        fresh = isinstance(number, int) and at is None and not self.shared
        named = self.by_id.get(id) if not fresh or id not in self.ambiguous else None
        if named is not None and named.type == type and named in self.open:
            if named.announced and named.given.get("id") == id:
                self.faithful.add(type)
            named.named = True
            return named
        if at is not None and at.type == type and not self.shared:
            return at
        if named is not None and named.type == type and (not fresh or named.number is None):
            return named
        slot = self._by_order(type, id, fresh and (begins or id != ""))
        if slot is not None and fresh and slot.number is None:
            slot.number, self.by_number[number] = number, slot
        return slot

    def _by_order(self, type: str, id: str, fresh: bool) -> Slot | None:
        """Returns the last open item of *type*; for an *id* that is not known the first that no event has named.

        An event with a *fresh* index can only mean an item without one, and then the first.
        """
        found = [slot for slot in islice(reversed(self.open), MOST_SEARCHED) if slot.type == type][::-1]
        found = [slot for slot in found if slot.number is None] if fresh else found
        if not found or not id:
            return (found[0] if fresh else found[-1]) if found else None
        if type in self.faithful:
            return None
        for slot in found:
            if not slot.named:
                slot.named, self.by_id[id] = True, slot
                return slot
        return found[-1] if self.announces else None

    def known(self, number: Any, id: Any) -> Slot | None:
        """Returns the item of any type at an index or with an id, or None."""
        at = self.by_number.get(number) if isinstance(number, int) and not self.shared else None
        return at or (self.by_id.get(id) if isinstance(id, str) else None)

    def announced(self, number: Any, given: Json) -> Slot | None:
        """Returns the item that an event announces as *given*, None where it was announced before."""
        self.announces = True
        slot = self._unannounced_or_again(number, given)
        if slot is None:
            slot = self.add(given["type"], number, given)
        elif slot.announced:
            return None
        else:
            slot.learn(given)
            self._learn(slot, given)
        slot.announced = True
        return slot

    def _unannounced_or_again(self, number: Any, given: Json) -> Slot | None:
        """Returns the open item that *given* announces once more, or that an event mentioned before, or None."""
        id, call_id = string_in(given, "id"), string_in(given, "call_id")
        at = self.by_number.get(number) if isinstance(number, int) else None
        named = self.by_id.get(id)
        for slot in (named, at) if self.shared else (at, named):
            if slot is None or slot not in self.open or slot.type != given["type"]:
                continue
            if slot is named and slot is not at and isinstance(number, int) and slot.number not in (None, number):
                continue  # another item under the same id
            own = string_in(slot.given, "call_id")
            same_call = own == call_id or not own or not call_id
            if not slot.announced or same_call and (slot is named or not id or not self.shared):
                return slot
        return None

    def ended(self, number: Any, given: Json) -> Slot | None:
        """Returns the item that has ended as *given*, None if it is another one."""
        at = self.by_number.get(number) if isinstance(number, int) else None
        if at is not None and not self.shared and at.type == given["type"] and (at in self.open or at.repeats(given)):
            return at
        fresh = isinstance(number, int) and at is None and not self.shared
        for slot in self._namesakes(given, fresh):
            if slot in self.open or slot.repeats(given):
                return slot
        named = string_in(given, "id") or string_in(given, "call_id")
        for slot in islice(self.open, MOST_SEARCHED):
            if slot.can_be(given) and (slot.number is None or not fresh or not named and slot.is_beginning_of(given)):
                return slot
        return None

    def _namesakes(self, given: Json, fresh: bool) -> Iterable[Slot]:
        """The items that *given* may be an end of by its names, the most probable one first. Where it has a *fresh*
        index an id alone does not make it another call's."""
        id, call_id = string_in(given, "id"), string_in(given, "call_id")
        named, called = self.by_id.get(id) if id not in self.ambiguous else None, self.by_call.get(call_id)
        own = string_in(named.given, "call_id") if named is not None else ""
        same_call = own == call_id or not own or not call_id
        for slot in (named if same_call else None, called, named if not fresh else None):
            if slot is not None and slot.can_be(given):
                yield slot

    def _learn(self, slot: Slot, given: Json) -> None:
        """Indexes *slot* by its names: the latest item of an id, the first of a call id."""
        if id := string_in(given, "id"):
            self.ambiguous.update((id,) if self.by_id.get(id, slot) is not slot else ())
            self.by_id[id] = slot
        if call_id := string_in(given, "call_id"):
            self.ambiguous.update((call_id,) if self.by_call.get(call_id, slot) is not slot else ())
            self.by_call.setdefault(call_id, slot)

    def paired(self, output: list[Json]) -> list[tuple[Json, Slot | None]]:
        """Returns each item of the final *output* with its slot, or with None.

        They are matched by their names, then by what they say, then by their place, then in the order of their type.
        """
        pairs: list[Slot | None] = [None] * len(output)
        left = dict.fromkeys(self.slots)

        def pair(place: int, slot: Slot | None) -> None:
            if pairs[place] is None and slot is not None and slot in left and slot.can_be(output[place]):
                left.pop(slot)
                pairs[place] = slot

        def pair_by(key_of_slot: Callable[[Slot], Hashable], key_of: Callable[[Json], Hashable]) -> None:
            queues: defaultdict[Hashable, deque[Slot]] = defaultdict(deque)
            for slot in left:
                queues[key_of_slot(slot)].append(slot)
            for place, given in enumerate(output):
                if pairs[place] is None and (key := key_of(given)) is not None and (queue := queues[key]):
                    pair(place, queue.popleft())

        for place, slot in enumerate(self._called(output)):
            pair(place, slot)
        pair_by(lambda slot: slot.content(), content_of)
        for place in range(len(output)) if not self.shared else ():
            pair(place, self.by_number.get(place))
        pair_by(lambda slot: (slot.type, slot.name), lambda given: (given["type"], string_in(given, "name")))
        return list(zip(output, pairs, strict=True))

    def _called(self, output: list[Json]) -> Iterable[Slot | None]:
        """For each item of *output* the one that has its call id or id, if no other one has it too."""
        names = Counter(name for given in output for name in (string_in(given, "id"), string_in(given, "call_id")))
        for given in output:
            found = [
                known[name]
                for known, name in ((self.by_call, string_in(given, "call_id")), (self.by_id, string_in(given, "id")))
                if name in known and name not in self.ambiguous and names[name] == 1
            ]
            yield found[0] if found else None
