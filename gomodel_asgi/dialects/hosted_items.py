"""Items of hosted tools in a conversation, from us or from another provider, for a model that has no such tool.

Strategy: what an item holds is read in one place, `contents_of`: the question and the result. A tool that
the host runs is a function to the model: its items become calls of that function, each with its result. Others become
text, since a model would call again what it has seen called, and a client knows no function that it did not declare.

History must never refuse a request, and a model that does not see what it has found searches again. What an item lacks
is left out, whatever it holds in its place: these are the client's own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .base import NOTHING_SHOWN, Key, ShownFunctions
from .content import NO_OUTPUT, digest
from .values import object_in, objects, string_in, strings

Json = dict[str, Any]

FAMILIES = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
}
REQUEST, RESPONSE = "mcp_approval_request", "mcp_approval_response"
FAMILY_OF = {**FAMILIES, **dict.fromkeys(("mcp_call", "mcp_list_tools", REQUEST, RESPONSE), "mcp")}
ALL = frozenset(FAMILY_OF.values())
HOSTED_CALLS = frozenset({*FAMILIES, "mcp_call", REQUEST})
"""Items that are read here."""
HOSTED = frozenset(FAMILY_OF)
MARK = re.compile(b'"(?:%s)"' % "|".join(sorted(HOSTED)).encode())
"""What stands in JSON that holds such an item."""
BESIDE = HOSTED | {"function_call", "custom_tool_call", "tool_search_call", "item_reference"}
"""Items that end no turn: calls that follow each other were made in one."""
UNFINISHED = frozenset({"queued", "in_progress", "searching", "interpreting", "generating", "calling", "incomplete"})
BASE64 = re.compile("[A-Za-z0-9+/_-]+={0,2}")
LONGEST_ID = 59
"""Characters of an item's id that make an id of a call: OpenAI takes 64 for that."""
APPROVED = "The user approved this call, but what came of it was not recorded."
NOT_APPROVED = "The user did not approve this call."


@dataclass(frozen=True, slots=True)
class Contents:
    """What an item holds: *question* in words, and as the *arguments* of a function; *found* is what came of it, each
    with a label, and *end* says that it failed or was not finished. *label* is what kind of call it is. *arguments*
    are JSON text where that came from a model."""

    label: str
    question: str
    arguments: Json | str
    found: tuple[str, ...] = ()
    end: str = ""

    @property
    def text(self) -> str:
        """All of it, empty where there is nothing to tell."""
        if not (self.question or self.found or self.end):
            return ""
        begun = f"{self.label}: {self.question}" if self.question and self.label else self.question or self.label
        return "\n".join([begun, *self.found, *filter(None, [self.end])])

    @property
    def result(self) -> str:
        """Returns the call's result as text, never empty."""
        return "\n".join([*self.found, *filter(None, [self.end])]) or NO_OUTPUT


def contents_of(item: Json) -> Contents:
    """What *item* holds; its type is one of `HOSTED_CALLS`."""
    return READERS[item["type"]](item)


def words(item: Json) -> str:
    """*item* in words, empty where there is nothing to tell."""
    return contents_of(item).text


def key_of(item: Json) -> Key:
    """What a function must stand for to be called in place of *item*."""
    family = FAMILIES.get(item["type"])
    return (family,) if family else ("mcp", string_in(item, "server_label"), string_in(item, "name"))


# A conversation with calls of functions in place of such items...


def may_hold(data: bytes) -> bool:
    """Returns whether *data*, JSON, may hold an item of a hosted tool."""
    return (b'_call"' in data or b'"mcp_' in data) and MARK.search(data) is not None


