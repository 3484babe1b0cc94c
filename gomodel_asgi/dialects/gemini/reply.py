"""Reads GenerateContentResponse objects: one of a unary reply, or those of a stream one after the other.

Strategy: every object goes through the same steps (model, usage, parts, reason), and the response ends when no more
can come, in `close`. Not at the first finishReason, since parts, newer usage and errors may follow it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UpstreamRejected
from ...wire.event_writer import Emitter
from ...wire.usage import count, of_gemini
from ..base import Call
from ..conversation import offered_tools
from ..emulations import json_only
from ..failure import GARBLED, garbled
from . import errors, hosted, output
from .hosted import HOSTED
from .output import Output

Json = dict[str, Any]

KNOWN = frozenset({"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"})


class Reply:
    """The translator of one reply."""

    def __init__(self, call: Call, emitter: Emitter) -> None:
        self.emitter = emitter
        pack = functools.partial(output.pack, provider=call.type, model=call.model)
        tools = functools.cache(lambda: offered_tools(call, HOSTED))
        self.output = Output(emitter, pack, tools, json=json_only(call))
        self.reason = ""
        self.message = ""
        self.blocked = ""

    def feed(self, event: str, data: bytes) -> None:
        """One object of the API; a list of them counts as that many."""
        if self.emitter.terminal is not None or data.strip() == b"[DONE]":
            return
        value = errors.decode(data)
        for item in value if isinstance(value, list) else [value]:
            if self.emitter.terminal is None:
                self._read(errors.record(item))

    def close(self) -> None:
        """The end of a stream, or of a unary body, is a proper one if a reason was given."""
        if self.emitter.terminal is None and (self.reason or self.blocked):
            self.output.finish()
            self._end()

    def _end(self) -> None:
        if self.reason:
            end(self.emitter, self.reason, self.message, usable=self.output.usable)
        else:
            self.emitter.warn(f"The prompt was blocked: {self.blocked}")
            self.emitter.incomplete("content_filter")

    def _read(self, chunk: Json) -> None:
        """Reads one chunk of the stream, or the whole reply.

        :raises ValueError: it has no member that the API knows.
        """
        if chunk.get("usageMetadata") is not None:
            self._usage(errors.record(chunk["usageMetadata"]))
        if "error" in chunk and (error := errors.read(chunk)) is not None:
            self.emitter.fail(error)
            return
        if not chunk.keys() & KNOWN:
            raise ValueError("not a GenerateContentResponse")
        version, candidates = errors.string(chunk.get("modelVersion")), errors.records(chunk.get("candidates"))
        if not self.emitter.begun and not _is_garbled(candidates):
            self.emitter.begin(version or None)
        if "promptFeedback" in chunk:
            self.blocked = errors.string(errors.record(chunk["promptFeedback"]).get("blockReason")) or self.blocked
        # Only one candidate is ever requested.
        for candidate in candidates[:1]:
            self._candidate(candidate)

    def _usage(self, metadata: Json) -> None:
        if not metadata:
            return
        self.emitter.usage(of_gemini(metadata), metadata)
        if tier := TIERS.get(errors.string(metadata.get("serviceTier"))):
            self.emitter.response["service_tier"] = tier

    def _candidate(self, candidate: Json) -> None:
        if "groundingMetadata" in candidate or "citationMetadata" in candidate:
            self.output.grounding.read(candidate)
        parts = _parts_of(candidate)
        result = candidate.get("logprobsResult")
        logprobs = [] if result is None else read_logprobs(errors.record(result))
        for part in parts:
            given = logprobs if part.get("text") and not part.get("thought") else []
            logprobs = [] if given else logprobs
            self._part(part, given)
        if "urlContextMetadata" in candidate:
            for page in errors.records(errors.record(candidate["urlContextMetadata"]).get("urlMetadata")):
                self.output.page(errors.string(page.get("retrievedUrl")))
        self.reason = errors.string(candidate.get("finishReason")) or self.reason
        self.message = errors.string(candidate.get("finishMessage")) or self.message

    def _part(self, part: Json, logprobs: list[Json]) -> None:
        signature = errors.string(part.get("thoughtSignature"))
        if "text" in part:
            text = errors.string(part["text"])
            if part.get("thought"):
                self.output.thought(text, signature)
            else:
                self.output.text(text, signature, logprobs)
            return
        for name, reader in READERS.items():
            if name in part:
                return reader(self, part, errors.record(part[name]), signature)
        self._unknown(part, signature)

    # One method for each kind of part...

    def _call(self, part: Json, call: Json, signature: str) -> None:
        """Reads a function call.

        :raises ValueError: it has no name.
        """
        name = errors.string(call.get("name"))
        if not name:
            raise ValueError("a function call without a name")
        self.output.call(name, errors.string(call.get("id")), errors.record(call.get("args")), signature)

    def _data(self, part: Json, data: Json, signature: str) -> None:
        media_type = errors.string(data.get("mimeType"))
        if media_type.startswith("image/") and not part.get("thought"):
            self.output.image(errors.string(data.get("data")), media_type, signature)
        else:
            self._unknown(part, signature)

    def _code(self, part: Json, code: Json, signature: str) -> None:
        self.output.keep(part, hosted.code(code))

    def _result(self, part: Json, result: Json, signature: str) -> None:
        self.output.keep(part)
        if not hosted.put_result(self.output.hosted_items, result):
            self.emitter.warn("a codeExecutionResult without its code")

    def _tool_call(self, part: Json, call: Json, signature: str) -> None:
        receipt = hosted.tool_call(call)
        self.output.keep(part, receipt)
        if receipt is None:
            self.emitter.warn(f"toolCall of {errors.string(call.get('toolType'))}")

    def _tool_response(self, part: Json, response: Json, signature: str) -> None:
        self.output.keep(part)

    def _unknown(self, part: Json, signature: str) -> None:
        """Keeps a signed part that no item can hold for the next turn, and warns observers."""
        if signature:
            self.output.keep(part)
        if not part.get("thought"):
            self.emitter.warn(f"a part with {', '.join(sorted(part))}"[:200])


READERS: Mapping[str, Callable[[Reply, Json, Json, str], None]] = {
    "functionCall": Reply._call,
    "inlineData": Reply._data,
    "executableCode": Reply._code,
    "codeExecutionResult": Reply._result,
    "toolCall": Reply._tool_call,
    "toolResponse": Reply._tool_response,
}


class CountReply:
    """The translator of a countTokens reply. What it leaves as the emitter's `response` is the whole answer."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter

    def feed(self, event: str, data: bytes) -> None:
        """Takes the body.

        :raises ValueError: it is no count of tokens.
        """
        body = errors.record(errors.decode(data))
        if (error := errors.read(body)) is not None:
            self.emitter.fail(error)
            return
        if "totalTokens" not in body:
            raise ValueError("not a CountTokensResponse")
        counted = {
            "promptTokenCount": body["totalTokens"],
            "cachedContentTokenCount": body.get("cachedContentTokenCount"),
        }
        self.emitter.usage(of_gemini(counted), body)
        self.emitter.complete()
        self.emitter.response = {"object": "response.input_tokens", "input_tokens": count(body["totalTokens"])}

    def close(self) -> None:
        """Nothing is left to say."""


