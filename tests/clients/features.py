"""What is tried with each client, what the model does meanwhile, and what has to come of it.

A program asks in its own way; what it has to get is in *facts*, which both sides know. The model of a feature sees the
`Prompt`, so that it answers the same on every dialect, and gives the right answer only if the right things reached it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gomodel_asgi.testing import Answer, FakeProvider, Fault, Prompt, Stall, ToolCall

Check = Callable[[FakeProvider], str | None]

TIMEOUT = 10.0
"""Seconds for what has to follow from a client's leaving."""
TEXT = "The lantern is lit."
THOUGHT = "First light it, then look."
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
CITY = {"name": "Oslo", "inhabitants": 709037}
TOLD = "The word is lantern. Remember it."
ASKED = "What is the word?"

HOSTED: Mapping[str, tuple[ToolCall, str]] = {
    "web search": (
        ToolCall("web_search", {"query": "Oslo"}),
        "It rains ([Oslo](https://example.com/oslo)).",
    ),
    "file search": (ToolCall("file_search", {"queries": ["lamp"]}), "It is lit【1†lamp.txt】."),
    "code interpreter": (
        ToolCall("code_interpreter", {"code": "print(2+2)"}),
        "See [the plot](sandbox:/mnt/data/plot.csv).",
    ),
    "image generation": (ToolCall("image_generation", {"prompt": "a lantern"}), "Here it is."),
    "mcp": (ToolCall("lookup", {"order": "7"}), "It is on its way."),
    "mcp approval": (ToolCall("lookup", {"order": "7"}), "It is on its way."),
}
"""The call of each hosted tool, and what the model says once it has the answer."""

LONG = "There is much to be said of lanterns, and little of it is secret. " * 12
KEY = "sk-1234567890"
TOLD_IN_PART = f"{LONG}The key is {KEY}. {LONG}"
"""What a guard of the scene takes the key out of."""

FACTS: Mapping[str, object] = {
    **{name: text.replace("【1†lamp.txt】", "") for name, (_, text) in HOSTED.items()},
    "text": TEXT,
    "thought": THOUGHT,
    "pixel": PIXEL,
    "city": CITY,
    "told": TOLD,
    "asked": ASKED,
    "masked": TOLD_IN_PART.replace(KEY, "[key]"),
    "recalled": "The word is lantern.",
    "weather": "Oslo: rain at 7 degrees",
    "weathers": "Oslo: rain at 7 degrees / Bergen: rain at 7 degrees",
}


def say(prompt: Prompt) -> Answer:
    return Answer(text=TEXT)


def tell_a_key(prompt: Prompt) -> Answer:
    return Answer(text=TOLD_IN_PART)


def go_on(prompt: Prompt) -> Answer:
    """Says more than anybody waits for."""
    return Answer(text="more " * 50)


def look_up(prompt: Prompt) -> Answer:
    return _weather(prompt, "Oslo")


def look_up_both(prompt: Prompt) -> Answer:
    return _weather(prompt, "Oslo", "Bergen")


def _weather(prompt: Prompt, *cities: str) -> Answer:
    """Calls the first tool for each city; then repeats what it put out."""
    if prompt.outputs:
        return Answer(text=" / ".join(output.text.strip('"') for output in prompt.outputs))
    return Answer(calls=[ToolCall("get_weather", {"city": city}) for city in cities])


def call_hosted(name: str) -> Callable[[Prompt], Answer]:
    """Calls a hosted tool by the function that stands for it; speaks once that has answered."""
    call, text = HOSTED[name]

    def model(prompt: Prompt) -> Answer:
        if not prompt.outputs:
            return Answer(text="Let me look.", calls=[call])
        told = prompt.outputs[0].text
        return Answer(text=text if told.count(TOLD_BY_TOOLS[name]) == 1 else f"The tool said {told!r}.")

    return model


TOLD_BY_TOOLS = {
    "web search": "Rain at 7 degrees.",
    "file search": "The lantern is lit.",
    "code interpreter": "4",
    "image generation": "drawn",
    "mcp": "Order 7 is on its way.",
    "mcp approval": "Order 7 is on its way.",
}
"""What the model has to be told by each tool of the scene."""


def fill_in(prompt: Prompt) -> Answer:
    """Keeps to the schema, or calls the tool that a client makes of it."""
    if prompt.schema is None and prompt.tools and prompt.last.role != "tool":
        return Answer(calls=[ToolCall(prompt.tools[0].name, CITY)])
    return Answer(text=json.dumps(CITY))


def think(prompt: Prompt) -> Answer:
    return Answer(reasoning=THOUGHT, text=TEXT) if prompt.thinks else Answer(text="Nobody asked for reasoning.")


def look(prompt: Prompt) -> Answer:
    seen = [url for message in prompt.messages for url in message.media]
    return Answer(text=TEXT if seen == [PIXEL] else f"I see {[url[:30] for url in seen]}.")


def remember(prompt: Prompt) -> Answer:
    """Knows the word if it was told it, or finds it in a summary."""
    said = [message.text for message in prompt.messages]
    if said and said[-1] == TOLD:
        return Answer(text="Noted.")
    known = any("The word is lantern" in text for text in (prompt.instructions, *said))
    return Answer(text="The word is lantern." if known else "I do not know the word.")


def left(fake: FakeProvider) -> str | None:
    """A client that stops listening takes its request upstream along."""
    if not fake.requests:
        return "no request came upstream"
    gone = fake.requests[-1].disconnected.wait_in_thread(TIMEOUT)
    return None if gone else "the upstream was not told that the client had left"


def asked_once(fake: FakeProvider) -> str | None:
    """Only the first of several requests that say the same goes upstream."""
    return None if len(fake.requests) == 1 else f"{len(fake.requests)} requests came upstream"


@dataclass(frozen=True)
class Feature:
    """*faults* happen to the first request upstream, where they are given for its dialect (`""`: any). *after* says
    what is wrong with what came upstream."""

    name: str
    model: Callable[[Prompt], Answer]
    faults: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)
    after: Check | None = None


JOB = {dialect: (Stall(),) for dialect in ("chat", "anthropic", "gemini")}
"""A response in the background is the gateway's own task there; the native fake has such of its own."""

FEATURES = (
    Feature("text", say),
    Feature("stream", say),
    Feature("tools", look_up),
    Feature("parallel tools", look_up_both),
    Feature("patch", say),
    Feature("structured output", fill_in),
    Feature("reasoning", think),
    Feature("images", look),
    Feature("turns", remember),
    Feature("by id", remember),
    Feature("conversation", remember),
    Feature("compaction", remember),
    Feature("cancel", say, JOB),
    Feature("abort", go_on, {"": (Stall(after_events=9),)}, left),
    Feature("cached", say, after=asked_once),
    Feature("guarded", tell_a_key, {"": (Stall(after_events=80),)}),
    *(Feature(name, call_hosted(name)) for name in HOSTED),
)
"""`patch` is Codex's own, `turns` sends the history again, `cancel` is of a response in the background and `abort` of a
stream. `cached` asks the same whole and as a stream, `guarded` for a stream whose upstream goes on only once the client
has told that it has the first of it."""
