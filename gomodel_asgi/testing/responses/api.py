"""Which operation of the Responses API a request asks for, by method and path, below any prefix."""

from __future__ import annotations

from ..api import Api, Settings, check_model, no_such_path, object_of, only, openai_models, path_pattern
from ..model import Model
from ..plan import Plan
from ..server import ReceivedRequest
from ..wire import ResponsesWire
from .conversations import Conversations, answered
from .lifecycle import Lifecycle
from .rules import check_request

RESPONSES = path_pattern("/responses(?:/(?P<id>[^/]+)(?:/(?P<action>[^/]+))?)?")
CONVERSATIONS = path_pattern("/conversations(?:/(?P<id>[^/]+)(?P<items>/items(?:/(?P<item>[^/]+))?)?)?")
MODELS = path_pattern("/models(?:/(?P<id>.+))?")


class ResponsesApi(Api):
    """The whole Responses API."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.conversations = Conversations(settings.name)
        self.lifecycle = Lifecycle(settings.name, self.conversations)

    def wire(self, request: ReceivedRequest, request_id: str) -> ResponsesWire:
        return ResponsesWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        if (match := RESPONSES.fullmatch(request.path)) is not None:
            plan = self._responses(request, match["id"], match["action"], model)
        elif (match := CONVERSATIONS.fullmatch(request.path)) is not None:
            plan = self._conversations(request, match["id"], match["items"], match["item"])
        elif (match := MODELS.fullmatch(request.path)) is not None:
            plan = answered(openai_models(self.settings, request, match["id"]))
        else:
            plan = None
        if plan is None:
            raise no_such_path(request)
        return plan

    def _responses(self, request: ReceivedRequest, id: str | None, action: str | None, model: Model) -> Plan | None:
        lifecycle = self.lifecycle
        if id is None:
            only("POST", request)
            body = object_of(request)
            check_request(body)
            check_model(self.settings, body["model"])
            return lifecycle.create(body, model, strict=self.settings.strict)
        match request.method, id, action:
            case "POST", "compact", None:
                return lifecycle.compact(object_of(request))
            case "POST", "input_tokens", None:
                return lifecycle.input_tokens(object_of(request))
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
            only("POST", request)
            return self.conversations.create(object_of(request, optional=True))
        if item is not None:
            return self.conversations.item(request.method, id, item)
        body = object_of(request) if request.method == "POST" else {}
        if items is not None:
            return self.conversations.items(request.method, id, request.query, body)
        return self.conversations.answer(request.method, id, body)