# `logprobsResult` as the logprobs of an output_text part.


def read_logprobs(result: Json) -> list[Json]:
    """One entry for each chosen token, with the alternatives that were requested."""
    chosen = errors.records(result.get("chosenCandidates"))
    others = errors.records(result.get("topCandidates"))
    others += [{}] * (len(chosen) - len(others))
    return [_entry(token, errors.records(top.get("candidates"))) for token, top in zip(chosen, others, strict=False)]


def _entry(token: Json, alternatives: list[Json]) -> Json:
    return {**_token(token), "top_logprobs": [_token(alternative) for alternative in alternatives]}


def _token(candidate: Json) -> Json:
    """Returns a token with its log probability, as the Responses API shows it.

    :raises ValueError: the probability is no number.
    """
    token = errors.string(candidate.get("token"))
    logprob = candidate.get("logProbability")
    if logprob is not None and (isinstance(logprob, bool) or not isinstance(logprob, (int, float))):
        raise ValueError("not a probability")
    return {"token": token, "logprob": logprob or 0.0, "bytes": list(token.encode("utf-8", "surrogatepass"))}


# How a Gemini reply ends, and what it cost (GenerateContentResponse: finishReason, promptFeedback, usageMetadata).


TIERS = {"standard": "default", "flex": "flex", "priority": "priority"}
"""Service tiers of `usageMetadata` as the Responses API calls them."""

FILTERED = frozenset(
    "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION"
    " MODEL_ARMOR".split()
)

BROKEN = GARBLED - {"UNEXPECTED_TOOL_CALL"} | {"TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"}
"""What was to come did not: what came before it is no answer, since a call was meant to follow."""

EMPTY = frozenset({"UNEXPECTED_TOOL_CALL", "OTHER", "LANGUAGE", "NO_IMAGE", "IMAGE_OTHER"})
"""Failures only where nothing usable came."""


def end(emitter: Emitter, reason: str, message: str, *, usable: bool) -> None:
    """Ends the response. *usable*: it holds text, an image or a call."""
    if reason == "STOP":
        emitter.complete()
    elif reason == "MAX_TOKENS":
        emitter.incomplete("max_output_tokens")
    elif reason in FILTERED:
        emitter.incomplete("content_filter")
    elif reason in BROKEN or (reason in EMPTY and not usable):
        text = message or f"The model stopped without an answer ({reason})."
        emitter.fail(garbled(reason, message) if reason in GARBLED else UpstreamRejected(text, status=502, code=reason))
    else:
        emitter.warn(f"finishReason {reason}: {message}" if message else f"finishReason {reason}")
        emitter.complete()


def _is_garbled(candidates: list[Json]) -> bool:
    """Returns whether nothing but a garbled call has come: an answer that has not begun can be requested again."""
    reason = candidates[0].get("finishReason") if candidates else None
    return isinstance(reason, str) and reason in GARBLED and not any(_parts_of(candidates[0]))


def _parts_of(candidate: Json) -> list[Json]:
    return errors.records(errors.record(candidate.get("content")).get("parts"))
