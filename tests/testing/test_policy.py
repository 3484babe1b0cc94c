"""`run_policy` asks a policy without HTTP, and the pytest plugin brings it and a fake provider as fixtures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.authentication import SimpleUser
from starlette.datastructures import State

from gomodel_asgi import policies
from gomodel_asgi.errors import InvalidRequest, ProviderConflict, Unauthenticated, UnknownProvider
from gomodel_asgi.providers.provider import Provider
from gomodel_asgi.routing.request import RoutingRequest
from gomodel_asgi.routing.target import Target
from gomodel_asgi.testing import run_policy

ROOT = Path(__file__).parents[2]
NAMES = ["east", "west"]


def echo(request: RoutingRequest) -> Target:
    """A policy that tells what it saw, in labels."""
    seen = {
        "operation": request.operation,
        "model": request.model,
        "provider": request.provider,
        "tenant": request.tenant,
        "user": getattr(request.user, "display_name", None),
        "plan": getattr(request.state, "plan", None),
        "header": request.headers.get("x-plan"),
        "input": request.body.get("input"),
        "providers": " ".join(request.providers),
    }
    return Target("east", labels={name: str(value) for name, value in seen.items()})


async def to_west(request: RoutingRequest) -> Target:
    return Target("west", model=request.model)


def labels(target: Target) -> Mapping[str, str]:
    assert target.labels is not None
    return target.labels


def test_the_policy_sees_body_user_tenant_headers_state_and_providers() -> None:
    target = run_policy(
        echo,
        {"model": "west/m", "input": "hi"},
        user=SimpleUser("ada"),
        tenant="acme",
        headers={"X-Plan": "pro"},
        providers=NAMES,
        state={"plan": "gold"},
    )

    assert labels(target) == {
        "operation": "create",
        "model": "m",
        "provider": "west",
        "tenant": "acme",
        "user": "ada",
        "plan": "gold",
        "header": "pro",
        "input": "hi",
        "providers": "east west",
    }


@pytest.mark.parametrize("body", [b'{"input": "hi"}', '{"input": "hi"}', {"input": "hi"}])
def test_the_body_may_be_bytes_text_or_a_mapping(body: Any) -> None:
    assert labels(run_policy(echo, body))["input"] == "hi"


def test_a_scope_of_ones_own_is_kept_under_what_is_given() -> None:
    scope = {"user": SimpleUser("eve"), "headers": [(b"x-plan", b"free")], "query_string": b"provider=west"}
    target = run_policy(echo, {}, scope=scope, providers=NAMES, state=State({"plan": "gold"}), operation="compact")
    seen = labels(target)

    assert (seen["user"], seen["header"], seen["provider"]) == ("eve", "free", "west")
    assert (seen["plan"], seen["operation"]) == ("gold", "compact")


@pytest.mark.parametrize(
    ("body", "headers"),
    [({"provider": "west"}, {}), ({}, {"x-gomodel-provider": "west"}), ({"model": "west/m"}, {})],
)
def test_the_hint_is_read_from_wherever_a_client_may_put_it(body: dict[str, Any], headers: dict[str, str]) -> None:
    assert run_policy(policies.hint, body, headers=headers, providers=NAMES) == Target("west")


def test_hints_that_disagree_never_reach_the_policy() -> None:
    with pytest.raises(ProviderConflict):
        run_policy(echo, {"provider": "west"}, headers={"x-gomodel-provider": "east"}, providers=NAMES)


def test_a_body_that_the_gateway_would_refuse_never_reaches_the_policy() -> None:
    with pytest.raises(InvalidRequest):
        run_policy(echo, b"[]")


def test_an_async_policy_is_run_for_a_plain_test() -> None:
    assert run_policy(to_west, {"model": "m"}, providers=NAMES) == Target("west", model="m")


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("policy", [echo, to_west])
async def test_inside_an_event_loop_the_answer_is_awaited(policy: Any) -> None:
    target = await run_policy(policy, {"model": "m"}, providers=NAMES)

    assert target.provider in NAMES


def test_what_the_policy_raises_comes_out_as_it_is() -> None:
    with pytest.raises(Unauthenticated):
        run_policy(policies.authenticated(to_west), {}, providers=NAMES)
    with pytest.raises(UnknownProvider):
        run_policy(policies.hint, {"provider": "north"}, providers=NAMES)


def test_with_a_user_the_guarded_policy_answers() -> None:
    assert run_policy(policies.authenticated(to_west), {}, providers=NAMES, user=SimpleUser("ada")).provider == "west"


def test_an_answer_that_is_no_target_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        run_policy(lambda request: None, {})  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("target", [Target("north"), Target("east", fallbacks=[Target("north")])])
def test_a_provider_that_is_not_configured_is_told_in_fallbacks_too(target: Target) -> None:
    with pytest.raises(LookupError, match="north"):
        run_policy(lambda request: target, {}, providers=NAMES)


def test_a_provider_made_for_the_request_needs_no_configuration() -> None:
    own = Provider("tenant", "https://llm.example.org/v1")

    assert run_policy(lambda request: Target(own), {}, providers=NAMES).provider is own


def test_without_providers_the_target_may_name_any() -> None:
    assert run_policy(lambda request: Target("anything"), {}).provider == "anything"


def test_providers_are_healthy_until_something_is_known() -> None:
    targets = run_policy(policies.lowest_latency("east", "west"), {}, providers=NAMES).chain()

    assert [target.provider for target in targets] == NAMES


def test_the_health_of_an_unknown_provider_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="north"):
        run_policy(policies.lowest_latency("north"), {}, providers=NAMES)


USES = """
import openai

def ask(url, **members):
    with openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        return client.responses.create(model="m", input="hi", **members).output_text

def test_plain(fake_provider, run_policy):
    from gomodel_asgi import Target
    assert ask(fake_provider.base_url) == "You said: hi"
    assert run_policy(lambda request: Target("any"), {}).provider == "any"

async def test_async(fake_provider):
    async with openai.AsyncOpenAI(base_url=fake_provider.base_url, api_key="sk-test", max_retries=0) as client:
        assert (await client.responses.create(model="m", input="hi")).output_text == "You said: hi"
    assert len(fake_provider.requests) == 1
"""
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "PATH": ""}


def test_the_plugins_fixtures_work_in_plain_and_in_async_tests(tmp_path: Path) -> None:
    (tmp_path / "test_uses.py").write_text(USES)
    options = ["-q", "-W", "error", "-p", "anyio", "-o", "anyio_mode=auto", "-p", "gomodel_asgi.testing.plugin"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=ALONE, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout


def test_loading_the_plugin_loads_nothing_of_the_kit() -> None:
    code = "import gomodel_asgi.testing.plugin, sys; print(*(m for m in sys.modules if 'gomodel_asgi.testing' in m))"
    run = subprocess.run(
        [sys.executable, "-c", code], env=ALONE, capture_output=True, text=True, timeout=60, check=True
    )

    assert run.stdout.split() == ["gomodel_asgi.testing", "gomodel_asgi.testing.plugin"]


def test_every_public_name_of_the_kit_is_there_and_no_other() -> None:
    from gomodel_asgi import testing

    assert [name for name in testing.__all__ if not hasattr(testing, name)] == []
    assert dir(testing) == sorted(testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        testing.unknown  # noqa: B018
