"""Every example runs as its first lines say, against the fake provider; all but the quickstart refuse strangers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gomodel_asgi.testing import FakeProvider, ToolCall
from gomodel_asgi.testing.plan import Answer

from .support.serving import Served

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
KEY = "sk-house-canary"
LISTENING = re.compile(r"http://127\.0\.0\.1:\d+")
QUESTION = {"model": "any", "input": "Hello"}


@contextmanager
def running(*command: str, **environ: str) -> Iterator[tuple[str, str]]:
    """A server in a process of its own: its origin, and what it printed until it listened."""
    env = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    env |= {"PORT": "0", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **environ}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=EXAMPLES, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    printed = ""
    try:
        while not (found := LISTENING.search(printed)) or "ctrl" not in printed.lower():
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield found.group(), printed
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@contextmanager
def app(name: str, provider: FakeProvider) -> Iterator[str]:
    """`uvicorn NAME:app` with the fake provider as OpenAI."""
    command = ("-m", "uvicorn", f"{name}:app", "--port", "0")
    with running(*command, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url) as (origin, _):
        yield origin


STARTED = {"quickstart": ("quickstart.py",), "hosted tools": ("hosted_tools.py",), "Django": ("-m", "django_app")}
"""How the examples that serve by themselves are started."""


def environ_of(port: int) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    return env | {"PORT": str(port), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": KEY}


@pytest.mark.parametrize("name", STARTED)
def test_ctrl_c_ends_an_example_with_a_sentence_and_no_traceback(name: str) -> None:
    command, both = [sys.executable, *STARTED[name]], {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=EXAMPLES, env=environ_of(0), text=True, **both)  # type: ignore[call-overload]
    printed = ""
    while "ctrl" not in printed.lower():
        line = process.stdout.readline()
        assert line, printed
        printed += line
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20)[0]
    assert "Traceback" not in rest
    if name == "Django":  # uvicorn says what there is to say
        assert process.returncode == 0 and "Finished server process" in rest
    else:
        assert (process.returncode, rest.splitlines()[-1]) == (130, "Stopped.")


@pytest.mark.parametrize("name", ["quickstart", "hosted tools"])
def test_a_port_that_is_taken_ends_an_example_with_a_sentence_and_no_traceback(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, command = taken.getsockname()[1], [sys.executable, *STARTED[name]]
        done = subprocess.run(command, cwd=EXAMPLES, env=environ_of(port), capture_output=True, text=True, timeout=30)
    again = f"Choose another: PORT=8001 python {STARTED[name][0]}"
    assert (done.returncode, done.stderr) == (1, f"Port {port}: Address already in use. {again}\n")


def token(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer token-of-{name}"}


def refuses_strangers(url: str) -> None:
    for headers in ({}, {"authorization": "Bearer token-of-nobody"}):
        reply = httpx.post(url, json=QUESTION, headers=headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "unauthenticated"


def test_the_curl_line_of_the_quickstart_works_as_printed() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with running("quickstart.py") as (_, printed):
        line = next(line for line in printed.splitlines() if line.startswith("curl "))
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20)
    assert '"text": "You said: Hello"' in done.stdout
    assert '"model": "gpt-5"' in done.stdout


def test_the_python_snippet_of_the_quickstart_works_as_printed() -> None:
    with running("quickstart.py") as (_, printed):
        snippet = printed[printed.index("from openai") : printed.index("Ctrl-C")]
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=30)
    assert done.stdout == "You said: Hello from Python\nanswered by gpt-5-mini\n", done.stderr


def test_the_quickstart_uses_openai_where_there_is_a_key_and_leaves_the_host_its_routes() -> None:
    with running("quickstart.py", OPENAI_API_KEY=KEY) as (origin, printed):
        assert "OpenAI is served" in printed
        assert KEY not in printed
        assert httpx.get(origin).json() == {"message": "The host's own routes work as ever."}


def test_starlette_routes_each_account_by_its_plan(provider: FakeProvider) -> None:
    with app("starlette_app", provider) as origin:
        refuses_strangers(f"{origin}/v1/responses")
        assert not provider.requests
        for name, model in (("ada", "gpt-5"), ("bob", "gpt-5-mini")):
            with openai.OpenAI(base_url=f"{origin}/v1", api_key=f"token-of-{name}") as client:
                with client.responses.stream(model="any", input="Hello") as stream:
                    response = stream.get_final_response()
            assert (response.model, response.output_text) == (model, "You said: Hello")
        assert httpx.get(origin).text == "The host's own routes work as ever."
    assert all("token-of" not in request and KEY in request for request in provider.requests)


def test_fastapi_pays_with_the_customers_own_key_where_there_is_one(provider: FakeProvider) -> None:
    with app("fastapi_auth", provider) as origin:
        url = f"{origin}/v1/responses"
        refuses_strangers(url)
        models = {name: httpx.post(url, json=QUESTION, headers=token(name)).json()["model"] for name in ("ada", "eve")}
        refused = httpx.post(url, json={**QUESTION, "tools": [{"type": "web_search"}]}, headers=token("bob"))
        assert httpx.get(f"{origin}/me", headers=token("bob")).json() == {"name": "bob"}
        paths = httpx.get(f"{origin}/openapi.json").json()["paths"]
    assert models == {"ada": "gpt-5", "eve": "any"}
    assert [request.header("authorization") for request in provider.requests] == [f"Bearer {KEY}", "Bearer sk-eves-own"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert "/v1/responses/{response_id}/cancel" in paths


def test_a_mounted_gateway_serves_below_its_path(provider: FakeProvider) -> None:
    with app("mounted", provider) as origin:
        refuses_strangers(f"{origin}/llm/v1/responses")
        reply = httpx.post(f"{origin}/llm/v1/responses", json=QUESTION, headers=token("ada"))
        assert httpx.post(f"{origin}/v1/responses", json=QUESTION, headers=token("ada")).status_code == 404
    assert reply.json()["output"][0]["content"][0]["text"] == "You said: Hello"


def test_the_split_gives_an_account_the_same_model_each_time(provider: FakeProvider) -> None:
    with app("ab_split", provider) as origin:
        refuses_strangers(f"{origin}/v1/responses")
        for name in ("ada", "bob"):
            replies = [httpx.post(f"{origin}/v1/responses", json=QUESTION, headers=token(name)) for _ in range(3)]
            assert len({reply.json()["model"] for reply in replies}) == 1
    assert {request.json()["model"] for request in provider.requests} <= {"gpt-5", "gpt-6"}


def test_an_agent_works_through_the_gateway_with_its_tool(provider: FakeProvider) -> None:
    provider.script(Answer(calls=[ToolCall("forecast", {"city": "Oslo"})]), Answer(text="Take one."))
    with app("mounted", provider) as origin:
        environ = {**os.environ, "GATEWAY_URL": f"{origin}/llm/v1", "GATEWAY_TOKEN": "token-of-ada"}
        command = [sys.executable, "agents_client.py"]
        done = subprocess.run(command, cwd=EXAMPLES, env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["tool_called", "tool_output", "message_output_created", "answer: Take one."]
    assert "Oslo: rain until noon." in provider.requests[1]


def printed_lines(printed: str) -> list[str]:
    """The curl lines of an example that print their replies, of which one is a stream."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = [line for line in printed.splitlines() if line.startswith("curl ")]
    return [subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20).stdout for line in lines]


