"""`check`: whether a gateway could serve, and what is wrong where it could not.

Each provider is asked for its list of models, with its own key and over the gateway's own transport, so that what is
between them (DNS, proxies, certificates, firewalls) is tried as well; store, counters and ledger are read. Nothing is
generated, so nothing is paid for.
"""

from __future__ import annotations

import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import anyio

from ..dialects.model_list import PATH
from ..errors import GatewayError, UpstreamProtocolError, UpstreamRedirect, UpstreamTimeout, UpstreamUnreachable
from ..exchange.job import Setup
from ..gateway import EXPOSED, Gateway
from ..policies import hint
from ..providers.credential import Credential
from ..providers.provider import Provider, is_pattern
from ..routing.policy import name_of, targets_of
from ..threads import call, is_coroutine_function
from ..upstream.listed_models import ModelsAnswer, listed_models, refusal_of
from .hosts import Place, find_gateway, of_django
from .infrastructure import probes
from .listed import PUBLIC, lists
from .loading import masked, write_json, write_pairs, write_table

STATUSES = {
    "no_policy": 10,
    "key_refused": 11,
    "key_unusable": 12,
    "wrong_base_url": 13,
    "unknown_provider": 14,
    "unknown_model": 15,
    "login_redirect": 16,
    "store_unreachable": 20,
    "counters_unreachable": 21,
    "ledger_unreachable": 22,
    "provider_unreachable": 30,
    "provider_failed": 31,
}
"""Each finding by its name, with the exit status of a gateway that has it, the gravest first: what only its maintainer
can put right, what the machines around it have to offer, and what may pass by itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: its *name* of `STATUSES`, what it is *about* (a provider's name, or a part of the
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


# Asks one provider for its models: is it there, does it take the key, does it know what it is configured for.


REFUSED = (401, 402, 403)
NO_LIST = (404, 405, 501)
"""What an API answers that has no such path; and so does a web server that is no API."""
CREATES = {"responses": "/responses", "chat": "/chat/completions", "anthropic": "/messages"}
"""Where an empty object is posted to learn which of the two it is, by dialect."""
MISSES_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)
"""How an API answers with 404 that looks for the model of the empty object."""
KEY_SECONDS = 10.0


async def probe(
    provider: Provider, wanted: Iterable[str], setup: Setup, clock: Callable[[], float]
) -> tuple[Row, list[Finding]]:
    """Asks *provider* for its models; *wanted* are those that it should have beside its own. Never raises for what it
    finds."""
    find = partial(Finding, about=provider.name)
    try:
        with anyio.fail_after(KEY_SECONDS):
            credential = await provider.credential()
    except Exception as error:
        message = f"its key cannot be had, or cannot be sent: {_of_key(error)}"
        return Row(provider.name, provider.address, "unusable"), [find("key_unusable", message=message)]
    key, started = masked(credential.key), clock()
    try:
        answer = await listed_models(provider, credential, setup)
        seconds = clock() - started
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
    """Tells an API that has no list from a server that is no API."""
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


# What can be seen without asking anybody.


def of_policy(setup: Setup) -> tuple[dict[str, list[str]], list[Finding]]:
    """Returns which models the policy sends to which provider, and what it names that is not configured."""
    wanted: dict[str, list[str]] = {}
    findings: dict[str, Finding] = {}
    for target in (one for found in targets_of(setup.ask) for one in found.chain()):
        name = target.provider
        if isinstance(name, Provider):  # made for one request; its key may be a customer's
            continue
        if name not in setup.registry.by_name:
            message = f"it names the provider '{name}', which is not configured; there are {_names(setup)}."
            findings[name] = Finding("unknown_provider", "policy", message)
        elif target.model is not None and target.api_key is None:
            wanted.setdefault(name, []).append(target.model)
    return wanted, list(findings.values())


def _names(setup: Setup) -> str:
    return ", ".join(f"'{name}'" for name in setup.registry.by_name)


def of_gateway(gateway: Gateway) -> Iterator[Finding]:
    """Yields what is wrong with the gateway itself, and with the Django project that it is in."""
    if gateway.exposed:
        yield Finding("no_policy", "policy", EXPOSED)
    if _is_djangos(gateway):
        checks = of_django("checks")
        for where in checks.redirecting():
            yield Finding("login_redirect", "URLconf", f"{where}: {checks.REDIRECTS} {checks.WITHOUT}")


def _is_djangos(gateway: Gateway) -> bool:
    """Whether *gateway* is that of Django's settings, which somebody has asked for."""
    configuration = sys.modules.get("gomodel_asgi.contrib.django.configuration")
    made = None if configuration is None else configuration.get_gateway
    return made is not None and made.cache_info().currsize > 0 and made() is gateway


