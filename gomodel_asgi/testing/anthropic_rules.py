"""What the Messages API refuses: shapes, the order of turns, pairs of calls and results, settings that exclude others.

The messages are the API's own, as public bug reports quote them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .anthropic_limits import of_schema, of_schemas, of_settings, version_of
from .api import Problems, invalid, refuse
from .model import is_base64, objects

Json = Mapping[str, Any]

MEMBERS = frozenset(
    "cache_control container context_management diagnostics inference_geo max_tokens mcp_servers messages metadata"
    " model output_config service_tier speed stop_sequences stream system temperature thinking tool_choice tools top_k"
    " top_p".split()
)
COUNTED = frozenset(
    "cache_control context_management mcp_servers messages model output_config system thinking tool_choice"
    " tools".split()
)
"""Members that `/messages/count_tokens` takes."""
BETA = {"mcp_servers": ("mcp-client-",), "context_management": ("context-management-", "compact-")}
"""Members that exist for those only who ask for the beta."""
BLOCKS = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "title", "context", "citations", "cache_control"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller", "toolset_name"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
}
"""Members of the blocks of the client's; those of the provider's own tools come back as they went."""
ID = re.compile(r"[a-zA-Z0-9_-]+")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
MAX_BREAKPOINTS = 4
THINKING = ("thinking", "redacted_thinking")


def check(body: Json, *, betas: str, counts: bool) -> None:
    """*betas* is the header `anthropic-beta`; *counts* whether the request only counts tokens.

    :raises Refused: the request breaks a rule.
    """
    refuse(problems(body, betas, counts))


def problems(body: Json, betas: str, counts: bool) -> Problems:
    """Yields the rules that a request breaks."""
    yield from of_members(body, betas, COUNTED if counts else MEMBERS)
    if not isinstance(body.get("model"), str):
        yield invalid("model: Field required")
    limit = 1 if counts else body.get("max_tokens")
    if limit is None:
        yield invalid("max_tokens: Field required")
    if not isinstance(limit, int) or limit < 1:
        yield invalid("max_tokens: Input should be greater than or equal to 1")
    yield from of_system(body.get("system"))
    yield from of_tools(body)
    yield from of_messages(body.get("messages"), body["model"])
    yield from of_breakpoints(body)
    yield from of_settings(body)
    yield from of_open_turn(body)


def of_members(body: Json, betas: str, known: frozenset[str]) -> Problems:
    """Yields members that are not *known*, and those of a beta that *betas* does not ask for."""
    requested = [each.strip() for each in betas.split(",")]
    for name in body:
        if name not in known or (name in BETA and not any(each.startswith(BETA[name]) for each in requested)):
            yield invalid(f"{name}: Extra inputs are not permitted")


def of_system(system: Any) -> Problems:
    """Yields the blocks of the system prompt that are no text."""
    for block in blocks_of(system) if isinstance(system, (str, list)) else []:
        if block.get("type") != "text":
            yield invalid("system.0.type: Input should be 'text'")
        yield from of_text(block, "system", allow_empty=isinstance(system, str))


def of_text(block: Json, where: str, *, allow_empty: bool = False) -> Problems:
    """Yields what is wrong with a block of text: it is missing, empty or nothing but whitespace."""
    text = block.get("text")
    if not isinstance(text, str):
        yield invalid(f"{where}.text: Field required")
    if not text and not allow_empty:
        yield invalid(f"{where}: text content blocks must be non-empty")
    if text and not text.strip():
        yield invalid(f"{where}: text content blocks must contain non-whitespace text")


# Messages...


def of_messages(messages: Any, model: str) -> Problems:
    """Yields what is wrong with roles and blocks, and calls without their results in the next message."""
    if not isinstance(messages, list):
        yield invalid("messages: Field required")
    if not messages:
        yield invalid("messages: at least one message is required")
    for at, message in enumerate(messages):
        yield from of_role(message, at, model)
        yield from of_content(message, at, final=at == len(messages) - 1)
    if messages[0]["role"] == "assistant":
        yield invalid('messages: first message must use the "user" role')
    yield from of_instructions(messages)
    ids = [block["id"] for message in messages for block in of_kind(message, "tool_use")]
    if len(set(ids)) < len(ids):
        yield invalid("messages: `tool_use` ids must be unique")
    for at, message in enumerate(messages):
        yield from of_results(messages, at, message)


def of_role(message: Any, at: int, model: str) -> Problems:
    """Yields the role of message *at* if there is no such, and members beside role and content."""
    role = message.get("role") if isinstance(message, Mapping) else None
    if role == "system" and not ("opus" in model and version_of(model) >= (4, 8)):
        yield invalid(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system"'
            " as an input message role."
        )
    if role not in ("user", "assistant", "system"):
        yield invalid(f"messages.{at}.role: Input should be 'user' or 'assistant'")
    for name in message:
        if name not in ("role", "content"):
            yield invalid(f"messages.{at}.{name}: Extra inputs are not permitted")


def of_instructions(messages: Sequence[Json]) -> Problems:
    """Yields instructions among the messages that do not follow the user, or that the assistant does not follow."""
    for at, message in enumerate(messages):
        if message["role"] != "system":
            continue
        if at == 0:
            yield invalid("messages.0: use the top-level 'system' parameter for the initial system prompt")
        follower = messages[at + 1]["role"] if at + 1 < len(messages) else "assistant"
        if messages[at - 1]["role"] != "user" or follower != "assistant":
            yield invalid(f"messages.{at}: a system message must follow a user message and precede an assistant's")


def of_content(message: Json, at: int, *, final: bool) -> Problems:
    """Yields what is wrong with the content of message *at*; the last one is *final*."""
    content, assistant = message.get("content"), message["role"] == "assistant"
    if not isinstance(content, (str, list)):
        yield invalid(f"messages.{at}.content: Field required")
    if not content and not (final and assistant):
        yield invalid(
            f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
        )
    for number, block in enumerate(blocks_of(content)):
        yield from of_block(block, message["role"], f"messages.{at}.content.{number}")
    last = blocks_of(content)[-1] if content else {}
    if assistant and final and last.get("type") == "text" and last["text"] != last["text"].rstrip():
        yield invalid("messages: final assistant content cannot end with trailing whitespace")
    if assistant and last.get("type") in THINKING:
        yield invalid(f"messages.{at}: The final block in an assistant message cannot be `thinking`.")


def of_block(block: Any, role: str, path: str) -> Problems:
    """Yields what is wrong with one block of a message of this *role*, and with those inside it."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        yield invalid(f"{path}.type: Field required")
    for name in block if kind in BLOCKS else ():
        if name not in BLOCKS[str(kind)]:
            yield invalid(f"{path}.{kind}.{name}: Extra inputs are not permitted")
    if (kind in ("tool_use", *THINKING) and role == "user") or (kind == "tool_result" and role == "assistant"):
        other = "assistant" if role == "user" else "user"
        yield invalid(f"{path}: `{kind}` blocks can only be in `{other}` messages")
    match kind:
        case "text":
            yield from of_text(block, "messages")
        case "image":
            yield from of_source(block.get("source"), f"{path}.image.source")
        case "tool_use":
            yield from of_use(block, f"{path}.tool_use")
        case "tool_result":
            for number, part in enumerate(blocks_of(block.get("content") or [])):
                yield from of_block(part, role, f"{path}.tool_result.content.{number}")
        case "thinking":
            # The text and its signature belong together: neither may be changed.
            if block.get("signature") != signature_of(str(block.get("thinking"))):
                yield invalid(f"{path}: Invalid `signature` in `thinking` block")


