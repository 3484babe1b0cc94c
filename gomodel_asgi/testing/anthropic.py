"""The Messages API, Vertex AI's too: its operations by method and path, below any prefix, and how each is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from .anthropic_limits import hides_thinking, triggers
from .anthropic_rules import blocks_of, check, signature_of
from .api import Api, Refused, invalid, object_of, page_asked, path_pattern, require_method
from .model import Message, Model, Prompt, Speech, Tool, as_function, count, objects, pieces, speech_of
from .plan import STREAM, Answer, Plan, Unplayable, chunked, either, json_reply
from .received import ReceivedRequest
from .wire import AnthropicWire, Json

# What the model says, as a message and as its events (Anthropic, API reference, "Messages" and "Streaming").


REASONS: Mapping[str, str] = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
UNCACHED = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}


def message(prompt: Prompt, answer: Answer, suffix: str, *, stream: bool) -> Plan:
    """Returns the reply, as events or whole; *suffix* goes into its ids."""
    writer = Writer(prompt, answer, suffix)
    try:
        value = writer.whole()
    except Unplayable:  # arguments that are no object can be streamed all the same
        if not stream:
            raise
        return chunked(200, STREAM, map(AnthropicWire.event, writer.events()))
    events = chunked(200, STREAM, map(AnthropicWire.event, writer.events()), value)
    return either(json_reply(value), events, stream=stream)


class Writer:
    """Writes one answer in both forms."""

    def __init__(self, prompt: Prompt, answer: Answer, suffix: str) -> None:
        self.prompt = prompt
        self.speech: Speech = speech_of(prompt, answer)
        self.about: Json = {"model": prompt.model, "id": f"msg_{suffix}", "type": "message", "role": "assistant"}
        self.suffix = suffix

    # The parts...

    @property
    def thought(self) -> list[str]:
        """The words of the thinking block: none where the model keeps them to itself."""
        thinking = self.prompt.body.get("thinking") or {}
        hidden = hides_thinking(self.prompt.model) and thinking.get("display") != "summarized"
        return [] if hidden else list(self.speech.thought)

    @property
    def summary(self) -> str:
        """The conversation so far as text, if the request asks for one of this length to be compacted; else empty."""
        if not any(trigger <= self.speech.input for trigger in triggers(self.prompt.body)):
            return ""
        return "\n".join(message.text for message in self.prompt.messages)

    @property
    def uses(self) -> Iterator[tuple[Json, str]]:
        """Each call as a block without input, and its input as text."""
        for number, call in enumerate(self.speech.calls):
            block = {"type": "tool_use", "id": call.call_id or f"toolu_{self.suffix}{number:02x}", "name": call.name}
            yield {**block, "input": {}, "caller": {"type": "direct"}}, as_function(self.prompt, call)

    @property
    def ending(self) -> Json:
        """The members that give the reason for the end of the answer."""
        incomplete = self.speech.incomplete
        reason = REASONS.get(incomplete, incomplete) if incomplete else "tool_use" if self.speech.calls else "end_turn"
        reason = "refusal" if self.speech.refusal else reason
        details = {"type": "refusal", "category": None, "explanation": "".join(self.speech.refusal) or None}
        stopped = details if reason == "refusal" else None
        return {"stop_reason": reason, "stop_sequence": None, "stop_details": stopped}

    @property
    def input_usage(self) -> Json:
        """Cached tokens are counted apart from the others."""
        speech = self.speech
        tokens = {"input_tokens": speech.input - speech.cached, "cache_creation_input_tokens": 0}
        return {**tokens, "cache_read_input_tokens": speech.cached}

    @property
    def output_usage(self) -> Json:
        """The usage members that count the answer, and a compaction before it."""
        thinking = {"thinking_tokens": self.speech.reasoning}
        usage = {"output_tokens": self.speech.output, "output_tokens_details": thinking}
        if not self.summary:
            return usage
        # What compacting cost stands beside the usage of the answer, and only here.
        compaction = {"type": "compaction", "input_tokens": self.speech.input, "output_tokens": 1}
        return {**usage, "iterations": [compaction, {"type": "message", **self.input_usage, **usage}]}

    # In one piece...

    def whole(self) -> Json:
        """Returns the answer as one message.

        :raises Unplayable: a call's arguments are no object.
        """
        blocks: list[Json] = [{"type": "compaction", "content": self.summary}] if self.summary else []
        if self.speech.thought:
            thought = "".join(self.thought)
            blocks.append({"type": "thinking", "thinking": thought, "signature": signature_of(thought)})
        if self.speech.text:
            blocks.append({"type": "text", "text": "".join(self.speech.text)})
        blocks += [{**block, "input": tool_input(text)} for block, text in self.uses]
        served = {"cache_creation": UNCACHED, "service_tier": "standard", "inference_geo": "global"}
        usage = {**self.input_usage, **self.output_usage, **served}
        return {**self.about, "content": blocks, **self.ending, "usage": usage}

    # In events...

    def events(self) -> Iterator[Json]:
        """Yields the answer as the events of a stream."""
        begun: Json = {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
        served = {"cache_creation": UNCACHED, "output_tokens": 1, "service_tier": "standard", "inference_geo": "global"}
        usage = {**self.input_usage, **served}
        yield {"type": "message_start", "message": {**self.about, **begun, "usage": usage}}
        for index, (block, deltas) in enumerate(self.blocks()):
            yield {"type": "content_block_start", "index": index, "content_block": block}
            if index == 0:
                yield {"type": "ping"}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        yield {"type": "message_delta", "delta": self.ending, "usage": {**self.input_usage, **self.output_usage}}
        yield {"type": "message_stop"}

    def blocks(self) -> Iterator[tuple[Json, list[Json]]]:
        """Yields each block as it begins, and its deltas."""
        if self.summary:
            yield {"type": "compaction", "content": None}, [{"type": "compaction_delta", "content": self.summary}]
        if self.speech.thought:
            words = self.thought
            deltas: list[Json] = [{"type": "thinking_delta", "thinking": word} for word in words]
            signed = {"type": "signature_delta", "signature": signature_of("".join(words))}
            yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
        if self.speech.text:
            yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in self.speech.text]
        for block, text in self.uses:
            parts = ["", *pieces("" if text == "{}" else text)]
            yield block, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def tool_input(text: str) -> Any:
    """Returns the input of a whole block.

    :raises Unplayable: it is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unplayable(f"the Messages API can say the arguments {text!r} in a stream only")
    return value


