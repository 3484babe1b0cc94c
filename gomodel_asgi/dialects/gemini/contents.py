"""Turns as `contents`: who says what, in Gemini's two roles.

Strategy: model turns are put together again from their items and from the opaque state in between (see `output`). Tool
outputs stand in a content of their own, in the order of the calls that they answer, since Gemini pairs them by name and
order wherever it gave no ids. Consecutive messages of the user are one content.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..arrangement import BEGIN, CallIds, split_instructions
from ..base import Call
from ..content import Audio, File, Image, Opaque, Part, Reasoning, Refusal, Text, ToolCall, ToolOutput, Turn
from ..conversation import arguments_object
from ..emulations import item_as_text, placeholder
from ..hosted_items import contents_of, picture_of
from ..tools import Tools
from ..unsupported import FOREIGN_REASONING, ITEMS_AS_TEXT, STORED_MEDIA, Unsupported
from ..values import malformed, objects, string_in
from . import output
from .models import generation

# Content parts of the client as parts of Gemini's: text, inline data, and files named by their address.


MEDIA_TYPES = {
    "aac": "audio/aac", "csv": "text/csv", "flac": "audio/flac", "gif": "image/gif", "heic": "image/heic",
    "html": "text/html", "jpeg": "image/jpeg", "jpg": "image/jpeg", "json": "application/json", "md": "text/markdown",
    "mov": "video/quicktime", "mp3": "audio/mpeg", "mp4": "video/mp4", "mpeg": "video/mpeg", "ogg": "audio/ogg",
    "pdf": "application/pdf", "png": "image/png", "txt": "text/plain", "wav": "audio/wav", "webm": "video/webm",
    "webp": "image/webp", "xml": "text/xml",
}  # fmt: skip

ADDRESSES = ("https://", "http://", "gs://")
"""How the ids of files begin that Gemini can read: the Files API gives out addresses, Vertex reads buckets."""


def render_content(part: Part, unsupported: Unsupported, *, as_text: bool = False) -> Json | None:
    """Returns *part* as Gemini has it, None where it is left out. *as_text*: a placeholder stands for what cannot be
    shown, as it must in what a tool or the assistant said.

    :raises InvalidRequest: it is refused.
    """
    if isinstance(part, (Text, Refusal)):
        return {"text": part.text}
    if isinstance(part, Audio):
        return inline(f"audio/{part.format}", part.data)
    assert isinstance(part, (Image, File)), "calls, outputs and reasoning are no content"
    if (rendered := _file(part)) is not None:
        return rendered
    member = "file_id" if part.file_id else "image_url" if isinstance(part, Image) else "file_url"
    path, what = f"{part.path}.{member}", "files that are stored elsewhere"
    if not as_text and not (isinstance(part, Image) and part.from_tool):
        unsupported.leave_out(STORED_MEDIA, path, what)
        return None
    text = placeholder(part, path, what, unsupported)
    return None if text is None else {"text": text.text}


def _file(part: Image | File) -> Json | None:
    fallback = "image/jpeg" if isinstance(part, Image) else "application/pdf"
    name = "" if isinstance(part, Image) else part.filename or ""
    if part.data is not None:
        return inline(part.media_type or fallback, part.data)
    address = part.url or part.file_id or ""
    if not address.startswith(ADDRESSES):
        return None
    media_type = media_type_of(name) or media_type_of(urlsplit(address).path) or fallback
    return {"fileData": {"mimeType": media_type, "fileUri": address}}


def inline(media_type: str, data: str) -> Json:
    """Returns base64 *data* as a part."""
    return {"inlineData": {"mimeType": media_type, "data": data}}


def media_type_of(name: str) -> str | None:
    """What the ending of a file name says."""
    return MEDIA_TYPES.get(name.rpartition(".")[2].lower())


def resolution(parts: list[Part]) -> str | None:
    """The `mediaResolution` that all images agree on, None where they do not; Gemini's is one for the request."""
    details = {part.detail for part in parts if isinstance(part, Image)}
    return (
        {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"}.get(details.pop() or "")
        if len(details) == 1
        else None
    )


Json = dict[str, Any]

ANY_SIGNATURE = "skip_thought_signature_validator"
"""Documented for function calls that another model made (Gemini API, "Thought signatures")."""

MADE_ID = "call_"
"""How ids begin that Gemini did not give: ours and OpenAI's."""

SEARCHES = ("web_search_call", "file_search_call")
"""Items whose parts are in the opaque state where Gemini searched itself."""

IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})

SERVED = frozenset({"toolCall", "toolResponse"})
"""Parts in which Gemini reports its own searches."""

NESTED = ("image/", "application/pdf", "text/plain")
"""Media that a functionResponse may hold, from Gemini 3 on; others follow it as a content of the user's."""


def render_contents(
    turns: tuple[Turn, ...], call: Call, tools: Tools, added_instructions: list[str], unsupported: Unsupported
) -> Json:
    """The members `contents` and, where there are instructions to begin with, `systemInstruction`.

    *added_instructions* are ours: they stand for what the API has no member for.

    :raises InvalidRequest: a part is refused, or nothing is left to send.
    """
    leading, turns = split_instructions(turns)
    writer = _Writer(call, tools, unsupported)
    for turn in turns:
        writer.turn(turn)
    if not writer.contents:
        raise malformed("input", "holds nothing that this provider could answer")
    if generation(call.model) >= (3, 0):
        sign(writer.contents[writer.turn_start :])
    if writer.contents[0]["role"] == "model":
        writer.contents.insert(0, {"role": "user", "parts": [{"text": BEGIN}]})
    given = [part.text for turn in leading for part in turn.parts if isinstance(part, Text)]
    texts = [{"text": text} for text in (*given, *added_instructions)]
    return {"contents": writer.contents} | ({"systemInstruction": {"parts": texts}} if texts else {})


