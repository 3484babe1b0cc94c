"""Asks what a gateway needs whether it is there. A provider is asked for its models: does it take the key, does it know
what it is configured for? Store, counters and ledger are read, and nothing is written but what each makes for itself at
its first use, such as its table."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial

import anyio

from ..dialects.model_list import PATH
from ..errors import GatewayError, UpstreamProtocolError, UpstreamRedirect, UpstreamTimeout, UpstreamUnreachable
from ..exchange.job import Setup
from ..ledger import Ledger
from ..providers.credential import Credential
from ..providers.provider import Provider
from ..seams.counters import Counters, Line, Window
from ..seams.store import Store, is_immediate
from ..upstream.listed_models import ModelsAnswer, listed_models, refusal_of
from .loading import masked

SECONDS = 10.0
"""Seconds that the host's function has for a key, and each of store, counters and ledger to answer."""
REFUSED = (401, 402, 403)
NO_LIST = (404, 405, 501)
"""What an API answers that has no such path; and so does a web server that is no API."""
CREATES = {"responses": "/responses", "chat": "/chat/completions", "anthropic": "/messages"}
"""Where an empty object is posted to learn which of the two it is, by dialect."""
MISSES_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)
"""How an API answers with 404 that looks for the model of the empty object."""

ANY_DATE = r"(?:-latest|-\d{8}|-\d{4}-\d{2}-\d{2})?"
SUFFIXES = {
    "anthropic": (r"-latest$", ANY_DATE),
    "ollama": ("$^", r"(?::latest)?"),
    "xai": (r"-latest$", r"(?:-latest|-\d{4})?"),
    "openrouter": (r":[a-z]+$", r"(?::[a-z]+)?"),
}
"""By type: what a name may end with that no list has, and what a list may add to a name. Anthropic lists dated models
and takes names without the date ("Models overview"), as xAI does; Ollama lists tags, OpenRouter takes variants."""
UNLISTED = ("azure", "llamacpp")
"""Types that take names which no list has: Azure's are those of the customer's deployments, and a llama.cpp with one
model takes any."""
PUBLIC = ("openrouter",)
"""Types that show their list to everybody, so that it says nothing of the key."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: its *name* of `check.STATUSES`, what it is *about* (a provider's name, or a part of the
    gateway), and a *message* that says what to do."""

    name: str
    about: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one provider now. *base_url* without its query, *seconds* until it answered, None where it did
    not."""

    provider: str
    base_url: str
    key: str
    status: int | None = None
    seconds: float | None = None
    models: str = "not asked"

    @property
    def answer(self) -> str:
        """Status and time, for people."""
        return "none" if self.seconds is None else f"{self.status} in {self.seconds:.2f} s"


async def probe(provider: Provider, wanted: Iterable[str], setup: Setup) -> tuple[Row, list[Finding]]:
    """Asks *provider* for its models; *wanted* are those that it should have beside its own. Never raises for what it
    finds."""
    find = partial(Finding, about=provider.name)
    try:
        with anyio.fail_after(SECONDS):
            credential = await provider.credential()
    except Exception as error:
        message = f"its key cannot be had, or cannot be sent: {_of_key(error)}"
        return Row(provider.name, provider.address, "unusable"), [find("key_unusable", message=message)]
    key, started = masked(credential.key), time.monotonic()
    try:
        answer = await listed_models(provider, credential, setup)
        seconds = time.monotonic() - started
        models, name, message = await judged(provider, credential, setup, answer)
        if not name and provider.type in PUBLIC:
            name, message = await _of_refused_key(provider, credential, setup)
    except Exception as error:
        name, message = failure(provider, error)
        return Row(provider.name, provider.address, key), [find(name, message=message)]
    findings = [find(name, message=message)] if name else []
    if answer.models is not None and not name:
        names = list(dict.fromkeys((*provider.models, *wanted)))
        missing = missing_of(provider, names, [model.name for model in answer.models])
        models = f"{len(names) - len(missing)} of {len(names)} found" if names else models
        findings = [find("unknown_model", message=f"it does not list the model {one}.") for one in missing]
    return Row(provider.name, provider.address, key, answer.status, seconds, models), findings


def _of_key(error: Exception) -> str:
    # What the host's own function raises may quote the key; what is said of it here never does.
    own = isinstance(error, ValueError) and str(error).startswith("api_key of provider")
    return str(error) if own else type(error).__name__


def failure(provider: Provider, error: Exception) -> tuple[str, str]:
    """Returns the finding, and its message, where *provider* gave no answer."""
    asked = f"GET {provider.address}{PATH}"
    if not isinstance(error, GatewayError):
        return "key_unusable", f"{asked} cannot be written: {type(error).__name__}."
    detail = "" if error.detail is None else f" ({error.detail})"
    if isinstance(error, UpstreamProtocolError | UpstreamRedirect):
        return "wrong_base_url", f"what answers {asked} is not its API: {error.message}{detail}"
    if isinstance(error, UpstreamUnreachable | UpstreamTimeout):
        return "provider_unreachable", f"{asked} was not answered: {error.message}{detail}"
    return "provider_failed", f"{asked} failed: {error.message}{detail}"


async def judged(
    provider: Provider, credential: Credential, setup: Setup, answer: ModelsAnswer
) -> tuple[str, str, str]:
    """Returns a summary of *answer*, and the finding with its message; "" for none."""
    asked = f"GET {provider.address}{PATH} was answered {answer.status} ({answer.said})"
    if answer.models is not None:
        return f"{len(answer.models)} listed", "", ""
    if answer.status in REFUSED:
        return "not shown", "key_refused", f"it refused the key: {asked}."
    if answer.status in NO_LIST:
        return await _without_list(provider, credential, setup, asked)
    if answer.status == 200 or 300 <= answer.status < 400:
        return "not shown", "wrong_base_url", f"{asked}, which is no list of models: is the base URL right?"
    return "not shown", "provider_failed", f"{asked}."


async def _without_list(provider: Provider, credential: Credential, setup: Setup, asked: str) -> tuple[str, str, str]:
    """Distinguishes an API that has no list of models from a server that is no API."""
    path = CREATES.get(provider.dialect_name)
    if path is None:
        return "it lists none", "", ""
    answer = await refusal_of(provider, credential, setup, path)
    posted = _posted(provider, path, answer)
    if answer.status in REFUSED:
        return "not shown", "key_refused", f"it refused the key: {posted}."
    known = answer.status not in NO_LIST or MISSES_MODEL.search(answer.said)
    if known and not 300 <= answer.status < 400:
        return "it lists none", "", ""
    return "not shown", "wrong_base_url", f"{asked}, and {posted}: is the base URL right?"


async def _of_refused_key(provider: Provider, credential: Credential, setup: Setup) -> tuple[str, str]:
    """Returns the finding, with its message, where the key is refused that the list did not ask for; "" for none."""
    path = CREATES.get(provider.dialect_name)
    if path is None:
        return "", ""
    answer = await refusal_of(provider, credential, setup, path)
    if answer.status not in REFUSED:
        return "", ""
    return "key_refused", f"it refused the key: {_posted(provider, path, answer)}."


def _posted(provider: Provider, path: str, answer: ModelsAnswer) -> str:
    return f"POST {provider.address}{path} was answered {answer.status} ({answer.said})"


def missing_of(provider: Provider, wanted: Iterable[str], known: list[str]) -> list[str]:
    """Returns those of the *wanted* models that *known*, the list of *provider*, does not have."""
    return [name for name in wanted if not lists(known, name.removeprefix("models/"), provider.type or provider.name)]


def lists(known: Iterable[str], wanted: str, type: str) -> bool:
    """Returns whether *known*, the list of a provider of this *type*, has the model or pattern *wanted*."""
    if type in UNLISTED or any(name == wanted or fnmatchcase(name, wanted) for name in known):
        return True
    ending, added = SUFFIXES.get(type, ("$^", ""))
    spelling = re.compile(re.escape(re.sub(ending, "", wanted)) + added)
    return any(spelling.fullmatch(name) for name in known)


# Store, counters and ledger.


KEY = "check"

Reading = Callable[[], Awaitable[str | None]]


def probes(store: Store, counters: Counters | None, ledger: Ledger | None) -> Iterator[tuple[str, str, Reading]]:
    """Yields, for each of them, the name of the finding where it does not answer, what that is about, and what reads
    it: that returns a message, or None."""
    if not is_immediate(store):
        yield "store_unreachable", "store", partial(_tried, store, partial(_read_store, store))
    if counters is not None:
        yield "counters_unreachable", "quotas", partial(_tried, counters, partial(_read_counters, counters))
    if ledger is not None:
        yield "ledger_unreachable", "ledger", partial(_tried, ledger.sink, partial(_read_ledger, ledger))


async def _tried(engine: object, read: Callable[[], Awaitable[None]]) -> str | None:
    """Returns why *read* failed, None where it did not: the type of what it raised, and the system's error of its
    connection. An engine's message may quote addresses, users and statements."""
    until = anyio.current_time() + SECONDS
    while True:
        try:
            with anyio.fail_after(SECONDS):
                await read()
            return None
        except Exception as error:
            # Counters give a call little time, and their first connection may take longer: it is being opened still.
            if not _is_late(error) or anyio.current_time() > until:
                return f"{type(engine).__name__} does not answer: {_reason(error)}"


