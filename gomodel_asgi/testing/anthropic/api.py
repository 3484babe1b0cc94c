"""Which operation of the Messages API a request asks for, by method and path, below any prefix; Vertex AI's too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ..api import Api, Settings, object_of, only, path_pattern
from ..model import Model, count
from ..plan import Plan
from ..responses.conversations import Refused, answered
from ..server import ReceivedRequest
from .prompts import prompt_of
from .rules import check
from .wire import AnthropicWire
from .writing import message

MESSAGES = path_pattern("/messages(?P<count>/count_tokens)?")
MODELS = path_pattern("/models(?:/(?P<id>[^:]+))?")
VERTEX = path_pattern(r"/models/(?P<model>[^/:]+):(?P<verb>rawPredict|streamRawPredict)")
VERSION = re.compile(r"vertex-\d{4}-\d{2}-\d{2}")


class AnthropicApi(Api):
    """The Messages API. It remembers nothing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.made = 0

    def wire(self, request: ReceivedRequest, request_id: str) -> AnthropicWire:
        return AnthropicWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        path = unquote(request.path)
        if match := MESSAGES.fullmatch(path):
            return self._messages(request, model, counts=match["count"] is not None)
        if match := VERTEX.fullmatch(path):
            return self._at_vertex(request, model, match["model"], match["verb"])
        if match := MODELS.fullmatch(path):
            return self._models(request, match["id"])
        raise Refused(404, "Not Found")

    def _messages(self, request: ReceivedRequest, model: Model, *, counts: bool) -> Plan:
        only("POST", request)
        if request.header("anthropic-version") is None:
            raise Refused(400, "anthropic-version: header is required")
        body = object_of(request)
        return self._answer(request, body, model, counts=counts, stream=body.get("stream") is True)

    def _at_vertex(self, request: ReceivedRequest, model: Model, name: str, verb: str) -> Plan:
        """There the path names the model, the body the version of the API."""
        only("POST", request)
        body = object_of(request)
        if not VERSION.fullmatch(str(body.pop("anthropic_version", None))):
            raise Refused(400, "anthropic_version: Field required")
        counts = name == "count-tokens"
        if not counts:
            if "model" in body:
                raise Refused(400, "model: Extra inputs are not permitted")
            body["model"] = name
        return self._answer(request, body, model, counts=counts, stream=verb == "streamRawPredict")

    def _answer(
        self, request: ReceivedRequest, body: Mapping[str, Any], model: Model, *, counts: bool, stream: bool
    ) -> Plan:
        check(body, betas=request.header("anthropic-beta") or "", counts=counts)
        if not self.settings.has(body["model"]):
            raise Refused(404, f"model: {body['model']}")
        prompt = prompt_of(body)
        if counts:
            return answered({"input_tokens": count(prompt)})
        self.made += 1
        return message(prompt, model(prompt), f"{self.settings.name}{self.made:08x}", stream=stream)

    def _models(self, request: ReceivedRequest, id: str | None) -> Plan:
        only("GET", request)
        about = {"type": "model", "created_at": "2026-02-28T00:00:00Z"}
        listed = [{**about, "id": name, "display_name": name} for name in self.settings.listed]
        if id is None:
            ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]}
            return answered({"data": listed, "has_more": False, **ends})
        if not self.settings.has(id):
            raise Refused(404, f"model: {id}")
        return answered({**listed[0], "id": id, "display_name": id})
