"""`python -m gomodel_asgi`: what it says to people and programs, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.cli import main
from gomodel_asgi.testing import FakeProvider

from ..support import cli_host

ROOT = Path(__file__).parents[2]
HOST = "tests.support.cli_host"
KEY = "sk-canary-house-key-0123456789"


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    yield
    cli_host.gateway = None


def east(provider: FakeProvider, **options: Any) -> Provider:
    return Provider("east", provider.base_url, **{"api_key": KEY, **options})


def serving(*providers: Provider, **options: Any) -> Gateway:
    cli_host.gateway = gateway = Gateway(providers=providers, **{"public": True, **options})
    return gateway


def body(tmp_path: Path, **members: Any) -> str:
    path = tmp_path / "body.json"
    path.write_text(json.dumps({"model": "gpt-5", "input": "Hello", **members}))
    return str(path)


def spawn(*arguments: str, said: str = "", **environ: Any) -> subprocess.CompletedProcess[str]:
    """The command line as a process, with no more of an environment than it needs."""
    return subprocess.run(
        [sys.executable, "-m", "gomodel_asgi", *arguments],
        cwd=ROOT, env=clean(environ), input=said, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def clean(environ: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ}


class TestExplain:
    @pytest.fixture(autouse=True)
    def gateway(self, provider: FakeProvider) -> None:
        serving(east(provider), Provider("west", provider.base_url, dialect="chat"), policy=cli_host.guarded)

    def test_every_candidate_is_told_in_order_and_nothing_is_sent(
        self, provider: FakeProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = [
            "explain",
            f"{HOST}:gateway",
            body(tmp_path),
            "--user",
            f"{HOST}:ada",
        ]
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-2].split()[:3] == ["1", "east", "large"]
        assert lines[-1].split()[:4] == ["2", "west", "small", "chat"]
        assert main([*arguments, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert [each["provider"] for each in printed["candidates"]] == ["east", "west"]
        assert printed["problem"] is None
        assert not provider.requests

    @pytest.mark.parametrize(
        "model, problem",
        [
            ("forbidden", "403 permission_denied: That one is not for you."),
            ("broken", "KeyError: 'plan'"),
            ("elsewhere", "'nowhere', which is not configured"),
        ],
    )
    def test_what_the_policy_refuses_or_breaks_at_is_told_and_ends_in_1(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, problem: str
    ) -> None:
        arguments = [
            "explain",
            f"{HOST}:gateway",
            body(tmp_path, model=model),
            "--user",
            f"{HOST}:ada",
        ]
        assert main(arguments) == 1
        assert problem in capsys.readouterr().out
        assert main([*arguments, "--json"]) == 1
        assert problem in json.loads(capsys.readouterr().out)["problem"]

    def test_without_a_user_the_request_is_an_anonymous_ones(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["explain", f"{HOST}:gateway", body(tmp_path)]) == 1
        assert "401 unauthenticated" in capsys.readouterr().out

    def test_tenant_and_headers_reach_the_policy(self, tmp_path: Path) -> None:
        seen: list[Any] = []

        async def policy(request: Any) -> Any:
            seen.append((request.tenant, request.headers["x-plan"]))
            return request.default()

        serving(Provider("east", "http://127.0.0.1:9/v1"), policy=policy)
        plan = ["--tenant", "acme", "--header", "X-Plan: gold"]
        assert main(["explain", f"{HOST}:gateway", body(tmp_path), *plan]) == 0
        assert seen == [("acme", "gold")]

    def test_a_hint_in_a_header_counts_as_it_does_over_http(
        self, provider: FakeProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        serving(east(provider), Provider("west", provider.base_url))
        hinted = ["--header", "x-gomodel-provider: west", "--json"]
        assert main(["explain", f"{HOST}:gateway", body(tmp_path), *hinted]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["hint"], printed["candidates"][0]["provider"]) == ("west", "west")

    def test_the_body_may_come_on_standard_input(self) -> None:
        done = spawn("explain", f"{HOST}:small", "-", said='{"model": "tiny"}')
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].split()[:3] == ["1", "small", "tiny"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["check", HOST], "package.module:name"),
        (["check", "tests.nowhere:gateway"], "cannot be imported: ModuleNotFoundError"),
        (["check", f"{HOST}:nothing"], "has no nothing"),
        (["check", f"{HOST}:not_a_gateway"], "is no Gateway"),
        (["explain", f"{HOST}:gateway", "nowhere.json"], "nowhere.json cannot be read"),
        (["explain", f"{HOST}:gateway", "pyproject.toml"], "pyproject.toml: "),
        (["explain", f"{HOST}:gateway", "pyproject.toml", "--header", "x"], "'name: value'"),
        (["fake", "--fault", "typo"], "--fault typo: there are status, cut"),
        (["fake", "--fault", "cut=x"], "'x' is no number"),
    ],
)
def test_what_cannot_be_carried_out_ends_in_2_and_says_why_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serving(Provider("east", "http://127.0.0.1:9/v1"))
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert message in printed.err and len(printed.err.splitlines()) == 1


def test_a_port_that_is_taken_ends_in_2(provider: FakeProvider, capsys: pytest.CaptureFixture[str]) -> None:
    port = provider.base_url.rpartition(":")[2].partition("/")[0]
    assert main(["fake", "--port", port]) == 2
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check"], ["fake", "--port", "x"]])
def test_a_wrong_command_line_ends_in_2_with_the_usage(arguments: list[str]) -> None:
    done = spawn(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m gomodel_asgi")


class TestProviders:
    def test_what_the_environment_configures_is_listed_with_masked_keys(self) -> None:
        environ: dict[str, Any] = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_MODELS": "gpt-5,gpt-5-*",
            "GROQ_EAST_API_KEY": "short",
            "OLLAMA_BASE_URL": f"http://gpu:11434/v1?key={KEY}",
        }
        done, printed = spawn("providers", **environ), json.loads(spawn("providers", "--json", **environ).stdout)
        assert done.returncode == 0
        assert KEY not in done.stdout and KEY not in json.dumps(printed)
        rows = {row["name"]: row for row in printed["providers"]}
        assert rows["openai"]["key"] == "…6789"
        assert rows["openai"]["models"] == ["gpt-5", "gpt-5-*"]
        assert (rows["groq-east"]["key"], rows["groq-east"]["dialect"]) == ("set", "chat")
        assert (rows["ollama"]["key"], rows["ollama"]["base_url"]) == ("none", "http://gpu:11434/v1")
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["name", "openai", "groq-east", "ollama"]

    @pytest.mark.parametrize(
        "environ, problem", [({}, "configures no provider"), ({"GROQ_BASE_URL": "http://x/v1"}, "GROQ_API_KEY")]
    )
    def test_nothing_or_a_half_of_something_ends_in_1(self, environ: dict[str, Any], problem: str) -> None:
        done = spawn("providers", **environ)
        assert done.returncode == 1
        assert problem in done.stdout


class TestFake:
    @contextmanager
    def served(self, *arguments: str) -> Iterator[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "gomodel_asgi", "fake", *arguments],
            cwd=ROOT, env=clean({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert "Ctrl-C" in line, line
            yield next(word for word in line.split() if word.startswith("http")).rstrip(".")
        finally:
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=20)[1]
        assert (process.returncode, told) == (130, "Stopped.\n")

    def test_faults_happen_in_order_one_request_each_and_then_all_is_well(self) -> None:
        faults = ("--fault", "status=429", "--fault", "none", "--fault", "html,slow=0", "--fault", "cut=2")
        with self.served(*faults) as url, httpx.Client(base_url=url) as client:
            asked = {"model": "m", "input": "Hello"}
            assert client.post("/responses", json=asked).status_code == 429
            assert client.post("/responses", json=asked).json()["status"] == "completed"
            assert client.post("/responses", json=asked).headers["content-type"].startswith("text/html")
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/responses", json={**asked, "stream": True})
            assert client.post("/responses", json=asked).json()["output"][0]["content"][0]["text"] == "You said: Hello"

    def test_it_speaks_the_chosen_dialect_and_has_the_chosen_models(self) -> None:
        with self.served("--dialect", "anthropic", "--model", "small") as url, httpx.Client(base_url=url) as client:
            client.headers["anthropic-version"] = "2023-06-01"
            asked = {"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
            assert client.post("/messages", json=asked).json()["content"][0]["text"] == "You said: Hello"
            assert client.post("/messages", json={**asked, "model": "large"}).status_code == 404

    def test_its_rules_are_chosen_too(self) -> None:
        with self.served("--dialect", "chat", "--strict", "--template") as url, httpx.Client(base_url=url) as client:
            user, system = ({"role": role, "content": "Hello"} for role in ("user", "system"))
            for body in ({"messages": [user, system]}, {"messages": [user], "top_k": 1}, {"messages": [user]}):
                reply = client.post("/chat/completions", json={"model": "m", **body})
                assert reply.status_code == (200 if body == {"messages": [user]} else 400)

    def test_a_loop_of_faults_begins_anew(self) -> None:
        with self.served("--fault", "status", "--fault", "none", "--loop") as url, httpx.Client() as client:
            asked = {"model": "m", "input": "Hello"}
            codes = [client.post(f"{url}/responses", json=asked).status_code for _ in range(5)]
        assert codes == [500, 200, 500, 200, 500]


def test_help_names_every_command_and_the_exit_codes() -> None:
    done = spawn("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("check", "explain", "providers", "fake", "Exit codes"))
    assert "stall" in spawn("fake", "--help").stdout


def test_the_version_is_the_packages() -> None:
    from gomodel_asgi import __version__

    assert spawn("--version").stdout.strip() == __version__