def sign(contents: list[Json]) -> None:
    """Restores the signature of the first function call of each step in *contents*, the current turn.
    Of parallel calls only the first one is ever signed."""
    for content in contents:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None:
            first.setdefault("thoughtSignature", ANY_SIGNATURE)


class _Writer:
    def __init__(self, call: Call, tools: Tools, unsupported: Unsupported) -> None:
        self.call = call
        self.tools = tools
        self.unsupported = unsupported
        self.contents: list[Json] = []
        self.ids = CallIds()
        self.turn_start = 0

    def turn(self, turn: Turn) -> None:
        if turn.role == "assistant":
            self.add("model", _ModelTurn(self, turn).parts)
        elif turn.role == "tool":
            self.outputs([part for part in turn.parts if isinstance(part, ToolOutput)])
        else:
            parts = [rendered for part in turn.parts if (rendered := render_content(part, self.unsupported))]
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
        answers = [self.output(output) for output in outputs]
        self.add("user", [answer for answer, _ in answers])
        self.add("user", [part for _, rest in answers for part in rest])

    def output(self, output: ToolOutput) -> tuple[Json, list[Json]]:
        """The functionResponse, and what it cannot hold."""
        text = "".join(part.text for part in output.parts if isinstance(part, Text))
        others = [part for part in output.parts if not isinstance(part, Text)]
        media = [rendered for part in others if (rendered := render_content(part, self.unsupported, as_text=True))]
        text += "".join(part["text"] for part in media if "text" in part)
        media = [part for part in media if "text" not in part]
        nested = [part for part in media if self.is_nested(part)]
        response: Json = {"response": {"output": text} if text or not media else {}}
        response |= {"name": self.tools.flat_name(output.call.name, output.call.namespace)}
        response |= self.id_of(output.call) | ({"parts": nested} if nested else {})
        return {"functionResponse": response}, [part for part in media if part not in nested]

    def id_of(self, call: ToolCall) -> Json:
        """The id, if the model gave it."""
        return {} if call.call_id.startswith(MADE_ID) else {"id": self.ids.of(call)}

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
        self.coded = self.served = False
        for part in turn.parts:
            self.part(part)

    def part(self, part: Part) -> None:
        if isinstance(part, (Text, Refusal)):
            if part.text:
                self.parts.append({"text": part.text})
        elif isinstance(part, Reasoning):
            entries = output.unpack(part.encrypted, self.writer.call.type, self.writer.call.model)
            if part.encrypted and not entries:
                self.writer.unsupported.leave_out(FOREIGN_REASONING, part.path)
            self.restore_state(entries)
        elif isinstance(part, ToolCall):
            self.tool_call(part)
        elif isinstance(part, Opaque):
            self.opaque(part)
        elif isinstance(part, (Image, File, Audio)):
            rendered = render_content(part, self.writer.unsupported, as_text=True)
            self.parts += [rendered] if rendered else []

    def restore_state(self, entries: list[Json]) -> None:
        """Puts the parts of the opaque state back."""
        spans = [entry for entry in entries if "text" in entry]
        if spans:
            last = self.parts.pop() if self.parts and self.parts[-1].keys() == {"text"} else {"text": ""}
            self.parts += output.divide(last["text"], spans)
        for entry in entries:
            if "part" in entry:
                self.parts.append(entry["part"])
                self.coded = self.coded or "executableCode" in entry["part"]
                self.served = self.served or not SERVED.isdisjoint(entry["part"])
            elif "call" in entry:
                self.signatures[entry["call"]] = entry["signature"]
            elif "image" in entry:
                self.image_signature = entry["signature"]

    def tool_call(self, call: ToolCall) -> None:
        name = self.writer.tools.flat_name(call.name, call.namespace)
        part: Json = {"functionCall": {"name": name, "args": arguments_object(call)} | self.writer.id_of(call)}
        if signature := self.signatures.get(call.call_id):
            part["thoughtSignature"] = signature
        self.parts.append(part)

    def opaque(self, part: Opaque) -> None:
        picture = picture_of(part.value) if part.type == "image_generation_call" else None
        if picture is not None and picture[0] in IMAGES:
            self.image(*picture)
        elif part.type == "code_interpreter_call" and self.coded:
            return
        elif part.type == "code_interpreter_call" and isinstance(part.value.get("code"), str):
            self.parts += _code(part.value)
        elif part.type in SEARCHES and self.served:
            self.writer.unsupported.leave_out(ITEMS_AS_TEXT, part.path)
        elif (text := item_as_text(part, self.writer.unsupported)) is not None:
            self.parts.append({"text": text.text})

    def image(self, media_type: str, data: str) -> None:
        rendered = inline(media_type, data)
        if self.image_signature is not None:
            rendered["thoughtSignature"], self.image_signature = self.image_signature, None
        self.parts.append(rendered)


def _code(item: Json) -> list[Json]:
    """Code that another provider ran, and what it printed."""
    ended = item.get("status") in (None, "completed")
    logs = (string_in(output, "logs") for output in objects(item.get("outputs")))
    result: Json = {"outcome": "OUTCOME_OK", "output": "".join(logs)}
    if not ended:
        result = {"outcome": "OUTCOME_FAILED", "output": contents_of(item).result}
    return [{"executableCode": {"language": "PYTHON", "code": item["code"]}}, {"codeExecutionResult": result}]
