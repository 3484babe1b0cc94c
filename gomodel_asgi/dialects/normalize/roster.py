"""The items of a reply that is being repaired, and which of them an event speaks of."""

from __future__ import annotations

from itertools import islice

from .items import Item, Write
from .values import Json, new_id

SIGHT = 256  # open items among which an event without an id is given a place; no upstream is near it


class Roster:
    """Items in the order in which they were announced; *suffix* makes the ids of those that have none."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.suffix = ""
        self.items: list[Item] = []
        self.by_id: dict[str, Item] = {}
        self.ids: set[str] = set()

    def item(self, event: Json, kind: str) -> Item:
        """The item of type *kind* that *event* speaks of; an unannounced one is opened."""
        item = self.find(event, kind)
        if item is None:
            item = self.open(event, {"type": kind, "id": event.get("item_id")})
            item.named = bool(event.get("item_id"))
        return item

    def find(self, event: Json, kind: str | None) -> Item | None:
        """The item that *event* names by its id, or the last open one that it can mean."""
        id, index = event.get("item_id"), event.get("output_index")
        known = self.by_id.get(id) if isinstance(id, str) else None
        if known is not None and kind in (None, known.type):
            known.named = True
            return known
        numbers = (None, index) if isinstance(index, int) else None
        item = next((item for item in islice(reversed(self.items), SIGHT) if fits(item, kind, numbers)), None)
        # An id that nobody has announced is another item's, unless no event has used the announced one either.
        if item is None or id and item.named:
            return None
        if isinstance(id, str) and id:
            self.by_id[id] = item
        return item

    def open(self, event: Json, given: Json) -> Item:
        """Announce an item, under its own id unless that is taken."""
        index, id = len(self.items), given.get("id")
        upstream_id = id if isinstance(id, str) else ""
        taken = not upstream_id or upstream_id in self.ids
        own = new_id(given["type"], self.suffix, index) if taken else upstream_id
        self.ids.add(own)
        event = {name: event[name] for name in event if name in ("output_index",) or event.get("item") is given}
        item = Item(self.write, index, given, own, event)
        self.items.append(item)
        if upstream_id:
            self.by_id[upstream_id] = item
        return item

    def paired(self, output: list[Json]) -> list[tuple[Json, Item | None]]:
        """Each item of *output* with the one that it is: by its id, else the next of its kind."""
        left = {id(item): item for item in self.items}
        pairs: list[tuple[Json, Item | None]] = []
        for given in output:
            item = self.by_id.get(str(given.get("id") or ""))
            known = item is not None and akin(item, given) and id(item) in left
            pairs.append((given, left.pop(id(item)) if known else None))
        rest = list(left.values())
        for place, (given, item) in enumerate(pairs):
            if item is None and (other := next((item for item in rest if akin(item, given)), None)) is not None:
                rest.remove(other)
                pairs[place] = given, other
        return pairs


def fits(item: Item, kind: str | None, numbers: tuple[int | None, ...] | None) -> bool:
    """Whether an event for an item of type *kind*, at one of *numbers*, can be for *item*."""
    return not item.closed and kind in (None, item.type) and (numbers is None or item.number in numbers)


def akin(item: Item, given: Json) -> bool:
    """Whether *given* can be *item*: of its type, and not another call."""
    own, other = item.given.get("call_id"), given.get("call_id")
    return item.type == given["type"] and not (own and other and own != other)


def repeats(item: Item, given: Json) -> bool:
    """Whether *given* is *item* once more, and not another one that came under the same id."""
    return bool(given.get("id")) and akin(item, given) and all(item.given.get(name) == given[name] for name in given)
