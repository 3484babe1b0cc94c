"""Two worker processes on one Redis, whose host runs tools, and one of which is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import openai
import pytest

from gomodel_asgi.testing import Answer, FakeProvider, Scripted, Stall
from tests.support.databases import RedisServer
from tests.support.worker import Worker

from .hosting import WEB, call, calls, fake_of

PATIENCE = 30.0


@pytest.fixture
def chat() -> Iterator[FakeProvider]:
    with fake_of("chat") as fake:
        yield fake
        fake.release()


@pytest.fixture
def workers(redis_server: RedisServer, chat: FakeProvider) -> Iterator[tuple[Worker, Worker]]:
    env = {
        "WORKER_REDIS": redis_server.url,
        "WORKER_NAMESPACE": f"t{os.urandom(8).hex()}",
        "WORKER_NATIVE": chat.base_url,
        "WORKER_CHAT": chat.base_url,
    }
    pair = Worker(env), Worker(env)
    for worker in pair:
        worker.start()
    yield pair
    for worker in pair:
        worker.remove()


def client_of(worker: Worker) -> openai.OpenAI:
    headers = {"x-tenant": "acme"}
    return openai.OpenAI(
        api_key="sk-canary-client",
        base_url=f"{worker.origin}/v1",
        max_retries=0,
        timeout=PATIENCE,
        default_headers=headers,
    )


def test_work_of_a_worker_that_was_killed_in_its_second_round_is_found_failed_by_another(
    workers: tuple[Worker, Worker], chat: FakeProvider
) -> None:
    chat.script(calls(call("web_search", query="rome")))
    chat.script(Scripted(Answer(text="Sunny."), (Stall(after_events=1),)))
    with client_of(workers[0]) as first, client_of(workers[1]) as second:
        id = first.responses.create(model="qwen3", input="x", background=True, tools=[WEB]).id  # type: ignore[list-item]
        deadline = time.monotonic() + PATIENCE
        while second.responses.retrieve(id).status == "queued" or len(chat.requests) < 2:
            assert time.monotonic() < deadline
        workers[0].kill()
        while (found := second.responses.retrieve(id)).status == "in_progress":
            assert time.monotonic() < deadline
        assert found.status == "failed" and found.error is not None
        assert found.error.message.startswith("The worker of this response is gone")
        assert second.responses.retrieve(id).status == "failed" and len(chat.requests) == 2
