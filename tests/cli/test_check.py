"""`python -m gomodel_asgi check`: each thing that can be wrong has its own finding and exit status, found at real
servers, and nothing secret is printed."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from gomodel_asgi import Gateway, Provider, Target, policies
from gomodel_asgi.cli import main, probe
from gomodel_asgi.cli.check import STATUSES
from gomodel_asgi.cli.probe import lists
from gomodel_asgi.ledger import JsonLines, Ledger, SqlLedger
from gomodel_asgi.quotas import PostgresCounters, Quota, Quotas, RedisCounters
from gomodel_asgi.stores import Encrypted, PostgresStore, RedisStore
from gomodel_asgi.testing import FakeProvider, Garbage, Html, Reply, Status
from gomodel_asgi.upstream import listed_models

from ..support import cli_host
from ..support.databases import PostgresServer, RedisServer
from ..support.scripted_upstream import Peer, Upstream, reply

HOST = "tests.support.cli_host"
KEY = "sk-canary-house-key-0123456789"
PASSWORD = "canary-password"
MODELS = {"object": "list", "data": [{"id": "gpt-5"}, {"id": "gpt-5-mini"}]}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    yield
    cli_host.gateway = None


@pytest.fixture(scope="module")
def nobody() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can be given."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def east(provider: FakeProvider, **options: Any) -> Provider:
    return Provider("east", provider.base_url, **{"api_key": KEY, **options})


class Checked:
    """What `check` says of an app, for people and for programs."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, app: Any, *flags: str) -> tuple[int, str]:
        cli_host.gateway = app
        status = main(["check", f"{HOST}:gateway", *flags])
        printed = self.capsys.readouterr()
        assert "canary" not in printed.out + printed.err
        return status, printed.out

    def report(self, app: Any) -> dict[str, Any]:
        status, printed = self(app, "--json")
        found: dict[str, Any] = json.loads(printed)
        assert found["status"] == status
        return found

    def findings(self, *providers: Provider, **options: Any) -> dict[str, str]:
        """The findings about a gateway, and what they say."""
        report = self.report(Gateway(providers=providers, **{"public": True, **options}))
        assert report["status"] == min([one["status"] for one in report["findings"]], default=0)
        assert all(one["status"] == STATUSES[one["name"]] for one in report["findings"])
        return {f"{one['name']} {one['about']}": one["message"] for one in report["findings"]}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Checked:
    return Checked(capsys)


