"""The conversations of a fake provider: lists of items, to which clients and responses add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .api import Refused, invalid, missing
from .model import EPOCH
from .plan import Plan, json_reply
from .wire import Json

# Lists as the Responses API has them: items with ids, and pages of them.


def items_of(input: Any, prefix: str) -> list[Json]:
    """Returns *input* as items, each with an id."""
    if isinstance(input, str):
        input = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": input}]}]
    items = [item for item in input or [] if isinstance(item, dict)]
    return [{"id": f"{prefix}{number:02x}", **item} for number, item in enumerate(items)]


def query_of(query: bytes) -> dict[str, str]:
    """Returns the members of a query, the last of each."""
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}


def whole_number(text: str) -> int:
    """Returns *text* as a number; -1 where it is none, or longer than any count."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


def listed(items: Sequence[Json], *, has_more: bool = False) -> Plan:
    """Returns *items* as a list object."""
    ends = {"first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None}
    return json_reply({"object": "list", "data": list(items), **ends, "has_more": has_more})


def page(items: Sequence[Json], query: bytes) -> Plan:
    """Returns the page of *items* (oldest first) that *query* asks for, the latest first unless `order=asc`.

    :raises Refused: `limit` or `after` is not valid.
    """
    parameters = query_of(query)
    ordered = items[:: 1 if parameters.get("order") == "asc" else -1]
    limit = whole_number(parameters.get("limit", "20"))
    if not 1 <= limit <= 100:
        raise invalid("'limit' must be between 1 and 100.", "limit")
    ids = [item["id"] for item in ordered]
    if "after" in parameters and parameters["after"] not in ids:
        raise invalid("'after' names no item of this list.", "after")
    start = len(ids) - ids[::-1].index(parameters["after"]) if "after" in parameters else 0
    found = ordered[start : start + limit]
    return listed(found, has_more=start + len(found) < len(ordered))


MOST = 10_000
"""Conversations and responses that are remembered at a time; the oldest make room."""

MOST_ADDED = 20
"""Items that one request may add (API reference, "Create items")."""
MOST_METADATA = 16
"""Keys of `metadata` (API reference)."""


@dataclass
class Conversation:
    """Its items are in order, each with an id. *added* counts those that ever were in it."""

    id: str
    created_at: int
    metadata: Json
    items: list[Json]
    added: int = 0

    def shown(self) -> Plan:
        """Returns the conversation object."""
        about = {"created_at": self.created_at, "metadata": self.metadata}
        return json_reply({"id": self.id, "object": "conversation", **about})

    def add(self, items: Any) -> list[Json]:
        """Adds *items*, and returns them as they are listed."""
        prefix = f"msg_{self.id.removeprefix('conv_')}n{self.added:04x}i"
        new = [whole(item) for item in items_of(items, prefix)]
        self.added += len(new)
        self.items += new
        return new

    def find(self, item_id: str) -> Json:
        """Returns the item.

        :raises Refused: there is none; 404.
        """
        for item in self.items:
            if item["id"] == item_id:
                return item
        raise Refused(404, f"Item with id '{item_id}' not found.")


class Conversations:
    """The operations on conversations, on memory. *name* goes into every id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made = 0
        self.kept: dict[str, Conversation] = {}

    # {base}/conversations...

    def create(self, body: Mapping[str, Any]) -> Plan:
        """Returns a new conversation, with the first items and the metadata that *body* gives."""
        items, metadata = given_items(body, least=0), given_metadata(body)
        self.made += 1
        made = Conversation(f"conv_{self.name}{self.made:08x}", EPOCH + self.made, metadata, [])
        made.add(items)
        remember(self.kept, made.id, made)
        return made.shown()

    def find(self, id: str) -> Conversation:
        """Returns the conversation.

        :raises Refused: there is none; 404.
        """
        if id not in self.kept:
            raise Refused(404, f"Conversation with id '{id}' not found.")
        return self.kept[id]

    def named_in(self, body: Mapping[str, Any]) -> Conversation | None:
        """Returns the conversation that a request for a response goes on with, None where it names none.

        :raises Refused: there is no such conversation, or a previous response is named too.
        """
        named = body.get("conversation")
        if named is None:
            return None
        id = named.get("id") if isinstance(named, dict) else named
        if not isinstance(id, str):
            raise invalid("Invalid type for 'conversation'.", "conversation", "invalid_type")
        if body.get("previous_response_id") is not None:
            message = "'conversation' and 'previous_response_id' exclude each other."
            raise invalid(message, "conversation", "mutually_exclusive_parameters")
        return self.find(id)

    def answer(self, method: str, id: str, body: Mapping[str, Any]) -> Plan | None:
        """Returns the answer to a retrieval, update or deletion, or None for another method.

        :raises Refused: there is no such conversation, or the new metadata is missing.
        """
        conversation = self.find(id)
        if method == "DELETE":
            del self.kept[id]
            return json_reply({"id": id, "object": "conversation.deleted", "deleted": True})
        if method == "POST":
            if "metadata" not in body:
                raise missing("metadata")
            conversation.metadata = given_metadata(body)
        return conversation.shown() if method in ("GET", "POST") else None

    # {base}/conversations/{id}/items...

    def items(self, method: str, id: str, query: bytes, body: Mapping[str, Any]) -> Plan | None:
        """Returns the items listed or added, or None for another method."""
        conversation = self.find(id)
        if method == "POST":
            return listed(conversation.add(given_items(body, least=1)))
        return page(conversation.items, query) if method == "GET" else None

    def item(self, method: str, id: str, item_id: str) -> Plan | None:
        """Returns one item retrieved or deleted, or None for another method."""
        conversation = self.find(id)
        item = conversation.find(item_id)
        if method == "DELETE":
            conversation.items.remove(item)
            return conversation.shown()
        return json_reply(item) if method == "GET" else None


def whole(item: Json) -> Json:
    """Returns *item* as lists show it: with a type, a message with parts and a status."""
    if item.get("type", "message") != "message":
        return item
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return {"status": "completed", **item, "type": "message", "content": content}


def given_items(body: Mapping[str, Any], *, least: int) -> Sequence[Json]:
    """Returns the items that *body* brings, at least *least*.

    :raises Refused: they are too few, too many, or no list of objects.
    """
    items = body.get("items")
    if items is None and least == 0:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise invalid("Invalid type for 'items'.", "items", "invalid_type")
    if not least <= len(items) <= MOST_ADDED:
        raise invalid(f"'items' must hold {least} to {MOST_ADDED} items.", "items", "invalid_value")
    return items


def given_metadata(body: Mapping[str, Any]) -> Json:
    """Returns the metadata that *body* gives, or an empty object.

    :raises Refused: it is no object of at most 16 strings.
    """
    metadata = body.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise invalid("Invalid type for 'metadata'.", "metadata", "invalid_type")
    if len(metadata) > MOST_METADATA:
        raise invalid(f"'metadata' has at most {MOST_METADATA} keys.", "metadata", "invalid_value")
    return metadata


def remember(kept: dict[str, Any], id: str, value: object) -> None:
    """Puts *value* under *id*; the oldest make room."""
    kept[id] = value
    while len(kept) > MOST:
        del kept[next(iter(kept))]
