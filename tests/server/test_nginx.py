"""Behind the real nginx, configured as the documentation says: streams pass as they come, bodies are bounded."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.testing import FakeProvider, Stall, Status

from ..support.serving import Served
from ..support.stage import until

SHOWN = Path(__file__).parents[2] / "docs" / "nginx.conf"
AROUND = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {shown}
}}
"""
ASKED = {"model": "m", "input": "Hello", "stream": True}

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@pytest.fixture
def nginx(provider: FakeProvider, serve: Served, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of nginx, in front of uvicorn, in front of the gateway."""
    origin = serve(Gateway(providers=[Provider("fake", provider.base_url)]))
    shown = SHOWN.read_text()
    for ours, theirs in (("listen 80", f"listen unix:{tmp_path}/socket"), ("127.0.0.1:8000", urlsplit(origin).netloc)):
        assert shown.count(ours) == 1
        shown = shown.replace(ours, theirs)
    (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path, shown=shown))
    command = ["nginx", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    process = subprocess.Popen(command)
    try:
        until(lambda: listens(tmp_path / "socket") or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "error.log").read_text()
        transport = httpx.HTTPTransport(uds=str(tmp_path / "socket"))
        with httpx.Client(transport=transport, base_url="http://nginx", timeout=20) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def in_time(provider: FakeProvider, count: int, look: Callable[[FakeProvider], object]) -> None:
    until(lambda: len(provider.requests) >= count and look(provider))


def test_events_arrive_while_the_upstream_is_still_thinking(nginx: httpx.Client, provider: FakeProvider) -> None:
    """The fake model falls silent behind its fifth event: what came before it must have reached the client."""
    provider.fail_next(Stall(after_events=5))
    with nginx.stream("POST", "/v1/responses", json=ASKED) as reply:
        lines = reply.iter_lines()
        events = [next(line for line in lines if line.startswith("event:")) for _ in range(5)]
        assert not provider.requests[0].answered.is_set()
        provider.release()
        rest = "\n".join(lines)
    assert events[0] == "event: response.created"
    assert "response.completed" in rest


def test_a_reply_that_is_no_stream_passes_and_so_does_a_refusal(nginx: httpx.Client, provider: FakeProvider) -> None:
    provider.script()
    assert nginx.post("/v1/responses", json={**ASKED, "stream": False}).json()["status"] == "completed"
    provider.fail_next(Status(400, "Not like this."))
    refused = nginx.post("/v1/responses", json=ASKED)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "Not like this.")


def test_a_body_of_several_megabytes_passes_and_one_over_the_limit_is_a_413_in_openais_form(
    nginx: httpx.Client, provider: FakeProvider
) -> None:
    large = nginx.post("/v1/responses", json={"model": "m", "input": "x" * (3 << 20)})
    assert large.status_code == 200
    refused = nginx.post("/v1/responses", json={"model": "m", "input": "x" * (32 << 20)})
    assert refused.status_code == 413
    assert refused.headers["content-type"].startswith("application/json")
    assert refused.json()["error"]["code"] == "request_too_large"
    assert len(provider.requests) == 1


def test_a_client_that_leaves_ends_the_upstreams_work(nginx: httpx.Client, provider: FakeProvider) -> None:
    provider.fail_next(Stall(after_events=3))
    with nginx.stream("POST", "/v1/responses", json=ASKED) as reply:
        assert next(reply.iter_lines()) == "event: response.created"
    in_time(provider, 1, lambda provider: provider.requests[0].disconnected.is_set())
    assert not provider.requests[0].answered.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_many_streams_at_a_time_come_whole(nginx: httpx.Client, provider: FakeProvider, tmp_path: Path) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "socket"))
    async with httpx.AsyncClient(transport=transport, base_url="http://nginx", timeout=20) as client:
        replies: list[str] = []

        async def one(number: int) -> None:
            reply = await client.post("/v1/responses", json={**ASKED, "input": f"number {number}."})
            assert f"number {number}." in reply.text
            replies.append(reply.text)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(one, number)
    assert all(reply.rstrip().count("event: response.completed") == 1 for reply in replies)
