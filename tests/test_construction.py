"""What is of a wrong type is refused where it is given, by the name of the argument and with what it wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from gomodel_asgi import Gateway, Limits, MemoryStore, Provider, Retries, Target, Timeouts, policies
from gomodel_asgi.guards import Guard
from gomodel_asgi.ledger import JsonLines, Ledger
from gomodel_asgi.quotas import Quotas

KEY = "sk-canary"
PROVIDER = Provider("house", "http://127.0.0.1:9/v1")


def gateway(**options: Any) -> Gateway:
    return Gateway(**{"providers": [PROVIDER], **options})


class Plain:
    pass


async def waits(*given: Any) -> Any: ...


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: gateway(policy="x.y"), "policy: give a function"),
    (lambda: gateway(policy=Target), "policy: give a function .* not the class Target"),
    (lambda: gateway(policy=Target("house")), "policy: give a function"),
    (lambda: gateway().reload(policy="x.y"), "policy: give a function"),  # type: ignore[arg-type]
    (lambda: policies.authenticated("x.y"), "policy: give a function"),  # type: ignore[arg-type]
    (lambda: policies.first_of(Target), "policies: give a function"),  # type: ignore[arg-type]
    (lambda: policies.sticky(Target, hash), "policy: give a function"),  # type: ignore[arg-type]
    (lambda: policies.fallback(3), "targets: give a Target or a provider's name, not an int"),  # type: ignore[arg-type]
    (lambda: gateway(providers=["openai"]), "providers: give Provider objects, not a str"),
    (lambda: gateway(providers=PROVIDER), "providers: give a list of Provider objects"),
    (lambda: gateway(timeouts=5), "timeouts: give Timeouts"),
    (lambda: gateway(limits={}), "limits: give Limits"),
    (lambda: gateway(retries=3), "retries: give Retries"),
    (lambda: gateway(tenant="x"), "tenant: give a function"),
    (lambda: gateway(models=["a"]), "models: give a function"),
    (lambda: gateway(observers=[waits]), "observers: give AsyncObserver"),
    (lambda: gateway().observe(waits), "observer: give AsyncObserver"),
    (lambda: Guard("g", input=waits, when=waits), "when: give a plain function"),  # type: ignore[arg-type]
    (lambda: Ledger(JsonLines("x"), price=waits), "price: give a plain function"),  # type: ignore[arg-type]
    (lambda: Quotas(lambda request: [], price=waits), "price: give a plain function"),  # type: ignore[arg-type]
    (lambda: MemoryStore(clock=waits), "clock: give a plain function"),  # type: ignore[arg-type]
    (lambda: policies.weighted([("a", 1)], key=waits), "key: give a plain function"),  # type: ignore[arg-type]
    (lambda: policies.sticky(policies.hint, waits), "key: give a plain function"),  # type: ignore[arg-type]
    (lambda: policies.limited(policies.hint, "1/minute", key=waits), "key: give a plain function"),  # type: ignore[arg-type]
    (lambda: Timeouts(5), "Timeouts: give its members by name, such as Timeouts\\(connect=5\\)"),  # type: ignore[call-arg]
    (lambda: Timeouts(connect=-1), "connect: give seconds"),
    (lambda: Timeouts(connect=math.nan), "connect: give seconds"),
    (lambda: Timeouts(idle="5"), "idle: give seconds, a number, not a str"),  # type: ignore[arg-type]
    (lambda: Timeouts(idle=None), "idle: give seconds"),  # type: ignore[arg-type]
    (lambda: Limits(body=-1), "body: give a number that is not below zero"),
    (lambda: Limits(body=None), "body: give a whole number"),  # type: ignore[arg-type]
    (lambda: Limits(depth="7"), "depth: give a whole number, not a str"),  # type: ignore[arg-type]
    (lambda: Retries(attempts=1.5), "attempts: give a whole number"),  # type: ignore[arg-type]
    (lambda: Retries(on="connect"), "on: give a set"),
    (lambda: Retries(on={"conect"}), "on: 'conect' is neither"),
    (lambda: Target(3), "provider: give a name or a Provider, not an int"),  # type: ignore[arg-type]
    (lambda: Target("a", model=3), "model: give a name, not an int"),  # type: ignore[arg-type]
    (lambda: Target("a", api_key=""), "api_key: it is empty"),
    (lambda: Target("a", api_key=3), "api_key: give a string"),  # type: ignore[arg-type]
    (lambda: Target("a", api_key=KEY.encode()), "api_key: give a string"),  # type: ignore[arg-type]
    (lambda: Target("a", fallbacks=["b"]), "fallbacks: give a list of Targets"),  # type: ignore[list-item]
    (lambda: Target("a", fallbacks="b"), "fallbacks: give a list of Targets"),  # type: ignore[arg-type]
    (lambda: Target("a", fallbacks=Target("b")), "fallbacks: give a list of Targets"),  # type: ignore[arg-type]
    (lambda: Target("a", timeouts=5), "timeouts: give Timeouts"),  # type: ignore[arg-type]
    (lambda: Target("a", retries=5), "retries: give Retries"),  # type: ignore[arg-type]
    (lambda: Provider(3, "http://h"), "name: give a string"),  # type: ignore[arg-type]
    (lambda: Provider("a", None), "base_url: give a string"),  # type: ignore[arg-type]
    (lambda: Provider("a", "http://h", api_key=""), "api_key of provider 'a': it is empty"),
    (lambda: Provider("a", "http://h", api_key=[KEY]), "api_key of provider 'a': give a string"),  # type: ignore[arg-type]
    (lambda: Provider("a", "http://h", timeouts=5), "timeouts: give Timeouts"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[f"{at}-{message}" for at, (_, message) in enumerate(WRONG)])
def test_what_is_wrong_is_refused_by_its_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as refused:
        make()
    assert KEY not in str(refused.value)


def test_what_is_right_is_taken() -> None:
    Timeouts(connect=0, idle=math.inf)
    Limits(connections=None, tenant_bytes=None, body=0)
    Retries(on=[429, "timeout"])
    Target(PROVIDER, fallbacks=iter([Target("b", api_key=lambda: KEY)]), timeouts=Timeouts(idle=1))
