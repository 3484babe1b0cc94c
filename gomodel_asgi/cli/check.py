"""`check`: whether a gateway could serve.

Each provider is asked for its list of models, with its own key and over the gateway's own transport, so that what is
between them (DNS, proxies, certificates, firewalls) is tried as well. Nothing is generated, so nothing is paid for.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import anyio

from ..errors import GatewayError
from ..exchange.job import Setup
from ..gateway import EXPOSED, Gateway
from ..policies import hint
from ..providers.provider import Provider
from ..threads import call
from ..upstream.listed_models import listed_models
from .loading import load_gateway, masked, write_json, write_pairs, write_table

# Asks one provider for its models: is it there, does it take the key, does it know what it is configured for.


REFUSED = (401, 402, 403)
NO_LIST = (404, 405, 501)  # the upstream is there, and has no such path


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one provider now. *base_url* without its query, *seconds* until it answered, None where it did
    not."""

    provider: str
    base_url: str
    key: str
    status: int | None = None
    seconds: float | None = None
    models: str = "not asked"
    problems: tuple[str, ...] = field(default=())

    @property
    def answer(self) -> str:
        """Status and time, for people."""
        return "none" if self.seconds is None else f"{self.status} in {self.seconds:.2f} s"


async def probe(provider: Provider, setup: Setup, clock: Callable[[], float]) -> Finding:
    """Asks *provider* for its models. Never raises for what it finds."""
    try:
        credential = await provider.credential()
    except Exception as error:
        return Finding(provider.name, provider.address, "unusable", problems=(f"its key: {error}",))
    key, started = masked(credential.key), clock()
    try:
        answer = await listed_models(provider, credential, setup)
    except GatewayError as error:
        problem = error.message if error.detail is None else f"{error.message} ({error.detail})"
        return Finding(provider.name, provider.address, key, problems=(problem,))
    known = None if answer.models is None else [model.name for model in answer.models]
    models, problems = judged(provider, answer.status, known)
    return Finding(provider.name, provider.address, key, answer.status, clock() - started, models, tuple(problems))


def judged(provider: Provider, status: int, known: list[str] | None) -> tuple[str, list[str]]:
    """Returns a summary of an answer with this *status* and list of models, and the problems with it."""
    if status in REFUSED:
        return "not shown", [f"it refused the key ({status})."]
    if status in NO_LIST:
        return "it lists none", []
    if status != 200:
        return "not shown", [f"it answered {status}."]
    if known is None:
        return "not shown", ["it answered 200 with something that is no list of models; is the base URL right?"]
    missing = [pattern for pattern in provider.models if not any(fnmatchcase(name, pattern) for name in known)]
    wanted = len(tuple(provider.models))
    summary = f"{wanted - len(missing)} of {wanted} found" if wanted else f"{len(known)} listed"
    return summary, [f"it does not list the model {pattern}." for pattern in missing]


HEAD = ("provider", "base URL", "key", "answer", "models")


def run(given: Namespace) -> int:
    """Prints what each provider answers; returns 1 if one has a problem, or nothing says who may call."""
    gateway = load_gateway(given.gateway)
    findings = anyio.run(_probed, gateway)
    if given.json:
        write_json(
            {
                **_described(gateway),
                "problems": _problems(gateway),
                "providers": [asdict(finding) for finding in findings],
            }
        )
    else:
        write_pairs(_described(gateway))
        print()
        write_table(HEAD, [(one.provider, one.base_url, one.key, one.answer, one.models) for one in findings])
        _write_problems(gateway, findings)
    return 1 if gateway.exposed or any(finding.problems for finding in findings) else 0


def _problems(gateway: Gateway) -> list[str]:
    """What is wrong with the gateway itself."""
    return [EXPOSED] if gateway.exposed else []


async def _probed(gateway: Gateway) -> list[Finding]:
    setup = gateway.setup
    findings: dict[str, Finding] = {}

    async def ask(name: str) -> None:
        findings[name] = await probe(setup.registry.by_name[name], setup, time.monotonic)

    async with gateway, anyio.create_task_group() as tasks:
        for name in setup.registry.by_name:
            tasks.start_soon(ask, name)
    return [findings[name] for name in setup.registry.by_name]


def _described(gateway: Gateway) -> dict[str, str]:
    return {
        "paths": f"{gateway.prefix}/responses and below, {gateway.prefix}/models",
        "policy": _policy(hint if gateway.hinted else gateway.setup.ask),
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


def _write_problems(gateway: Gateway, findings: list[Finding]) -> None:
    problems = [f"policy: {problem}" for problem in _problems(gateway)]
    problems += [f"{finding.provider}: {problem}" for finding in findings for problem in finding.problems]
    print("\nNo problem was found." if not problems else "\n" + "\n".join(problems))
