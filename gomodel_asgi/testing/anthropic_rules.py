"""What the Messages API refuses: shapes, the order of turns, pairs of calls and results, settings that exclude others.

The messages are the API's own, as public bug reports quote them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .anthropic_limits import check_schema, check_schemas, check_settings, invalid, takes_system_messages
from .model import is_base64, listed, objects

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
    """*betas* is the header `anthropic-beta`; *counts* says that tokens are to be counted only.

    :raises Refused: the request breaks a rule.
    """
    check_members(body, betas, COUNTED if counts else MEMBERS)
    if not isinstance(body.get("model"), str):
        raise invalid("model: Field required")
    if not counts:
        check_max_tokens(body)
    check_system(body.get("system"))
    check_tools(body)
    check_messages(body.get("messages"), body["model"])
    check_breakpoints(body)
    check_settings(body)
    check_open_turn(body)


def check_members(body: Json, betas: str, known: frozenset[str]) -> None:
    """Checks that the body has only *known* members, and of a beta only those that *betas* asks for.

    :raises Refused: it has another.
    """
    requested = [each.strip() for each in betas.split(",")]
    for name in body:
        if name not in known or (name in BETA and not any(each.startswith(BETA[name]) for each in requested)):
            raise invalid(f"{name}: Extra inputs are not permitted")


def check_max_tokens(body: Json) -> None:
    """Checks `max_tokens`.

    :raises Refused: it is missing, or not a positive number.
    """
    limit = body.get("max_tokens")
    if limit is None:
        raise invalid("max_tokens: Field required")
    if not isinstance(limit, int) or limit < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")


def check_system(system: Any) -> None:
    """Checks the system prompt.

    :raises Refused: a block of it is no text.
    """
    for block in blocks_of(system) if isinstance(system, (str, list)) else []:
        if block.get("type") != "text":
            raise invalid("system.0.type: Input should be 'text'")
        check_text(block, "system", allow_empty=isinstance(system, str))


def check_text(block: Json, where: str, *, allow_empty: bool = False) -> None:
    """Checks a block of text.

    :raises Refused: it is missing, empty or nothing but whitespace.
    """
    text = block.get("text")
    if not isinstance(text, str):
        raise invalid(f"{where}.text: Field required")
    if not text and not allow_empty:
        raise invalid(f"{where}: text content blocks must be non-empty")
    if text and not text.strip():
        raise invalid(f"{where}: text content blocks must contain non-whitespace text")


# Messages...


def check_messages(messages: Any, model: str) -> None:
    """Roles, blocks, and that each call has its result in the next message.

    :raises Refused: a message breaks a rule.
    """
    if not isinstance(messages, list):
        raise invalid("messages: Field required")
    if not messages:
        raise invalid("messages: at least one message is required")
    for at, message in enumerate(messages):
        check_role(message, at, model)
        check_content(message, at, final=at == len(messages) - 1)
    if messages[0]["role"] == "assistant":
        raise invalid('messages: first message must use the "user" role')
    check_instructions(messages)
    check_ids(messages)
    for at, message in enumerate(messages):
        check_results(messages, at, message)


def check_role(message: Any, at: int, model: str) -> None:
    """Checks the role of message *at*, and that it has no other members than it may.

    :raises Refused: it has.
    """
    role = message.get("role") if isinstance(message, Mapping) else None
    if role == "system" and not takes_system_messages(model):
        raise invalid(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system"'
            " as an input message role."
        )
    if role not in ("user", "assistant", "system"):
        raise invalid(f"messages.{at}.role: Input should be 'user' or 'assistant'")
    for name in message:
        if name not in ("role", "content"):
            raise invalid(f"messages.{at}.{name}: Extra inputs are not permitted")


def check_instructions(messages: Sequence[Json]) -> None:
    """Instructions among the messages follow the user, and the assistant follows them.

    :raises Refused: they do not.
    """
    for at, message in enumerate(messages):
        if message["role"] != "system":
            continue
        if at == 0:
            raise invalid("messages.0: use the top-level 'system' parameter for the initial system prompt")
        follower = messages[at + 1]["role"] if at + 1 < len(messages) else "assistant"
        if messages[at - 1]["role"] != "user" or follower != "assistant":
            raise invalid(f"messages.{at}: a system message must follow a user message and precede an assistant's")


def check_content(message: Json, at: int, *, final: bool) -> None:
    """Checks the content of message *at*; *final* says that it is the last one.

    :raises Refused: it is missing, empty, or ends as it may not.
    """
    content, assistant = message.get("content"), message["role"] == "assistant"
    if not isinstance(content, (str, list)):
        raise invalid(f"messages.{at}.content: Field required")
    if not content and not (final and assistant):
        raise invalid(
            f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
        )
    for number, block in enumerate(blocks_of(content)):
        check_block(block, message["role"], f"messages.{at}.content.{number}")
    last = blocks_of(content)[-1] if content else {}
    if assistant and final and last.get("type") == "text" and last["text"] != last["text"].rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")
    if assistant and last.get("type") in THINKING:
        raise invalid(f"messages.{at}: The final block in an assistant message cannot be `thinking`.")


def check_block(block: Any, role: str, path: str) -> None:
    """Checks one block, and those inside it.

    :raises Refused: it is not valid, or a message of this *role* cannot have it.
    """
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise invalid(f"{path}.type: Field required")
    for name in block if kind in BLOCKS else ():
        if name not in BLOCKS[kind]:
            raise invalid(f"{path}.{kind}.{name}: Extra inputs are not permitted")
    if (kind in ("tool_use", *THINKING) and role == "user") or (kind == "tool_result" and role == "assistant"):
        other = "assistant" if role == "user" else "user"
        raise invalid(f"{path}: `{kind}` blocks can only be in `{other}` messages")
    match kind:
        case "text":
            check_text(block, "messages")
        case "image":
            check_source(block.get("source"), f"{path}.image.source")
        case "tool_use":
            check_use(block, f"{path}.tool_use")
        case "tool_result":
            for number, part in enumerate(blocks_of(block.get("content") or [])):
                check_block(part, role, f"{path}.tool_result.content.{number}")
        case "thinking":
            # The text and its signature belong together: neither may be changed.
            if block.get("signature") != signature_of(str(block.get("thinking"))):
                raise invalid(f"{path}: Invalid `signature` in `thinking` block")


def check_source(source: Any, path: str) -> None:
    """Checks the source of an image.

    :raises Refused: its type, media type or data is not valid.
    """
    kind = source.get("type") if isinstance(source, Mapping) else None
    if kind not in ("base64", "url", "file"):
        raise invalid(f"{path}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "base64" and source.get("media_type") not in IMAGES:
        allowed = ", ".join(f"'{each}'" for each in IMAGES[:-1])
        raise invalid(f"{path}.base64.media_type: Input should be {allowed} or '{IMAGES[-1]}'")
    if kind == "base64" and not is_base64(source.get("data")):
        raise invalid(f"{path}.base64: invalid base64 data")


def check_use(block: Json, path: str) -> None:
    """Checks one call.

    :raises Refused: its id, name or input is not valid.
    """
    if not ID.fullmatch(str(block.get("id", ""))):
        raise invalid(f"{path}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not TOOL_NAME.fullmatch(str(block.get("name", ""))):
        raise invalid(f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(block.get("input"), dict):
        raise invalid(f"{path}.input: Input should be a valid dictionary")


# Calls and their results...


def of_kind(message: Json, kind: str) -> list[Json]:
    """Returns the blocks of *message* that have the type *kind*."""
    return [block for block in blocks_of(message["content"]) if block["type"] == kind]


def check_ids(messages: Iterable[Json]) -> None:
    """Checks that each call has an id of its own.

    :raises Refused: two have the same.
    """
    seen: set[str] = set()
    for message in messages:
        for block in of_kind(message, "tool_use"):
            if block["id"] in seen:
                raise invalid("messages: `tool_use` ids must be unique")
            seen.add(block["id"])


def check_results(messages: Sequence[Json], at: int, message: Json) -> None:
    """The results of a message's calls stand first in the next message; no other result is there.

    :raises Refused: a result is missing, twice there or of no call.
    """
    called = [block["id"] for block in of_kind(message, "tool_use")]
    if called and at + 1 < len(messages):
        answered = list(leading_results(messages[at + 1]))
        missing = [id for id in called if id not in answered]
        if missing:
            raise invalid(
                f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after:"
                f" {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the"
                " next message."
            )
    known = [block["id"] for block in of_kind(messages[at - 1], "tool_use")] if at else []
    seen: set[Any] = set()
    for number, block in enumerate(blocks_of(message["content"])):
        if block["type"] != "tool_result":
            continue
        id, path = block.get("tool_use_id"), f"messages.{at}.content.{number}"
        if id not in known:
            raise invalid(
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must"
                " have a corresponding `tool_use` block in the previous message."
            )
        if id in seen:
            raise invalid(
                f"{path}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
            )
        seen.add(id)


def leading_results(message: Json) -> Iterator[Any]:
    """Yields the ids of the results that a message begins with."""
    for block in blocks_of(message["content"]):
        if block["type"] != "tool_result":
            return
        yield block.get("tool_use_id")


def check_open_turn(body: Json) -> None:
    """With a budget for thinking, a turn that is still calling tools has to begin with what was thought.

    :raises Refused: it does not.
    """
    if (body.get("thinking") or {}).get("type") != "enabled":
        return
    messages: list[Json] = body["messages"]
    if messages[-1]["role"] == "assistant":
        raise invalid("messages: the final message must not be an assistant's when `thinking` is enabled")
    first: int | None = None
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] == "assistant":
            first = at
        elif messages[at]["role"] == "user" and not of_kind(messages[at], "tool_result"):
            break
    begins = None if first is None else blocks_of(messages[first]["content"])[0]["type"]
    if begins is not None and begins not in THINKING:
        raise invalid(
            f"messages.{first}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{begins}`. When"
            " `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the"
            " lastmost set of `tool_use` and `tool_result` blocks)."
        )


# Tools and cache...


def check_tools(body: Json) -> None:
    """Checks tools, strict schemas and `tool_choice`.

    :raises Refused: one is not valid.
    """
    names: list[Any] = []
    strict: list[Json] = []
    for at, tool in enumerate(objects(body, "tools")):
        names.append(tool.get("name"))
        if tool.get("type") not in (None, "custom"):
            continue
        path = f"tools.{at}.custom"
        if not TOOL_NAME.fullmatch(str(tool.get("name", ""))):
            raise invalid(f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        schema = tool.get("input_schema")
        if not isinstance(schema, Mapping):
            raise invalid(f"{path}.input_schema: Field required")
        if schema.get("type") != "object":
            found = "Field required" if "type" not in schema else "Input should be 'object'"
            raise invalid(f"{path}.input_schema.type: {found}")
        if any(name in schema for name in ("oneOf", "allOf", "anyOf")):
            message = "input_schema does not support oneOf, allOf, or anyOf at the top level"
            raise invalid(f"{path}.input_schema: {message}")
        if tool.get("strict"):
            strict.append(schema)
            check_schema(schema, path)
    check_schemas(strict, ((body.get("output_config") or {}).get("format") or {}).get("schema"))
    if len(set(filter(None, names))) < len(list(filter(None, names))):
        raise invalid("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is not None and not names:
        raise invalid("tool_choice: Tool choice may only be specified while providing tools.")
    if choice is not None and choice.get("type") == "tool" and choice.get("name") not in names:
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")


def check_breakpoints(body: Json) -> None:
    """Checks the number of cache breakpoints.

    :raises Refused: there are more than `MAX_BREAKPOINTS`.
    """
    blocks = [*objects(body, "tools"), *(block for block in listed(body, "system") if isinstance(block, Mapping))]
    for message in body["messages"]:
        blocks += blocks_of(message["content"])
    found = sum("cache_control" in block for block in blocks)
    if found > MAX_BREAKPOINTS:
        raise invalid(f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {found}.")


def blocks_of(content: Any) -> Sequence[Json]:
    """Returns the blocks of a content, which may be a text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def signature_of(thought: str) -> str:
    """Returns what proves that *thought* is the model's own and whole."""
    return "Eo" + base64.b64encode(hashlib.sha256(b"fake thinking: " + thought.encode()).digest()).decode()