def said(response: dict[str, Any]) -> str:
    return str(response["output"][-1]["content"][0]["text"])


def test_hosted_tools_are_run_by_the_host_as_its_curl_lines_show() -> None:
    with running("hosted_tools.py") as (origin, printed):
        refuses_strangers(f"{origin}/v1/responses")
        web, stream, code, order = printed_lines(printed)
        cited = json.loads(web)["output"][-1]["content"][0]["annotations"][0]
        page = httpx.get(cited["url"])
    assert "no sandbox" in printed
    assert [item["type"] for item in json.loads(web)["output"]] == ["web_search_call", "message"]
    assert (cited["type"], page.status_code) == ("url_citation", 200) and cited["title"] in page.text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: {")]
    assert events[-1]["type"] == "response.completed"
    annotations = events[-1]["response"]["output"][-1]["content"][0]["annotations"]
    assert {note["type"] for note in annotations} == {"file_citation"}
    assert "response.file_search_call.searching" in [event["type"] for event in events]
    assert "42" in json.loads(code)["output"][-1]["content"][0]["text"]
    called = json.loads(order)["output"][1]
    assert (called["type"], called["output"]) == ("mcp_call", "Order 7 is on its way.")


def test_hosted_tools_wait_for_the_approval_that_the_host_demands() -> None:
    with running("hosted_tools.py") as (_, printed):
        snippet = printed[printed.index("from openai") : printed.index("WARNING")]
        for last in ("Order 8 has been paid back.", "Order 8 has been paid back already."):
            done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=30)
            assert done.stdout.splitlines() == ['May it call refund {"number": 8}', last], done.stderr


