"""Reads chat replies, whole or in chunks.

Strategy: a whole body is read as one chunk whose `message` is its delta. The end is not the chunk with
the `finish_reason`: usage, or an error that undoes it, may follow. It is `[DONE]`, or a proper end of the stream after
a finish_reason, or the whole body's own end.
"""

from __future__ import annotations

from typing import Any

from ...wire.event_writer import Emitter
from ...wire.json_scan import parsed
from ...wire.response import Reason
from ...wire.usage import of_chat
from ..base import Call
from ..content import Json
from ..failure import GARBLED, failure_in, garbled
from ..values import list_in, objects, string_in
from .output import Output, error_of, logprobs_of, status_error

INCOMPLETE: dict[str, Reason] = {
    "length": "max_output_tokens",
    "model_length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
}
FAILED = frozenset({"error", "network_error", "insufficient_system_resource"})
COMPLETED = frozenset({"", "stop", "tool_calls", "function_call", "eos", "end_turn"})
FILTERED_CALL = "function_call_filter: "
"""Stands before Gemini's own reason at its OpenAI endpoint."""
COMMON = frozenset({"role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning", "reasoning_details"})
REASONING_MEMBERS = ("reasoning_content", "reasoning")
REPORTING = frozenset({"error", "base_resp"})
"""Members of a chunk that may report an error beside choices."""
THOUGHTS = frozenset({*REASONING_MEMBERS, "reasoning_details"})


