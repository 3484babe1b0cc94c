"""Turns as chat messages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import msgspec

from ..base import Call
from ..conversation import arguments_object
from ..losses import Losses, malformed
from ..parts import (
    Audio,
    Content,
    File,
    Image,
    Json,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolOutput,
    Turn,
)  # fmt: skip
from ..sealed import unseal
from ..tools import Tools
from .flavors import Flavor
from .memory import MESSAGE, Memory

DETAILS = ("auto", "low", "high")
SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
BETWEEN = "\n"
"""Joins text parts for servers that take strings only, as the chat templates of open models join them."""


def render_messages(turns: Iterable[Turn], call: Call, flavor: Flavor, tools: Tools, losses: Losses) -> list[Json]:
    """The `messages` of a chat request.

    :raises InvalidRequest: a part is a loss that is rejected, or nothing is left to send.
    """
    writer = _Writer(call, flavor, tools, losses)
    for turn in turns:
        if turn.role == "assistant":
            writer.assistant(turn)
        elif turn.role == "tool":
            writer.outputs(turn)
        else:
            writer.speech(turn)
    if not writer.messages:
        raise malformed("input", "holds nothing that this provider could be told")
    return writer.messages


class _Writer:
    def __init__(self, call: Call, flavor: Flavor, tools: Tools, losses: Losses) -> None:
        self.call = call
        self.flavor = flavor
        self.tools = tools
        self.losses = losses
        self.messages: list[Json] = []

    # What users and developers say...

    def speech(self, turn: Turn) -> None:
        role = "system" if turn.role == "developer" and not self.flavor.developer else turn.role
        content = self.content(part for part in turn.parts if isinstance(part, (Text, Image, File, Audio)))
        if content:
            self.add_speech(role, content)

    def add_speech(self, role: str, content: str | list[Json]) -> None:
        after_tool = bool(self.messages) and self.messages[-1]["role"] == "tool"
        if role == "user" and after_tool and not self.flavor.user_after_tool:
            self.messages.append({"role": "assistant", "content": "OK"})
        self.messages.append({"role": role, "content": content})

    def content(self, parts: Iterable[Content]) -> str | list[Json]:
        """A string where that says it all, else a list of parts."""
        rendered = [part for part in map(self.part, parts) if part is not None]
        if len(rendered) == 1 and rendered[0].keys() == {"type", "text"}:
            return str(rendered[0]["text"])
        if not self.flavor.text_parts and all(part["type"] == "text" for part in rendered):
            return BETWEEN.join(part["text"] for part in rendered)
        return rendered

    def part(self, part: Content) -> Json | None:
        if isinstance(part, Text):
            return self.marked({"type": "text", "text": part.text}, part)
        kind = type(part).__name__.lower()
        if kind not in self.flavor.media:
            self.losses.add(f"{part.path}.type", f"parts of type `input_{kind}`")
            return None
        if isinstance(part, Audio):
            return self.marked({"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}, part)
        return self.image(part) if isinstance(part, Image) else self.file(part)

    def marked(self, rendered: Json, part: Content) -> Json:
        """*rendered* with the part's cache breakpoint, where the server has such a thing."""
        if part.breakpoint is None or self.flavor.breakpoint is None:
            return rendered
        value = {"type": "ephemeral"} if self.flavor.breakpoint == "cache_control" else part.breakpoint
        return {**rendered, self.flavor.breakpoint: value}

    def image(self, part: Image) -> Json | None:
        if part.file_id is not None:
            self.losses.add(f"{part.path}.file_id", "images by file id")
            return None
        detail = {"detail": part.detail} if part.detail in DETAILS else {}
        return self.marked({"type": "image_url", "image_url": {"url": part.as_url, **detail}}, part)

    def file(self, part: File) -> Json | None:
        url = f"data:{part.media_type};base64,{part.data}" if part.data else part.url
        if part.url and not self.flavor.file_urls:
            self.losses.add(f"{part.path}.file_url", "files by URL")
            return None
        if self.flavor.files == "document_url":
            return self.document(part, url)
        name = {"filename": part.filename} if part.filename else {}
        where = {"file_data": url} if url else {"file_id": part.file_id}
        return self.marked({"type": "file", "file": {**where, **name}}, part)

    def document(self, part: File, url: str | None) -> Json | None:
        if url is None:
            self.losses.add(f"{part.path}.file_id", "files by file id")
            return None
        name = {"document_name": part.filename} if part.filename else {}
        return {"type": "document_url", "document_url": url, **name}

    # What the assistant said...

    def assistant(self, turn: Turn) -> None:
        memory, calls = self.remembered(turn), [part for part in turn.parts if isinstance(part, ToolCall)]
        extra = memory.pop("extra_content", {})
        thinking, tagged = memory.pop("thinking", None), memory.pop("tagged", None)
        message: Json = {"role": "assistant", "content": self.said(turn.parts, thinking)}
        if tagged is not None and self.call.reasoning_tags is not None:
            message["content"] = _tagged(tagged, message["content"], self.call.reasoning_tags)
        message |= self.refused(turn.parts) | self.pictures(turn.parts) | memory
        if calls:
            message["tool_calls"] = [self.tool_call(call, extra.get(call.call_id)) for call in calls]
        if MESSAGE in extra:
            message["extra_content"] = extra[MESSAGE]
        if calls or len(message) > 2 or message["content"]:
            self.messages.append(message)

    def said(self, parts: Sequence[Part], thinking: str | None) -> str | list[Json] | None:
        content = self.content(self.sayable(parts))
        if thinking is None:
            return content or None
        spoken = [{"type": "text", "text": content}] if isinstance(content, str) else content
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": thinking}]}
        return [thought, *(part for part in spoken if part.get("text") != "")]

    def sayable(self, parts: Sequence[Part]) -> Iterable[Text]:
        for part in parts:
            if isinstance(part, Text):
                yield part
            elif isinstance(part, Refusal) and not self.flavor.refusals:
                yield Text(part.path, part.text)
            elif isinstance(part, (Image, File, Audio)):
                self.losses.add(f"{part.path}.type", "images and files of the assistant")

    def refused(self, parts: Sequence[Part]) -> Json:
        texts = [part.text for part in parts if isinstance(part, Refusal)]
        return {"refusal": "".join(texts)} if texts and self.flavor.refusals else {}

    def pictures(self, parts: Sequence[Part]) -> Json:
        """Items of hosted tools: images are sent back to the router that made them, the rest has no place."""
        images = []
        for part in parts:
            if not isinstance(part, Opaque):
                continue
            if part.type == "image_generation_call" and part.value.get("result") and self.call.type == "openrouter":
                url = f"data:image/{part.value.get('output_format') or 'png'};base64,{part.value['result']}"
                images.append({"type": "image_url", "image_url": {"url": url}})
            elif part.is_receipt:
                self.losses.note(part.path)
            else:
                self.losses.add(f"{part.path}.type", f"items of type `{part.type[:64]}`")
        return {"images": images} if images else {}

    def tool_call(self, call: ToolCall, extra: Json | None) -> Json:
        arguments = call.arguments or "{}"
        if call.kind == "custom":
            arguments = msgspec.json.encode(arguments_object(call)).decode()
        function = {"name": self.tools.flat_name(call.name, call.namespace), "arguments": arguments}
        rendered: Json = {"id": self.call_id(call.call_id), "type": "function", "function": function}
        return rendered | ({"extra_content": extra} if extra else {})

    def call_id(self, id: str) -> str:
        if not self.flavor.short_ids or SHORT_ID.fullmatch(id):
            return id
        return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:9]

    def remembered(self, turn: Turn) -> Json:
        """What the server gave on this turn to be given back: members of the message."""
        memory = Memory()
        for part in turn.parts:
            if isinstance(part, Reasoning):
                payload = unseal(part.encrypted, self.call.type, self.call.model)
                if payload is None:
                    self.losses.note(part.path)
                memory.add(payload or self.plain(part))
        found = memory.take() if self.flavor.takes_reasoning else {}
        if self.flavor.reasoning_in_tool_turns:
            in_tool_turn = any(isinstance(part, ToolCall) for part in turn.parts)
            return {"reasoning_content": found.get("reasoning_content", "")} if in_tool_turn else {}
        return found

    def plain(self, part: Reasoning) -> Json:
        """Reasoning that was never sealed is its own payload, for a server that insists on having it."""
        if part.encrypted is None and self.flavor.reasoning_in_tool_turns:
            return {"reasoning_content": "".join(part.texts)}
        return {}

    # What tools answered...

    def outputs(self, turn: Turn) -> None:
        """One tool message for each output; what a tool message cannot hold follows in a user message."""
        aside: list[Json] = []
        for output in turn.parts:
            if isinstance(output, ToolOutput):
                self.messages.append(self.output(output, aside))
        if aside:
            self.add_speech("user", aside)

    def output(self, output: ToolOutput, aside: list[Json]) -> Json:
        call_id = self.call_id(output.call.call_id)
        kept = [part for part in output.parts if isinstance(part, Text) or self.flavor.media_in_outputs]
        media = [part for part in output.parts if part not in kept]
        rendered = [part for part in map(self.part, media) if part is not None]
        content = self.content(kept)
        if rendered:
            aside += [{"type": "text", "text": f"Output of the tool call {call_id}:"}, *rendered]
            content = content or "The output follows in the next message."
        return {"role": "tool", "tool_call_id": call_id, "content": content or ""}


def _tagged(thought: str, content: str | list[Json] | None, tags: tuple[str, str]) -> str | list[Json]:
    """*content* behind the reasoning that opened it, as the model wrote it."""
    passage = f"{tags[0]}{thought}{tags[1]}\n\n"
    if isinstance(content, list):
        return [{"type": "text", "text": passage}, *content]
    return passage + (content or "")
