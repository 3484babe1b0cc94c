"""Where text stands in a request and in a reply.

The rule is the wrong way round on purpose: every string is a text place but those members that are known to hold
none (ids, types, credentials, bytes of files). What is not known here is looked at, so that a new kind of item cannot
pass unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ..dialects.base import PREFIX, packed_json, resealed
from ..wire.json_scan import Unreadable, tree

Path = tuple[str | int, ...]
Place = tuple[Path, str]

IDENTIFIERS = frozenset({
    "type", "id", "object", "status", "role", "call_id", "item_id", "phase", "file_id", "container_id", "model",
    "approval_request_id", "response_id", "skill_id", "vector_store_id", "strict", "format", "detail", "server_label",
})  # fmt: skip
"""Members that identify or classify something, and hold no text."""
SEALED = frozenset({
    "encrypted_content", "authorization", "headers", "server_url", "file_data", "partial_image_b64", "b64_json",
    "signature", "logprobs", "domain_secrets",
})  # fmt: skip
"""Members that hold bytes, what only its maker reads, or a credential, which is shown to no guard."""
KNOWN = frozenset({
    "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning",
    "file_search_call", "web_search_call", "computer_call", "computer_call_output", "code_interpreter_call",
    "image_generation_call", "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
    "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call",
    "apply_patch_call_output", "tool_search_call", "tool_search_output", "compaction", "item_reference",
})  # fmt: skip
"""Items whose identifiers are known to be no words. Of any other, all but its `type` and `id` may be."""
BYTES = {"image_generation_call": frozenset({"result"}), "input_audio": frozenset({"data"})}
"""Members that hold bytes in an object of that type alone."""
SETTINGS = frozenset({
    "type", "event_id", "stream_id", "model", "provider", "stream", "stream_options", "store", "background", "generate",
    "background_options", "previous_response_id", "conversation", "include", "parallel_tool_calls", "max_tool_calls",
    "max_output_tokens", "temperature", "top_p", "top_logprobs", "truncation", "reasoning", "context_management",
    "service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "user",
})  # fmt: skip
"""The members of a request's body that hold no text: choices among words of the API, numbers, and names."""
SAID = ("instructions", "input", "items", "prompt", "tools", "tool_choice", "text", "metadata")
"""Those in which the gateway knows its way; of all others every string is a text. A response repeats most of both."""
REPLY = SETTINGS | {*SAID} | {
    "id", "object", "created_at", "completed_at", "status", "output", "usage", "incomplete_details", "billing",
    "frequency_penalty", "presence_penalty",
}  # fmt: skip
"""The members of a response in which nobody speaks but whom the request has quoted."""
SCHEMAS = frozenset({"parameters", "schema", "input_schema", "output_schema"})
"""Members whose own members are named by whoever wrote the schema: none of those stands for a credential."""
KEYWORDS = frozenset({"type", "format"})
"""All that a schema says in words of its own."""
EXAMPLES = frozenset({"default", "const", "enum", "examples", "example"})
"""Where a schema holds values, whose members are named like any others."""
NAMED = frozenset({"attributes", "annotations", "env", "metadata"})
"""Objects whose members somebody else has named: none of those is an identifier or a credential."""
SIGNED = frozenset({"signature", "thoughtSignature", "data", "call"})
"""What in the state of an upstream, as the gateway packs it, only its maker reads."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, Unreadable)


def of_request(body: Mapping[str, Any]) -> Iterator[Place]:
    """Every text of a request's *body*, and where it stands."""
    for name in [*SAID, *(name for name in body if name not in SAID and name not in SETTINGS)]:
        value = body.get(name)
        if name in ("input", "items"):
            yield from of_items(value, (name,))
        elif name == "prompt":
            yield from _variables(value)
        elif name in ("tools", "tool_choice"):
            yield from of_tools(value, (name,))
        elif name == "metadata" or name not in SAID:
            yield from strings(value, (name,))
        else:
            yield from _walk(value, (name,), IDENTIFIERS)


def of_tools(value: Any, path: Path) -> Iterator[Place]:
    """Every text of *value*, tools as they are declared, which stand at *path*: their names are nobody's words."""
    yield from _walk(value, path, IDENTIFIERS | {"name"})


def of_reply(body: Mapping[str, Any]) -> Iterator[Place]:
    """Every text of a reply's *body* that is not the request's: of its items, and of what is not known here."""
    if isinstance(body.get("output"), list):
        yield from of_items(body["output"], ("output",))
        for name, value in body.items():
            if name == "error":
                yield from strings(value, (name,), frozenset({"type", "code", "param"}))
            elif name not in REPLY:
                yield from strings(value, (name,), frozenset({"type"}))
    elif isinstance(body.get("data"), list):
        yield from of_items(body["data"], ("data",))
    elif body.get("object") is None and isinstance(body.get("type"), str):
        yield from of_item(body)
    else:
        yield from strings(body, (), REPLY - {"output"})


def of_kept(body: Mapping[str, Any]) -> Iterator[Place]:
    """Every text of a reply's *body* that shows what was kept: what a request has said, perhaps before there were
    guards, as well."""
    yield from of_reply(body)
    yield from of_request(body)


