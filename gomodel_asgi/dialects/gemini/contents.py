"""Turns as `contents`: who says what, in Gemini's two roles.

Strategy: model turns are put together again from their items and from what was sealed in between (see `memory`). Tool
outputs stand in a content of their own, in the order of the calls that they answer, since Gemini pairs them by name and
order wherever it gave no ids. Consecutive messages of the user are one content.
"""

from __future__ import annotations

from typing import Any

from ..base import Call
from ..conversation import arguments_object
from ..losses import Losses
from ..parts import Audio, File, Image, Opaque, Part, Reasoning, Refusal, Text, ToolCall, ToolOutput, Turn
from ..tools import Tools
from . import memory
from .media import render_content
from .models import generation

Json = dict[str, Any]

STAND_IN = "skip_thought_signature_validator"
"""Documented for function calls that another model made (Gemini API, "Thought signatures")."""

MADE_ID = "call_"
"""How ids begin that Gemini did not give: ours and OpenAI's."""

NESTED = ("image/", "application/pdf", "text/plain")
"""Media that a functionResponse may hold, from Gemini 3 on; others follow it as a content of the user's."""


def render_contents(turns: tuple[Turn, ...], call: Call, tools: Tools, losses: Losses) -> Json:
    """The members `contents` and, where the conversation begins with instructions, `systemInstruction`."""
    leading = 0
    while leading < len(turns) - 1 and turns[leading].role in ("system", "developer"):
        leading += 1
    writer = _Writer(call, tools, losses)
    for turn in turns[leading:]:
        writer.turn(turn)
    if generation(call.model) >= (3, 0):
        sign(writer.contents[writer.turn_start :])
    members: Json = {"contents": writer.contents}
    texts = [{"text": part.text} for turn in turns[:leading] for part in turn.parts if isinstance(part, Text)]
    for turn in turns[:leading]:
        for part in turn.parts:
            if not isinstance(part, Text):
                losses.add(part.path, "instructions other than text")
    return members | ({"systemInstruction": {"parts": texts}} if texts else {})


def sign(contents: list[Json]) -> None:
    """Give the first function call of each step in *contents*, the current turn, the stand-in if it lost its signature.
    Of parallel calls only the first one is ever signed."""
    for content in contents:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None:
            first.setdefault("thoughtSignature", STAND_IN)


class _Writer:
    def __init__(self, call: Call, tools: Tools, losses: Losses) -> None:
        self.call = call
        self.tools = tools
        self.losses = losses
        self.contents: list[Json] = []
        self.order: dict[str, int] = {}
        self.turn_start = 0

    def turn(self, turn: Turn) -> None:
        if turn.role == "assistant":
            self.add("model", _ModelTurn(self, turn).parts)
        elif turn.role == "tool":
            self.outputs([part for part in turn.parts if isinstance(part, ToolOutput)])
        else:
            # Instructions in mid-conversation keep their place, which systemInstruction could not give them.
            parts = [rendered for part in turn.parts if (rendered := render_content(part, self.losses))]
            self.add("user", parts, merge=True)
            self.turn_start = len(self.contents)

    def add(self, role: str, parts: list[Json], *, merge: bool = False) -> None:
        if not parts:
            return
        last: Json = self.contents[-1] if self.contents else {"role": "", "parts": [{}]}
        if merge and last["role"] == role and "functionResponse" not in last["parts"][0]:
            last["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": parts})

    def outputs(self, outputs: list[ToolOutput]) -> None:
        outputs = sorted(outputs, key=lambda output: self.order[output.call.path])
        answers = [self.output(output) for output in outputs]
        self.add("user", [answer for answer, _ in answers])
        self.add("user", [part for _, rest in answers for part in rest])

    def output(self, output: ToolOutput) -> tuple[Json, list[Json]]:
        """The functionResponse, and what it cannot hold."""
        text = "".join(part.text for part in output.parts if isinstance(part, Text))
        others = [part for part in output.parts if not isinstance(part, Text)]
        media = [rendered for part in others if (rendered := render_content(part, self.losses))]
        nested = [part for part in media if self.is_nested(part)]
        response: Json = {"response": {"output": text} if text or not media else {}}
        response |= {"name": self.tools.flat_name(output.call.name, output.call.namespace)}
        response |= id_of(output.call) | ({"parts": nested} if nested else {})
        return {"functionResponse": response}, [part for part in media if part not in nested]

    def is_nested(self, part: Json) -> bool:
        media_type = part.get("inlineData", {}).get("mimeType", "")
        return generation(self.call.model) >= (3, 0) and media_type.startswith(NESTED)


