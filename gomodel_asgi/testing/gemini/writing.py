"""What the model says, as a GenerateContentResponse and as a stream of them (Gemini API, "Generating content")."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..model import Prompt, Speech, as_function, speech
from ..plan import Answer, Headers, Plan, chunked, unary
from .wire import event, signs

Json = dict[str, Any]

JSON: Headers = ((b"content-type", b"application/json; charset=UTF-8"),)
STREAM: Headers = ((b"content-type", b"text/event-stream"),)
REASONS: Mapping[str, str] = {"max_output_tokens": "MAX_TOKENS", "content_filter": "SAFETY"}
OWN = b"fake thought: "
STAND_INS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
"""What may be sent for a signature that there never was (Gemini API, "Thought signatures")."""
CALLED = "Model generated function call(s)."


def signature_of(mark: str) -> str:
    """A thought signature."""
    return base64.b64encode(OWN + mark.encode()).decode()


def is_signature(text: object) -> bool:
    """Whether *text* is a signature of a fake provider's, in one alphabet of base64 or the other, or a stand-in."""
    if not isinstance(text, str):
        return False
    try:
        plain = base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
    except ValueError:
        plain = b""
    return text in STAND_INS or plain.startswith(OWN)


def generated(prompt: Prompt, answer: Answer, suffix: str, *, stream: bool, sse: bool) -> Plan:
    """The reply, as a stream or whole; *suffix* goes into its ids. A stream without *sse* is one JSON list."""
    writer = Writer(prompt, answer, suffix)
    value, chunks = writer.whole(), list(writer.chunks())
    one = unary(200, JSON, json.dumps(value).encode(), value)
    many = chunked(200, STREAM, tuple(map(event, chunks)), value) if sse else chunked(200, JSON, tuple(as_list(chunks)))
    return Plan(many.steps, value, one) if stream else Plan(one.steps, value, many)


def as_list(chunks: list[Json]) -> Iterator[bytes]:
    """*chunks* as the pieces of one JSON list."""
    for number, chunk in enumerate(chunks):
        end = b"]\r\n" if number == len(chunks) - 1 else b""
        yield (b"," if number else b"[") + json.dumps(chunk).encode() + end


class Writer:
    """Writes one answer in both forms."""

    def __init__(self, prompt: Prompt, answer: Answer, suffix: str) -> None:
        self.prompt = prompt
        self.said: Speech = speech(prompt, answer)
        self.suffix = suffix
        self.malformed: str | None = None
        self.calls = list(self.function_calls())
        self.about: Json = {"modelVersion": prompt.model, "responseId": f"fake-{suffix}"}

    # The parts...

    def function_calls(self) -> Iterator[Json]:
        """A part for each call. Arguments come as an object: what is none ends the answer as malformed."""
        for number, call in enumerate(self.said.calls):
            try:
                arguments = json.loads(as_function(self.prompt, call))
            except ValueError:
                arguments = None
            if not isinstance(arguments, dict):
                self.malformed = f"Malformed function call: call:{call.name}{call.text()}"
                return
            value: Json = {"name": call.name, "args": arguments}
            if call.call_id or signs(self.prompt.model):
                value["id"] = call.call_id or f"{self.suffix}{number:02x}"
            yield {"functionCall": value, **(self.signed("call") if number == 0 else {})}

    def signed(self, mark: str) -> Json:
        """The signature of a part; older models sign what they have thought about only."""
        wanted = signs(self.prompt.model) or self.said.thought
        return {"thoughtSignature": signature_of(self.suffix + mark)} if wanted else {}

    @property
    def thought(self) -> list[str]:
        """What of the thinking is shown: nothing, unless the request wants it."""
        config = (self.prompt.body.get("generationConfig") or {}).get("thinkingConfig") or {}
        return list(self.said.thought) if config.get("includeThoughts") else []

    @property
    def ending(self) -> Json:
        """Why the answer ends."""
        incomplete = self.said.incomplete
        if self.malformed is not None:
            return {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": self.malformed}
        if self.said.refusal:
            return {"finishReason": "SAFETY", "finishMessage": "".join(self.said.refusal)}
        if incomplete is not None:
            return {"finishReason": REASONS.get(incomplete, incomplete)}
        return {"finishReason": "STOP", **({"finishMessage": CALLED} if self.calls else {})}

    def usage(self, output: int) -> Json:
        """The counts so far: thoughts apart from the answer, cached tokens among those of the prompt."""
        said = self.said
        counts = {
            "promptTokenCount": said.input,
            "candidatesTokenCount": output,
            "totalTokenCount": said.input + output + said.reasoning,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": said.input}],
            "cachedContentTokenCount": said.cached,
            "thoughtsTokenCount": said.reasoning,
            "serviceTier": "standard",
        }
        return {name: value for name, value in counts.items() if value != 0}

    # In one piece...

    def whole(self) -> Json:
        parts: list[Json] = [{"text": "".join(self.thought), "thought": True}] if self.thought else []
        if self.said.text:
            signed = {} if self.calls else self.signed("text")
            parts.append({"text": "".join(self.said.text), **signed})
        parts += self.calls
        content = {"role": "model", **({"parts": parts} if parts else {})}
        candidate = {"content": content, **self.ending, "index": 0}
        return {"candidates": [candidate], "usageMetadata": self.usage(self.output), **self.about}

    @property
    def output(self) -> int:
        return self.said.output - self.said.reasoning

    # In chunks...

    def chunks(self) -> Iterator[Json]:
        parts = list(self.streamed())
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            ending = self.ending if last else {}
            content = {"role": "model", **({"parts": [part]} if part else {})}
            usage = self.usage(self.output if last else min(number + 1, self.output))
            yield {"candidates": [{"content": content, **ending, "index": 0}], "usageMetadata": usage, **self.about}

    def streamed(self) -> Iterator[Json]:
        """The parts, bit by bit; the signature of a text stands on an empty one at its end."""
        for word in self.thought:
            yield {"text": word, "thought": True}
        for word in self.said.text:
            yield {"text": word}
        yield from self.calls
        signed = self.signed("text") if self.said.text and not self.calls else {}
        if signed:
            yield {"text": "", **signed}
        elif not self.said.text and not self.calls:
            yield {}
