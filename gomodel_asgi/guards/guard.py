"""What a host gives a gateway, what its functions get, and what they may return."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, get_args

from msgspec import Struct

from ..arguments import check_count, check_functions, check_one_of, check_plain_functions, check_seconds, check_string
from ..routing.request import RoutingRequest
from ..wire.json_scan import tree

Stage = Literal["input", "output"]
OnError = Literal["block", "pass"]
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MOST_LABELS = 20
LONGEST_LABEL = 64


class Texts(Struct, frozen=True):
    """What a guard looks at: *texts*, and where each stands (*paths*, of the same length, such as
    `input[0].content[1].text`).

    *stage* is `input` or `output`; *request* is what the policy has let in. Of a stream there is one text at a time:
    what is held back, and what is new; *final* says that nothing will be added to these.
    """

    stage: Stage
    request: RoutingRequest
    texts: tuple[str, ...]
    paths: tuple[str, ...]
    final: bool = True

    def __repr__(self) -> str:
        return f"<Texts {self.stage} {len(self.texts)}>"


class Block(Struct, frozen=True):
    """The request, or its answer, is refused. The client reads *message*: do not quote there what was found."""

    message: str = "The content was blocked."


class Replace(Struct, frozen=True):
    """*texts* take the place of those that were given: as many, in the same order."""

    texts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Replace {len(self.texts)}>"


class Note(Struct, frozen=True):
    """Nothing changes; observers get the *labels* (at most 20, of at most 64 characters)."""

    labels: tuple[str, ...]


Verdict = Block | Replace | Note | None
GuardFunction = Callable[[Texts], Verdict | Awaitable[Verdict]]


class Guard:
    """A guard of the host's by its *name* (letters, digits, `_`, `-` and `.`, as records and metrics have it). One that
    is called `moderation` answers the `moderation` member of requests too, with the labels that it notes.

    *input* is asked about what goes to a model, *output* about what comes from it: a plain function (it runs in a
    worker thread) or an async one, of `Texts`, that returns None, `Block`, `Replace` or `Note`. *hold* is how many
    characters of each text of a stream are held back, so that what is cut by the events is seen whole: at least as many
    as the longest match has; `"all"` lets nothing go before the end. *when* says for which requests it is asked: a
    plain function of the `RoutingRequest` that must not block. *timeout* is in seconds. *on_error* says what comes of
    a guard that fails or takes longer: `"block"`, or `"pass"` for one that only notes.

    :raises ValueError: an argument has a value that it cannot have, or there is neither *input* nor *output*.
    :raises TypeError: an argument is of the wrong type.
    """

    def __init__(
        self,
        name: str,
        *,
        input: GuardFunction | None = None,
        output: GuardFunction | None = None,
        hold: int | Literal["all"] = "all",
        when: Callable[[RoutingRequest], bool] | None = None,
        timeout: float = 5,
        on_error: OnError = "block",
    ) -> None:
        check_string("name", name)
        if not NAME.fullmatch(name):
            raise ValueError("name: use 1 to 64 letters, digits, '.', '_' or '-'.")
        check_functions(input=input, output=output)
        check_plain_functions(when=when)
        if input is None and output is None:
            raise ValueError("give a function for the input, the output, or both.")
        if hold != "all":
            check_count("hold", hold)
        check_seconds("timeout", timeout, above_zero=True)
        check_one_of("on_error", on_error, get_args(OnError))
        self.name = name
        self.input = input
        self.output = output
        self.hold: int | Literal["all"] = hold
        self.when = when
        self.timeout = float(timeout)
        self.on_error: OnError = on_error

    def __repr__(self) -> str:
        return f"<Guard {self.name}>"


def labels_of(labels: Iterable[object]) -> tuple[str, ...]:
    """Returns as many of *labels* as are reported, cut to their length."""
    return tuple(str(label)[:LONGEST_LABEL] for label in list(labels)[:MOST_LABELS])


def checked(verdict: Any, given: Texts) -> Verdict:
    """Returns the verdict of a guard on *given*, its labels cut as they are reported.

    :raises TypeError: it is none of what a guard may return.
    :raises ValueError: it replaces another number of texts, or says what no JSON can.
    """
    if verdict is None:
        return None
    if isinstance(verdict, Block):
        if not isinstance(verdict.message, str):
            raise TypeError("The message of a Block is a str.")
        return Block(_written(verdict.message))
    if isinstance(verdict, Note):
        if not isinstance(verdict.labels, list | tuple | set | frozenset):
            raise TypeError("The labels of a Note are a tuple.")
        return Note(tuple(map(_written, labels_of(verdict.labels))))
    if not isinstance(verdict, Replace):
        raise TypeError("A guard returns None, Block, Replace or Note.")
    return _replacing(verdict.texts, given)


def _replacing(texts: Any, given: Texts) -> Replace:
    """Returns what is to take the place of *given*.

    :raises TypeError: it is no tuple.
    :raises ValueError: it is of another number, or holds what no JSON can, or no object where arguments were one.
    """
    if not isinstance(texts, list | tuple):
        raise TypeError("The texts of a Replace are a tuple.")
    if len(texts) != len(given.texts) or not all(isinstance(text, str) for text in texts):
        raise ValueError("The texts of a Replace are as many as were given.")
    for path, old, new in zip(given.paths, given.texts, texts, strict=True):
        if new != old and "arguments" in path and _is_object(old) and not _is_object(new):
            raise ValueError("What takes the place of arguments is a JSON object, as they are.")
    return Replace(tuple(map(_written, texts)))


def _written(text: str) -> str:
    """Returns *text* as it can be sent: a str, and not what others derive from it.

    :raises UnicodeEncodeError: it has half a surrogate pair in it.
    """
    if not text.isascii():
        text.encode()
    return str.__str__(text)


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(tree(text), dict)
    except (ValueError, RecursionError):
        return False