class ChatTranslator:
    """Reads one reply; see `Translator`."""

    def __init__(self, call: Call, emitter: Emitter) -> None:
        self.call = call
        self.emitter = emitter
        self.output = Output(call, emitter)
        self.finish: str | None = None
        self.garbled = ""
        """Gemini's reason for ending an answer that its model has garbled."""
        self.chosen = False
        self.citations: list[Any] = []

    def feed(self, event: str, data: bytes) -> None:
        """Takes a chunk, a whole body, or `[DONE]`.

        :raises ValueError: it is not what Chat Completions sends.
        """
        if self.emitter.terminal is not None:
            return
        if data.strip() == b"[DONE]":
            if self.chosen:
                self.end()
            return
        try:
            chunk = parsed(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(chunk, dict):
            raise ValueError("not an object")
        if chunk.get("usage") or "x_groq" in chunk:
            self.count(chunk)
        doubtful = event == "error" or chunk.get("choices") is None or chunk.get("object") == "error"
        doubtful = doubtful or not REPORTING.isdisjoint(chunk)
        if doubtful and (failure := self.failure(event, chunk)) is not None:
            self.emitter.fail(failure_in(failure))
        elif choices := chunk.get("choices"):
            self.choices(choices, chunk)
        elif choices is None and not self.call.stream and not self.chosen:
            raise ValueError("a chat reply without choices")

    def close(self) -> None:
        """Ends the response if a finish_reason has come."""
        if self.emitter.terminal is None and self.finish:
            self.end()

    # Chunks...

    def failure(self, event: str, chunk: Json) -> Json | None:
        """Returns the error that a chunk reports outside of its choices, None if it reports none."""
        if chunk.get("error") or event == "error" or chunk.get("object") == "error":
            return error_of(chunk) or {"message": "The upstream reported an error."}
        if (error := status_error(chunk)) is not None:
            return error
        return error_of(chunk) if chunk.get("choices") is None else None

    def count(self, chunk: Json) -> None:
        """Takes the usage of a chunk; Groq's stands in `x_groq`."""
        raw = chunk.get("usage")
        if not raw and isinstance(chunk.get("x_groq"), dict):
            raw = chunk["x_groq"].get("usage")
        if raw and (found := of_chat(raw)):
            self.emitter.usage(found, raw)

    def choices(self, choices: Any, chunk: Json) -> None:
        """Takes the piece of the answer, or all of it, that the *choices* of a chunk hold; only the first choice is
        ever requested.

        :raises ValueError: they are no list, or hold what no choice holds.
        """
        if not isinstance(choices, list):
            raise ValueError("choices is not an array")
        if not self.chosen or chunk.get("service_tier") or chunk.get("citations"):
            self.begin(chunk)
        for choice in choices:
            ended = self.emitter.terminal is not None  # by a whole choice before this one
            if ended or not isinstance(choice, dict) or choice.get("index"):
                continue
            if error := choice.get("error"):
                self.emitter.fail(failure_in(error_of({"error": error}) or {}))
                continue
            delta, whole = choice.get("delta"), False
            if delta is None:
                delta, whole = choice.get("message"), True
            if delta and isinstance(delta, dict):
                self.delta(delta, choice, whole)
            if finish := choice.get("finish_reason"):
                self.finish = str(finish)
                is_plain = self.finish in COMPLETED and "native_finish_reason" not in choice
                self.garbled = "" if is_plain else _garbled_in(choice)
            if whole and isinstance(delta, dict):
                self.end()

    def begin(self, chunk: Json) -> None:
        """Begins the response, and takes its tier, model and citations from the chunk."""
        self.chosen = True
        tier, model, citations = chunk.get("service_tier"), chunk.get("model"), chunk.get("citations")
        if tier and isinstance(tier, str):
            self.emitter.response["service_tier"] = tier
        if citations and isinstance(citations, list):
            self.citations = citations
        first = chunk["choices"][0]
        ends = isinstance(first, dict) and first.get("finish_reason")
        if not self.emitter.begun and not (ends and _garbled_alone(first)):
            self.emitter.begin(model if isinstance(model, str) else None)

    # Deltas...

    def delta(self, delta: Json, choice: Json, whole: bool) -> None:
        """Writes what a choice adds to the response; *whole*: nothing follows."""
        if not THOUGHTS.isdisjoint(delta):
            self.reasoning(delta)
        if content := delta.get("content"):
            if isinstance(content, str):
                self.output.text(content, logprobs_of(choice) if choice.get("logprobs") else None)
            else:
                self.parts(content)
        if (refusal := delta.get("refusal")) and isinstance(refusal, str):
            self.output.refusal(refusal)
        if calls := delta.get("tool_calls"):
            self.calls(calls, whole)
        if not delta.keys() <= COMMON:
            self.rare(delta)

    def rare(self, delta: Json) -> None:
        """Reads members that only few servers send."""
        if isinstance(legacy := delta.get("function_call"), dict) and (legacy.get("name") or legacy.get("arguments")):
            self.calls([{"index": 0, "function": legacy}], False)
        if isinstance(extra := delta.get("extra_content"), dict):
            self.output.memory.signature("", extra)
        for image in list_in(delta, "images"):
            self.image(image)
        for annotation in list_in(delta, "annotations"):
            self.annotation(annotation)
        for tool in list_in(delta, "executed_tools"):
            kind = str(tool.get("type"))[:64] if isinstance(tool, dict) else "unknown"
            self.emitter.warn(f"the server ran a tool: {kind}")
        if delta.get("audio"):
            self.emitter.warn("audio was left out")

    def reasoning(self, delta: Json) -> None:
        """Adds reasoning, which may come under several names at once: its text is taken once, its details are kept."""
        text = ""
        for name in REASONING_MEMBERS:
            value = delta.get(name)
            if value and isinstance(value, str):
                text = value
                self.output.memory.text(name, value)
                break
        details = objects(delta.get("reasoning_details"))
        for detail in details:
            self.output.memory.detail(detail)
        if text := text or "".join(map(_detail_text, details)):
            self.output.reasoning(text)

    def parts(self, content: Any) -> None:
        """Takes content that comes as a list of parts."""
        for part in objects(content):
            self.part(part)

    def part(self, part: Json) -> None:
        """Content parts, as Mistral sends them."""
        kind, text = part.get("type"), part.get("text")
        if kind == "text" and isinstance(text, str):
            if text:
                self.output.text(text)
        elif kind == "thinking":
            thought = _thinking(part.get("thinking"))
            if thought:
                self.output.memory.text("thinking", thought)
                self.output.reasoning(thought)
        else:
            self.emitter.warn(f"a content part of type {str(kind)[:64]} was left out")

    def calls(self, calls: Any, whole: bool) -> None:
        """Takes pieces of tool calls.

        :raises ValueError: *calls* is no list of objects.
        """
        if not isinstance(calls, list):
            raise ValueError("tool_calls is not an array")
        for call in calls:
            call_id = self.output.tool_call(call, whole)
            extra = call.get("extra_content")
            if call_id and isinstance(extra, dict):
                self.output.memory.signature(call_id, extra)

    def image(self, image: Any) -> None:
        """Adds an image that is a data URL; warns of any other."""
        place = image.get("image_url") if isinstance(image, dict) else None
        url = place.get("url") if isinstance(place, dict) else None
        head, _, data = url.partition(";base64,") if isinstance(url, str) else ("", "", "")
        if head.startswith("data:image/") and data:
            self.output.image(data, head.removeprefix("data:image/"))
        else:
            self.emitter.warn("an image that is not inline was left out")

    def annotation(self, annotation: Any) -> None:
        """Adds a URL citation; warns of any other annotation."""
        cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(cited, dict) and isinstance(cited.get("url"), str):
            self.output.annotate(_citation(cited["url"], cited))
        else:
            self.emitter.warn("an annotation that is no URL citation was left out")

    # The end...

    def end(self) -> None:
        """Ends the response as its finish_reason says."""
        finish = self.finish or ""
        if self.garbled:
            self.emitter.fail(garbled(self.garbled))
            return
        if finish in FAILED:
            self.emitter.fail(failure_in({"message": f"The upstream ended its answer with `{finish}`."}))
            return
        if self.citations and self.output.message is not None and not self.output.message.closed:
            end = self.output.message.length()
            for url in self.citations:
                if isinstance(url, str):
                    self.output.annotate(_citation(url, {"start_index": end, "end_index": end}))
        self.output.end()
        if finish in INCOMPLETE:
            self.emitter.incomplete(INCOMPLETE[finish])
            return
        if finish not in COMPLETED:
            self.emitter.warn(f"unknown finish_reason {finish[:64]}")
        self.emitter.complete()


def _garbled_in(choice: Json) -> str:
    """Returns the reason by which *choice* reports a garbled call, empty where it does not: Gemini's own, as
    its OpenAI endpoint and (`native_finish_reason`) OpenRouter pass it on."""
    filtered, own = str(choice.get("finish_reason")), str(choice.get("native_finish_reason"))
    reason = filtered.removeprefix(FILTERED_CALL).upper() if filtered.startswith(FILTERED_CALL) else own
    return reason if reason in GARBLED else ""


def _garbled_alone(choice: Json) -> bool:
    """Returns whether *choice* is nothing but the end of a garbled answer: one that has not begun can be asked for
    again."""
    delta = choice.get("delta")
    if not _garbled_in(choice):
        return False
    return not isinstance(delta, dict) or not any(value for name, value in delta.items() if name != "role")


def _detail_text(detail: Json) -> str:
    text = detail.get("text") or detail.get("summary")
    return text if isinstance(text, str) else ""


def _thinking(value: Any) -> str:
    """Returns the text of a thinking part: a string, or a list of text parts."""
    if isinstance(value, str):
        return value
    return "".join(string_in(part, "text") for part in objects(value))


def _citation(url: str, cited: Json) -> Json:
    start, end, title = cited.get("start_index"), cited.get("end_index"), cited.get("title")
    return {
        "type": "url_citation",
        "url": url,
        "title": title if isinstance(title, str) else "",
        "start_index": start if isinstance(start, int) else 0,
        "end_index": end if isinstance(end, int) else 0,
    }
