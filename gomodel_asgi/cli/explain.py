"""`explain`: where a request would go, and why."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from ..errors import GatewayError
from ..gateway import Gateway
from ..routing.request import Candidate, Explanation
from .loading import Unusable, load, load_gateway, write_json, write_pairs, write_table

HEAD = ("", "provider", "model", "dialect", "base URL", "why")


def run(given: Namespace) -> int:
    """1 if the policy refuses, fails, or names a provider that is not configured."""
    gateway, body, scope = load_gateway(given.gateway), _read(given.body), _scope(given)
    try:
        explanation = anyio.run(_explained, gateway, body, scope, given.tenant)
    except GatewayError as error:
        raise Unusable(f"{given.body}: {error.message}") from None
    except LookupError as error:
        return _tell_problem(given, str(error.args[0]))
    if explanation.error is not None:
        return _tell_problem(given, _refusal(explanation.error), explanation)
    if given.json:
        write_json(_as_json(explanation, None))
    else:
        write_pairs({"model": explanation.model or "none named", "hint": explanation.hint or "none"})
        print()
        found = explanation.candidates
        rows = [(one.provider, one.model or "", one.dialect, one.url, one.why) for one in found]
        write_table(HEAD, [(number, *row) for number, row in enumerate(rows, 1)])
        if any(one.tools for one in found):
            print()
            write_pairs({f"tools of {number}": _tools(one) for number, one in enumerate(found, 1)})
    return 0


def _tools(candidate: Candidate) -> str:
    return ", ".join(f"{name} {place}" for name, place in candidate.tools.items())


async def _explained(gateway: Gateway, body: bytes, scope: dict[str, Any], tenant: str | None) -> Explanation:
    async with gateway:
        return await gateway.explain(body, scope=scope, tenant=tenant)


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}.") from None


def _scope(given: Namespace) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/responses",
        "query_string": b"",
        "state": {},
    }
    scope["headers"] = list(_headers(given.header))
    if given.user is not None:
        scope["user"] = load(given.user)
    return scope


def _headers(lines: Iterable[str]) -> Iterable[tuple[bytes, bytes]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not line.isascii():
            raise Unusable(f"{line}: write a header as 'name: value'.")
        yield name.strip().lower().encode(), value.strip().encode()


def _refusal(error: GatewayError) -> str:
    told = f"{error.status} {error.code}: {error.message}"
    cause = error.__cause__
    return told if cause is None else f"{told}\nThe policy raised {type(cause).__name__}: {cause}"


def _tell_problem(given: Namespace, problem: str, explanation: Explanation | None = None) -> int:
    write_json(_as_json(explanation, problem)) if given.json else print(problem)
    return 1


def _as_json(explanation: Explanation | None, problem: str | None) -> dict[str, Any]:
    if explanation is None:
        return {"model": None, "hint": None, "candidates": [], "problem": problem}
    candidates = [asdict(candidate) for candidate in explanation.candidates]
    return {"model": explanation.model, "hint": explanation.hint, "candidates": candidates, "problem": problem}
