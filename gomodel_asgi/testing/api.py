"""Which operation of a fake provider a request asks for, by method and path, below any prefix."""

from __future__ import annotations

import re
from typing import Any

from .conversations import Conversations
from .journal import ReceivedRequest
from .lifecycle import Lifecycle
from .plan import Plan
from .refusals import Refused
from .replies import Answer

RESPONSES = re.compile(r".*/responses(?:/(?P<id>[^/]+)(?:/(?P<action>[^/]+))?)?")
CONVERSATIONS = re.compile(r".*/conversations(?:/(?P<id>[^/]+)(?P<items>/items(?:/(?P<item>[^/]+))?)?)?")


class Api:
    """The Responses API on memory. *name* goes into every id."""

    def __init__(self, name: str) -> None:
        self.conversations = Conversations(name)
        self.lifecycle = Lifecycle(name, self.conversations)

    def answer(self, request: ReceivedRequest, answer: Answer | None) -> Plan:
        """The reply; the model says *answer* where it is asked for one (None: what it would say anyway).

        :raises Refused: there is no such operation, or it cannot be done.
        """
        if (match := RESPONSES.fullmatch(request.path)) is not None:
            plan = self._responses(request, match["id"], match["action"], answer)
        elif (match := CONVERSATIONS.fullmatch(request.path)) is not None:
            plan = self._conversations(request, match["id"], match["items"], match["item"])
        else:
            plan = None
        if plan is None:
            raise Refused(404, f"Invalid URL ({request.method} {request.path})")
        return plan

    def _responses(
        self, request: ReceivedRequest, id: str | None, action: str | None, answer: Answer | None
    ) -> Plan | None:
        lifecycle = self.lifecycle
        if id is None:
            _only_post(request)
            return lifecycle.create(_object(request), answer)
        match request.method, id, action:
            case "POST", "compact", None:
                return lifecycle.compact(_object(request))
            case "POST", "input_tokens", None:
                return lifecycle.input_tokens(_object(request))
            case "GET", _, None:
                return lifecycle.retrieve(id, request.query)
            case "DELETE", _, None:
                return lifecycle.delete(id)
            case "POST", _, "cancel":
                return lifecycle.cancel(id)
            case "GET", _, "input_items":
                return lifecycle.input_items(id, request.query)
        return None

    def _conversations(
        self, request: ReceivedRequest, id: str | None, items: str | None, item: str | None
    ) -> Plan | None:
        if id is None:
            _only_post(request)
            return self.conversations.create(_object(request, optional=True))
        if item is not None:
            return self.conversations.item(request.method, id, item)
        body = _object(request) if request.method == "POST" else {}
        if items is not None:
            return self.conversations.items(request.method, id, request.query, body)
        return self.conversations.answer(request.method, id, body)


def _only_post(request: ReceivedRequest) -> None:
    if request.method != "POST":
        raise Refused(405, f"Not allowed to {request.method} on {request.path}.")


def _object(request: ReceivedRequest, *, optional: bool = False) -> dict[str, Any]:
    if optional and not request.body:
        return {}
    try:
        body = request.json()
    except ValueError as exc:
        raise Refused(400, "We could not parse the JSON body of your request.") from exc
    if not isinstance(body, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    return body
