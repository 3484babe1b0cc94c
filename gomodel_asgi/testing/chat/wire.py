"""Errors and streams of the Chat Completions API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model import Message, Prompt, Role, Tool, objects
from ..wire import Failure, Json, data_of, openai_error, unnamed


@dataclass(frozen=True, slots=True)
class ChatWire:
    """Errors are OpenAI's; inside a stream they are an event without a name, or (Groq) one that is called `error`."""

    request_id: str = ""

    endless = (
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"finish_reason":null,"delta":{"content":"',
        b'"}}]}\n\n',
    )

    @property
    def headers(self) -> Mapping[str, str]:
        return {"x-request-id": self.request_id}

    def error(self, failure: Failure) -> Json:
        return openai_error(failure)

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        if form not in (None, "body", "event"):
            raise ValueError(f"the chat API has no error of the form '{form}'")
        return openai_error(failure)

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        return (b"event: error\n" if form == "event" else b"") + unnamed(value)

    def ends(self, event: bytes) -> bool:
        chunk = data_of(event)
        if not isinstance(chunk, Mapping) or "choices" not in chunk:
            return False
        return not chunk["choices"] or chunk["choices"][0].get("finish_reason") is not None


# Messages of the chat API as a prompt.


SYSTEM = ("system", "developer")


def prompt_of(body: Mapping[str, Any]) -> Prompt:
    """*body*, which keeps the rules. Leading system messages are its instructions."""
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


def text_of(content: Any) -> str:
    """The text in a message's content: itself, or its text parts joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["text"]) for part in parts if part.get("type") == "text")


def messages_of(messages: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    """Each message, its reasoning and its calls one by one."""
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
    """What an assistant thought and said."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        yield Message("assistant", thought, reasoning=True)
    if text := text or message.get("refusal") or "":
        yield Message("assistant", text)


def called(call: Mapping[str, Any]) -> tuple[str, str]:
    """Name and arguments of a call."""
    if call.get("type") == "custom":
        return str(call["custom"]["name"]), str(call["custom"]["input"])
    return str(call["function"]["name"]), str(call["function"]["arguments"])


def media_of(content: Any) -> Iterator[str]:
    """The images and files in *content*."""
    for part in content if isinstance(content, list) else []:
        value = part.get(part.get("type"))
        for name in ("url", "file_data", "file_id", "data"):
            if isinstance(value, Mapping) and isinstance(value.get(name), str):
                yield value[name]


def kind_of(tool: Mapping[str, Any]) -> Any:
    """The type of a tool or a choice; some servers take functions that do not say so."""
    return tool.get("type") or ("function" if "function" in tool else None)


def tools_of(body: Mapping[str, Any]) -> Iterator[Tool]:
    """The functions and custom tools of a request; those that the server would run are none."""
    for tool in objects(body, "tools"):
        kind = kind_of(tool)
        if kind in ("function", "custom"):
            yield Tool(tool[kind]["name"], tool[kind].get("parameters") or {}, kind == "custom")


def demanded(choice: Any, tools: Sequence[Tool]) -> list[str]:
    """The names of which `tool_choice` demands one."""
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
    """The schema that `response_format` gives; an empty one for JSON without a schema."""
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_schema":
        return form["json_schema"].get("schema") or {"type": "object"}
    return {} if kind == "json_object" else None


def thinks(body: Mapping[str, Any]) -> bool:
    """Whether reasoning is asked for, in OpenAI's, OpenRouter's or DeepSeek's way."""
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else body.get("reasoning_effort")
    return effort not in (None, "none") or (isinstance(thinking, Mapping) and thinking.get("type") == "enabled")