def replayed(
    items: Sequence[Any], shown: ShownFunctions = NOTHING_SHOWN, unread: frozenset[str] = ALL
) -> Iterator[tuple[int, Any]]:
    """*items*, each with its place among them: an approval as a part of the request that it answers, and calls of tools
    that are *shown* as calls of their functions. The results stand behind all calls of the turn. *unread* are the
    families whose items the target cannot read; those of others stay as they are, unless they are shown."""

    def is_rendered(item: Any) -> bool:
        kind = kind_of(item)
        return kind in HOSTED_CALLS and (FAMILY_OF[kind] in unread or key_of(item) in shown.names)

    if not any(is_rendered(item) or kind_of(item) == RESPONSE for item in items):
        yield from enumerate(items)
        return
    verdicts, called = _approvals(items)
    requests = {string_in(item, "id") for item in items if kind_of(item) == REQUEST and is_rendered(item)} - {""}
    results: list[tuple[int, Json]] = []
    for index, item in enumerate(items):
        kind = kind_of(item)
        if kind not in BESIDE:
            yield from results
            results.clear()
        if kind == RESPONSE and string_in(item, "approval_request_id") in requests:
            continue
        if kind == REQUEST and is_rendered(item):
            if string_in(item, "id") in called:
                continue  # the call holds all of it
            item = {**item, "verdict": verdict_on(verdicts.get(string_in(item, "id")))}
        name = shown.names.get(key_of(item)) if kind in HOSTED_CALLS else None
        if name is None:
            yield index, item
            continue
        call, result = _pair(item, name, shown.sees)
        results.append((index, result))
        yield index, call
    yield from results


def kind_of(item: Any) -> str:
    """The type of *item*, empty where it has none."""
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else ""


def _approvals(items: Sequence[Any]) -> tuple[dict[str, Json], set[str]]:
    """The client's answers by the ids of their requests; the ids of requests that led to a call."""
    answers: dict[str, Json] = {}
    called = set()
    for item in items:
        match kind_of(item):
            case "mcp_approval_response":
                answers.setdefault(string_in(item, "approval_request_id"), item)
            case "mcp_call":
                called.add(string_in(item, "approval_request_id"))
    return answers, called - {""}


def verdict_on(answer: Json | None) -> str:
    """Returns what a model reads of a call that waited for the client's *answer*: without one it counts as denied,
    since every call needs a result."""
    if answer is not None and answer.get("approve") is True:
        return APPROVED
    return "\n".join([NOT_APPROVED, *_found("Reason", [string_in(answer or {}, "reason")])])


def _pair(item: Json, name: str, sees: bool) -> tuple[Json, Json]:
    """*item* as a call of the function *name*, and its result."""
    found = contents_of(item)
    arguments = found.arguments if isinstance(found.arguments, str) else compact(found.arguments)
    id = string_in(item, "id")
    if not id or len(id) > LONGEST_ID:
        id = f"{item['type']}_{digest(id or compact(item), 24)}"
    call = {"type": "function_call", "call_id": f"call_{id}", "name": name, "arguments": arguments}
    output: Any = found.result
    if sees and (picture := picture_of(item)):
        url = f"data:{picture[0]};base64,{picture[1]}"
        output = [{"type": "input_text", "text": output}, {"type": "input_image", "image_url": url}]
    return call, {"type": "function_call_output", "call_id": f"call_{id}", "output": output}


def picture_of(item: Json) -> tuple[str, str] | None:
    """Media type and base64 data of the image that *item* holds, None where it holds none that a model takes."""
    format = string_in(item, "output_format") or "png"
    data = string_in(item, "result") if item["type"] == "image_generation_call" else ""
    if not data or format == "svg" or len(data) % 4 or not BASE64.fullmatch(data):
        return None
    return f"image/{format}", data


# One reader for each type of item...


def _web_search(item: Json) -> Contents:
    action = object_in(item, "action")
    kind, url, pattern = action.get("type"), string_in(action, "url"), string_in(action, "pattern")
    results = [_result(each, "title", "url") for each in objects(item.get("results"))]
    found = (*_found("Results", results), *_end_of(item))
    if kind == "open_page":
        return Contents("Web page opened", url, {"query": url}, found)
    if kind == "find_in_page":
        question = f"{url} for {pattern}" if url or pattern else ""
        return Contents("Searched in a web page", question, {"query": f"{pattern} {url}".strip()}, found)
    question = "; ".join(strings(action.get("queries")) or strings([action.get("query")]))
    others = {name: value for name, value in action.items() if name not in ("type", "query", "queries", "sources")}
    if not question and any(value not in (None, "", [], {}) for value in others.values()):
        question = compact(others)
    sources = [string_in(source, "url") or string_in(source, "name") for source in objects(action.get("sources"))]
    return Contents("Web search", question, {"query": question}, (*_found("Sources", sources), *found))


