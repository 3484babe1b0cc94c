"""A worker process of a host app: a gateway on Redis, served by uvicorn on a socket that the test has bound."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from starlette.types import Scope

from gomodel_asgi import Gateway, Provider, tools
from gomodel_asgi.stores import RedisStore


def tenant(scope: Scope) -> str | None:
    """Tests name their tenant in a header."""
    found = dict(scope["headers"]).get(b"x-tenant")
    return None if found is None else found.decode()


def search(call: tools.Call) -> str:
    """The search of a worker."""
    return f"Found for {call.arguments['query']}."


def make_app() -> Gateway:
    """The app, as its environment says."""
    env = os.environ
    gateway = Gateway(
        providers=[
            Provider("native", env["WORKER_NATIVE"], models=["gpt-*"]),
            Provider("chat", env["WORKER_CHAT"], dialect="chat", models=["qwen*"]),
        ],
        store=RedisStore(env["WORKER_REDIS"], namespace=env["WORKER_NAMESPACE"]),
        tenant=tenant,
        tools=[tools.web_search(search)],
    )
    gateway.background.leases.lasts = 1.0
    return gateway


class Worker:
    """A worker process of *app* that can be stopped, killed and replaced; *origin* stays the same."""

    def __init__(self, env: Mapping[str, str], app: str = "tests.support.worker:make_app") -> None:
        self.app = app
        self.env = {**os.environ, **env}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        number = self.listener.fileno()
        command = [sys.executable, "-m", "uvicorn", "--factory", self.app, "--fd", str(number)]
        self.process = subprocess.Popen([*command, "--log-level", "critical"], env=self.env, pass_fds=[number])

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.listener.close()