@contextmanager
def web_server(answer: bytes) -> Iterator[str]:
    """The base URL of a server that is no API: it gives every request the same *answer*."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(answer)

    upstream = Upstream(script)
    try:
        yield f"http://127.0.0.1:{upstream.port}/v1"
    finally:
        upstream.close()


def test_a_gateway_that_can_serve_ends_in_0(provider: FakeProvider, check: Checked) -> None:
    provider.script(Reply(MODELS), Reply(MODELS))
    gateway = Gateway(providers=[east(provider, models=["gpt-5", "gpt-5-m*"])], policy=cli_host.guarded)
    status, printed = check(gateway)
    assert status == 0
    assert "No problem was found." in printed and "2 of 2 found" in printed and "…6789" in printed
    assert check.report(gateway)["findings"] == []
    assert provider.requests[0].path == "/v1/models"
    assert provider.requests[0].header("authorization") == f"Bearer {KEY}"


# What the maintainer of the gateway has to put right...


def test_a_missing_policy_is_found(provider: FakeProvider, check: Checked) -> None:
    provider.script(Reply(MODELS), Reply(MODELS))
    assert "policies.authenticated" in check.findings(east(provider), public=False)["no_policy policy"]
    assert check.findings(east(provider), public=True) == {}


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_refused_is_found(provider: FakeProvider, check: Checked, status: int) -> None:
    provider.fail_next(Status(status))
    message = check.findings(east(provider))["key_refused east"]
    assert f"/v1/models was answered {status}" in message


def test_a_key_that_is_refused_where_there_is_no_list_is_found(provider: FakeProvider, check: Checked) -> None:
    provider.fail_next(Status(404))
    provider.fail_next(Status(401))
    assert "POST" in check.findings(east(provider))["key_refused east"]


def test_a_key_that_is_refused_is_found_where_everybody_may_see_the_list(check: Checked) -> None:
    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            listed = request.startswith(b"GET")
            peer.send(reply(json.dumps(MODELS).encode(), JSON, status=b"200 OK" if listed else b"401 Unauthorized"))

    openrouter = Upstream(script)
    try:
        url = f"http://127.0.0.1:{openrouter.port}/v1"
        assert "POST" in check.findings(Provider("east", url, type="openrouter", api_key=KEY))["key_refused east"]
        assert check.findings(Provider("east", url, api_key=KEY)) == {}
    finally:
        openrouter.close()


def quoting() -> str:
    raise LookupError(f"the vault has no {KEY}")


@pytest.mark.parametrize(("key", "says"), [("two canary words", "printable ASCII"), (quoting, "LookupError")])
def test_a_key_that_cannot_be_used_is_found(provider: FakeProvider, check: Checked, key: Any, says: str) -> None:
    assert says in check.findings(east(provider, api_key=key))["key_unusable east"]
    assert not provider.requests


PAGE = b"<!doctype html><title>Welcome to nginx</title>"
HTML = b"content-type: text/html; charset=utf-8"
NOT_FOUND = b'{"detail":"Not Found"}'
JSON = b"content-type: application/json"


@pytest.mark.parametrize(
    ("answer", "came_back"),
    [
        (reply(PAGE, HTML, status=b"404 Not Found"), "404 (text/html, '<!doctype html><title>Welcome to nginx"),
        (reply(NOT_FOUND, JSON, status=b"404 Not Found"), '404 (application/json, \'{"detail":"Not Found"}\')'),
        (reply(b"", status=b"405 Method Not Allowed"), "405 (no content type, empty)"),
        (reply(PAGE, HTML), "200 (text/html, '<!doctype html>"),
        (reply(b"{}", JSON), "200 (application/json, '{}')"),
        (
            reply(b"", b"location: https://h/login?next=canary", status=b"302 Found"),
            "302 (no content type, to https://h",
        ),
    ],
    ids=["404-html", "404-json", "405", "200-html", "200-json", "302"],
)
def test_a_base_url_that_leads_to_no_api_is_found_with_what_was_asked_and_what_came_back(
    check: Checked, answer: bytes, came_back: str
) -> None:
    with web_server(answer) as url:
        message = check.findings(Provider("east", f"{url}?key={KEY}"))["wrong_base_url east"]
        assert f"GET {url}/models was answered {came_back}" in message
        assert "is the base URL right?" in message


def test_a_base_url_without_its_version_is_found_though_the_api_answers(check: Checked) -> None:
    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked = request.partition(b" HTTP/1.1")[0]
            peer.send(reply(b'{"error":{"message":"Invalid URL (%s)"}}' % asked, JSON, status=b"404 Not Found"))

    openai = Upstream(script)
    try:
        url = f"http://127.0.0.1:{openai.port}"
        message = check.findings(Provider("east", url, api_key=KEY))["wrong_base_url east"]
    finally:
        openai.close()
    assert f"GET {url}/models was answered 404" in message and f"POST {url}/responses was answered 404" in message


def test_an_api_that_misses_the_model_of_the_empty_object_is_one(check: Checked) -> None:
    answer = reply(b'{"error":{"message":"model \'\' not found"}}', JSON, status=b"404 Not Found")
    with web_server(answer) as url:
        assert check.findings(Provider("east", url)) == {}


def test_a_server_that_speaks_no_http_is_found(provider: FakeProvider, check: Checked) -> None:
    provider.fail_next(Garbage())
    assert "wrong_base_url east" in check.findings(east(provider))


def test_what_a_server_quotes_of_the_key_is_not_printed(check: Checked) -> None:
    with web_server(reply(f"No page for {KEY}".encode(), HTML, status=b"404 Not Found")) as url:
        assert "[redacted]" in check.findings(Provider("east", url, api_key=KEY))["wrong_base_url east"]


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic"])
def test_an_api_without_a_list_is_there_all_the_same_and_generates_nothing(check: Checked, dialect: Any) -> None:
    with FakeProvider(dialect=dialect).run_in_thread() as provider:
        provider.fail_next(Status(404))
        report = check.report(Gateway(providers=[east(provider, dialect=dialect, models=["gpt-5"])], public=True))
        assert report["findings"] == []
        assert report["providers"][0]["models"] == "it lists none"
        assert [request.body for request in provider.requests] == [b"", b"{}"]


class Own:
    """A dialect of the host's own."""

    name = "own"
    request = translator = error = None


