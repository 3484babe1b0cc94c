"""Puts what the items of a conversation say into the order that every target takes.

Strategy: an output is joined to its call by `call_id`, and stands right behind the turn that called, with the outputs
of the turn's other calls, in the order of the calls. What the client listed between a call and its output so comes
behind the output. A call without an output gets a placeholder, since every target insists on one; an output
whose call is not there (trimmed histories) becomes text of the user's.

Nothing here depends on what comes later in the conversation, so that a prompt begins the same in every turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from .content import NO_OUTPUT, Content, Part, Role, Text, ToolCall, ToolOutput, Turn


@dataclass(frozen=True, slots=True)
class ListedOutput:
    """An output as the client listed it, not joined to its call yet."""

    path: str
    call_id: str
    parts: tuple[Content, ...]


Entry = tuple[Role, tuple[Part, ...]] | ListedOutput


def arrange(entries: list[Entry]) -> tuple[Turn, ...]:
    """Returns *entries*, in the client's order, as turns."""
    calls_of = _calls_by_output(entries)
    outputs: dict[str, ToolOutput] = {}
    gathered: list[tuple[Role, list[Part]]] = []
    goes_on = False  # whether the last turn does: an output ends it, and so does another side
    for entry in entries:
        if isinstance(entry, ListedOutput):
            goes_on = False
            if (call := calls_of.get(entry.path)) is not None:
                outputs[call.path] = ToolOutput(entry.path, call, entry.parts)
            else:
                gathered.append(("user", _orphan(entry)))
        elif goes_on and entry[0] == "assistant":
            gathered[-1][1].extend(entry[1])
        else:
            gathered.append((entry[0], list(entry[1])))
            goes_on = entry[0] == "assistant"
    turns: list[Turn] = []
    for role, parts in gathered:
        turns.append(Turn(role, tuple(parts), parts[0].path))
        if role == "assistant" and (found := _outputs_of(parts, outputs)):
            turns.append(Turn("tool", found, found[0].path))
    return tuple(turns)


def _outputs_of(parts: list[Part], outputs: dict[str, ToolOutput]) -> tuple[ToolOutput, ...]:
    """The outputs of the calls among *parts*, which belong behind them."""
    calls = [part for part in parts if isinstance(part, ToolCall)]
    return tuple(outputs.get(call.path) or ToolOutput(call.path, call, (Text(call.path, NO_OUTPUT),)) for call in calls)


def _orphan(answer: ListedOutput) -> list[Part]:
    named = f"[Output of the tool call {answer.call_id}, which is not part of this conversation:]"
    return [Text(answer.path, named), *answer.parts]


# Which output belongs to which call...


def _calls_by_output(entries: list[Entry]) -> dict[str, ToolCall]:
    """The calls that are answered, by the paths of their outputs."""
    calls: dict[str, ToolCall] = {}
    answers: dict[str, ListedOutput] = {}
    for entry in entries:
        if isinstance(entry, ListedOutput):
            if answers.setdefault(entry.call_id, entry) is not entry:
                return _calls_of_reused_ids(entries)
            continue
        for part in entry[1]:
            if isinstance(part, ToolCall) and calls.setdefault(part.call_id, part) is not part:
                return _calls_of_reused_ids(entries)
    return {answer.path: calls[id] for id, answer in answers.items() if id in calls} if answers else {}


def _calls_of_reused_ids(entries: list[Entry]) -> dict[str, ToolCall]:
    """The same where an id stands for several calls or outputs."""
    slots: dict[str, _Slot] = defaultdict(_Slot)
    row = 0  # the number of the assistant's items that follow each other
    for entry in entries:
        if isinstance(entry, ListedOutput) or entry[0] != "assistant":
            row += 1
        if isinstance(entry, ListedOutput):
            slots[entry.call_id].answers.append(entry)
            continue
        for part in entry[1]:
            if isinstance(part, ToolCall):
                slots[part.call_id].call(part, row)
    found: dict[str, ToolCall] = {}
    for slot in slots.values():
        found |= slot.end()
    return found


