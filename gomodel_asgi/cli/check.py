"""`check`: whether a gateway could serve.

Each provider is asked for its list of models, with its own key and over the gateway's own transport, so that what is
between them (DNS, proxies, certificates, firewalls) is tried as well. Nothing is generated, so nothing is paid for.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import anyio
import msgspec

from ..errors import GatewayError
from ..gateway import Gateway
from ..providers.provider import Credential, Provider
from ..seams.transport import Transport, UpstreamRequest
from ..threads import call
from ..upstream.upstream_request import ACCEPT_JSON, AGENT
from .loading import load_gateway, masked, write_json, write_pairs, write_table

# Asks one provider for its models: is it there, does it take the key, does it know what it is configured for.


ANSWER_TIMEOUT = 10.0  # seconds for all of one provider's answer: it is one list
LARGEST = 4 << 20  # bytes of that list; OpenRouter's, the longest known, has about one million
PAGE = {"anthropic": "limit=1000", "gemini": "pageSize=1000"}  # these list 20 and 50 at a time, unless asked
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


async def probe(provider: Provider, transport: Transport, clock: Callable[[], float]) -> Finding:
    """Asks *provider*, at most for `ANSWER_TIMEOUT` seconds. Never raises for what it finds."""
    try:
        credential = await provider.credential()
    except Exception as error:
        return Finding(provider.name, provider.address, "unusable", problems=(f"its key: {error}",))
    key, started = masked(credential.key), clock()
    status, body, problem = None, b"", f"no answer within {ANSWER_TIMEOUT:g} seconds."
    with anyio.move_on_after(ANSWER_TIMEOUT):
        try:
            status, body = await _asked(provider, credential, transport)
        except GatewayError as error:
            problem = error.message if error.detail is None else f"{error.message} ({error.detail})"
    if status is None:
        return Finding(provider.name, provider.address, key, problems=(problem,))
    models, problems = judged(provider, status, body)
    return Finding(provider.name, provider.address, key, status, clock() - started, models, tuple(problems))


async def _asked(provider: Provider, credential: Credential, transport: Transport) -> tuple[int, bytes]:
    reply = await transport.open(_request(provider, credential))
    try:
        body = b""
        while len(body) <= LARGEST and (data := await reply.read(ANSWER_TIMEOUT)):
            body += data
        return reply.status, body
    finally:
        with anyio.CancelScope(shield=True):
            await reply.aclose()


def _request(provider: Provider, credential: Credential) -> UpstreamRequest:
    scheme, host, port, uds = provider.origin
    query = "&".join(part for part in (PAGE.get(_dialect(provider), ""), provider.fixed_query) if part)
    path = provider.base_path + "/models"
    return UpstreamRequest(
        method=b"GET",
        scheme=scheme,
        host=host,
        port=port,
        target=(f"{path}?{query}" if query else path).encode("ascii"),
        headers=[AGENT, ACCEPT_JSON, *credential.headers, *provider.fixed_headers],
        body=None,
        credential=credential.fingerprint,
        deadline=ANSWER_TIMEOUT,
        allow_private=provider.allow_private,
        uds=uds,
    )


def _dialect(provider: Provider) -> str:
    return provider.dialect if isinstance(provider.dialect, str) else provider.dialect.name


def judged(provider: Provider, status: int, body: bytes) -> tuple[str, list[str]]:
    """Returns a summary of the models in an answer, and the problems with it."""
    if status in REFUSED:
        return "not shown", [f"it refused the key ({status})."]
    if status in NO_LIST:
        return "it lists none", []
    if status != 200:
        return "not shown", [f"it answered {status}."]
    known = names_in(body)
    if known is None:
        return "not shown", ["it answered 200 with something that is no list of models; is the base URL right?"]
    missing = [pattern for pattern in provider.models if not any(fnmatchcase(name, pattern) for name in known)]
    wanted = len(tuple(provider.models))
    summary = f"{wanted - len(missing)} of {wanted} found" if wanted else f"{len(known)} listed"
    return summary, [f"it does not list the model {pattern}." for pattern in missing]


def names_in(body: bytes) -> list[str] | None:
    """Returns the models in a list of OpenAI's, Anthropic's or Gemini's form; None where it is none of these."""
    try:
        value: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    listed = value.get("data", value.get("models")) if isinstance(value, dict) else value
    if not isinstance(listed, list):
        return None
    return list(_names(listed))


def _names(listed: Iterable[Any]) -> Iterable[str]:
    for entry in listed:
        name = entry.get("id", entry.get("name")) if isinstance(entry, dict) else None
        if isinstance(name, str):
            yield name.removeprefix("models/")


HEAD = ("provider", "base URL", "key", "answer", "models")


def run(given: Namespace) -> int:
    """Prints what each provider answers; returns 1 if one has a problem."""
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