def test_a_dialect_of_ones_own_needs_no_list(check: Checked) -> None:
    with web_server(reply(PAGE, HTML, status=b"404 Not Found")) as url:
        assert check.findings(Provider("east", url, dialect=Own())) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "policy",
    [
        policies.model_map({"smart": Target("east", model="gpt-6")}),
        policies.model_map({"gpt-6": "east", "gpt-5": "east", "gpt-*": "east"}),
        policies.authenticated(policies.weighted([(Target("east", model="gpt-6"), 1)])),
        policies.limited(policies.fallback("east", Target("east", model="gpt-6")), "60/minute"),
        policies.first_of(policies.lowest_latency(Target("east", model="gpt-6"))),
        policies.sticky(policies.per_tenant({"acme": Target("east", model="gpt-6")}), key=hash),
        policies.per_tenant({"acme": policies.fallback(Target("east", model="gpt-6"))}),
    ],
)
def test_a_model_of_the_policy_that_its_provider_does_not_list_is_found(
    provider: FakeProvider, check: Checked, policy: Any
) -> None:
    provider.script(Reply(MODELS))
    assert check.findings(east(provider), policy=policy) == {"unknown_model east": "it does not list the model gpt-6."}


class Telling:
    """A policy of the host's own that says what it may answer."""

    def __init__(self, targets: Any) -> None:
        self.targets = targets

    def __call__(self, request: Any) -> Target:
        raise AssertionError("check asks no policy")


@pytest.mark.parametrize(
    ("targets", "found"),
    [([Target("east", model="gpt-6")], 1), ([Target("east", model="gpt-5")], 0), (["x"], 0), (5, 0)],
)
def test_a_policy_of_ones_own_may_say_what_it_may_answer(
    provider: FakeProvider, check: Checked, targets: Any, found: int
) -> None:
    provider.script(Reply(MODELS))
    assert len(check.findings(east(provider), policy=Telling(targets))) == found


def test_a_model_of_a_provider_that_it_does_not_list_is_found(provider: FakeProvider, check: Checked) -> None:
    provider.script(Reply(MODELS))
    assert "unknown_model east" in check.findings(east(provider, models=["gpt-5", "gpt-6-*"]))


def test_what_a_target_of_a_customers_own_asks_for_is_its_own_business(provider: FakeProvider, check: Checked) -> None:
    provider.script(Reply(MODELS))
    made = Provider("made", "http://127.0.0.1:9/v1")
    customers: list[Target | str] = [Target("east", model="gpt-6", api_key=KEY), Target(made, model="gpt-6"), "east"]
    assert check.findings(east(provider), policy=policies.fallback(*customers)) == {}


def test_a_provider_that_only_the_policy_knows_is_found(provider: FakeProvider, check: Checked) -> None:
    provider.script(Reply(MODELS))
    message = check.findings(east(provider), policy=policies.model_map({"a": "esat"}))["unknown_provider policy"]
    assert "'esat'" in message and "'east'" in message


@pytest.mark.parametrize(
    ("type", "listed", "wanted", "there"),
    [
        ("openai", "gpt-5", "gpt-5", True),
        ("openai", "gpt-5-2025-08-07", "gpt-5", False),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5", True),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-latest", True),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4", False),
        ("ollama", "qwen3:latest", "qwen3", True),
        ("ollama", "qwen3:8b", "qwen3", False),
        ("openrouter", "openai/gpt-5", "openai/gpt-5:nitro", True),
        ("xai", "grok-4-0709", "grok-4", True),
        ("gemini", "gemini-2.5-pro", "gemini-2.5-pro", True),
        ("azure", "gpt-5", "our-deployment", True),
        ("llamacpp", "model.gguf", "any", True),
    ],
)
def test_names_are_found_as_their_vendor_takes_them(type: str, listed: str, wanted: str, there: bool) -> None:
    assert lists([listed], wanted, type) is there