# Messages of the Messages API as a prompt.


def prompt_of(body: Mapping[str, Any]) -> Prompt:
    """Returns the prompt of *body*, which keeps the rules."""
    tools = tuple(tools_of(body))
    return Prompt(
        model=str(body.get("model")),
        instructions=text_of(body.get("system")),
        messages=tuple(messages_of(objects(body, "messages"))),
        tools=tools,
        demanded=tuple(demanded(body.get("tool_choice"), tools)),
        schema=schema_of(body.get("output_config")),
        thinks=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        max_output_tokens=body.get("max_tokens"),
        body=body,
    )


def text_of(content: Any) -> str:
    """Returns the texts of a content, joined."""
    return " ".join(str(block["text"]) for block in blocks_of(content) if block.get("type") == "text")


def messages_of(messages: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    """Yields each thought, text, call and output; the texts and media of one message are one."""
    names: dict[Any, str] = {}
    for message in messages:
        blocks = blocks_of(message["content"])
        for block in blocks:
            if block["type"] == "tool_result":
                id = block["tool_use_id"]
                media = tuple(media_of(block.get("content")))
                yield Message("tool", text_of(block.get("content")), media=media, name=names.get(id), call_id=id)
            elif block["type"] == "compaction":
                yield Message("system", str(block.get("content") or ""))
            elif block["type"] == "thinking":
                yield Message("assistant", block["thinking"], reasoning=True)
        text, media = text_of(blocks), tuple(media_of(blocks))
        if text or media:
            yield Message(message["role"], text, media=media)
        for block in blocks:
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
                text = json.dumps(block["input"], ensure_ascii=False)
                yield Message("assistant", text, name=block["name"], call_id=block["id"])


def media_of(content: Any) -> Iterator[str]:
    """Yields the images and documents in a content."""
    for block in blocks_of(content):
        source = block.get("source")
        if block.get("type") not in ("image", "document") or not isinstance(source, Mapping):
            continue
        if source.get("type") == "base64":
            yield f"data:{source['media_type']};base64,{source['data']}"
        else:
            yield str(source.get("url") or source.get("file_id") or source.get("data"))


def tools_of(body: Mapping[str, Any]) -> Iterator[Tool]:
    """Yields the client's own tools; those that the provider would run are none."""
    for tool in objects(body, "tools"):
        if tool.get("type") in (None, "custom"):
            yield Tool(tool["name"], tool["input_schema"])


def demanded(choice: Any, tools: Sequence[Tool]) -> list[str]:
    """Returns the names of which `tool_choice` demands one."""
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "any":
        return [tool.name for tool in tools]
    return [choice["name"]] if kind == "tool" else []


def schema_of(config: Any) -> Mapping[str, Any] | None:
    """Returns the schema that `output_config.format` gives."""
    form = config.get("format") if isinstance(config, Mapping) else None
    return form["schema"] if isinstance(form, Mapping) else None


# The operations.


MESSAGES = path_pattern("/messages(?P<count>/count_tokens)?")
MODELS = path_pattern("/models(?:/(?P<id>[^:]+))?")
VERTEX = path_pattern(r"/models/(?P<model>[^/:]+):(?P<verb>rawPredict|streamRawPredict)")
VERSION = re.compile(r"vertex-\d{4}-\d{2}-\d{2}")


class AnthropicApi(Api):
    """The Messages API. It remembers nothing."""

    def wire(self, request: ReceivedRequest, request_id: str) -> AnthropicWire:
        """See `Api.wire`."""
        return AnthropicWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        """See `Api.answer`.

        :raises Refused: the request breaks a rule, or the path is not this API's.
        """
        path = unquote(request.path)
        if match := MESSAGES.fullmatch(path):
            return self._messages(request, model, counts=match["count"] is not None)
        if match := VERTEX.fullmatch(path):
            return self._at_vertex(request, model, match["model"], match["verb"])
        if match := MODELS.fullmatch(path):
            return self._models(request, match["id"])
        raise Refused(404, "Not Found")

    def _messages(self, request: ReceivedRequest, model: Model, *, counts: bool) -> Plan:
        """Answers `/messages`, or (*counts*) `/messages/count_tokens`.

        :raises Refused: the version of the API is missing.
        """
        require_method("POST", request)
        if request.header("anthropic-version") is None:
            raise invalid("anthropic-version: header is required")
        body = object_of(request)
        return self._answer(request, body, model, counts=counts, stream=body.get("stream") is True)

    def _at_vertex(self, request: ReceivedRequest, model: Model, name: str, verb: str) -> Plan:
        """Answers at Vertex AI, where the path names the model, and the body the version of the API.

        :raises Refused: the body lacks the version, or names a model too.
        """
        require_method("POST", request)
        body = object_of(request)
        if not VERSION.fullmatch(str(body.pop("anthropic_version", None))):
            raise invalid("anthropic_version: Field required")
        counts = name == "count-tokens"
        if not counts:
            if "model" in body:
                raise invalid("model: Extra inputs are not permitted")
            body["model"] = name
        return self._answer(request, body, model, counts=counts, stream=verb == "streamRawPredict")

    def _answer(
        self, request: ReceivedRequest, body: Mapping[str, Any], model: Model, *, counts: bool, stream: bool
    ) -> Plan:
        """Answers a message whose body has the form of the API itself.

        :raises Refused: there is no such model.
        """
        check(body, betas=request.header("anthropic-beta") or "", counts=counts)
        if not self.settings.has(body["model"]):
            raise Refused(404, f"model: {body['model']}")
        prompt = prompt_of(body)
        if counts:
            return json_reply({"input_tokens": count(prompt)})
        self.made += 1
        return message(prompt, model(prompt), f"{self.settings.name}{self.made:08x}", stream=stream)

    def _models(self, request: ReceivedRequest, id: str | None) -> Plan:
        """Answers with the list of models, or one of them.

        :raises Refused: there is no such model.
        """
        require_method("GET", request)
        about = {"type": "model", "created_at": "2026-02-28T00:00:00Z"}
        if id is None:
            names, more = self._page(request)
            listed = [{**about, "id": name, "display_name": name} for name in names]
            ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
            return json_reply({"data": listed, "has_more": more, **ends})
        if not self.settings.has(id):
            raise Refused(404, f"model: {id}")
        return json_reply({**about, "id": id, "display_name": id})

    def _page(self, request: ReceivedRequest) -> tuple[Sequence[str], bool]:
        """Returns the models of the requested page, and whether there are more (API reference, "List Models").

        :raises Refused: there is no such page.
        """
        size, query = page_asked(request, "limit", 20, 1000)
        names, after = self.settings.listed, query.get("after_id")
        if after is not None and after not in names:
            raise invalid(f"after_id: there is no model {after}.")
        start = 0 if after is None else names.index(after) + 1
        return names[start : start + size], start + size < len(names)
