"""Changes a reply the way an upstream would: valid JSON of the wrong shape, events lost, repeated or out of order.

Bytes alone seldom change into other JSON; half of the mutations are still libFuzzer's own, of bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 10**30, 1.5, 1e308, "", "x", "\0", "\u2028", "\ud800", [], [None], {}, {"type": 7},
)  # fmt: skip
DEPTHS = (2, 100, 700)  # what Python's own parser, which mutates again, can still read
ENDS = ("\n\n", "\r\n\r\n", "\r\r")

Mutate = Callable[[bytes, int], bytes]


def mutator(of_bytes: Mutate) -> Callable[[bytes, int, int], bytes]:
    """libFuzzer's custom mutator, which does what *of_bytes* does where it changes no JSON."""

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = None if chance.random() < 0.5 else changed_reply(data, chance)
        return of_bytes(data, longest) if changed is None or len(changed) > longest else changed

    return mutate


def changed_reply(data: bytes, chance: random.Random) -> bytes | None:
    """*data* with one event or value changed; None where it is no JSON."""
    blocks = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n\n")
    if chance.random() < 0.3:
        return changed_order(blocks, chance).encode()
    at = chance.randrange(len(blocks))
    head, found, body = ("", "", blocks[at]) if blocks[at].startswith("{") else blocks[at].partition("data: ")
    try:
        value = changed_value(json.loads(body), chance)
        blocks[at] = head + found + json.dumps(value)
    except (ValueError, RecursionError):
        return None
    return "\n\n".join(blocks).encode("utf-8", "surrogatepass")


def changed_order(blocks: list[str], chance: random.Random) -> str:
    one, other = chance.randrange(len(blocks)), chance.randrange(len(blocks))
    kind = chance.randrange(4)
    if kind == 0:
        blocks[one], blocks[other] = blocks[other], blocks[one]
    elif kind == 1:
        blocks.insert(one, blocks[other])
    elif kind == 2:
        del blocks[one]
    return (chance.choice(ENDS) if kind == 3 else "\n\n").join(blocks)


def changed_value(value: Any, chance: random.Random) -> Any:
    """*value* with one of its inner values lost, of another kind, repeated or nested deeply."""
    holders = [holder for holder in walked(value) if holder]
    if not holders:
        return chance.choice(WRONG)
    holder = chance.choice(holders)
    key: Any = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = chance.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = json.loads(json.dumps(chance.choice(holders)))
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 3:
        holder[key] = nested(chance.choice(DEPTHS))
    else:
        holder[key] = chance.choice(WRONG)
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def walked(value: Any) -> list[Any]:
    """Every object and array in *value*."""
    found, left = [], [value]
    while left:
        each = left.pop()
        if isinstance(each, dict | list):
            found.append(each)
            left.extend(each.values() if isinstance(each, dict) else each)
    return found