def of_source(source: Any, path: str) -> Problems:
    """Yields what is wrong with the source of an image: its type, media type or data."""
    kind = source.get("type") if isinstance(source, Mapping) else None
    if kind not in ("base64", "url", "file"):
        yield invalid(f"{path}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "base64" and source.get("media_type") not in IMAGES:
        allowed = ", ".join(f"'{each}'" for each in IMAGES[:-1])
        yield invalid(f"{path}.base64.media_type: Input should be {allowed} or '{IMAGES[-1]}'")
    if kind == "base64" and not is_base64(source.get("data")):
        yield invalid(f"{path}.base64: invalid base64 data")


def of_use(block: Json, path: str) -> Problems:
    """Yields what is wrong with one call: its id, name or input."""
    if not ID.fullmatch(str(block.get("id", ""))):
        yield invalid(f"{path}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not TOOL_NAME.fullmatch(str(block.get("name", ""))):
        yield invalid(f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(block.get("input"), dict):
        yield invalid(f"{path}.input: Input should be a valid dictionary")


# Calls and their results...


def of_kind(message: Json, kind: str) -> list[Json]:
    """Returns the blocks of *message* that have the type *kind*."""
    return [block for block in blocks_of(message["content"]) if block["type"] == kind]


def of_results(messages: Sequence[Json], at: int, message: Json) -> Problems:
    """Yields calls of a message whose results do not stand first in the next one, and results of no call."""
    called = [block["id"] for block in of_kind(message, "tool_use")]
    if called and at + 1 < len(messages):
        answered = list(leading_results(messages[at + 1]))
        absent = [id for id in called if id not in answered]
        if absent:
            yield invalid(
                f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after:"
                f" {', '.join(absent)}. Each `tool_use` block must have a corresponding `tool_result` block in the"
                " next message."
            )
    known = [block["id"] for block in of_kind(messages[at - 1], "tool_use")] if at else []
    seen: set[Any] = set()
    for number, block in enumerate(blocks_of(message["content"])):
        if block["type"] != "tool_result":
            continue
        id, path = block.get("tool_use_id"), f"messages.{at}.content.{number}"
        if id not in known:
            yield invalid(
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must"
                " have a corresponding `tool_use` block in the previous message."
            )
        if id in seen:
            yield invalid(
                f"{path}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
            )
        seen.add(id)


def leading_results(message: Json) -> Iterator[Any]:
    """Yields the ids of the results that a message begins with."""
    for block in blocks_of(message["content"]):
        if block["type"] != "tool_result":
            return
        yield block.get("tool_use_id")


def of_open_turn(body: Json) -> Problems:
    """Yields a turn that is still calling tools with a budget for thinking, but does not begin with what was
    thought."""
    if (body.get("thinking") or {}).get("type") != "enabled":
        return
    messages: list[Json] = body["messages"]
    if messages[-1]["role"] == "assistant":
        yield invalid("messages: the final message must not be an assistant's when `thinking` is enabled")
    first: int | None = None
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] == "assistant":
            first = at
        elif messages[at]["role"] == "user" and not of_kind(messages[at], "tool_result"):
            break
    begins = None if first is None else blocks_of(messages[first]["content"])[0]["type"]
    if begins is not None and begins not in THINKING:
        yield invalid(
            f"messages.{first}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{begins}`. When"
            " `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the"
            " lastmost set of `tool_use` and `tool_result` blocks)."
        )


# Tools and cache...


def of_tools(body: Json) -> Problems:
    """Yields what is wrong with tools, strict schemas and `tool_choice`."""
    names: list[Any] = []
    strict: list[Json] = []
    for at, tool in enumerate(objects(body, "tools")):
        names.append(tool.get("name"))
        if tool.get("type") not in (None, "custom"):
            continue
        path = f"tools.{at}.custom"
        if not TOOL_NAME.fullmatch(str(tool.get("name", ""))):
            yield invalid(f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        schema = tool.get("input_schema")
        if not isinstance(schema, Mapping):
            yield invalid(f"{path}.input_schema: Field required")
        elif schema.get("type") != "object":
            found = "Field required" if "type" not in schema else "Input should be 'object'"
            yield invalid(f"{path}.input_schema.type: {found}")
        elif any(name in schema for name in ("oneOf", "allOf", "anyOf")):
            message = "input_schema does not support oneOf, allOf, or anyOf at the top level"
            yield invalid(f"{path}.input_schema: {message}")
        elif tool.get("strict"):
            strict.append(schema)
            yield from of_schema(schema, path)
    yield from of_schemas(strict, ((body.get("output_config") or {}).get("format") or {}).get("schema"))
    given = [name for name in names if name]
    if len(set(given)) < len(given):
        yield invalid("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is not None and not names:
        yield invalid("tool_choice: Tool choice may only be specified while providing tools.")
    if choice is not None and choice.get("type") == "tool" and choice.get("name") not in names:
        yield invalid(f"Tool '{choice.get('name')}' not found in provided tools")


def of_breakpoints(body: Json) -> Problems:
    """Yields cache breakpoints of which there are more than `MAX_BREAKPOINTS`."""
    blocks = [*objects(body, "tools"), *objects(body, "system")]
    for message in body["messages"]:
        blocks += blocks_of(message["content"])
    found = sum("cache_control" in block for block in blocks)
    if found > MAX_BREAKPOINTS:
        yield invalid(f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {found}.")


def blocks_of(content: Any) -> Sequence[Json]:
    """Returns the blocks of a content, which may be a text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def signature_of(thought: str) -> str:
    """Returns what proves that *thought* is the model's own and whole."""
    return "Eo" + base64.b64encode(hashlib.sha256(b"fake thinking: " + thought.encode()).digest()).decode()
