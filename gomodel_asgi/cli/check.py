"""`check`: whether a gateway could serve, and what is wrong where it could not.

Each provider is asked for its list of models, with its own key and over the gateway's own transport, so that what is
between them (DNS, proxies, certificates, firewalls) is tried as well; store, counters and ledger are read. Nothing is
generated, so nothing is paid for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio

from ..arguments import is_coroutine_function
from ..exchange.job import Setup
from ..gateway import EXPOSED, Gateway
from ..policies import hint
from ..providers.provider import Provider, is_pattern
from ..routing.policy import name_of, targets_of
from ..threads import call
from .loading import of_django, write_json, write_pairs, write_table
from .probe import Finding, Row, probe, probes

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
    """Returns whether *gateway* is that of Django's settings, which somebody has asked for."""
    configuration = sys.modules.get("gomodel_asgi.contrib.django.configuration")
    made = None if configuration is None else configuration.get_gateway
    return made is not None and made.cache_info().currsize > 0 and made() is gateway


NOTHING_LISTED = (
    "GET {path}/models lists nothing: name models in Provider(models=[...]), have the providers asked for theirs with"
    " Provider(discover=3600), or give Gateway(models=...). Requests for a model are served all the same."
)


def notes_of(gateway: Gateway, prefix: str, others: int) -> list[str]:
    """Returns what is worth knowing, and not wrong."""
    notes = []
    providers = gateway.setup.registry.by_name.values()
    listed = gateway.models is not None or _names_models(gateway.setup.ask)
    if not listed and not any(one.discover or not all(map(is_pattern, one.models)) for one in providers):
        notes.append(NOTHING_LISTED.format(path=prefix))
    if others:
        notes.append(f"There are {others} more gateways in it: check each by its own name.")
    return notes


def _names_models(policy: Any) -> bool:
    """Returns whether *policy* names models, or may: one that is asked for them does."""
    while isinstance(policy, partial) and not hasattr(policy, "models"):
        policy = policy.args[0] if policy.func is call else policy.func
    inner = getattr(policy, "made_of", None)
    return any(map(_names_models, inner)) if inner is not None else bool(getattr(policy, "models", ()))


# The command.


HEAD = ("provider", "base URL", "key", "answer", "models")


def run(gateway: Gateway, prefix: str, others: int, *, as_json: bool) -> int:
    """Prints what each provider of *gateway* answers and what is wrong. Returns 0, or the gravest finding's status.

    *prefix* is the path below which its app serves it, beside so many *others*.
    """
    notes, described = notes_of(gateway, prefix, others), _described(gateway, prefix)
    rows, findings = anyio.run(_probed, gateway)
    status = min((STATUSES[finding.name] for finding in findings), default=0)
    if as_json:
        write_json(
            {
                "status": status,
                "gateway": described,
                "providers": [asdict(row) for row in rows],
                "findings": [{**asdict(finding), "status": STATUSES[finding.name]} for finding in findings],
                "notes": notes,
            }
        )
        return status
    write_pairs(described)
    print()
    write_table(HEAD, [(one.provider, one.base_url, one.key, one.answer, one.models) for one in rows])
    print()
    for finding in findings:
        print(f"{finding.name} {finding.about}: {finding.message}")
    if not findings:
        print("No problem was found.")
    for note in notes:
        print(f"Note: {note}")
    return status


async def _probed(gateway: Gateway) -> tuple[list[Row], list[Finding]]:
    """Asks everybody at once."""
    setup = gateway.setup
    wanted, findings = of_policy(setup)
    findings = [*of_gateway(gateway), *findings]
    rows: dict[str, Row] = {}

    async def ask(name: str) -> None:
        provider = setup.registry.by_name[name]
        rows[name], found = await probe(provider, wanted.get(name, ()), setup)
        findings.extend(found)

    async def read(name: str, about: str, reading: Callable[[], Any]) -> None:
        problem = await reading()
        if problem is not None:
            findings.append(Finding(name, about, problem))

    try:
        async with anyio.create_task_group() as tasks:
            for name in setup.registry.by_name:
                tasks.start_soon(ask, name)
            counters = None if setup.quotas is None else gateway.quotas.quotas.counters
            ledger = None if setup.ledger is None else gateway.ledger
            for each in probes(gateway.store, counters, ledger):
                tasks.start_soon(read, *each)
    finally:
        await gateway.aclose()
    found = sorted(findings, key=lambda finding: (STATUSES[finding.name], finding.about))
    return [rows[name] for name in setup.registry.by_name], found


def _described(gateway: Gateway, prefix: str) -> dict[str, str]:
    return {
        "paths": f"{prefix}/responses and below, {prefix}/models",
        "policy": _policy(hint if gateway.hinted else gateway.setup.ask),
        "store": type(gateway.store).__name__,
    }


def _policy(ask: Any) -> str:
    if isinstance(ask, partial) and ask.func is call:
        return f"{name_of(ask)}, in a worker thread"
    inside = ", the plain functions in it in a worker thread" if _has_plain(ask) else ""
    return f"{name_of(ask)}, on the event loop{inside}"


def _has_plain(policy: Any) -> bool:
    """Returns whether one of those that *policy* is made of is a plain function."""
    inner = getattr(policy, "made_of", ())
    return any(_has_plain(one) or not is_coroutine_function(one) for one in inner)
