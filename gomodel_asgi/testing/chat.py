"""Chat Completions: its operations by method and path, below any prefix, and how each is answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .api import Api, check_model, no_such_path, object_of, openai_models, path_pattern, require_method
from .chat_rules import check, kind_of, tools_of
from .model import EPOCH, Message, Model, Prompt, Role, Speech, Tool, as_function, objects, pieces, speech_of, text_of
from .plan import STREAM, Answer, Plan, ToolCall, chunked, either, json_reply
from .received import ReceivedRequest
from .wire import ChatWire, Json

# Messages of the chat API as a prompt.


SYSTEM = ("system", "developer")


def prompt_of(body: Mapping[str, Any]) -> Prompt:
    """Returns the prompt of *body*, which keeps the rules. Leading system messages are its instructions."""
    messages = objects(body, "messages")
    leading = next((at for at, message in enumerate(messages) if message["role"] not in SYSTEM), len(messages))
    tools = tuple(tools_of(body))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return Prompt(
        model=str(body["model"]),
        instructions="\n".join(text_of(message.get("content")) for message in messages[:leading]),
        messages=tuple(messages_of(messages[leading:])),
        tools=tools,
        demanded=tuple(demanded(body.get("tool_choice"), tools)),
        schema=schema_of(body.get("response_format")),
        thinks=thinks(body),
        max_output_tokens=limit if isinstance(limit, int) else None,
        body=body,
    )


def messages_of(messages: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    """Yields each message, its reasoning and its calls one by one."""
    names: dict[Any, str] = {}
    for message in messages:
        text = text_of(message.get("content"))
        if message["role"] == "tool":
            id = message.get("tool_call_id")
            yield Message("tool", text, name=names.get(id), call_id=id)
        elif message["role"] == "assistant":
            yield from spoken(message, text)
            for call in objects(message, "tool_calls"):
                name, arguments = called(call)
                names[call.get("id")] = name
                yield Message("assistant", arguments, name=name, call_id=call.get("id"))
        else:
            role: Role = "system" if message["role"] in SYSTEM else "user"
            yield Message(role, text, media=tuple(media_of(message.get("content"))))


def spoken(message: Mapping[str, Any], text: str) -> Iterator[Message]:
    """Yields the reasoning and the text of an assistant's message."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        yield Message("assistant", thought, reasoning=True)
    if text := text or message.get("refusal") or "":
        yield Message("assistant", text)


