"""Which operation of the chat API a request asks for, by method and path, below any prefix."""

from __future__ import annotations

from ..api import Api, Settings, check_model, no_such_path, object_of, only, openai_models, path_pattern
from ..journal import ReceivedRequest
from ..model import Model
from ..plan import Plan
from ..refusals import answered
from .prompts import prompt_of
from .rules import check
from .wire import ChatWire
from .writing import completion

COMPLETIONS = path_pattern("/chat/completions")
MODELS = path_pattern("/models(?:/(?P<id>.+))?")


class ChatApi(Api):
    """Chat Completions. It remembers nothing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.made = 0

    def wire(self, request: ReceivedRequest, request_id: str) -> ChatWire:
        return ChatWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        if COMPLETIONS.fullmatch(request.path):
            return self._complete(request, model)
        if match := MODELS.fullmatch(request.path):
            return answered(openai_models(self.settings, request, match["id"]))
        raise no_such_path(request)

    def _complete(self, request: ReceivedRequest, model: Model) -> Plan:
        only("POST", request)
        body = object_of(request)
        check(body, self.settings)
        check_model(self.settings, body["model"])
        self.made += 1
        prompt = prompt_of(body)
        return completion(prompt, model(prompt), self.made, f"{self.settings.name}{self.made:08x}")