def _file_search(item: Json) -> Contents:
    queries = strings(item.get("queries"))
    results = [_result(each, "filename") for each in objects(item.get("results"))]
    return Contents(
        "File search", "; ".join(queries), {"queries": queries}, (*_found("Results", results), *_end_of(item))
    )


def _code_interpreter(item: Json) -> Contents:
    code, outputs = string_in(item, "code"), objects(item.get("outputs"))
    logs = [string_in(each, "logs") or ("an image" if each.get("type") == "image" else "") for each in outputs]
    found = (*_found("Output", logs), *_end_of(item))
    return Contents("Code that was run", f"\n{code}" if code.strip() else "", {"code": code}, found)


def _image_generation(item: Json) -> Contents:
    prompt, error = string_in(item, "revised_prompt"), object_in(item, "error")
    if item.get("status") == "failed" or error:
        end = _labelled("Failed", string_in(error, "message") or string_in(error, "code"))
        return Contents("An image was to be generated", prompt, {"prompt": prompt}, end=end)
    if string_in(item, "status") in UNFINISHED and not string_in(item, "result"):
        return Contents("An image was to be generated", prompt, {"prompt": prompt}, end="Not finished")
    return Contents(
        "", "An image was generated", {"prompt": prompt}, ("The user sees it.", *_found("Prompt", [prompt]))
    )


def _mcp_call(item: Json) -> Contents:
    error, output = item.get("error"), string_in(item, "output")
    found = _found("Result", [output])
    if error or item.get("status") == "failed":
        return Contents("", _called(item), _arguments(item), found, _labelled("Failed", _error(error)))
    return Contents("", _called(item), _arguments(item), (*found, *_end_of(item)))


def _approval_request(item: Json) -> Contents:
    found = tuple(filter(None, [string_in(item, "verdict")]))
    return Contents("", f"Asked to be allowed to call {_named(item)}", _arguments(item), found)


READERS: dict[str, Callable[[Json], Contents]] = {
    "web_search_call": _web_search,
    "file_search_call": _file_search,
    "code_interpreter_call": _code_interpreter,
    "image_generation_call": _image_generation,
    "mcp_call": _mcp_call,
    REQUEST: _approval_request,
}


def _called(item: Json) -> str:
    return f"Called {_named(item)}"


def _named(item: Json) -> str:
    return f"{string_in(item, 'name')} of the MCP server {string_in(item, 'server_label')} with {_arguments(item)}"


def _arguments(item: Json) -> str:
    given = item.get("arguments")
    return compact(given) if isinstance(given, dict) else string_in(item, "arguments") or "{}"


def _error(error: Any) -> str:
    """The text of an `error` in any of its forms: a string, as it once was, what the server said, or a message."""
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    joined = "\n".join(string_in(part, "text") or compact(part) for part in objects(error.get("content")))
    message, code = joined or string_in(error, "message"), error.get("code")
    if not message:
        return compact(error) if error else ""
    return f"{message} ({code})" if isinstance(code, int) else message


def _end_of(item: Json) -> tuple[str, ...]:
    status = string_in(item, "status")
    return ("Failed",) if status == "failed" else ("Not finished",) if status in UNFINISHED else ()


def _result(result: Json, *names: str) -> str:
    """One thing that was found: its text behind its *names*."""
    named = " ".join(filter(None, (string_in(result, name) for name in names)))
    text = string_in(result, "text") or string_in(result, "snippet")
    return f"{named}: {text}" if named and text else named or text


# Values of any shape...


def _labelled(label: str, text: str) -> str:
    return f"{label}:\n{text}" if text else label


def _found(label: str, texts: Iterable[str]) -> tuple[str, ...]:
    joined = "\n".join(filter(None, texts))
    return (f"{label}:\n{joined}",) if joined else ()


def compact(value: Any) -> str:
    """Returns *value* as JSON without spaces."""
    return msgspec.json.encode(value).decode()