def called(call: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the name and the arguments of a call."""
    if call.get("type") == "custom":
        return str(call["custom"]["name"]), str(call["custom"]["input"])
    return str(call["function"]["name"]), str(call["function"]["arguments"])


def media_of(content: Any) -> Iterator[str]:
    """Yields the images and files in *content*."""
    for part in content if isinstance(content, list) else []:
        value = part.get(part.get("type"))
        for name in ("url", "file_data", "file_id", "data"):
            if isinstance(value, Mapping) and isinstance(value.get(name), str):
                yield value[name]


def demanded(choice: Any, tools: Sequence[Tool]) -> list[str]:
    """Returns the names of which `tool_choice` demands one."""
    if choice in ("required", "any"):
        return [tool.name for tool in tools]
    if not isinstance(choice, Mapping):
        return []
    if choice.get("type") == "allowed_tools":
        allowed = choice["allowed_tools"]
        names = [tool["function"]["name"] for tool in objects(allowed, "tools")]
        return names if allowed.get("mode") == "required" else []
    return [choice[kind_of(choice)]["name"]]


def schema_of(form: Any) -> Mapping[str, Any] | None:
    """Returns the schema that `response_format` gives; an empty one for JSON without a schema."""
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_schema":
        return form["json_schema"].get("schema") or {"type": "object"}
    return {} if kind == "json_object" else None


def thinks(body: Mapping[str, Any]) -> bool:
    """Returns whether the request asks for reasoning, in OpenAI's, OpenRouter's or DeepSeek's way."""
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else body.get("reasoning_effort")
    return effort not in (None, "none") or (isinstance(thinking, Mapping) and thinking.get("type") == "enabled")


# What the model says, as a chat completion and as its chunks (OpenAI, API reference, "Chat completions").


DONE = b"data: [DONE]\n\n"
REASONS: Mapping[str, str] = {"max_output_tokens": "length"}


def completion(prompt: Prompt, answer: Answer, made: int, suffix: str) -> Plan:
    """Returns the reply in the form that the request asks for; *made* numbers it, *suffix* goes into its ids."""
    writer = Writer(prompt, answer, made, suffix)
    value = writer.whole()
    events = chunked(200, STREAM, (*map(ChatWire.event, writer.chunks()), DONE), value)
    return either(json_reply(value), events, stream=prompt.body.get("stream") is True)


class Writer:
    """Writes one answer in both forms."""

    def __init__(self, prompt: Prompt, answer: Answer, made: int, suffix: str) -> None:
        self.prompt = prompt
        self.speech: Speech = speech_of(prompt, answer)
        self.speaks = answer.text is not None
        self.suffix = suffix
        self.about = {"id": f"chatcmpl-{suffix}", "created": EPOCH + made, "model": prompt.model}
        self.calls = [self.call(call, number) for number, call in enumerate(self.speech.calls)]

    def call(self, call: ToolCall, number: int) -> Json:
        """Returns one tool call in its final form."""
        tool = self.prompt.tool(call.name)
        about: Json = {"id": call.call_id or f"call_{self.suffix}{number:02x}"}
        if call.custom and tool is not None and tool.custom:
            return {**about, "type": "custom", "custom": {"name": call.name, "input": call.text()}}
        function = {"name": call.name, "arguments": as_function(self.prompt, call)}
        return {**about, "type": "function", "function": function}

    @property
    def finish_reason(self) -> str:
        """Why the answer ends."""
        if self.speech.incomplete is not None:
            return REASONS.get(self.speech.incomplete, self.speech.incomplete)
        return "tool_calls" if self.calls else "stop"

    @property
    def usage(self) -> Json:
        """The token counts, in the form of this API."""
        speech = self.speech
        return {
            "prompt_tokens": speech.input,
            "completion_tokens": speech.output,
            "total_tokens": speech.input + speech.output,
            "prompt_tokens_details": {"cached_tokens": speech.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": speech.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    # In one piece...

    def whole(self) -> Json:
        """Returns the answer as one chat completion."""
        message: Json = {"role": "assistant", "content": "".join(self.speech.text) if self.speaks else None}
        if self.speech.thought:
            message["reasoning_content"] = "".join(self.speech.thought)
        message |= {"refusal": "".join(self.speech.refusal) or None, "annotations": []}
        if self.calls:
            message["tool_calls"] = self.calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        rest = {"usage": self.usage, "service_tier": "default", "system_fingerprint": "fp_fake"}
        return {**self.about, "object": "chat.completion", "choices": [choice], **rest}

    # In chunks...

    def chunks(self) -> Iterator[Json]:
        """Yields the answer as chunks, the usage last where the request asks for it."""
        counted = (self.prompt.body.get("stream_options") or {}).get("include_usage") is True
        for chunk in self.choices():
            yield {**chunk, "usage": None} if counted else chunk
        if counted:
            yield {**self.chunk([]), "usage": self.usage}

    def choices(self) -> Iterator[Json]:
        """Yields the chunks that hold a choice."""
        opening: Json = {"role": "assistant", "content": "" if self.speaks else None, "refusal": None}
        for number, delta in enumerate(self.deltas()):
            yield self.choice({**opening, **delta} if number == 0 else delta)
        yield self.choice({}, self.finish_reason)

    def deltas(self) -> Iterator[Json]:
        """Yields the deltas of the answer. The role comes with the first one, and before a text."""
        for word in self.speech.thought:
            yield {"reasoning_content": word}
        if not self.speech.thought and (self.speaks or not self.calls):
            yield {}
        for word in self.speech.text:
            yield {"content": word}
        for word in self.speech.refusal:
            yield {"refusal": word}
        for index, call in enumerate(self.calls):
            yield from self.call_deltas(index, call)

    def call_deltas(self, index: int, call: Json) -> Iterator[Json]:
        """Yields the deltas of one tool call: its head, then its arguments in pieces."""
        kind = call["type"]
        member = "input" if kind == "custom" else "arguments"
        value = call[kind]
        yield {"tool_calls": [{"index": index, **call, kind: {**value, member: ""}}]}
        for piece in pieces(value[member]):
            yield {"tool_calls": [{"index": index, kind: {member: piece}}]}

    def choice(self, delta: Json, finish_reason: str | None = None) -> Json:
        """Returns a chunk with one choice."""
        return self.chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])

    def chunk(self, choices: list[Json]) -> Json:
        """Returns a chunk with these *choices*."""
        about = {"object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": "fp_fake"}
        return {**self.about, **about, "choices": choices}


# The operations.


COMPLETIONS = path_pattern("/chat/completions")
MODELS = path_pattern("/models(?:/(?P<id>.+))?")


class ChatApi(Api):
    """Chat Completions. It remembers nothing."""

    def wire(self, request: ReceivedRequest, request_id: str) -> ChatWire:
        """See `Api.wire`."""
        return ChatWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        """See `Api.answer`.

        :raises Refused: the request breaks a rule, or the path is not this API's.
        """
        if COMPLETIONS.fullmatch(request.path):
            return self._complete(request, model)
        if match := MODELS.fullmatch(request.path):
            return json_reply(openai_models(self.settings, request, match["id"]))
        raise no_such_path(request)

    def _complete(self, request: ReceivedRequest, model: Model) -> Plan:
        require_method("POST", request)
        body = object_of(request)
        check(body, self.settings)
        check_model(self.settings, body["model"])
        self.made += 1
        prompt = prompt_of(body)
        return completion(prompt, model(prompt), self.made, f"{self.settings.name}{self.made:08x}")
