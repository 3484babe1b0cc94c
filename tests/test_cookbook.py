"""Each recipe of the policy cookbook says which operations it decides for, and does as it says for each of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target, Unauthenticated
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.operations import ROWS, TABLE, Operation
from gomodel_asgi.quotas import Quota, Quotas
from gomodel_asgi.testing import run_policy

from .support.page import blocks

PAGE = Path(__file__).parents[1] / "docs" / "policies.md"
NO_RECIPES = {"Policy cookbook", "What a policy may raise"}
ASKING = {"create", "compact", "input_tokens"}
ALL = "**Operations:** all of them"
SOME = "**Operations:** `create`, `compact` and `input_tokens`; the others go to `request.default()`"
PROVIDERS = [Provider(name, "http://127.0.0.1:9/v1") for name in ("openai", "openai-eu", "anthropic")]
OPERATIONS: list[Operation] = [*dict.fromkeys(row.operation for row in TABLE)]


def sections() -> dict[str, str]:
    parts = re.split(r"^#+ (.+)$", PAGE.read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


RECIPES = {title: text for title, text in sections().items() if title not in NO_RECIPES}


def shown(text: str) -> str:
    """The code of *text* that readers see."""
    return "\n".join(source for _, source in blocks(re.sub(r"^<!--.*?^-->$", "", text, flags=re.M | re.S), "python"))


@pytest.fixture(scope="module")
def cookbook() -> ModuleType:
    """All recipes in one namespace, with a gateway whose quotas one of them asks."""
    module = ModuleType("cookbook")
    exec("from gomodel_asgi import *\nfrom gomodel_asgi import policies", module.__dict__)
    for text in RECIPES.values():
        exec(compile(shown(text), str(PAGE), "exec"), module.__dict__)
    module.__dict__["gateway"] = Gateway(
        providers=PROVIDERS, quotas=Quotas(lambda request: [Quota("month", per="month", tokens=100_000)])
    )
    return module


def policy_of(title: str, cookbook: ModuleType) -> Any:
    """The last policy that a recipe defines."""
    names = []
    for node in ast.parse(shown(RECIPES[title])).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [ast.unparse(target) for target in node.targets]
    return vars(cookbook)[names[-1]]


def body_of(operation: Operation) -> dict[str, Any]:
    if operation in ASKING:
        return {"model": "fast", "input": "Hello", "metadata": {"team": "research"}}
    return {} if ROWS[operation].body is None else {"metadata": {"team": "research"}}


def asked(policy: Any, operation: Operation, user: object) -> Target:
    names = ROWS[operation].path_names is not None
    return run_policy(
        policy,
        body_of(operation),
        operation=operation,
        user=user,
        tenant="acme",
        providers=PROVIDERS,
        response_id="resp_1" if names else None,
        previous=SimpleNamespace(provider="anthropic", model="m") if names else None,
    )


def user() -> SimpleNamespace:
    return SimpleNamespace(is_authenticated=True, identity="acme", api_key=None, region="eu", plan="team")


def answered(policy: Any, operation: Operation) -> object:
    """Provider and model that *policy* names, or the code of its refusal."""
    try:
        target = asked(policy, operation, user())
    except GatewayError as error:
        return type(error), error.code, error.param
    return target.provider, target.model


def default(request: RoutingRequest) -> Target:
    return request.default()


@pytest.mark.parametrize("title", RECIPES)
def test_each_recipe_says_which_operations_it_decides_for(title: str) -> None:
    said = re.findall(r"^\*\*Operations:\*\*.*$", RECIPES[title], re.M)
    assert len(said) == 1 and said[0].startswith((ALL, SOME))
    assert RECIPES[title].lstrip().startswith("**Operations:**")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("title", RECIPES)
def test_each_recipe_does_as_it_says_for_each_operation(title: str, operation: Operation, cookbook: ModuleType) -> None:
    policy = policy_of(title, cookbook)
    if ALL in RECIPES[title]:
        assert answered(policy, operation) == answered(policy, "create")
    elif operation not in ASKING:
        assert answered(policy, operation) == answered(default, operation)
    else:
        assert isinstance(asked(policy, operation, user()), Target)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("title", RECIPES)
def test_no_recipe_lets_in_who_is_not_logged_in(title: str, operation: Operation, cookbook: ModuleType) -> None:
    with pytest.raises(Unauthenticated):
        asked(policy_of(title, cookbook), operation, None)