def test_hosted_tools_see_the_orders_of_their_tenant_and_stop_code_that_does_not_end() -> None:
    orders = {"type": "mcp", "server_label": "orders", "require_approval": "never"}
    code = {"type": "code_interpreter", "container": {"type": "auto"}}
    with running("hosted_tools.py") as (origin, _):
        url = f"{origin}/v1/responses"
        asked = {"model": "any", "input": "Order 7?", "tools": [orders]}
        foreign = httpx.post(url, json=asked, headers=token("bob")).json()["output"][1]
        asked = {"model": "any", "input": "print('x' * 10**9)", "tools": [code]}
        large = httpx.post(url, json=asked, headers=token("bob")).json()
        asked = {"model": "any", "input": "while True: pass", "tools": [code]}
        endless = httpx.post(url, json=asked, headers=token("bob"), timeout=30).json()
        asked = {"model": "any", "input": "import time; time.sleep(60)", "tools": [code]}
        idle = httpx.post(url, json=asked, headers=token("bob"), timeout=30).json()
    assert (foreign["status"], foreign["error"]["content"][0]["text"]) == ("failed", "There is no order 7.")
    assert said(endless) in ("[It ended with status -9.]", "[The time is up.]")  # whichever bound it meets first
    assert said(idle) == "[The time is up.]"
    assert "[It ended with status" in said(large) and len(said(large)) < 70_000


class Inhouse:
    """The upstream of `own_dialect.py`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/complete", self.complete, methods=["POST"])])

    async def complete(self, request: Request) -> Response:
        self.asked.append(await request.json())
        if self.asked[-1]["engine"] == "missing":
            return JSONResponse({"problem": "no such engine"}, 404)
        if not self.asked[-1]["live"]:
            return JSONResponse({"text": "Light scatters.", "tokens": [3, 2]})
        pieces = ['{"piece": "Light"}', '{"piece": " scatters."}', '{"tokens": [3, 2]}']
        return Response("".join(f"data: {piece}\n\n" for piece in pieces), media_type="text/event-stream")


def test_a_dialect_of_ones_own_gives_a_complete_responses_api(serve: Served) -> None:
    inhouse = Inhouse()
    upstream = serve(inhouse.app())
    with running("-m", "uvicorn", "own_dialect:app", "--port", "0", UPSTREAM=upstream) as (origin, _):
        refuses_strangers(f"{origin}/v1/responses")
        with openai.OpenAI(base_url=f"{origin}/v1", api_key="token-of-ada", max_retries=0) as client:
            whole = client.responses.create(model="blue", input="Why?", max_output_tokens=9)
            with client.responses.stream(model="blue", input=[{"role": "user", "content": "Why?"}]) as stream:
                streamed = stream.get_final_response()
            with pytest.raises(openai.NotFoundError, match="no such engine"):
                client.responses.create(model="missing", input="Why?")
            with pytest.raises(openai.BadRequestError) as refused:
                client.responses.create(model="blue", input="Why?", tools=[{"type": "web_search"}])
    for response in (whole, streamed):
        assert response.output_text == "Light scatters."
        assert response.usage is not None and response.usage.total_tokens == 5
    assert refused.value.param == "tools"
    assert inhouse.asked[0] == {"engine": "blue", "prompt": "user: Why?", "live": False, "max": 9}
    assert inhouse.asked[1] == {"engine": "blue", "prompt": "user: Why?", "live": True}


@pytest.fixture
def django_origin(provider: FakeProvider, tmp_path: Path) -> Iterator[str]:
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url, "DATABASE": str(tmp_path / "db.sqlite3")}
    with running("-m", "django_app", **environ) as (origin, _):
        yield origin


def logged_in(origin: str, username: str, password: str) -> httpx.Client:
    """A browser that has gone through the login page."""
    browser = httpx.Client(base_url=origin)
    browser.get("/login/")
    fields = {"username": username, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    assert browser.post("/login/", data=fields).status_code == 302
    return browser


def test_django_knows_the_user_by_the_session_and_its_plan_by_the_orm(
    django_origin: str, provider: FakeProvider
) -> None:
    assert httpx.get(django_origin).text == "Hello stranger."
    refuses_strangers(f"{django_origin}/v1/responses")
    with closing(logged_in(django_origin, "ada", "lovelace")) as ada:
        assert ada.get("/").text == "Hello ada."
        streamed = ada.post("/v1/responses", json={**QUESTION, "stream": True})
        inside = ada.post("/inside/v1/responses", json=QUESTION)
    with closing(logged_in(django_origin, "bob", "dylan")) as bob:
        without_plan = bob.post("/v1/responses", json=QUESTION)
    assert '"response.completed"' in streamed.text
    assert streamed.headers["x-ratelimit-remaining-requests"] == "59"
    assert inside.json()["model"] == "gpt-5" and inside.headers["x-ratelimit-remaining-requests"] == "58"
    refuses_strangers(f"{django_origin}/inside/v1/responses")
    assert without_plan.json()["error"]["message"] == "Your account has no plan yet."
    assert [request.json()["model"] for request in provider.requests] == ["gpt-5", "gpt-5"]
    assert all("sessionid" not in request for request in provider.requests)
