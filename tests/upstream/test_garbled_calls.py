"""A model that garbles the call of a tool is asked once more: nothing of such an answer is worth having."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider, Retries, tools
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.testing import Answer, FakeProvider, ToolCall
from tests.emulation.tools.hosting import item_of, search, text_of

Json = dict[str, Any]
BODY: Json = {"model": "gemini-3-flash-preview", "input": "Weather?", "tools": [{"type": "web_search"}]}
GARBLED = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(dialect="gemini").run_in_thread() as fake:
        yield fake


def gateway_of(fake: FakeProvider, *given: Any, **options: Any) -> Gateway:
    provider = Provider("fake", fake.base_url, dialect="gemini", api_key="k", hosted_tools=("web_search",))
    return Gateway(providers=[provider], tools=given, **options)


def garbled(reason: str = "MALFORMED_FUNCTION_CALL") -> Answer:
    return Answer(text="", incomplete=reason)


async def answered(gateway: Gateway, stream: bool) -> Json:
    """The response of *gateway* as it ends."""
    reply = await gateway.respond({**BODY, "stream": stream})
    if not stream:
        return dict(await reply.json())
    return dict([event async for event in reply][-1]["response"])


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
@pytest.mark.parametrize("reason", GARBLED)
async def test_a_garbled_call_is_asked_for_once_more(fake: FakeProvider, reason: str, stream: bool) -> None:
    fake.script(garbled(reason), Answer(text="Sunny."))

    async with gateway_of(fake) as gateway:
        response = await answered(gateway, stream)

    assert text_of(response) == "Sunny."
    assert len(fake.requests) == 2


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
async def test_a_call_that_is_garbled_twice_is_a_502_that_says_so(fake: FakeProvider, stream: bool) -> None:
    fake.script(garbled(), garbled())

    async with gateway_of(fake) as gateway:
        with pytest.raises(GatewayError) as caught:
            await answered(gateway, stream)

    assert (caught.value.status, caught.value.code) == (502, "MALFORMED_FUNCTION_CALL")
    assert len(fake.requests) == 2


async def test_what_a_client_has_seen_is_not_asked_for_again(fake: FakeProvider) -> None:
    fake.script(Answer(text="I shall look.", incomplete="MALFORMED_FUNCTION_CALL"))

    async with gateway_of(fake) as gateway:
        response = await answered(gateway, True)

    assert response["status"] == "failed" and len(fake.requests) == 1


async def test_an_upstream_whose_own_loop_has_given_up_is_not_asked_again(fake: FakeProvider) -> None:
    fake.script(garbled("TOO_MANY_TOOL_CALLS"))

    async with gateway_of(fake) as gateway:
        with pytest.raises(GatewayError) as caught:
            await answered(gateway, False)

    assert caught.value.code == "TOO_MANY_TOOL_CALLS" and len(fake.requests) == 1


async def test_a_host_may_say_that_garbled_calls_are_not_asked_for_again(fake: FakeProvider) -> None:
    fake.script(garbled())

    async with gateway_of(fake, retries=Retries(on={502})) as gateway:
        with pytest.raises(GatewayError):
            await answered(gateway, False)

    assert len(fake.requests) == 1


async def test_garbled_calls_open_no_circuit_breaker(fake: FakeProvider) -> None:
    async with gateway_of(fake, retries=Retries(per_target=1)) as gateway:
        for _ in range(30):
            fake.script(garbled())
            with pytest.raises(GatewayError) as caught:
                await answered(gateway, False)
            assert caught.value.code == "MALFORMED_FUNCTION_CALL"
        fake.script(Answer(text="Sunny."))

        assert text_of(await answered(gateway, False)) == "Sunny."


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
async def test_a_garbled_call_in_a_later_round_is_asked_for_once_more(fake: FakeProvider, stream: bool) -> None:
    call = ToolCall("web_search", {"query": "weather"})
    fake.script(Answer(calls=(call,)), garbled(), Answer(text="Sunny."))

    async with gateway_of(fake, tools.web_search(search, use="always")) as gateway:
        response = await answered(gateway, stream)

    assert text_of(response) == "Sunny." and response["status"] == "completed"
    assert item_of(response, "web_search_call")["status"] == "completed"
    assert len(fake.requests) == 3