def _is_late(error: BaseException) -> bool:
    return any(isinstance(one, TimeoutError) and not getattr(one, "errno", None) for one in _causes(error))


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    return causes


def _reason(error: BaseException) -> str:
    causes = _causes(error)
    system = next((one for one in reversed(causes) if isinstance(one, OSError) and one.errno), None)
    if system is not None and system.errno is not None:
        return f"{type(system).__name__}: {os.strerror(system.errno)}."
    if _is_late(error):
        return f"nothing within {SECONDS:g} seconds."
    missing = any("UndefinedTable" in type(one).__name__ or "no such table" in str(one) for one in causes)
    return "its tables are not there: create them first." if missing else f"{type(causes[1 % len(causes)]).__name__}."


async def _read_store(store: Store) -> None:
    await store.get(KEY, KEY)


async def _read_counters(counters: Counters) -> None:
    now = time.time()
    window = Window(f"minute:{KEY}", ends=now + 60)
    await counters.figures([Line(KEY, window, limit=1, amount=0, holds=False, slot=0, oldest=0, keeps=60)], now)


async def _read_ledger(ledger: Ledger) -> None:
    """Reads nothing of *ledger*, or sees whether its file can be written.

    :raises PermissionError: it cannot.
    """
    path = getattr(ledger.sink, "path", None)
    if path is not None:  # a file may be long; it is only to be written
        place = path if path.exists() else path.parent
        if not os.access(place, os.W_OK):
            raise PermissionError(13 if place.exists() else 2, "")
        return
    now = datetime.now(UTC)
    await ledger.sums(now.date(), now.date())
    async with aclosing(ledger.rows(now, now)) as rows:
        async for _ in rows:
            break
