"""The policies that come with the package, each asked without HTTP."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from gomodel_asgi import (
    Gateway,
    GoModelMiddleware,
    Provider,
    RoutingRequest,
    Target,
    Unauthenticated,
    UnknownModel,
    UnknownProvider,
    policies,
)
from gomodel_asgi.errors import RoutingError
from gomodel_asgi.operations import Operation
from gomodel_asgi.routing.policy import names_of
from gomodel_asgi.testing import run_policy

PROVIDERS = [Provider(name, f"http://{name}/v1") for name in ("a", "b", "c")]


class User:
    def __init__(self, known: bool) -> None:
        self.is_authenticated = known
        self.identity = "ada"


class Nobody(AuthenticationBackend):
    """Knows nobody, and so lets Starlette put an anonymous user into the scope."""

    async def authenticate(self, conn: HTTPConnection) -> None:
        return None


def ask(policy: Any, body: Any = b'{"model":"m"}', **options: Any) -> Target:
    return run_policy(policy, body, providers=PROVIDERS, **options)


def test_hint_follows_the_hint() -> None:
    assert ask(policies.hint, {"model": "m", "provider": "b"}).provider == "b"


def test_authenticated_lets_only_the_authenticated_through() -> None:
    guarded = policies.authenticated(lambda request: Target("a"))

    assert ask(guarded, user=User(True)).provider == "a"
    for nobody in (None, User(False), object()):
        with pytest.raises(Unauthenticated):
            ask(guarded, user=nobody)


def test_a_request_that_no_authentication_has_seen_is_logged_once_and_an_anonymous_one_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = Gateway(providers=PROVIDERS, policy=policies.authenticated(policies.hint))
    authentication = Middleware(AuthenticationMiddleware, backend=Nobody())
    gateways = Middleware(GoModelMiddleware, gateway=gateway)
    right, wrong = Starlette(middleware=[authentication, gateways]), Starlette(middleware=[gateways, authentication])

    def logged() -> list[str]:
        return [record.__dict__["event"] for record in caplog.records if record.name == "gomodel_asgi.gateway"]

    assert TestClient(right).post("/v1/responses", json={"model": "m"}).status_code == 401
    assert logged() == []
    for _ in range(2):
        assert TestClient(wrong).post("/v1/responses", json={"model": "m"}).status_code == 401
    assert logged() == ["no_authentication"]


def test_model_map_takes_exact_names_before_patterns_and_patterns_in_order() -> None:
    mapped = policies.model_map({"gpt-*": "a", "gpt-5": Target("b", model="x"), "*": "c"})

    assert ask(mapped, {"model": "gpt-5"}) == Target("b", model="x")
    assert ask(mapped, {"model": "gpt-4"}).provider == "a"
    assert ask(mapped, {"model": "other"}).provider == "c"
    with pytest.raises(UnknownModel):
        ask(policies.model_map({"x": "a"}), {"model": "y"})


def test_weighted_is_deterministic_by_key_and_keeps_its_proportions() -> None:
    split = policies.weighted([("a", 3), ("b", 1), ("c", 0)], key=lambda request: request.metadata["n"])
    arms = Counter(str(ask(split, {"metadata": {"n": str(number)}}).provider) for number in range(400))

    assert set(arms) == {"a", "b"} and 250 < arms["a"] < 350
    assert len({str(ask(split, {"metadata": {"n": "same"}}).provider) for _ in range(5)}) == 1


def test_weighted_splits_by_default_on_who_calls() -> None:
    split = policies.weighted([("a", 1), ("b", 1)])
    callers: list[dict[str, Any]] = [{"tenant": str(n)} for n in range(40)]
    callers += [{"body": {"user": str(n)}} for n in range(40)] + [{"user": User(True)}]

    for options in callers:
        assert ask(split, **options) == ask(split, **options)
    assert len({str(ask(split, **options).provider) for options in callers}) == 2


@pytest.mark.parametrize("choices", [[], [("a", 0)], [("a", 2), ("b", -1)]])
def test_weights_that_make_no_sense_are_refused(choices: Any) -> None:
    with pytest.raises(ValueError, match="weight"):
        policies.weighted(choices)


def test_fallback_puts_the_others_behind_the_first() -> None:
    chain = ask(policies.fallback("a", Target("b", model="x"), "c")).chain()

    assert [(one.provider, one.model) for one in chain] == [("a", None), ("b", "x"), ("c", None)]
    with pytest.raises(ValueError):
        policies.fallback()


def test_per_tenant_takes_targets_names_and_policies_and_refuses_the_unknown() -> None:
    async def own(request: RoutingRequest) -> Target:
        return Target("c")

    async def resolver(tenant: str | None) -> str | None:
        return "a" if tenant == "t" else None

    resolved = policies.per_tenant({"x": "a", "y": Target("b"), "z": own})
    assert [ask(resolved, tenant=tenant).provider for tenant in "xyz"] == ["a", "b", "c"]
    assert ask(policies.per_tenant(resolver), tenant="t").provider == "a"
    for tenant in (None, "nobody"):
        with pytest.raises(RoutingError) as caught:
            ask(policies.per_tenant(resolver), tenant=tenant)
        assert caught.value.status == 403


def test_first_of_passes_on_only_what_a_policy_does_not_know() -> None:
    def unknown(request: RoutingRequest) -> Target:
        raise UnknownProvider("no")

    known = policies.model_map({"m": "b"})
    assert ask(policies.first_of(unknown, known, policies.hint)).provider == "b"
    with pytest.raises(UnknownProvider):
        ask(policies.first_of(known, unknown), {"model": "other"})
    with pytest.raises(Unauthenticated):
        ask(policies.first_of(policies.authenticated(known), known))
    with pytest.raises(ValueError):
        policies.first_of()


def test_sticky_asks_once_for_each_key_while_the_provider_is_there() -> None:
    asked: list[str | None] = []

    async def policy(request: RoutingRequest) -> Target:
        asked.append(request.model)
        return Target("a" if len(asked) == 1 else "b")

    stuck = policies.sticky(policy, key=lambda request: request.model)
    assert [ask(stuck, {"model": "m"}).provider for _ in range(3)] == ["a", "a", "a"]
    assert ask(stuck, {"model": "n"}).provider == "b"
    assert run_policy(stuck, {"model": "m"}, providers=PROVIDERS[1:]).provider == "b"
    assert asked == ["m", "n", "m"]


def test_lowest_latency_names_every_target() -> None:
    chain = ask(policies.lowest_latency("a", "b", "c")).chain()

    assert sorted(str(one.provider) for one in chain) == ["a", "b", "c"]
    with pytest.raises(ValueError):
        policies.lowest_latency()


@pytest.mark.parametrize("operation", ["retrieve", "delete", "conversation_retrieve", "input_items"])
def test_what_names_something_goes_where_it_lies_whatever_new_responses_do(operation: Operation) -> None:
    policy = policies.for_models(policies.model_map({"fast": Target("new", model="m")}))
    stored = SimpleNamespace(provider="old", model="m")
    providers = ["old", "new"]
    assert run_policy(policy, {"model": "fast", "input": "x"}, providers=providers).provider == "new"
    found = run_policy(policy, operation=operation, response_id="resp_1", previous=stored, providers=providers)
    assert found.provider == "old"


async def test_a_policy_for_models_names_what_the_policy_in_it_names() -> None:
    policy = policies.for_models(policies.model_map({"fast": "a", "gpt-*": "a"}))
    assert await names_of(policy, cast(Any, None)) == ("fast",)
