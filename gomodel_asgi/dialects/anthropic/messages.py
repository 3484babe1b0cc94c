"""Turns as `system` and `messages`: two roles, one after the other, results of tools first.

What the reply side kept in `encrypted_content` comes back as the blocks it was; such content of other providers is left
out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

from ..arrangement import BEGIN, CallIds, split_instructions
from ..base import unpack_state
from ..content import (
    CONTENT,
    Audio,
    Content,
    File,
    Image,
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
from ..conversation import arguments_object
from ..emulations import item_as_text, placeholder
from ..tools import Tools
from ..unsupported import FOREIGN_REASONING, MEDIA, Unsupported
from ..values import malformed
from .models import Model

# Parts of a conversation as content blocks of the Messages API.


IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TEXT_TYPES = frozenset({"application/json", "application/xml", "application/x-ndjson", "application/yaml"})
FILES_BETA = "files-api-2025-04-14"


class Blocks:
    """Renders parts. *betas* collects the beta features that the blocks need, *ttl* is that of cache breakpoints."""

    def __init__(self, unsupported: Unsupported, betas: set[str], ttl: str | None = None) -> None:
        self.unsupported = unsupported
        self.betas = betas
        self.cache_control: Json = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}

    def render(self, parts: Iterable[Part], *, as_text: bool = False) -> list[Json]:
        """Returns the blocks of *parts*. Blank texts are left out, since Anthropic refuses them.

        *as_text*: a placeholder stands for what cannot be shown, as it must in what a tool or the assistant said.

        :raises InvalidRequest: a part is refused.
        """
        blocks = (self.block(part, as_text) for part in parts)
        return [block for block in blocks if block is not None]

    def block(self, part: Part, as_text: bool = False) -> Json | None:
        """One part, None where nothing is left of it."""
        if isinstance(part, CONTENT) and (lack := _lack(part)) is not None:
            if as_text or (isinstance(part, Image) and part.from_tool):
                text = placeholder(part, part.path, lack, self.unsupported)
                return None if text is None else self.block(text)
            self.unsupported.leave_out(MEDIA, part.path, lack)
            return None
        if isinstance(part, (Text, Refusal)):
            block: Json | None = {"type": "text", "text": part.text} if part.text.strip() else None
        elif isinstance(part, Image):
            block = self.image(part)
        else:
            assert isinstance(part, File), "calls, outputs and reasoning are no content"
            block = self.file(part)
        marked = isinstance(part, CONTENT) and part.breakpoint is not None
        return {**block, "cache_control": self.cache_control} if block and marked else block

    def image(self, image: Image) -> Json:
        """Returns the block of an image.

        :raises InvalidRequest: its media type is refused.
        """
        if image.file_id:
            return {"type": "image", "source": self.stored(image.file_id)}
        if image.url:
            return {"type": "image", "source": {"type": "url", "url": image.url}}
        source = {"type": "base64", "media_type": _image_type(image.media_type), "data": image.data}
        return {"type": "image", "source": source}

    def file(self, file: File) -> Json:
        """Returns the block of a document.

        :raises InvalidRequest: its media type is refused.
        """
        title = {"title": file.filename} if file.filename else {}
        if file.file_id:
            return {"type": "document", "source": self.stored(file.file_id), **title}
        if file.url:
            return {"type": "document", "source": {"type": "url", "url": file.url}, **title}
        if (file.media_type or "").startswith("image/"):
            return self.image(Image(file.path, data=file.data, media_type=file.media_type))
        if file.media_type == "application/pdf":
            source: Json = {"type": "base64", "media_type": file.media_type, "data": file.data}
        else:
            source = {"type": "text", "media_type": "text/plain", "data": _decoded(file)}
        return {"type": "document", "source": source, **title}

    def stored(self, file_id: str) -> Json:
        """Returns the block of an uploaded file, and adds the beta that it needs."""
        self.betas.add(FILES_BETA)
        return {"type": "file", "file_id": file_id}


def _image_type(media_type: str | None) -> str | None:
    """`image/jpg` is not a registered type, but what many libraries write."""
    return "image/jpeg" if media_type == "image/jpg" else media_type


def _lack(part: Content) -> str | None:
    """What Anthropic cannot take of *part*, None where it takes it."""
    if isinstance(part, Audio):
        return "audio"
    if isinstance(part, Text) or part.data is None:
        return None
    media_type = part.media_type or ""
    if isinstance(part, Image) or media_type.startswith("image/"):
        return None if _image_type(media_type) in IMAGE_TYPES else f"images of type `{media_type[:64]}`"
    texts = media_type.startswith("text/") or media_type in TEXT_TYPES
    return None if texts or media_type == "application/pdf" else f"files of type `{media_type[:64]}`"


def _decoded(file: File) -> str:
    """Returns the text of *file*.

    :raises InvalidRequest: its data is not base64 of UTF-8.
    """
    try:
        return base64.b64decode(file.data or "", validate=True).decode("utf-8")
    except ValueError:
        raise malformed(file.path, "is not base64 of UTF-8 text") from None


Json = dict[str, Any]

KEPT = frozenset(
    {"thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_listing", "fallback"}
    | {"container_upload"}
)
"""Blocks that may come back sealed, beside results of server tools and compactions."""
HOSTED_CALLS = frozenset({"web_search_call", "code_interpreter_call", "mcp_call"})
THINKING = ("thinking", "redacted_thinking")
COMPACTION_BETA = "compact-2026-01-12"
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]+")


class Messages:
    """Renders turns for a *model* of a *provider* of this type; `system` and `messages` are the members of the
    request."""

    def __init__(self, provider: str, model: Model, tools: Tools, blocks: Blocks) -> None:
        self.provider = provider
        self.model = model
        self.tools = tools
        self.blocks = blocks
        self.unsupported = blocks.unsupported
        self.system: list[Json] = []
        self.messages: list[Json] = []
        self.ids = CallIds(_legal_id)

    def render(self, turns: tuple[Turn, ...]) -> None:
        """Adds *turns* to `system` and `messages`.

        :raises InvalidRequest: a part is refused.
        """
        leading, turns = split_instructions(turns)
        for turn in leading:
            self.system += self.blocks.render(turn.parts)
        for turn in turns:
            if turn.role == "tool":
                self.add("user", [self.result(part) for part in turn.parts if isinstance(part, ToolOutput)])
            elif turn.role == "assistant":
                self.add("assistant", self.assistant(turn))
            else:
                self.add("user", self.blocks.render(turn.parts))
        self.end()
        if self.messages and self.messages[0]["role"] == "assistant" and not self.is_compacted():
            self.messages.insert(0, user(BEGIN))

    def is_compacted(self) -> bool:
        """Returns whether the conversation begins with the sum of an earlier one, in front of which Anthropic reads
        nothing."""
        return bool(self.messages[0]["content"][0]["type"] == "compaction")

    def goes_on(self) -> bool:
        """Returns whether the conversation ends with the assistant, which not every model continues."""
        last = self.messages[-1] if self.messages else None
        return last is not None and last["role"] == "assistant" and bool(last["content"][-1]["type"] == "text")

    def add(self, role: str, blocks: list[Json]) -> None:
        """Messages of the same role that follow each other are one."""
        if not blocks:
            return
        if role == "user":
            self.end_assistant()
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def result(self, output: ToolOutput) -> Json:
        """Returns the `tool_result` block of *output*."""
        content = self.blocks.render(output.parts, as_text=True)
        value: Json = {"type": "tool_result", "tool_use_id": self.ids.of(output.call)}
        return {**value, "content": content} if content else value

    def assistant(self, turn: Turn) -> list[Json]:
        """Returns the blocks of a turn of the assistant's."""
        blocks: list[Json] = []
        kept = [self.kept(part) for part in turn.parts]
        for part, own in zip(turn.parts, kept, strict=True):
            if isinstance(part, ToolCall):
                blocks.append(self.call(part))
            elif own:
                blocks += own
            else:
                blocks += self.other(part, any(kept))
        return blocks

    def other(self, part: Part, served: bool) -> list[Json]:
        """Returns the blocks of any other part. *served*: the turn has opaque state, in which hosted calls stand."""
        if isinstance(part, Reasoning):
            self.unsupported.leave_out(FOREIGN_REASONING, part.path)
            return []
        if isinstance(part, Opaque):
            if served and part.type in HOSTED_CALLS:
                return []
            text = item_as_text(part, self.unsupported)
        elif isinstance(part, (Image, File, Audio)):
            text = placeholder(part, part.path, "images and files of the assistant", self.unsupported)
        else:
            return self.blocks.render([part])
        return [] if text is None else self.blocks.render([text])

    def call(self, call: ToolCall) -> Json:
        """Returns the `tool_use` block of *call*."""
        name = self.tools.flat_name(call.name, call.namespace)
        return {"type": "tool_use", "id": self.ids.of(call), "name": name, "input": arguments_object(call)}

    def kept(self, part: Part) -> list[Json]:
        """Returns the blocks that *part* carries as opaque state; a block of another shape is not ours."""
        if isinstance(part, Reasoning):
            text = part.encrypted
        elif isinstance(part, Opaque) and part.type == "compaction":
            text = part.value.get("encrypted_content")
        else:
            return []
        payload = unpack_state(text, self.provider) if isinstance(text, str) else None
        found = (payload or {}).get("blocks")
        blocks = [block for block in found if self.takes(block)] if isinstance(found, list) else []
        if any(block["type"] == "compaction" for block in blocks):
            self.blocks.betas.add(COMPACTION_BETA)
        return blocks

    def takes(self, block: Any) -> bool:
        """Returns whether *block* is of a kind that may come back as opaque state."""
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "compaction":
            return self.model.compacts
        return isinstance(kind, str) and (kind in KEPT or kind.endswith("_tool_result"))

    def end_assistant(self) -> None:
        """Anthropic refuses an assistant's message that ends in thinking: what was thought led to nothing."""
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant":
            return
        while last["content"] and last["content"][-1]["type"] in THINKING:
            last["content"].pop()
        if not last["content"]:
            self.messages.pop()

    def end(self) -> None:
        """A last message that the model is to go on with must not end in white space either."""
        self.end_assistant()
        last = self.messages[-1]["content"][-1] if self.messages else {}
        if last.get("type") == "text" and self.messages[-1]["role"] == "assistant":
            self.messages[-1]["content"][-1] = {**last, "text": last["text"].rstrip()}


def _legal_id(id: str) -> str:
    """*id* where Anthropic takes it, else one that stands for it."""
    return id if LEGAL_ID.fullmatch(id) else f"toolu_{digest(id, 24)}"


def user(text: str) -> Json:
    """Returns a message of the user's that stands for what nobody wrote."""
    return {"role": "user", "content": [{"type": "text", "text": text}]}
