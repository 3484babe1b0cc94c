"""Calls that wait for the client's word: the ids of requests, and which requests an input answers.

A request's id is signed over tenant, server, tool and arguments, so that one that the client sends back itself can be
trusted to be ours and unchanged. What the host demands is resumed from our own stored request alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...dialects.hosted_items import RESPONSE, kind_of, string
from ...errors import InvalidRequest
from ...history.tenancy import packed
from .memory import Remembered
from .source import Json

MAC_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Approval:
    """The client's word on the request *id*, and what was requested."""

    id: str
    approve: bool
    asked: Remembered


def id_of(secret: bytes, tenant: str | None, stem: str, label: str, tool: str, arguments: str) -> str:
    """The id of a request; *stem* is what else it begins with, in hexadecimal digits."""
    return f"mcpr_{stem}{_mac(secret, tenant, f'mcpr_{stem}', label, tool, arguments)}"


def is_genuine(secret: bytes, tenant: str | None, item: Json) -> bool:
    """Whether *item* is a request that we have made for this tenant, unchanged."""
    id = item.get("id")
    texts = [item.get(name) for name in ("server_label", "name", "arguments")]
    if not isinstance(id, str) or not all(isinstance(text, str) for text in texts):
        return False
    given, signed = id[-MAC_DIGITS:], id[:-MAC_DIGITS]
    expected = _mac(secret, tenant, signed, *map(str, texts))
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _mac(secret: bytes, tenant: str | None, *parts: str) -> str:
    return hmac.digest(secret, packed(b"approval", tenant, *parts), "sha256").hex()[:MAC_DIGITS]


def answered(
    secret: bytes, tenant: str | None, items: Sequence[Any], known: Mapping[str, Remembered]
) -> list[Approval]:
    """The answers among *items*, the client's own input, behind which nothing of the assistant's stands: those before
    have been dealt with. *known* is what is remembered of requests, by id.

    :raises InvalidRequest: one answers what was never requested here, or was changed.
    """
    requests = {item["id"]: item for item in items if _is_request(item)}
    found: dict[str, Approval] = {}
    for item in items[_last_said(items) + 1 :]:
        if kind_of(item) != RESPONSE:
            continue
        id = string(item, "approval_request_id")
        asked = known.get(id)
        given = requests.get(id)
        if asked is None and given is not None and is_genuine(secret, tenant, given):
            asked = Remembered("", given["arguments"], label=given["server_label"], tool=given["name"])
        if asked is None or not asked.label or (given is not None and not _is_same(given, asked)) or id in found:
            raise unknown()
        found[id] = Approval(id, item.get("approve") is True, asked)
    return [*found.values()]


def unknown() -> InvalidRequest:
    """The answer to an approval of what was not requested here, or was answered already."""
    message = "An approval names no request that waits for one here."
    return InvalidRequest(message, code="invalid_approval", param="input")


def _is_request(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "mcp_approval_request" and isinstance(item.get("id"), str)


def _is_same(given: Json, asked: Remembered) -> bool:
    told = (given.get("server_label"), given.get("name"), given.get("arguments"))
    return told == (asked.label, asked.tool, asked.arguments)


def _last_said(items: Sequence[Any]) -> int:
    """The index of the last item that came of an answer to an approval: -1 where there is none."""
    for at in range(len(items) - 1, -1, -1):
        item = items[at]
        kind = str(item.get("type")) if isinstance(item, dict) else ""
        is_said = kind == "reasoning" or kind.endswith("_call") or (kind in ("message", "None") and _speaks(item))
        if is_said:
            return at
    return -1


def _speaks(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") == "assistant"