# What the machines around it have to offer...


def everywhere(port: int) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    redis, postgres = f"redis://:{PASSWORD}@127.0.0.1:{port}", f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/db"
    engine = f"postgresql+asyncpg://u:{PASSWORD}@127.0.0.1:{port}/db"
    return [
        ("store_unreachable store", lambda: {"store": RedisStore(redis)}),
        ("store_unreachable store", lambda: {"store": Encrypted(RedisStore(redis), bytes(32))}),
        ("store_unreachable store", lambda: {"store": PostgresStore(postgres)}),
        ("counters_unreachable quotas", lambda: {"quotas": quotas(RedisCounters(redis))}),
        ("counters_unreachable quotas", lambda: {"quotas": quotas(PostgresCounters(postgres))}),
        ("ledger_unreachable ledger", lambda: {"ledger": Ledger(SqlLedger(create_async_engine(engine)))}),
    ]


def quotas(counters: Any) -> Quotas:
    return Quotas(lambda request: [Quota("minute", per="minute", requests=1)], counters=counters)


@pytest.mark.parametrize("number", range(6))
def test_an_engine_that_nobody_listens_for_is_found(
    provider: FakeProvider, check: Checked, nobody: int, number: int
) -> None:
    provider.script(Reply(MODELS))
    name, options = everywhere(nobody)[number]
    findings = check.findings(east(provider), **options())
    assert list(findings) == [name]
    assert "does not answer: ConnectionRefusedError: Connection refused." in findings[name]


