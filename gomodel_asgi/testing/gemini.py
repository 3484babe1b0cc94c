"""The Gemini API, Vertex AI's too: its operations by method and path, below any prefix, and how each is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from .api import Api, Refused, invalid, object_of, page_asked, path_pattern, require_method
from .gemini_prompt import normal, prompt_of, signature_of, signs
from .gemini_rules import check
from .model import Model, Prompt, Speech, as_function, count, speech_of
from .plan import Answer, Headers, Plan, chunked, either, json_reply
from .received import ReceivedRequest
from .wire import GeminiWire, Json

# What the model says, as a GenerateContentResponse and as a stream of them (Gemini API, "Generating content").


JSON: Headers = ((b"content-type", b"application/json; charset=UTF-8"),)
EVENTS: Headers = ((b"content-type", b"text/event-stream"),)
REASONS: Mapping[str, str] = {"max_output_tokens": "MAX_TOKENS", "content_filter": "SAFETY"}
CALLED = "Model generated function call(s)."


def generated(prompt: Prompt, answer: Answer, suffix: str, *, stream: bool, sse: bool) -> Plan:
    """Returns the reply, as a stream or whole; *suffix* goes into its ids. A stream without *sse* is one JSON list."""
    writer = Writer(prompt, answer, suffix)
    value, chunks = writer.whole(), list(writer.chunks())
    events = chunked(200, EVENTS, map(GeminiWire.event, chunks), value)
    many = events if sse else chunked(200, JSON, as_list(chunks), value)
    return either(json_reply(value, JSON), many, stream=stream)


def as_list(chunks: list[Json]) -> Iterator[bytes]:
    """Yields *chunks* as the pieces of one JSON list."""
    for number, chunk in enumerate(chunks):
        end = b"]\r\n" if number == len(chunks) - 1 else b""
        yield (b"," if number else b"[") + json.dumps(chunk).encode() + end


class Writer:
    """Writes one answer in both forms."""

    def __init__(self, prompt: Prompt, answer: Answer, suffix: str) -> None:
        self.prompt = prompt
        self.speech: Speech = speech_of(prompt, answer)
        self.suffix = suffix
        self.malformed: str | None = None
        self.calls = list(self.function_calls())
        self.about: Json = {"modelVersion": prompt.model, "responseId": f"fake-{suffix}"}

    # The parts...

    def function_calls(self) -> Iterator[Json]:
        """Yields a part for each call. Arguments come as an object: what is none ends the answer as malformed."""
        for number, call in enumerate(self.speech.calls):
            try:
                arguments = json.loads(as_function(self.prompt, call))
            except ValueError:
                arguments = None
            if not isinstance(arguments, dict):
                self.malformed = f"Malformed function call: call:{call.name}{call.text()}"
                return
            value: Json = {"name": call.name, "args": arguments}
            if call.call_id or signs(self.prompt.model):
                value["id"] = call.call_id or f"{self.suffix}{number:02x}"
            yield {"functionCall": value, **(self.signed("call") if number == 0 else {})}

    def signed(self, mark: str) -> Json:
        """Returns the signature of a part; older models sign what they have thought about only."""
        wanted = signs(self.prompt.model) or self.speech.thought
        return {"thoughtSignature": signature_of(self.suffix + mark)} if wanted else {}

    @property
    def thought(self) -> list[str]:
        """The thinking that the reply shows: none, unless the request includes it."""
        config = (self.prompt.body.get("generationConfig") or {}).get("thinkingConfig") or {}
        return list(self.speech.thought) if config.get("includeThoughts") else []

    @property
    def ending(self) -> Json:
        """Why the answer ends."""
        incomplete = self.speech.incomplete
        if self.malformed is not None:
            return {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": self.malformed}
        if self.speech.refusal:
            return {"finishReason": "SAFETY", "finishMessage": "".join(self.speech.refusal)}
        if incomplete is not None:
            return {"finishReason": REASONS.get(incomplete, incomplete)}
        return {"finishReason": "STOP", **({"finishMessage": CALLED} if self.calls else {})}

    def usage(self, output: int) -> Json:
        """Returns the counts so far: thoughts apart from the answer, cached tokens among those of the prompt."""
        speech = self.speech
        counts = {
            "promptTokenCount": speech.input,
            "candidatesTokenCount": output,
            "totalTokenCount": speech.input + output + speech.reasoning,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": speech.input}],
            "cachedContentTokenCount": speech.cached,
            "thoughtsTokenCount": speech.reasoning,
            "serviceTier": "standard",
        }
        return {name: value for name, value in counts.items() if value != 0}

    # In one piece...

    def whole(self) -> Json:
        """Returns the answer as one GenerateContentResponse."""
        parts: list[Json] = [{"text": "".join(self.thought), "thought": True}] if self.thought else []
        if self.speech.text:
            signed = {} if self.calls else self.signed("text")
            parts.append({"text": "".join(self.speech.text), **signed})
        parts += self.calls
        content = {"role": "model", **({"parts": parts} if parts else {})}
        candidate = {"content": content, **self.ending, "index": 0}
        return {"candidates": [candidate], "usageMetadata": self.usage(self.output), **self.about}

    @property
    def output(self) -> int:
        """Tokens of the answer, thoughts not counted."""
        return self.speech.output - self.speech.reasoning

    # In chunks...

    def chunks(self) -> Iterator[Json]:
        """Yields the answer as the responses of a stream."""
        parts = list(self.streamed())
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            ending = self.ending if last else {}
            content = {"role": "model", **({"parts": [part]} if part else {})}
            usage = self.usage(self.output if last else min(number + 1, self.output))
            yield {"candidates": [{"content": content, **ending, "index": 0}], "usageMetadata": usage, **self.about}

    def streamed(self) -> Iterator[Json]:
        """Yields the parts, bit by bit; the signature of a text stands on an empty one at its end."""
        for word in self.thought:
            yield {"text": word, "thought": True}
        for word in self.speech.text:
            yield {"text": word}
        yield from self.calls
        signed = self.signed("text") if self.speech.text and not self.calls else {}
        if signed:
            yield {"text": "", **signed}
        elif not self.speech.text and not self.calls:
            yield {}


# The operations.


GENERATE = path_pattern(r"/(?:models|tunedModels)/(?P<model>[^/:]+):(?P<verb>\w+)")
MODELS = path_pattern("/models(?:/(?P<id>[^/:]+))?")
STREAM = "streamGenerateContent"


class GeminiApi(Api):
    """Models that generate content. It remembers nothing."""

    root = "/v1beta"

    def wire(self, request: ReceivedRequest, request_id: str) -> GeminiWire:
        """See `Api.wire`."""
        return GeminiWire(unquote(request.path).endswith(":" + STREAM))

    def key(self, request: ReceivedRequest) -> str:
        """Returns the key of the header, the bearer token or the query; see `Api.key`."""
        query = parse_qs(request.query.decode("latin-1")).get("key", [""])
        bearer = (request.header("authorization") or "").removeprefix("Bearer ")
        return request.header("x-goog-api-key") or bearer or query[0]

    def wrong_key(self, given: str) -> Refused:
        """Returns the refusal of a key: 403 for one that is missing, 400 for a wrong one, which is an argument here."""
        if not given:
            return Refused(403, "Method doesn't allow unregistered callers (callers without established identity).")
        return Refused(400, f"API key not valid. Please pass a valid API key: {given}.", code="API_KEY_INVALID")

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        """See `Api.answer`.

        :raises Refused: the request breaks a rule, or the path is not this API's.
        """
        path = unquote(request.path)
        if match := GENERATE.fullmatch(path):
            require_method("POST", request)
            return self._generate(request, match["model"], match["verb"], model)
        if match := MODELS.fullmatch(path):
            return self._models(request, match["id"])
        raise Refused(404, f"Requested entity was not found: {request.method} {request.path}")

    def _generate(self, request: ReceivedRequest, name: str, verb: str, model: Model) -> Plan:
        """Answers a call of the method *verb* of a model.

        :raises Refused: models have no such method.
        """
        self._find(name, verb)
        public = "/publishers/" not in request.path
        body = normal(object_of(request))
        if verb == "countTokens":
            body = counted(body)
            check(name, body, public=public)
            tokens = count(prompt_of(name, body))
            details = [{"modality": "TEXT", "tokenCount": tokens}]
            return json_reply({"totalTokens": tokens, "promptTokensDetails": details}, JSON)
        if verb not in ("generateContent", STREAM):
            raise Refused(404, f"models/{name} is not supported for {verb}.")
        check(name, body, public=public)
        self.made += 1
        prompt = prompt_of(name, body)
        sse = b"alt=sse" in request.query.split(b"&") or verb != STREAM
        suffix = f"{self.settings.name}{self.made:06x}"
        return generated(prompt, model(prompt), suffix, stream=verb == STREAM, sse=sse)

    def _find(self, name: str, verb: str) -> None:
        """Checks that there is a model of this name.

        :raises Refused: there is none.
        """
        if not self.settings.has(name):
            raise Refused(
                404,
                f"models/{name} is not found for API version v1beta, or is not supported for {verb}. Call ListModels to"
                " see the list of available models and their supported methods.",
            )

    def _models(self, request: ReceivedRequest, id: str | None) -> Plan:
        require_method("GET", request)
        if id is not None:
            self._find(id, "generateContent")
            return json_reply(described(id), JSON)
        return json_reply(self._page(request), JSON)

    def _page(self, request: ReceivedRequest) -> Json:
        """Returns the requested page of the list (Gemini API, "models.list").

        :raises Refused: there is no such page.
        """
        size, query = page_asked(request, "pageSize", 50, 1000)
        names, token = self.settings.listed, query.get("pageToken", "after-0")
        start = token.removeprefix("after-")
        if start == token or not start.isascii() or not start.isdigit():
            raise invalid("Page token is invalid.")
        end = int(start) + size
        more = {"nextPageToken": f"after-{end}"} if end < len(names) else {}
        return {"models": [described(name) for name in names[int(start) : end]], **more}


def described(name: str) -> Mapping[str, Any]:
    """Returns one entry of the list of models."""
    limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
    methods = ["generateContent", "countTokens"]
    about = {"name": f"models/{name}", "version": "001", "displayName": name}
    return {**about, **limits, "supportedGenerationMethods": methods}


def counted(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the request whose tokens are counted: the contents, or a whole request in `generateContentRequest`.

    :raises Refused: both are there.
    """
    whole = body.get("generateContentRequest")
    if whole is None:
        return body
    if body.get("contents"):
        raise invalid("contents and generate_content_request are mutually exclusive.")
    return {name: member for name, member in whole.items() if name != "model"}
