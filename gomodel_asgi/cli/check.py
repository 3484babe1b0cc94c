"""`check`: whether a gateway could serve.

Each provider is asked for its list of models, with its own key and over the gateway's own transport, so that what is
between them (DNS, proxies, certificates, firewalls) is tried as well. Nothing is generated, so nothing is paid for.
"""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio

from ..gateway import Gateway
from ..threads import call
from .loading import load_gateway
from .output import write_json, write_pairs, write_table
from .probe import Finding, probe

HEAD = ("provider", "base URL", "key", "answer", "models")


def run(given: Namespace) -> int:
    """1 if a provider has a problem."""
    gateway = load_gateway(given.gateway)
    findings = anyio.run(_probed, gateway)
    if given.json:
        write_json({**_described(gateway), "providers": [asdict(finding) for finding in findings]})
    else:
        write_pairs(_described(gateway))
        print()
        write_table(HEAD, [(one.provider, one.base_url, one.key, one.answer, one.models) for one in findings])
        _write_problems(findings)
    return 1 if any(finding.problems for finding in findings) else 0


async def _probed(gateway: Gateway) -> list[Finding]:
    setup = gateway.setup
    findings: dict[str, Finding] = {}

    async def ask(name: str) -> None:
        findings[name] = await probe(setup.registry.by_name[name], setup.transport, time.monotonic)

    async with gateway, anyio.create_task_group() as tasks:
        for name in setup.registry.by_name:
            tasks.start_soon(ask, name)
    return [findings[name] for name in setup.registry.by_name]


def _described(gateway: Gateway) -> dict[str, str]:
    return {
        "paths": f"{gateway.prefix}/responses and below, {gateway.prefix}/models",
        "policy": _policy(gateway.setup.ask),
        "store": type(gateway.store).__name__,
    }


def _policy(ask: Any) -> str:
    threaded = isinstance(ask, partial) and ask.func is call
    if threaded:
        ask = ask.args[0]
    while isinstance(ask, partial):
        ask = ask.func
    name = f"{getattr(ask, '__module__', '')}.{getattr(ask, '__qualname__', type(ask).__qualname__)}"
    return f"{name}, {'in a worker thread' if threaded else 'on the event loop'}"


def _write_problems(findings: list[Finding]) -> None:
    problems = [f"{finding.provider}: {problem}" for finding in findings for problem in finding.problems]
    print("\nNo problem was found." if not problems else "\n" + "\n".join(problems))
