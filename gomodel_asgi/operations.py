"""The operations of the API, one row for each: what any other module knows of an operation it reads here.

A row cannot be written without saying where a request of its kind may name what somebody else owns: in its path, its
query, its body. That is what is looked up before an upstream sees it, and what the tests walk.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

Operation = Literal[
    "create", "retrieve", "delete", "cancel", "input_items", "compact", "input_tokens", "connect", "steer", "models",
    "conversation_create", "conversation_retrieve", "conversation_update", "conversation_delete",
    "conversation_items", "conversation_items_create", "conversation_item", "conversation_item_delete",
]  # fmt: skip

Owned = Literal["response", "conversation"]

PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Body(Struct, frozen=True, kw_only=True):
    """Where ids may stand in a body.

    *members* name a response or a conversation, *nested* (a path) a response, the elements of *items* stored items.
    """

    members: tuple[str, ...]
    nested: tuple[tuple[str, str], ...]
    items: tuple[str, ...]


BODY = Body(
    members=("previous_response_id", "conversation"),
    nested=(("prompt_cache_options", "comparison_response_id"),),
    items=("input", "items"),
)
"""Of every body alike: an upstream may understand what the operation does not know."""

CURSORS = ("after", "before")
"""Members of a query that name an item of the list."""


class Row(Struct, frozen=True, kw_only=True):
    """One operation: *method* and *path* below the prefix; the method of what a WebSocket carries is `WEBSOCKET`.

    *path_names* is what the first id of the path names, *query* the members of the query that name items, *body* where
    ids may stand in the body (None: it has none). *gives* is what a reply gives the caller a new one of. *continues*
    says that the request may go on with what was said before, which can be sent along; *falls_back* that another
    upstream may be asked instead; *upstream* that a native upstream has the operation at the same path; *works* that it
    counts in its tenant's concurrency at upstreams: the others are short, and may have to end such work; *billed* that
    the usage in its reply is new: a response that is only looked at has been paid for.
    """

    operation: Operation
    method: str
    path: str
    path_names: Owned | None
    query: tuple[str, ...]
    body: Body | None
    gives: Owned | Literal["items"] | None
    continues: bool
    falls_back: bool
    upstream: bool
    works: bool
    billed: bool

    def __post_init__(self) -> None:
        """Checks that the row says what its ids name, where its path has some.

        :raises ValueError: it does not.
        """
        if bool(self.placeholders and self.upstream) is not (self.path_names is not None):
            raise ValueError(f"{self.operation}: say what the ids in {self.path} name.")

    @property
    def placeholders(self) -> list[str]:
        """The names of the ids in the path, in order."""
        return PLACEHOLDER.findall(self.path)


RESPONSE = "/responses/{response_id}"
CONVERSATION = "/conversations/{conversation_id}"
ITEM = CONVERSATION + "/items/{item_id}"

TABLE = (
    Row(
        operation="create", method="POST", path="/responses", path_names=None, query=(), body=BODY,
        gives="response", continues=True, falls_back=True, upstream=True, works=True, billed=True,
    ),
    Row(
        operation="compact", method="POST", path="/responses/compact", path_names=None, query=(), body=BODY,
        gives=None, continues=True, falls_back=True, upstream=True, works=True, billed=True,
    ),
    Row(
        operation="input_tokens", method="POST", path="/responses/input_tokens", path_names=None, query=(), body=BODY,
        gives=None, continues=True, falls_back=True, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="retrieve", method="GET", path=RESPONSE, path_names="response", query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="delete", method="DELETE", path=RESPONSE, path_names="response", query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="cancel", method="POST", path=RESPONSE + "/cancel", path_names="response", query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="input_items", method="GET", path=RESPONSE + "/input_items", path_names="response", query=CURSORS,
        body=None, gives="items", continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="models", method="GET", path="/models", path_names=None, query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=False, works=False, billed=False,
    ),
    Row(
        operation="models", method="GET", path="/models/{model}", path_names=None, query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=False, works=False, billed=False,
    ),
    Row(
        operation="conversation_create", method="POST", path="/conversations", path_names=None, query=(), body=BODY,
        gives="conversation", continues=False, falls_back=True, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="conversation_retrieve", method="GET", path=CONVERSATION, path_names="conversation", query=(),
        body=None, gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="conversation_update", method="POST", path=CONVERSATION, path_names="conversation", query=(),
        body=BODY, gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="conversation_delete", method="DELETE", path=CONVERSATION, path_names="conversation", query=(),
        body=None, gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="conversation_items", method="GET", path=CONVERSATION + "/items", path_names="conversation",
        query=CURSORS, body=None, gives="items", continues=False, falls_back=False, upstream=True, works=False,
        billed=False,
    ),
    Row(
        operation="conversation_items_create", method="POST", path=CONVERSATION + "/items", path_names="conversation",
        query=(), body=BODY, gives="items", continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="conversation_item", method="GET", path=ITEM, path_names="conversation", query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="conversation_item_delete", method="DELETE", path=ITEM, path_names="conversation", query=(),
        body=None, gives=None, continues=False, falls_back=False, upstream=True, works=False, billed=False,
    ),
    Row(
        operation="connect", method="WEBSOCKET", path="/responses", path_names=None, query=(), body=None,
        gives=None, continues=False, falls_back=False, upstream=False, works=False, billed=False,
    ),
    Row(
        operation="steer", method="WEBSOCKET", path="response.steer", path_names=None, query=(), body=BODY,
        gives=None, continues=False, falls_back=False, upstream=False, works=False, billed=False,
    ),
)  # fmt: skip

ROWS = {row.operation: row for row in reversed(TABLE)}
"""By operation; of one with several paths the first."""

FRAMES = {"response.create": ROWS["create"], "response.steer": ROWS["steer"]}
"""What a client may send on a WebSocket, by the type of the frame."""


BY_ID = frozenset(row.operation for row in TABLE if row.path_names == "response")
CONVERSATIONS = frozenset(row.operation for row in TABLE if row.path.startswith("/conversations"))
CONTINUING = frozenset(row.operation for row in TABLE if row.continues)
SHOWING = BY_ID | CONVERSATIONS
"""Those that show what is kept."""
BODIED = frozenset(row.operation for row in TABLE if row.body is not None)
BILLED = frozenset(row.operation for row in TABLE if row.billed)
ANSWERED_HERE = frozenset(row.operation for row in TABLE if not row.upstream)
"""Those that go to no upstream: the policy's Target is not used."""
