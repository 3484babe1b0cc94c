"""The worked example of background responses on a task queue."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from gomodel_asgi.testing import FakeProvider

from ..support.databases import RedisServer
from ..support.remembering import says

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT = 30.0


@contextmanager
def running(*command: str, env: dict[str, str], fd: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    passed = [] if fd is None else [fd]
    process = subprocess.Popen([sys.executable, *command], cwd=EXAMPLES, env=env, pass_fds=passed)
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


def test_a_worker_of_the_queue_answers_for_the_user_who_asked(redis_server: RedisServer) -> None:
    with FakeProvider().run_in_thread() as fake, socket.create_server(("127.0.0.1", 0)) as listener:
        env = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))} | {
            "REDIS_URL": redis_server.url,
            "STATE_SECRET": "canary-secret-of-the-test",
            "MISTRAL_API_KEY": "sk-canary-house-key",
            "MISTRAL_BASE_URL": fake.base_url,
            "PYTHONPATH": str(EXAMPLES.parent),
        }
        web = ("-m", "uvicorn", "task_queue:app", "--fd", str(listener.fileno()), "--log-level", "critical")
        fake.script(says("chat", "Done.", stream=True))
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with (
            running(*web, env=env, fd=listener.fileno()),
            openai.OpenAI(api_key="token-of-ada", base_url=origin, max_retries=0, timeout=TIMEOUT) as ada,
            openai.OpenAI(api_key="token-of-bob", base_url=origin, max_retries=0, timeout=TIMEOUT) as bob,
        ):
            made = ada.responses.create(model="m", input="hi", background=True)
            assert made.status == "queued"
            assert not fake.requests
            with running("task_queue.py", env=env):
                deadline = time.monotonic() + TIMEOUT
                while (found := ada.responses.retrieve(made.id)).status in ("queued", "in_progress"):
                    assert time.monotonic() < deadline
            assert (found.status, found.output_text) == ("completed", "Done.")
            try:
                bob.responses.retrieve(made.id)
            except openai.NotFoundError:
                return
            raise AssertionError("bob saw ada's response")