def of_items(value: Any, path: Path) -> Iterator[Place]:
    """Every text of *value*, the items (or one text) that stand at *path*."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from of_item(item, (*path, number))
    elif isinstance(value, dict):
        yield from of_item(value, path)


def of_item(item: Any, path: Path = ()) -> Iterator[Place]:
    """Every text of one *item* that stands at *path*."""
    if not isinstance(item, dict):
        yield from _walk(item, path, frozenset())
        return
    known = item.get("type", "message") in KNOWN
    for name, value in item.items():
        own = BYTES.get(str(item.get("type")), frozenset())
        if name in ("type", "id") or name in SEALED or name in own or (known and name in IDENTIFIERS):
            if name == "encrypted_content":
                yield from _sealed(value, (*path, name))
            continue
        if name in ("arguments", "action", "actions", "operation", "error") and isinstance(value, dict | list):
            yield from strings(value, (*path, name), frozenset({"type"}))
        else:
            yield from _walk(value, (*path, name), IDENTIFIERS if known else frozenset({"type"}))


def of_event(event: Mapping[str, Any], skipped: frozenset[str]) -> Iterator[Place]:
    """Every text of an *event* that is no delta, but for its members that are *skipped*."""
    for name, value in event.items():
        if name in ("part", "annotation"):
            yield from _walk(value, (name,), IDENTIFIERS)
        else:
            yield from strings({name: value}, (), skipped | SEALED)


def replaced(value: Any, texts: Mapping[Path, str]) -> Any:
    """Returns *value* with *texts* at their paths; what changes is copied, and nothing else is."""
    return _replaced(value, [(path, text) for path, text in texts.items()]) if texts else value


def spelled(path: Path) -> str:
    """Returns *path* as it is written: `input[0].content[1].text`."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return words.removeprefix(".")


def _variables(prompt: Any) -> Iterator[Place]:
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    for name, value in variables.items() if isinstance(variables, dict) else ():  # the client has named them
        yield from _walk(value, ("prompt", "variables", name), frozenset({"type", "file_id", "detail"}))


def _walk(value: Any, path: Path, skipped: frozenset[str], closed: frozenset[str] = SEALED) -> Iterator[Place]:
    if isinstance(value, dict):
        sealed = closed | BYTES.get(str(value.get("type")), frozenset())
        if "format" in value and isinstance(value.get("data"), str):
            sealed = sealed | {"data"}  # sound
        for name, each in value.items():
            if name in sealed or (name in skipped and not isinstance(each, dict | list)):
                continue
            in_schema = skipped is KEYWORDS
            if (in_schema and name in EXAMPLES) or (name in NAMED and isinstance(each, dict) and not in_schema):
                yield from strings(each, (*path, name))
            elif name in SCHEMAS:
                yield from _walk(each, (*path, name), KEYWORDS, frozenset())
            else:
                yield from _walk(each, (*path, name), skipped, closed)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _walk(each, (*path, number), skipped, closed)
    elif isinstance(value, str) and not (value.startswith("data:") and path and str(path[-1]).endswith("url")):
        yield path, value


def _sealed(value: Any, path: Path) -> Iterator[Place]:
    """Every text in what the gateway itself has packed into an `encrypted_content`, which is not encrypted: thoughts,
    and parts of turns, that go back to their upstream."""
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return
    try:
        state = tree(packed_json(value) or b"null")
    except UNREADABLE:
        return
    if isinstance(state, dict):
        yield from _walk(state.get("payload"), (*path, "payload"), IDENTIFIERS, SIGNED)


def strings(value: Any, path: Path, skipped: frozenset[str] = frozenset()) -> Iterator[Place]:
    """Every string, whatever it is called, but for members at the top that are *skipped*: in objects whose members
    somebody else has named."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in skipped:
                yield from strings(each, (*path, name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from strings(each, (*path, number), skipped)
    elif isinstance(value, str):
        yield path, value


def _replaced(value: Any, texts: list[tuple[Path, str]]) -> Any:
    if texts and not texts[0][0]:
        return texts[0][1]
    if isinstance(value, str):
        return _resealed(value, texts)
    below: dict[str | int, list[tuple[Path, str]]] = {}
    for path, text in texts:
        below.setdefault(path[0], []).append((path[1:], text))
    made = value.copy()
    for key, found in below.items():
        made[key] = _replaced(value[key], found)
    return made


def _resealed(value: str, texts: list[tuple[Path, str]]) -> str | None:
    """Returns what was packed into *value* with *texts* in it. What is signed with its text is left out: its maker
    would not take it any more."""
    state: Any = replaced(tree(packed_json(value)), dict(texts))
    changed = {path[:depth] for path, _ in texts for depth in range(len(path))}
    payload = _unsigned(state["payload"], ("payload",), changed)
    return resealed({**state, "payload": payload}) if any(payload.values()) else None


def _unsigned(value: Any, path: Path, changed: set[Path]) -> Any:
    if isinstance(value, dict):
        return {name: _unsigned(each, (*path, name), changed) for name, each in value.items()}
    if not isinstance(value, list):
        return value
    kept = [
        (number, each) for number, each in enumerate(value) if (*path, number) not in changed or not _is_signed(each)
    ]
    return [_unsigned(each, (*path, at), changed) for at, each in kept]


def _is_signed(value: Any) -> bool:
    if isinstance(value, dict):
        return any(name in ("signature", "thoughtSignature") or _is_signed(each) for name, each in value.items())
    return isinstance(value, list) and any(map(_is_signed, value))