NOTHING_LISTED = (
    "GET {path}/models lists nothing: name models in Provider(models=[...]), have the providers asked for theirs with"
    " Provider(discover=3600), or give Gateway(models=...). Requests for a model are served all the same."
)


def notes_of(place: Place, others: int) -> list[str]:
    """Returns what is worth knowing, and not wrong."""
    gateway, notes = place.gateway, []
    providers = gateway.setup.registry.by_name.values()
    listed = gateway.models is not None or _names_models(gateway.setup.ask)
    if not listed and not any(one.discover or not all(map(is_pattern, one.models)) for one in providers):
        notes.append(NOTHING_LISTED.format(path=place.path + gateway.prefix))
    if others:
        notes.append(f"There are {others} more gateways in it: check each by its own name.")
    return notes


def _names_models(policy: Any) -> bool:
    """Whether *policy* names models, or may: one that is asked for them does."""
    while isinstance(policy, partial) and not hasattr(policy, "models"):
        policy = policy.args[0] if policy.func is call else policy.func
    inner = getattr(policy, "made_of", None)
    return any(map(_names_models, inner)) if inner is not None else bool(getattr(policy, "models", ()))


# The command.


HEAD = ("provider", "base URL", "key", "answer", "models")


def run(given: Namespace) -> int:
    """Prints what each provider answers and what is wrong; returns 0, or the status of the gravest finding."""
    places = find_gateway(given.gateway)
    place, notes = places[0], notes_of(places[0], len(places) - 1)
    rows, findings = anyio.run(_probed, place.gateway)
    status = min((STATUSES[finding.name] for finding in findings), default=0)
    if given.json:
        write_json(
            {
                "status": status,
                "gateway": _described(place),
                "providers": [asdict(row) for row in rows],
                "findings": [{**asdict(finding), "status": STATUSES[finding.name]} for finding in findings],
                "notes": notes,
            }
        )
        return status
    write_pairs(_described(place))
    print()
    write_table(HEAD, [(one.provider, one.base_url, one.key, one.answer, one.models) for one in rows])
    _write_findings(findings, notes)
    return status


async def _probed(gateway: Gateway) -> tuple[list[Row], list[Finding]]:
    """Asks everybody at once."""
    setup = gateway.setup
    wanted, findings = of_policy(setup)
    findings = [*of_gateway(gateway), *findings]
    rows: dict[str, Row] = {}

    async def ask(name: str) -> None:
        provider = setup.registry.by_name[name]
        rows[name], found = await probe(provider, wanted.get(name, ()), setup, time.monotonic)
        findings.extend(found)

    async def read(name: str, about: str, reading: Callable[[], Any]) -> None:
        problem = await reading()
        if problem is not None:
            findings.append(Finding(name, about, problem))

    try:
        async with anyio.create_task_group() as tasks:
            for name in setup.registry.by_name:
                tasks.start_soon(ask, name)
            for each in probes(gateway):
                tasks.start_soon(read, *each)
    finally:
        await gateway.aclose()
    return [rows[name] for name in setup.registry.by_name], sorted(findings, key=_grave)


def _grave(finding: Finding) -> tuple[int, str]:
    return STATUSES[finding.name], finding.about


def _described(place: Place) -> dict[str, str]:
    prefix = place.path + place.gateway.prefix
    return {
        "paths": f"{prefix}/responses and below, {prefix}/models",
        "policy": _policy(hint if place.gateway.hinted else place.gateway.setup.ask),
        "store": type(place.gateway.store).__name__,
    }


def _policy(ask: Any) -> str:
    if isinstance(ask, partial) and ask.func is call:
        return f"{name_of(ask)}, in a worker thread"
    inside = ", the plain functions in it in a worker thread" if _has_plain(ask) else ""
    return f"{name_of(ask)}, on the event loop{inside}"


def _has_plain(policy: Any) -> bool:
    """Whether one of those that *policy* is made of is a plain function."""
    inner = getattr(policy, "made_of", ())
    return any(_has_plain(one) or not is_coroutine_function(one) for one in inner)


def _write_findings(findings: list[Finding], notes: list[str]) -> None:
    print()
    for finding in findings:
        print(f"{finding.name} {finding.about}: {finding.message}")
    if not findings:
        print("No problem was found.")
    for note in notes:
        print(f"Note: {note}")
