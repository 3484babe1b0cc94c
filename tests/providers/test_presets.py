"""Each preset makes the provider that its vendor's reference describes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi import Provider
from gomodel_asgi.dialects.anthropic import AnthropicDialect
from gomodel_asgi.dialects.base import Call, Outgoing
from gomodel_asgi.providers import anthropic, azure, bedrock, from_env, gemini, presets

KEY = "sk-canary-house-key"


async def token() -> str:
    return KEY


async def sent(provider: Provider) -> dict[bytes, bytes]:
    return dict([*(await provider.credential()).headers, *provider.fixed_headers])


VENDORS = {
    "openai": ("responses", "https://api.openai.com/v1", b"authorization"),
    "anthropic": ("anthropic", "https://api.anthropic.com/v1", b"x-api-key"),
    "gemini": ("gemini", "https://generativelanguage.googleapis.com/v1beta", b"x-goog-api-key"),
    "deepseek": ("chat", "https://api.deepseek.com", b"authorization"),
    "groq": ("chat", "https://api.groq.com/openai/v1", b"authorization"),
    "openrouter": ("responses", "https://openrouter.ai/api/v1", b"authorization"),
    "xai": ("responses", "https://api.x.ai/v1", b"authorization"),
    "mistral": ("chat", "https://api.mistral.ai/v1", b"authorization"),
    "zai": ("chat", "https://api.z.ai/api/paas/v4", b"authorization"),
    "minimax": ("chat", "https://api.minimax.io/v1", b"authorization"),
    "vllm": ("responses", "http://localhost:8000/v1", b"authorization"),
    "llamacpp": ("responses", "http://localhost:8080/v1", b"authorization"),
    "ollama": ("responses", "http://localhost:11434/v1", b"authorization"),
}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_preset_knows_its_vendor_s_dialect_address_and_way_to_authenticate(vendor: str) -> None:
    dialect, base_url, header = VENDORS[vendor]
    provider: Provider = getattr(presets, vendor)(api_key=KEY)

    assert (provider.name, provider.type, provider.dialect, provider.base_url) == (vendor, vendor, dialect, base_url)
    assert KEY.encode() in (await sent(provider))[header]


async def test_azure_takes_a_key_or_a_token_and_an_api_version_for_old_resources() -> None:
    base_url = "https://r.openai.azure.com/openai/v1"
    keyed, tokened = azure(base_url, api_key=KEY, api_version="2025-04-01"), azure(base_url, api_key=token)

    assert await sent(keyed) == {b"api-key": KEY.encode()}
    assert await sent(tokened) == {b"authorization": b"Bearer " + KEY.encode()}
    assert (keyed.fixed_query, tokened.fixed_query) == ("api-version=2025-04-01", "")


@pytest.mark.parametrize("endpoint", ["https://r.azure.com", "https://r.azure.com/", "https://r.azure.com/openai/v1/"])
def test_azure_s_endpoint_may_name_its_v1_surface_or_not(endpoint: str) -> None:
    (provider,) = from_env({"AZURE_OPENAI_ENDPOINT": endpoint, "AZURE_OPENAI_API_KEY": KEY})

    assert provider.base_url == "https://r.azure.com/openai/v1"


def test_bedrock_has_two_endpoints_in_each_region() -> None:
    runtime, mantle = (
        bedrock(api_key=KEY, region="eu-west-1"),
        bedrock(api_key=KEY, region="eu-west-1", endpoint="mantle"),
    )

    assert runtime.base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1"
    assert mantle.base_url == "https://bedrock-mantle.eu-west-1.api.aws/openai/v1"
    with pytest.raises(ValueError, match="BEDROCK_BASE_URL"):
        from_env({"BEDROCK_API_KEY": KEY})


async def test_gemini_at_vertex_takes_a_token() -> None:
    provider = gemini("https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google", api_key=token)

    assert await sent(provider) == {b"authorization": b"Bearer " + KEY.encode()}


# The Messages API at Vertex...

VERTEX = "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic"


def asked(operation: str = "create", *, stream: bool = False, model: str = "claude-sonnet-4-5@20250929") -> Outgoing:
    provider = anthropic(VERTEX, api_key=token)
    body: dict[str, Any] = {"model": model, "input": "Hi"}
    return AnthropicDialect().request(Call(operation, body, model, stream, provider.name, provider.type or ""))


async def test_anthropic_at_vertex_takes_a_token() -> None:
    assert (await sent(anthropic(VERTEX, api_key=token)))[b"authorization"] == b"Bearer " + KEY.encode()


@pytest.mark.parametrize(("stream", "verb"), [(False, "rawPredict"), (True, "streamRawPredict")])
def test_vertex_has_the_model_in_the_path_and_the_version_in_the_body(stream: bool, verb: str) -> None:
    outgoing = asked(stream=stream)
    body = json.loads(outgoing.body)

    assert outgoing.path == f"/models/claude-sonnet-4-5@20250929:{verb}"
    assert (body["anthropic_version"], body["stream"], "model" in body) == ("vertex-2023-10-16", stream, False)


def test_vertex_counts_tokens_under_a_name_of_its_own() -> None:
    outgoing = asked("input_tokens")

    assert outgoing.path == "/models/count-tokens:rawPredict"
    assert json.loads(outgoing.body)["model"] == "claude-sonnet-4-5@20250929"


def test_a_model_s_name_never_leads_elsewhere_at_vertex() -> None:
    assert asked(model="../../x?y#z").path == "/models/..%2F..%2Fx%3Fy%23z:rawPredict"
