"""Where instructions stand: those that begin a conversation are its system text, later ones are marked in place.

Most targets take one system text, and only at the start: Anthropic, Gemini, and every chat template of the Qwen and
MiniMax kind. Moved to the start, a later instruction would speak of what is not said yet and spoil the prompt cache.
"""

from __future__ import annotations

from .parts import Part, Text, Turn

INSTRUCTING = ("system", "developer")
OPENING, CLOSING = "<developer_instructions>", "</developer_instructions>"
"""Around what a developer says to the model in mid-conversation."""

BEGIN = "(The assistant speaks first.)"
"""Stands for the user where a target does not let a conversation begin with the assistant."""
GO_ON = "(Go on.)"
"""Stands for the user where a target does not go on with what the assistant said last."""


def split_instructions(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The instructions before the first word of the user, and the other turns, in which no others are left.

    Later instructions, and those that are not only text, become the user's, marked. Where there is nothing but
    instructions, the last ones are what the user says: targets answer a user.
    """
    said = [turn for turn in turns if turn.role not in INSTRUCTING]
    if len(said) == len(turns):
        return (), turns
    if not said:
        said = [Turn("user", turns[-1].parts, turns[-1].path)]
        turns = (*turns[:-1], *said)
    first = next((turn for turn in said if turn.role == "user"), said[0])
    leading: list[Turn] = []
    rest: list[Turn] = []
    began = False
    for turn in turns:
        began = began or turn is first
        if turn.role not in INSTRUCTING:
            rest.append(turn)
        elif began or not _is_text(turn):
            rest.append(_marked(turn))
        else:
            leading.append(turn)
    return tuple(leading), tuple(rest)


def _is_text(turn: Turn) -> bool:
    return all(isinstance(part, Text) for part in turn.parts)


def _marked(turn: Turn) -> Turn:
    """*turn* as the user's, its parts between marks; texts beside a mark take it in."""
    parts: list[Part] = list(turn.parts)
    if isinstance(first := parts[0], Text):
        parts[0] = Text(first.path, f"{OPENING}\n{first.text}", first.breakpoint)
    else:
        parts.insert(0, Text(turn.path, OPENING))
    if isinstance(last := parts[-1], Text):
        parts[-1] = Text(last.path, f"{last.text}\n{CLOSING}", last.breakpoint)
    else:
        parts.append(Text(turn.path, CLOSING))
    return Turn("user", tuple(parts), turn.path)