def test_engines_that_answer_are_no_finding_and_keep_nothing_of_it(
    provider: FakeProvider, check: Checked, redis_server: RedisServer, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    dsn = postgres_server.dsn
    for options in (
        {"store": RedisStore(redis_server.url), "quotas": quotas(RedisCounters(redis_server.url))},
        {"store": PostgresStore(dsn, table="checked"), "quotas": quotas(PostgresCounters(dsn, table="counted"))},
        {"ledger": Ledger(JsonLines(tmp_path / "ledger.jsonl"))},
    ):
        provider.script(Reply(MODELS))
        assert check.findings(east(provider), **options) == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", range(6))
def test_an_engine_that_says_nothing_is_found(
    provider: FakeProvider, check: Checked, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.1)
    provider.script(Reply(MODELS))
    silent = Upstream(lambda peer: peer.gone() and None)
    try:
        name, options = everywhere(silent.port)[number]
        findings = check.findings(east(provider), **options())
    finally:
        silent.close()
    assert "does not answer: nothing within 0.1 seconds." in findings[name] and list(findings) == [name]


def test_a_ledger_without_its_tables_or_its_directory_is_found(
    provider: FakeProvider, check: Checked, tmp_path: Path
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/ledger.sqlite3", poolclass=NullPool)
    for sink, says in (
        (SqlLedger(engine), "its tables are not there: create them first."),
        (JsonLines(tmp_path / "missing" / "ledger.jsonl"), "No such file or directory."),
    ):
        provider.script(Reply(MODELS))
        assert says in check.findings(east(provider), ledger=Ledger(sink))["ledger_unreachable ledger"]


# What may pass by itself...


def test_a_provider_that_nobody_listens_for_is_found(check: Checked, nobody: int) -> None:
    message = check.findings(Provider("east", f"http://127.0.0.1:{nobody}/v1?key={KEY}"))["provider_unreachable east"]
    assert f"GET http://127.0.0.1:{nobody}/v1/models" in message and "ConnectionRefused" in message


def test_a_provider_that_does_not_answer_is_found(check: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_models, "DEADLINE", 0.05)
    silent = Upstream(lambda peer: peer.gone() and None)
    try:
        assert "provider_unreachable east" in check.findings(Provider("east", f"http://127.0.0.1:{silent.port}/v1"))
    finally:
        silent.close()


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_provider_that_fails_is_found(provider: FakeProvider, check: Checked, status: int) -> None:
    provider.fail_next(Status(status))
    assert f"was answered {status}" in check.findings(east(provider))["provider_failed east"]


# Several, and for programs...


def test_of_several_findings_the_gravest_gives_the_status_and_stands_first(
    provider: FakeProvider, check: Checked, nobody: int
) -> None:
    provider.script(Reply(MODELS), Reply(MODELS))
    gateway = Gateway(
        providers=[
            Provider("gone", f"http://127.0.0.1:{nobody}/v1"),
            east(provider, models=["gpt-6"]),
            Provider("bad", provider.base_url, api_key="two words"),
        ],
        store=RedisStore(f"redis://127.0.0.1:{nobody}"),
        public=True,
    )
    report = check.report(gateway)
    names = ["key_unusable", "unknown_model", "store_unreachable", "provider_unreachable"]
    assert [one["name"] for one in report["findings"]] == names
    assert report["status"] == STATUSES["key_unusable"]
    status, printed = check(gateway)
    assert status == STATUSES["key_unusable"]
    assert [line.split()[0] for line in printed.splitlines()[-4:]] == names


def test_the_json_has_the_keys_that_are_documented(provider: FakeProvider, check: Checked) -> None:
    report = check.report(Gateway(providers=[east(provider)]))
    assert list(report) == ["status", "gateway", "providers", "findings", "notes"]
    assert list(report["gateway"]) == ["paths", "policy", "store"]
    assert list(report["providers"][0]) == ["provider", "base_url", "key", "status", "seconds", "models"]
    assert list(report["findings"][0]) == ["name", "about", "message", "status"]
    page = (ROOT / "docs" / "command-line.md").read_text()
    keys = {"status", "gateway", "providers", "findings", "notes", "name", "about", "message"}
    assert all(f"`{key}`" in page for key in keys)


def test_the_documentation_has_every_finding_with_its_status() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert {name: int(status) for status, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.M)} == STATUSES
    assert list(STATUSES.values()) == sorted(set(STATUSES.values()))


@pytest.mark.parametrize(
    ("policy", "printed"),
    [
        (cli_host.route, f"{HOST}.route, on the event loop"),
        (cli_host.plain, f"{HOST}.plain, in a worker thread"),
        (cli_host.guarded, f"authenticated({HOST}.route), on the event loop"),
        (
            policies.authenticated(policies.for_models(cli_host.plain)),
            f"authenticated(for_models({HOST}.plain)), on the event loop, the plain functions in it in a worker thread",
        ),
        (policies.first_of(cli_host.route, policies.model_map({"a": "east"})), f"first_of({HOST}.route, model_map())"),
        (None, "gomodel_asgi.policies.hint, on the event loop"),
    ],
)
def test_the_policy_is_called_by_the_name_of_the_hosts_own_function(
    provider: FakeProvider, check: Checked, policy: Any, printed: str
) -> None:
    provider.script(Reply(MODELS))
    assert f"policy  {printed}" in check(Gateway(providers=[east(provider)], policy=policy, public=True))[1]


def test_a_list_of_models_that_would_be_empty_is_explained(provider: FakeProvider, check: Checked) -> None:
    def notes(policy: Any = None, models: Any = None, **options: Any) -> list[str]:
        gateway = Gateway(providers=[east(provider, **options)], policy=policy, models=models, public=True)
        found: list[str] = check.report(gateway)["notes"]
        return found

    for policy in (None, cli_host.guarded, policies.fallback("east"), policies.model_map({"gpt-*": "east"})):
        assert "GET /v1/models lists nothing" in notes(policy)[0]
    assert notes(models=lambda request: ["a"]) == []
    assert notes(policies.authenticated(policies.model_map({"gpt-5": "east"}))) == []
    provider.clear()
    assert notes(**{"models": None, "discover": 60.0}) == []


def test_the_providers_own_headers_and_query_go_out_and_anthropic_is_asked_for_a_long_page(
    provider: FakeProvider, check: Checked
) -> None:
    options: dict[str, Any] = {"dialect": "anthropic", "auth": "x-api-key", "headers": {"a": "b"}, "query": {"v": "1"}}
    check.findings(east(provider, **options))
    asked = provider.requests[0]
    assert (asked.query, asked.header("x-api-key"), asked.header("a")) == (b"limit=1000&v=1", KEY, "b")


def test_a_page_that_is_html_with_200_is_no_list(provider: FakeProvider, check: Checked) -> None:
    provider.fail_next(Html())
    assert "text/html" in check.findings(east(provider))["wrong_base_url east"]