class _ModelTurn:
    """One turn of the model, put together in `parts`."""

    def __init__(self, writer: _Writer, turn: Turn) -> None:
        self.writer = writer
        self.parts: list[Json] = []
        self.signatures: dict[str, str] = {}
        self.image_signature: str | None = None
        self.coded = False
        for part in turn.parts:
            self.part(part)

    def part(self, part: Part) -> None:
        if isinstance(part, (Text, Refusal)):
            if part.text:
                self.parts.append({"text": part.text})
        elif isinstance(part, Reasoning):
            self.recall(memory.unpack(part.encrypted, self.writer.call.type, self.writer.call.model))
        elif isinstance(part, ToolCall):
            self.tool_call(part)
        elif isinstance(part, Opaque):
            self.opaque(part)
        elif isinstance(part, (Image, File, Audio)) and (rendered := render_content(part, self.writer.losses)):
            self.parts.append(rendered)

    def recall(self, entries: list[Json]) -> None:
        """Put back what was sealed."""
        spans = [entry for entry in entries if "text" in entry]
        if spans:
            last = self.parts.pop() if self.parts and self.parts[-1].keys() == {"text"} else {"text": ""}
            self.parts += memory.divide(last["text"], spans)
        for entry in entries:
            if "part" in entry:
                self.parts.append(entry["part"])
                self.coded = self.coded or "executableCode" in entry["part"]
            elif "call" in entry:
                self.signatures[entry["call"]] = entry["signature"]
            elif "image" in entry:
                self.image_signature = entry["signature"]

    def tool_call(self, call: ToolCall) -> None:
        self.writer.order[call.path] = len(self.writer.order)
        name = self.writer.tools.flat_name(call.name, call.namespace)
        part: Json = {"functionCall": {"name": name, "args": arguments_object(call)} | id_of(call)}
        if signature := self.signatures.get(call.call_id):
            part["thoughtSignature"] = signature
        self.parts.append(part)

    def opaque(self, part: Opaque) -> None:
        if part.type == "image_generation_call" and isinstance(data := part.value.get("result"), str) and data:
            self.image(part, data)
        elif part.type == "code_interpreter_call" and self.coded:
            return
        elif part.type == "code_interpreter_call" and isinstance(part.value.get("code"), str):
            self.parts += _code(part.value)
        elif part.is_receipt:
            self.writer.losses.note(part.path)
        else:
            self.writer.losses.add(f"{part.path}.type", f"items of type `{part.type[:64]}`")

    def image(self, part: Opaque, data: str) -> None:
        format = part.value.get("output_format")
        media_type = f"image/{format}" if isinstance(format, str) and format else "image/png"
        rendered: Json = {"inlineData": {"mimeType": media_type, "data": data}}
        if self.image_signature is not None:
            rendered["thoughtSignature"], self.image_signature = self.image_signature, None
        self.parts.append(rendered)


def id_of(call: ToolCall) -> Json:
    """The id, if the model gave it."""
    return {} if call.call_id.startswith(MADE_ID) else {"id": call.call_id}


def _code(item: Json) -> list[Json]:
    """Code that another provider ran, and what it printed."""
    outputs = item.get("outputs")
    logs = [output.get("logs") for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else []
    text = "".join(log for log in logs if isinstance(log, str))
    return [
        {"executableCode": {"language": "PYTHON", "code": item["code"]}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": text}},
    ]
