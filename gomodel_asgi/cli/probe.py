"""Asks one provider for its models: is it there, does it take the key, does it know what it is configured for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import anyio
import msgspec

from ..errors import GatewayError
from ..providers.provider import Credential, Provider
from ..seams.transport import Transport, UpstreamRequest
from ..upstream.upstream_request import ACCEPT_JSON, AGENT
from .output import masked

PATIENCE = 10.0  # seconds for all of one provider's answer: it is one list
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
    """Ask *provider*, at most for `PATIENCE` seconds. Never raises for what it finds."""
    try:
        credential = await provider.credential()
    except Exception as error:
        return Finding(provider.name, provider.address, "unusable", problems=(f"its key: {error}",))
    key, started = masked(credential.key), clock()
    status, body, problem = None, b"", f"no answer within {PATIENCE:g} seconds."
    with anyio.move_on_after(PATIENCE):
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
        while len(body) <= LARGEST and (data := await reply.read(PATIENCE)):
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
        deadline=PATIENCE,
        allow_private=provider.allow_private,
        uds=uds,
    )


def _dialect(provider: Provider) -> str:
    return provider.dialect if isinstance(provider.dialect, str) else provider.dialect.name


def judged(provider: Provider, status: int, body: bytes) -> tuple[str, list[str]]:
    """What an answer says of the models, and what is wrong with it."""
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
    told = f"{wanted - len(missing)} of {wanted} found" if wanted else f"{len(known)} listed"
    return told, [f"it does not list the model {pattern}." for pattern in missing]


def names_in(body: bytes) -> list[str] | None:
    """The models in a list of OpenAI's, Anthropic's or Gemini's form; None where it is none of these."""
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
