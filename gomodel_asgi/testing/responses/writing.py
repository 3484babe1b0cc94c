"""What the model says, through the package's own grammar of events."""

from __future__ import annotations

import json
from typing import cast

from ...wire.event_writer import Emitter, Reason, usage
from ...wire.items import CustomCall, FunctionCall
from ..model import as_function, objects, pieces, speech
from ..prompt import Prompt
from ..replies import Answer, ToolCall
from .prompts import sealed


def speak(emitter: Emitter, prompt: Prompt, answer: Answer, *, at: int) -> None:
    """Say *answer*, word by word, and end the response with its usage at Unix time *at*."""
    said = speech(prompt, answer)
    if compacts(prompt, said.input):
        told = "\n".join(message.text for message in prompt.messages)
        emitter.item({"type": "compaction", "encrypted_content": sealed(told)})
    if said.thought:
        reasoning = emitter.reasoning()
        for word in said.thought:
            reasoning.text(word)
        reasoning.seal("fake-encrypted-reasoning")
        reasoning.close()
    if answer.text is not None or answer.refusal is not None:
        message = emitter.message()
        for word in said.text:
            message.text(word)
        for word in said.refusal:
            message.refusal(word)
        if said.calls:
            message.close()
    for number, call in enumerate(said.calls):
        say_call(emitter, prompt, call, f"call_{emitter.suffix}{number:02x}")
    emitter.usage(usage(input=said.input, output=said.output, cached=said.cached, reasoning=said.reasoning))
    emitter.complete(at) if said.incomplete is None else emitter.incomplete(cast(Reason, said.incomplete))


def compacts(prompt: Prompt, length: int) -> bool:
    """Whether the request wants a conversation of this length to be compacted."""
    limits = [
        entry.get("compact_threshold")
        for entry in objects(prompt.body, "context_management")
        if entry.get("type") == "compaction"
    ]
    return any(isinstance(limit, int) and limit <= length for limit in limits)


def say_call(emitter: Emitter, prompt: Prompt, call: ToolCall, call_id: str) -> None:
    """One tool call, its arguments in pieces."""
    call_id, tool = call.call_id or call_id, prompt.tool(call.name)
    members = {"namespace": tool.namespace} if tool is not None and tool.namespace else {}
    item: CustomCall | FunctionCall
    if call.custom and (tool is None or tool.custom):
        item = emitter.custom_call(call_id, call.name, **members)
        text = json.dumps({"input": call.text()})
    else:
        item, text = emitter.function_call(call_id, call.name, **members), as_function(prompt, call)
    for piece in pieces(text):
        item.arguments(piece)
    item.close()
