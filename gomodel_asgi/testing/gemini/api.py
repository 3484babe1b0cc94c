"""Which operation of the Gemini API a request asks for, by method and path, below any prefix; Vertex AI's too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from ..api import Api, Settings, object_of, only, path_pattern
from ..model import Model, count
from ..plan import Plan
from ..responses.conversations import Refused, answered
from ..server import ReceivedRequest
from .rules import check
from .wire import GeminiWire, normal, prompt_of
from .writing import JSON, generated

GENERATE = path_pattern(r"/(?:models|tunedModels)/(?P<model>[^/:]+):(?P<verb>\w+)")
MODELS = path_pattern("/models(?:/(?P<id>[^/:]+))?")
STREAM = "streamGenerateContent"


class GeminiApi(Api):
    """Models that generate content. It remembers nothing."""

    root = "/v1beta"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.made = 0

    def wire(self, request: ReceivedRequest, request_id: str) -> GeminiWire:
        return GeminiWire(unquote(request.path).endswith(":" + STREAM))

    def key(self, request: ReceivedRequest) -> str:
        query = parse_qs(request.query.decode("latin-1")).get("key", [""])
        bearer = (request.header("authorization") or "").removeprefix("Bearer ")
        return request.header("x-goog-api-key") or bearer or query[0]

    def wrong_key(self, given: str) -> Refused:
        """A key that is wrong is an argument that is wrong here; one that is missing, a caller without permission."""
        if not given:
            return Refused(403, "Method doesn't allow unregistered callers (callers without established identity).")
        return Refused(400, f"API key not valid. Please pass a valid API key: {given}.", code="API_KEY_INVALID")

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        path = unquote(request.path)
        if match := GENERATE.fullmatch(path):
            only("POST", request)
            return self._generate(request, match["model"], match["verb"], model)
        if match := MODELS.fullmatch(path):
            return self._models(request, match["id"])
        raise Refused(404, f"Requested entity was not found: {request.method} {request.path}")

    def _generate(self, request: ReceivedRequest, name: str, verb: str, model: Model) -> Plan:
        self._find(name, verb)
        public = "/publishers/" not in request.path
        body = normal(object_of(request))
        if verb == "countTokens":
            body = counted(body)
            check(name, body, public=public)
            tokens = count(prompt_of(name, body))
            details = [{"modality": "TEXT", "tokenCount": tokens}]
            return answered({"totalTokens": tokens, "promptTokensDetails": details}, JSON)
        if verb not in ("generateContent", STREAM):
            raise Refused(404, f"models/{name} is not supported for {verb}.")
        check(name, body, public=public)
        self.made += 1
        prompt = prompt_of(name, body)
        sse = b"alt=sse" in request.query.split(b"&") or verb != STREAM
        suffix = f"{self.settings.name}{self.made:06x}"
        return generated(prompt, model(prompt), suffix, stream=verb == STREAM, sse=sse)

    def _find(self, name: str, verb: str) -> None:
        if not self.settings.has(name):
            raise Refused(
                404,
                f"models/{name} is not found for API version v1beta, or is not supported for {verb}. Call ListModels to"
                " see the list of available models and their supported methods.",
            )

    def _models(self, request: ReceivedRequest, id: str | None) -> Plan:
        only("GET", request)
        if id is not None:
            self._find(id, "generateContent")
            return answered(described(id), JSON)
        return answered({"models": [described(name) for name in self.settings.listed]}, JSON)


def described(name: str) -> Mapping[str, Any]:
    """One entry of the list of models."""
    limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
    methods = ["generateContent", "countTokens"]
    about = {"name": f"models/{name}", "version": "001", "displayName": name}
    return {**about, **limits, "supportedGenerationMethods": methods}


def counted(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is to be counted: contents, or a whole request.

    :raises Refused: both are there.
    """
    whole = body.get("generateContentRequest")
    if whole is None:
        return body
    if body.get("contents"):
        raise Refused(400, "contents and generate_content_request are mutually exclusive.")
    return {name: member for name, member in whole.items() if name != "model"}