class _Slot:
    """The calls and outputs of one `call_id`, of which there should be one each.

    Where an id is used again, outputs go to the calls before them in order. Of more calls than outputs the last ones
    are meant: the others were given up.
    """

    def __init__(self) -> None:
        self.rows: deque[deque[ToolCall]] = deque()
        """Calls without an output, those of a row together."""
        self.row = -1
        self.answers: list[ListedOutput] = []
        """Outputs since the last call."""
        self.early: deque[ListedOutput] = deque()
        """Outputs that had no call before them."""
        self.found: dict[str, ToolCall] = {}

    def call(self, call: ToolCall, row: int) -> None:
        """*call* stands in the row of that number."""
        self.join()
        if row != self.row or not self.rows:
            self.rows.append(deque())
        self.rows[-1].append(call)
        self.row = row

    def join(self) -> None:
        """Joins the outputs since the last call to the calls before them."""
        if self.row < 0:
            self.early.extend(self.answers)
            self.answers.clear()
            return
        first, waiting = len(self.rows), 0
        while first > 0 and waiting < len(self.answers):
            first -= 1
            waiting += len(self.rows[first])
        for answer in self.answers[:waiting]:
            while not self.rows[first]:
                first += 1
            self.found[answer.path] = self.rows[first].popleft()
        self.answers.clear()
        while self.rows and not self.rows[-1]:
            self.rows.pop()

    def end(self) -> dict[str, ToolCall]:
        """The calls by the paths of their outputs; an output that came before its call is given to it now."""
        self.join()
        waiting = deque(call for row in self.rows for call in row)
        while self.early and waiting:
            self.found[self.early.popleft().path] = waiting.popleft()
        return self.found


class CallIds:
    """Gives each call of a conversation an id of its own for the target, the same in every turn.

    *legal* makes an id of one that the target may refuse, the same for the same; *suffixed* one that differs by a
    number. Ask for the calls in the order of the conversation.
    """

    def __init__(self, legal: Callable[[str], str] = str, suffixed: Callable[[str, int], str] | None = None) -> None:
        self.legal = legal
        self.suffixed = suffixed or (lambda id, number: f"{id}_{number}")
        self.uses = Counter[str]()
        self.ids: dict[str, str] = {}

    def of(self, call: ToolCall) -> str:
        """Returns the id of *call*."""
        if call.path not in self.ids:
            self.ids[call.path] = self._unique(self.legal(call.call_id))
        return self.ids[call.path]

    def _unique(self, own: str) -> str:
        # Counted, not searched for: a conversation may hold very many calls of the same id.
        unique = own
        while self.uses[unique]:
            self.uses[own] += 1
            unique = self.suffixed(own, self.uses[own])
        self.uses[unique] += 1
        return unique


# Where instructions stand: those that begin a conversation are its system text, later ones are marked in place.
#
# Most targets take one system text, and only at the start: Anthropic, Gemini, and every chat template of the Qwen and
# MiniMax kind. Moved to the start, a later instruction would speak of what is not said yet and spoil the prompt
# cache.


INSTRUCTING = frozenset({"system", "developer"})
ROLE_OF = attrgetter("role")
OPENING, CLOSING = "<developer_instructions>", "</developer_instructions>"
"""Around what a developer says to the model in mid-conversation."""

BEGIN = "(The assistant speaks first.)"
"""Stands for the user where a target does not let a conversation begin with the assistant."""
GO_ON = "(Go on.)"
"""Stands for the user where a target does not go on with what the assistant said last."""


def split_instructions(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Returns the instructions before the first word of the user, and the other turns, which hold no instructions.

    Later instructions, and those that are not only text, become marked turns of the user's. If there is nothing but
    instructions, the last ones are what the user says, since targets answer a user.
    """
    if INSTRUCTING.isdisjoint(map(ROLE_OF, turns)):
        return (), turns
    gathered = [turn for turn in turns if turn.role not in INSTRUCTING]
    if not gathered:
        gathered = [Turn("user", turns[-1].parts, turns[-1].path)]
        turns = (*turns[:-1], *gathered)
    first = next((turn for turn in gathered if turn.role == "user"), gathered[0])
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
