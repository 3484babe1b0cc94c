"""Turns as chat messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from operator import itemgetter

from ..arrangement import BEGIN, GO_ON, CallIds, split_instructions
from ..base import Call, unpack_state
from ..content import (
    CONTENT,
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
    digest,
)
from ..conversation import arguments_json
from ..emulations import item_as_text, placeholder
from ..hosted_items import picture_of
from ..tools import Tools
from ..unsupported import FOREIGN_REASONING, MEDIA, STORED_MEDIA, Unsupported
from ..values import malformed
from .flavors import Flavor
from .opaque_state import MESSAGE, Memory

ROLE_OF = itemgetter("role")
DETAILS = ("auto", "low", "high")
SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
BETWEEN = "\n"
"""Joins text parts for servers that take strings only, as the chat templates of open models join them."""
PARAGRAPH = "\n\n"
"""Joins the texts of several messages in one."""


def render_messages(
    turns: tuple[Turn, ...], call: Call, flavor: Flavor, tools: Tools, unsupported: Unsupported
) -> list[Json]:
    """The `messages` of a chat request.

    :raises InvalidRequest: a part is refused, or nothing is left to send.
    """
    writer = _Writer(call, flavor, tools, unsupported)
    if not flavor.systems:
        leading, turns = split_instructions(turns)
        if leading:
            writer.system(leading)
    for turn in turns:
        if turn.role == "assistant":
            writer.assistant(turn)
        elif turn.role == "tool":
            writer.outputs(turn)
        else:
            writer.speech(turn)
    return writer.end()


class _Writer:
    def __init__(self, call: Call, flavor: Flavor, tools: Tools, unsupported: Unsupported) -> None:
        self.call = call
        self.flavor = flavor
        self.tools = tools
        self.unsupported = unsupported
        self.messages: list[Json] = []

    @cached_property
    def ids(self) -> CallIds:
        """The ids of the calls, as the server takes them; made with the first call."""
        legal = partial(_legal_id, self.flavor)  # and no method of ours, whose owner we would be part of
        return CallIds(legal, lambda id, number: legal(f"{id}_{number}"))

    def end(self) -> list[Json]:
        """Returns all messages. Templates that take one system message require a user's too.

        :raises InvalidRequest: the input holds nothing to answer.
        """
        if not self.messages:
            raise malformed("input", "holds nothing that this provider could be told")
        if not self.flavor.systems and "user" not in map(ROLE_OF, self.messages):
            at = 1 if self.messages[0]["role"] == "system" else 0
            self.messages.insert(at, {"role": "user", "content": BEGIN})
        if self.messages[-1]["role"] == "assistant" and not self.flavor.goes_on:
            self.messages.append({"role": "user", "content": GO_ON})
        return self.messages

    # What users and developers say...

    def system(self, turns: Sequence[Turn]) -> None:
        """Adds one system message, of the texts of all *turns*."""
        content = [self.content(turn.parts) for turn in turns]
        texts = [text for text in content if isinstance(text, str)]
        if len(texts) == len(content):
            joined: str | list[Json] = PARAGRAPH.join(text for text in texts if text)
        else:
            joined = [part for some in content for part in (some if isinstance(some, list) else [_text(some)])]
        if joined:
            self.messages.append({"role": "system", "content": joined})

    def speech(self, turn: Turn) -> None:
        role = "system" if turn.role == "developer" and not self.flavor.developer else turn.role
        content = self.content(turn.parts)
        if content:
            self.add_speech(role, content)

    def add_speech(self, role: str, content: str | list[Json]) -> None:
        after_tool = bool(self.messages) and self.messages[-1]["role"] == "tool"
        if role == "user" and after_tool and not self.flavor.user_after_tool:
            self.messages.append({"role": "assistant", "content": "OK"})
        self.messages.append({"role": role, "content": content})

    def content(self, parts: Iterable[Part]) -> str | list[Json]:
        """Returns the parts as a string where that loses nothing, else as a list."""
        rendered: list[Json] = []
        for part in parts:
            if isinstance(part, CONTENT) and (written := self.part(part)) is not None:
                rendered.append(written)
        if len(rendered) == 1 and rendered[0].keys() == {"type", "text"}:
            return str(rendered[0]["text"])
        if not self.flavor.text_parts and all(part["type"] == "text" for part in rendered):
            return BETWEEN.join(part["text"] for part in rendered)
        return rendered

    def part(self, part: Content) -> Json | None:
        if isinstance(part, Text):
            written: Json = {"type": "text", "text": part.text}
            return written if part.breakpoint is None else self.marked(written, part)
        if (lack := self.lack(part)) is not None:
            if isinstance(part, Image) and part.from_tool:
                text = placeholder(part, *lack, self.unsupported)
                return None if text is None else self.part(text)
            self.unsupported.leave_out(MEDIA if lack[0].endswith(".type") else STORED_MEDIA, *lack)
            return None
        if isinstance(part, Audio):
            return self.marked({"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}, part)
        return self.image(part) if isinstance(part, Image) else self.file(part)

    def lack(self, part: Content) -> tuple[str, str] | None:
        """Returns the path of what the server cannot take of *part*, and its name; None where it takes it."""
        kind = type(part).__name__.lower()
        if isinstance(part, Text):
            return None
        if kind not in self.flavor.media:
            return f"{part.path}.type", f"parts of type `input_{kind}`"
        if isinstance(part, Image) and part.file_id is not None:
            return f"{part.path}.file_id", "images by file id"
        if isinstance(part, File) and part.url and not self.flavor.file_urls:
            return f"{part.path}.file_url", "files by URL"
        if isinstance(part, File) and part.file_id and self.flavor.files == "document_url":
            return f"{part.path}.file_id", "files by file id"
        return None

    def marked(self, rendered: Json, part: Content) -> Json:
        """Returns *rendered* with the part's cache breakpoint, where the server has them."""
        if part.breakpoint is None or self.flavor.breakpoint is None:
            return rendered
        value = {"type": "ephemeral"} if self.flavor.breakpoint == "cache_control" else part.breakpoint
        return {**rendered, self.flavor.breakpoint: value}

    def image(self, part: Image) -> Json:
        detail = {"detail": part.detail} if part.detail in DETAILS else {}
        return self.marked({"type": "image_url", "image_url": {"url": part.as_url, **detail}}, part)

    def file(self, part: File) -> Json:
        url = f"data:{part.media_type};base64,{part.data}" if part.data else part.url
        if self.flavor.files == "document_url":
            name = {"document_name": part.filename} if part.filename else {}
            return {"type": "document_url", "document_url": url, **name}
        name = {"filename": part.filename} if part.filename else {}
        where = {"file_data": url} if url else {"file_id": part.file_id}
        return self.marked({"type": "file", "file": {**where, **name}}, part)

    # What the assistant said...

    def assistant(self, turn: Turn) -> None:
        memory, calls = self.opaque_members(turn), [part for part in turn.parts if isinstance(part, ToolCall)]
        extra = memory.pop("extra_content", {})
        thinking, tagged = memory.pop("thinking", None), memory.pop("tagged", None)
        message: Json = {"role": "assistant", "content": self.content_of(turn.parts, thinking)}
        if tagged is not None and self.call.reasoning_tags is not None:
            message["content"] = _tagged(tagged, message["content"], self.call.reasoning_tags)
        message |= self.refused(turn.parts) | self.pictures(turn.parts) | memory
        if calls:
            message["tool_calls"] = [self.tool_call(call, extra.get(call.call_id)) for call in calls]
        if MESSAGE in extra:
            message["extra_content"] = extra[MESSAGE]
        if calls or len(message) > 2 or message["content"]:
            self.messages.append(message)

    def content_of(self, parts: Sequence[Part], thinking: str | None) -> str | list[Json] | None:
        content = self.content([text for part in parts if (text := self.text_of(part)) is not None])
        if thinking is None:
            return content or None
        texts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": thinking}]}
        return [thought, *(part for part in texts if part.get("text") != "")]

    def text_of(self, part: Part) -> Text | None:
        if isinstance(part, Refusal):
            return None if self.flavor.refusals else Text(part.path, part.text)
        if isinstance(part, (Image, File, Audio)):
            return placeholder(part, f"{part.path}.type", "images and files of the assistant", self.unsupported)
        if isinstance(part, Opaque):
            return None if self.is_own_picture(part) else item_as_text(part, self.unsupported)
        return part if isinstance(part, Text) else None

    def refused(self, parts: Sequence[Part]) -> Json:
        texts = [part.text for part in parts if isinstance(part, Refusal)]
        return {"refusal": "".join(texts)} if texts and self.flavor.refusals else {}

    def is_own_picture(self, part: Opaque) -> bool:
        """Returns whether *part* is an image that the router made, which takes it back."""
        is_picture = part.type == "image_generation_call" and picture_of(part.value) is not None
        return is_picture and self.call.type == "openrouter"

    def pictures(self, parts: Sequence[Part]) -> Json:
        items = [part.value for part in parts if isinstance(part, Opaque) and self.is_own_picture(part)]
        urls = [f"data:image/{item.get('output_format') or 'png'};base64,{item['result']}" for item in items]
        return {"images": [{"type": "image_url", "image_url": {"url": url}} for url in urls]} if urls else {}

    def tool_call(self, call: ToolCall, extra: Json | None) -> Json:
        arguments = call.arguments or "{}"
        if call.kind == "custom" or not self.flavor.any_arguments:
            arguments = arguments_json(call).decode()
        function = {"name": self.tools.flat_name(call.name, call.namespace), "arguments": arguments}
        rendered: Json = {"id": self.ids.of(call), "type": "function", "function": function}
        return rendered | ({"extra_content": extra} if extra else {})

    def opaque_members(self, turn: Turn) -> Json:
        """Returns the members that the server wants back in the message of *turn*."""
        memory = Memory()
        for part in turn.parts:
            if isinstance(part, Reasoning):
                payload = unpack_state(part.encrypted, self.call.type, self.call.model)
                if payload is None:
                    self.unsupported.leave_out(FOREIGN_REASONING, part.path)
                memory.add(payload or self.plain(part))
        found = memory.take() if self.flavor.takes_reasoning else {}
        if self.flavor.reasoning_in_tool_turns:
            in_tool_turn = any(isinstance(part, ToolCall) for part in turn.parts)
            return {"reasoning_content": found.get("reasoning_content", "")} if in_tool_turn else {}
        return found

    def plain(self, part: Reasoning) -> Json:
        """Returns the payload of reasoning without opaque state, for a server that insists on having it."""
        if part.encrypted is None and self.flavor.reasoning_in_tool_turns:
            return {"reasoning_content": "".join(part.texts)}
        return {}

    # What tools answered...

    def outputs(self, turn: Turn) -> None:
        """One tool message for each output; what a tool message cannot hold follows in a user message."""
        overflow: list[Json] = []
        for output in turn.parts:
            if isinstance(output, ToolOutput):
                self.messages.append(self.output(output, overflow))
        if overflow:
            self.add_speech("user", overflow)

    def output(self, output: ToolOutput, overflow: list[Json]) -> Json:
        call_id, parts = self.ids.of(output.call), self.takeable(output.parts)
        kept = [part for part in parts if isinstance(part, Text) or self.flavor.media_in_outputs]
        rendered = [self.part(part) for part in parts if part not in kept]
        content = self.content(kept)
        if rendered:
            overflow += [{"type": "text", "text": f"Output of the tool call {call_id}:"}, *filter(None, rendered)]
            content = content or "The output follows in the next message."
        return {"role": "tool", "tool_call_id": call_id, "content": content or ""}

    def takeable(self, parts: Iterable[Content]) -> list[Content]:
        """Returns *parts* of a tool's output, with text for those that the server cannot take."""
        lacks = [(part, self.lack(part)) for part in parts]
        found = [part if lack is None else placeholder(part, *lack, self.unsupported) for part, lack in lacks]
        return [part for part in found if part is not None]


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _tagged(thought: str, content: str | list[Json] | None, tags: tuple[str, str]) -> str | list[Json]:
    """Returns *content* after the reasoning that stood before it, as the model wrote it."""
    passage = f"{tags[0]}{thought}{tags[1]}\n\n"
    if isinstance(content, list):
        return [{"type": "text", "text": passage}, *content]
    return passage + (content or "")


def _legal_id(flavor: Flavor, id: str) -> str:
    """Returns *id* where the server takes it, else a digest of it."""
    if flavor.short_ids:
        return id if SHORT_ID.fullmatch(id) else digest(id, 9)
    longest = flavor.longest_id
    return id if longest is None or len(id) <= longest else digest(id, longest)
