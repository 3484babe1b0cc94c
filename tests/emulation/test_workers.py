"""Two worker processes on one Redis: what one learned the other knows, and a restart loses nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gomodel_asgi.testing import Answer, FakeProvider, Scripted, Stall, ToolCall

from ..support.databases import RedisServer
from ..support.remembering import says
from ..support.worker import Worker

TIMEOUT = 30.0

Pair = tuple[Worker, Worker]


@pytest.fixture(scope="module")
def native() -> Iterator[FakeProvider]:
    with FakeProvider(name="native").run_in_thread() as fake:
        yield fake


@pytest.fixture(scope="module")
def chat() -> Iterator[FakeProvider]:
    with FakeProvider(name="chat", dialect="chat").run_in_thread() as fake:
        yield fake
        fake.release()


@pytest.fixture(scope="module")
def workers(redis_server: RedisServer, native: FakeProvider, chat: FakeProvider) -> Iterator[Pair]:
    env = {
        "WORKER_REDIS": redis_server.url,
        "WORKER_NAMESPACE": f"t{os.urandom(8).hex()}",
        "WORKER_NATIVE": native.base_url,
        "WORKER_CHAT": chat.base_url,
    }
    pair = Worker(env), Worker(env)
    for worker in pair:
        worker.start()
    yield pair
    for worker in pair:
        worker.remove()


def client_of(worker: Worker, tenant: str = "acme") -> openai.OpenAI:
    return openai.OpenAI(
        api_key="sk-canary-client",
        base_url=f"{worker.origin}/v1",
        max_retries=0,
        timeout=TIMEOUT,
        default_headers={"x-tenant": tenant},
    )


@pytest.mark.parametrize("model", ["gpt-5", "qwen3"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_goes_on_at_another_worker(
    workers: Pair, native: FakeProvider, chat: FakeProvider, model: str, stream: bool
) -> None:
    with client_of(workers[0]) as first, client_of(workers[1]) as second, client_of(workers[1], "other") as other:
        previous: str | None = None
        for number, client in enumerate([first, second, first, second]):
            chat.script(says("chat", f"answer {number}", stream=stream)) if model == "qwen3" else None
            answer: Any = client.responses.create(
                model=model, input=f"question {number}", previous_response_id=previous, stream=stream
            )
            previous = list(answer)[-1].response.id if stream else answer.id
        assert previous is not None
        assert len(list(first.responses.input_items.list(previous))) == 7
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(previous)
        with pytest.raises(openai.BadRequestError):
            other.responses.create(model=model, input="x", previous_response_id=previous)


@pytest.mark.parametrize("model", ["gpt-5", "qwen3"])
def test_a_restart_loses_nothing(workers: Pair, chat: FakeProvider, model: str) -> None:
    chat.script(says("chat", "Hello Ada."), says("chat", "Ada.")) if model == "qwen3" else None
    with client_of(workers[0]) as client:
        first = client.responses.create(model=model, input="I am Ada.")
    for worker in workers:
        worker.stop()
        worker.start()
    with client_of(workers[1]) as client:
        second = client.responses.create(model=model, input="Who?", previous_response_id=first.id)
        assert len(list(client.responses.input_items.list(second.id))) == 3


def test_a_worker_that_is_killed_in_a_later_round_leaves_a_failed_response(workers: Pair, chat: FakeProvider) -> None:
    chat.clear()
    search = Answer(calls=[ToolCall("web_search", {"query": "rome"})])
    chat.script(search, Scripted(Answer(text="Sunny."), (Stall(after_events=1),)))
    with client_of(workers[0]) as first, client_of(workers[1]) as second:
        id = first.responses.create(model="qwen3", input="x", background=True, tools=[{"type": "web_search"}]).id
        deadline = time.monotonic() + TIMEOUT
        while len(chat.requests) < 2:
            assert time.monotonic() < deadline
        workers[0].kill()
        workers[0].start()
        while (found := second.responses.retrieve(id)).status in ("queued", "in_progress"):
            assert time.monotonic() < deadline
        assert (found.status, found.error and found.error.code) == ("failed", "server_error")
        assert found.error is not None and found.error.message.startswith("The worker of this response is gone")
        assert second.responses.retrieve(id).status == "failed" and len(chat.requests) == 2
        again = second.responses.create(model="qwen3", input="x", tools=[{"type": "web_search"}])
        assert again.status == "completed"


def test_a_killed_worker_leaves_a_failed_response_found_by_another(workers: Pair, chat: FakeProvider) -> None:
    chat.clear()
    chat.script(Scripted(says("chat", "Done.", stream=True), (Stall(after_events=1),)))
    with client_of(workers[0]) as first, client_of(workers[1]) as second:
        id = first.responses.create(model="qwen3", input="x", background=True).id
        deadline = time.monotonic() + TIMEOUT
        while second.responses.retrieve(id).status == "queued" or not chat.requests:
            assert time.monotonic() < deadline
        workers[0].kill()
        workers[0].start()
        while (found := second.responses.retrieve(id)).status == "in_progress":
            assert time.monotonic() < deadline

    assert found.status == "failed"
    assert found.error is not None
    assert "worker" in found.error.message
