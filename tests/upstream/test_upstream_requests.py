"""What of a client's request an upstream is sent, and what the provider puts over it."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import Provider
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.exchanges import UNARY
from ..support.gateways import Make


@pytest.mark.parametrize("type", ["openai", "openrouter", "perplexity", "vllm", "up"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_routing_preferences_are_sent_to_openrouter_alone(
    make: Make, provider: FakeProvider, type: str, stream: bool
) -> None:
    preferences = {"order": ["azure"], "allow_fallbacks": False}
    gateway = make(Provider("up", provider.base_url, type=type))

    assert (await ask(gateway, UNARY | {"provider": preferences, "stream": stream})).status == 200

    sent = provider.requests[-1].json()
    assert sent.get("provider") == (preferences if type == "openrouter" else None)
    assert sent["input"] == UNARY["input"]


FIXED: dict[str, dict[str, Any]] = {
    "in the base URL": {"base_url": "?api-version=9&sig=a%2Bb"},
    "as a member": {"query": {"api-version": "9", "sig": "a+b"}},
}


@pytest.mark.parametrize("how", FIXED)
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"", b""),
        (b"x=1&x=2", b"x=1&x=2&"),
        (b"api-version=1&x=1", b"x=1&"),
        (b"x=1&api%2Dversion=1&sig&api-version=", b"x=1&"),
        (b"api-version=1", b""),
        (b"Api-Version=1&xsig=1", b"Api-Version=1&xsig=1&"),
    ],
)
async def test_what_a_provider_has_in_its_query_a_client_cannot_say(
    make: Make, provider: FakeProvider, how: str, given: bytes, kept: bytes
) -> None:
    options = FIXED[how]
    gateway = make(Provider("up", provider.base_url + options.get("base_url", ""), query=options.get("query", {})))

    assert (await ask(gateway, UNARY, query=given)).status == 200

    assert provider.requests[-1].query == kept + b"api-version=9&sig=a%2Bb"
