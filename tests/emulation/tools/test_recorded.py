"""Recorded requests of real clients, on upstreams that run no hosted tool: with the host's functions all are served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gomodel_asgi.errors import GatewayError

from .cases import CASES
from .hosting import MODELS, Hosting, Json

FILE = Path(__file__).parents[4] / "shared" / "recorded" / "responses.jsonl"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not FILE.exists(), reason="the recorded exchanges are not here"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def requests() -> list[Json]:
    """The bodies of creates."""
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    return [line["request"] for line in lines if line["path"].endswith("/responses")]


@pytest.mark.parametrize("upstream", ["chat", "anthropic", "gemini", "lenient", "responses"])
async def test_recorded_requests_are_served_but_for_those_that_continue_what_is_elsewhere(
    hosting: Hosting, upstream: str
) -> None:
    dialect = "responses" if upstream == "lenient" else upstream
    every = [case.tool for case in CASES.values()]
    house = hosting(*every, dialect=dialect, provider={"normalize": upstream == "lenient"})
    refused: list[Json] = []
    asked = requests()
    for body in asked:
        try:
            await house.ask({**body, "model": MODELS[dialect]} | {"stream": False})
        except GatewayError:
            refused.append(body)
    assert len(refused) <= 0.05 * len(asked)
    assert all("conversation" in body for body in refused)
