"""Providers as values, their presets, and what the environment configures."""

from __future__ import annotations

import copy
import math
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from gomodel_asgi import Provider, providers
from gomodel_asgi.providers.presets import PRESETS

KEY = "sk-canary-key"
WITHOUT_URL = {
    "azure": "https://r.openai.azure.com/openai/v1",
    "oracle": "https://o.example/v1",
    "bedrock": "https://b/v1",
}
KEYLESS = {"ollama", "vllm", "llamacpp"}


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Exactly these of the variables that presets read."""
    before = dict(os.environ)
    for name in before:
        if name.endswith(("_API_KEY", "_BASE_URL", "_BEDROCK", "_ENDPOINT", "_REGION")):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_a_provider_of_its_own_name_and_type(name: str) -> None:
    made = getattr(providers, name)(WITHOUT_URL.get(name), api_key=KEY)

    assert (made.name, made.type) == (name, name)
    assert KEY not in repr(made)
    assert getattr(providers, name)("http://here/v1", name="mine", api_key=KEY).name == "mine"


@pytest.mark.parametrize("name", sorted(set(PRESETS) - KEYLESS))
def test_a_missing_key_names_the_variable_that_would_give_it(name: str) -> None:
    with environment(), pytest.raises(ValueError, match=PRESETS[name].keys[0]):
        getattr(providers, name)(WITHOUT_URL.get(name))


@pytest.mark.parametrize("name", sorted(set(PRESETS)))
async def test_a_key_is_read_from_the_environment_at_construction(name: str) -> None:
    with environment(**{PRESETS[name].keys[0]: KEY}):
        made = getattr(providers, name)(WITHOUT_URL.get(name))

    assert (await made.credential()).key == KEY


@pytest.mark.parametrize("name", sorted(WITHOUT_URL))
def test_a_missing_base_url_is_refused(name: str) -> None:
    with environment(), pytest.raises(ValueError, match="base_url"):
        getattr(providers, name)(api_key=KEY)


def test_the_environment_configures_instances_with_and_without_suffix() -> None:
    found = providers.from_env(
        {
            "OPENAI_API_KEY": KEY,
            "OPENAI_EAST_API_KEY": KEY,
            "OPENAI_EAST_BASE_URL": "https://east.example/v1",
            "OPENAI_EAST_MODELS": "gpt-*, o1 ,",
            "VLLM_GPU_1_BASE_URL": "http://gpu-1:8000/v1",
            "ANTHROPIC_API_KEY": KEY,
            "MISTRAL_API_KEY": "",
            "UNRELATED_API_KEY": KEY,
            "PATH": "/bin",
        }
    )

    assert [(one.name, one.type) for one in found] == [
        ("openai", "openai"),
        ("openai-east", "openai"),
        ("anthropic", "anthropic"),
        ("vllm-gpu-1", "vllm"),
    ]
    assert (found[1].base_url, found[1].models) == ("https://east.example/v1", ("gpt-*", "o1"))
    assert "canary" not in repr(found)


def test_half_a_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="OPENAI_EAST_API_KEY"):
        providers.from_env({"OPENAI_EAST_BASE_URL": "https://x/v1"})
    assert providers.from_env({}) == []


@pytest.mark.parametrize(
    "key", [KEY, SecretStr(KEY), lambda: KEY, lambda: SecretStr(KEY)], ids=["str", "secret", "callable", "both"]
)
async def test_a_key_may_be_a_string_a_secret_or_a_callable_and_is_never_shown(key: Any) -> None:
    provider = Provider("p", "http://p/v1", api_key=key, headers={"x-key": KEY}, query={"key": KEY})

    assert (await provider.credential()).key == KEY
    assert KEY not in repr(await provider.credential())
    assert KEY not in repr(provider) and KEY not in str(provider)


async def test_a_key_may_be_fetched_by_a_coroutine_function() -> None:
    async def vault() -> str:
        return KEY

    assert (await Provider("p", "http://p/v1", api_key=vault).credential()).key == KEY


@pytest.mark.parametrize("key", ["", "canary key", "canary\n", "canaré", "canary\0"])
async def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="api_key of provider 'p'") as caught:
        await Provider("p", "http://p/v1", api_key=key).credential()
    assert "canar" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "x" * 65},
        {"base_url": "here/v1"},
        {"base_url": "ftp://here/v1"},
        {"base_url": "http://user:canary@here/v1"},
        {"base_url": "http://here/v1#x"},
        {"base_url": "http://here/v 1"},
        {"base_url": "http://here:99999/v1"},
        {"base_url": "http://here\r\n/v1"},
        {"dialect": "smtp"},
        {"unsupported": "ignore"},
        {"auth": "x y"},
        {"headers": {"a b": "x"}},
        {"headers": {"x": "canary\r\nb"}},
        {"models": "gpt-*"},
        {"forward_headers": ["Authorization"]},
        {"forward_headers": ["cookie"]},
        *({"discover": wrong} for wrong in (0, -1, True, math.inf, math.nan, "600")),
    ],
)
def test_what_cannot_be_used_is_refused_at_construction(options: dict[str, Any]) -> None:
    given = {"name": "p", "base_url": "http://p/v1", **options}
    with pytest.raises((TypeError, ValueError)) as caught:
        Provider(**given)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ("bearer", [(b"authorization", b"Bearer k")]),
        ("api-key", [(b"api-key", b"k")]),
        ("X-Goog-Api-Key", [(b"x-goog-api-key", b"k")]),
        ("none", []),
    ],
)
async def test_the_key_goes_into_the_header_that_auth_names(auth: str, header: Any) -> None:
    assert (await Provider("p", "http://p/v1", auth=auth, api_key="k").credential()).headers == header


def test_a_unix_socket_is_a_place_to_be() -> None:
    assert Provider("p", "http+unix://%2Frun%2Fllm.sock/v1").origin == ("http", "localhost", 80, "/run/llm.sock")


def test_a_provider_is_a_frozen_value() -> None:
    provider = Provider("p", "http://p/v1", api_key="k")

    assert provider == copy.copy(provider) == pickle.loads(pickle.dumps(provider))
    assert len({provider, copy.copy(provider)}) == 1
    with pytest.raises(AttributeError):
        provider.name = "q"  # type: ignore[misc]
