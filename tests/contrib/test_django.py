"""Django: whose request it is, where plain policies run, and what the settings say."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import threading
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, RoutingRequest, Target, Timeouts, tools
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.stores import KeyValueStore
from gomodel_asgi.testing import Cut, FakeProvider, Reply, Stall

from ..support import django_host
from ..support.serving import Served

django_host.set_up()

from asgiref.sync import sync_to_async  # noqa: E402  Django is configured first
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.checks import ERROR  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.signals import got_request_exception  # noqa: E402
from django.db import connection, connections  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.urls import re_path  # noqa: E402
from django.utils.functional import SimpleLazyObject  # noqa: E402
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

from gomodel_asgi.contrib.django import DjangoAuth, get_gateway, view  # noqa: E402
from gomodel_asgi.contrib.django.checks import check_settings  # noqa: E402
from gomodel_asgi.contrib.django.configuration import KEYS, build  # noqa: E402

pytestmark = pytest.mark.usefixtures("fresh_gateway")
QUESTION = {"model": "m", "input": "Hello"}
BEARER = "gomodel_asgi.contrib.django.tokens.BearerToken"
HOST = django_host.__name__


@contextmanager
def gomodel(**settings: Any) -> Iterator[None]:
    with override_settings(GOMODEL=settings):
        yield


def log_in() -> dict[str, str]:
    """The cookie of a session that Django itself has made."""
    client = Client()
    assert client.login(username="ada", password=django_host.PASSWORD)
    connection.close()
    return {"cookie": f"sessionid={client.cookies['sessionid'].value}"}


@pytest.fixture
async def ada() -> dict[str, str]:
    return await sync_to_async(log_in)()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


class Closing:
    """A host with a lifespan, which Django has not: it closes *gateway* when the server stops."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app = app
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.gateway if scope["type"] == "lifespan" else self.app)(scope, receive, send)


def application(gateway: Gateway | None = None, **options: Any) -> ASGIApp:
    gateway = gateway or get_gateway()
    return Closing(DjangoAuth(GoModelMiddleware(get_asgi_application(), gateway=gateway), **options), gateway)


def to(provider: FakeProvider, policy: Any, **options: Any) -> Gateway:
    return Gateway(providers=[Provider("fake", provider.base_url)], policy=policy, **options)


# Whose request it is...


async def test_the_user_of_the_session_is_the_user_of_the_request(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    url = serve(application()) + "/v1/responses"
    reply = await client.post(url, json=QUESTION, headers=ada)
    assert (reply.status_code, reply.json()["model"]) == (200, "ada")


@pytest.mark.parametrize("cookie", [None, "sessionid=", "sessionid=unknown0unknown0unknown0unknown0", "x=1"])
async def test_without_a_session_of_a_user_the_user_is_anonymous(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, cookie: str | None
) -> None:
    headers = {"cookie": cookie} if cookie else {}
    reply = await client.post(serve(application()) + "/v1/responses", json=QUESTION, headers=headers)
    assert reply.json()["error"]["code"] == "unauthenticated"
    assert not provider.requests


async def test_a_session_whose_user_has_changed_the_password_is_anonymous(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    @sync_to_async
    def forge() -> None:
        session = SessionStore(ada["cookie"].removeprefix("sessionid="))
        session[HASH_SESSION_KEY] = "0" * 64
        session.save()
        connection.close()

    await forge()
    url = serve(application()) + "/v1/responses"
    assert (await client.post(url, json=QUESTION, headers=ada)).status_code == 401


async def test_a_session_of_a_rotated_secret_key_is_read_and_stays_as_it_is(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        url = serve(application()) + "/v1/responses"
        for _ in range(2):
            assert (await client.post(url, json=QUESTION, headers=ada)).status_code == 200


async def test_the_users_key_is_the_tenant_by_default(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    async def route(request: RoutingRequest) -> Target:
        return Target("fake", model=f"tenant-{request.tenant}")

    url = serve(application(to(provider, route))) + "/v1/responses"
    user = await get_user_model().objects.aget(username="ada")
    await sync_to_async(lambda: connection.close())()
    assert (await client.post(url, json=QUESTION, headers=ada)).json()["model"] == f"tenant-{user.pk}"


@pytest.mark.parametrize("path", ["/", "/v1/responses/", "/v1/other"])
async def test_requests_for_the_host_pass_without_a_look_at_the_session(
    serve: Served, client: httpx.AsyncClient, path: str
) -> None:
    """An engine that does not exist would fail, were it asked."""
    with override_settings(SESSION_ENGINE="no.such.engine", MIDDLEWARE=[]):
        reply = await client.get(serve(application()) + path)
    assert reply.status_code == (200 if path == "/" else 404)


async def test_a_websocket_has_its_user_too(ada: dict[str, str], provider: FakeProvider) -> None:
    seen: list[Any] = []

    class Inner:
        gateway = to(provider, None)

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["user"])

    async def nothing(*message: Any) -> Any: ...

    scope = {"type": "websocket", "path": "/v1/responses", "headers": [(b"cookie", ada["cookie"].encode())]}
    await DjangoAuth(Inner())(scope, nothing, nothing)
    assert [user.username for user in seen] == ["ada"]
    assert "user" not in scope


# REST framework tokens...


@sync_to_async
def token(name: str = "ada") -> str:
    made, _ = Token.objects.get_or_create(user=get_user_model().objects.get(username=name))
    connection.close()
    return str(made.key)


async def test_a_rest_framework_token_names_the_user(serve: Served, client: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {await token()}"}
    with gomodel(POLICY=f"{HOST}.on_the_orm", PROVIDERS=f"{HOST}.providers", AUTHENTICATION=[BEARER]):
        reply = await client.post(serve(application()) + "/v1/responses", json=QUESTION, headers=headers)
    assert reply.json()["model"] == "ada"


async def test_a_token_that_is_not_accepted_is_401_even_with_a_good_session(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    with gomodel(POLICY=f"{HOST}.on_the_orm", PROVIDERS=f"{HOST}.providers", AUTHENTICATION=[BEARER]):
        url = serve(application()) + "/v1/responses"
        reply = await client.post(url, json=QUESTION, headers={"authorization": "Bearer wrong", **ada})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert not provider.requests


async def test_without_a_token_the_session_counts(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    from rest_framework.authentication import TokenAuthentication

    url = serve(application(authentication=[TokenAuthentication])) + "/v1/responses"
    assert (await client.post(url, json=QUESTION, headers=ada)).json()["model"] == "ada"
    headers = {"authorization": f"Token {await token()}"}
    assert (await client.post(url, json=QUESTION, headers=headers)).json()["model"] == "ada"


# Where plain policies run...


async def test_plain_policies_run_in_threads_beside_each_other(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    """Two that wait for each other: in asgiref's one shared thread neither would ever answer."""
    both = threading.Barrier(2, timeout=5)

    def route(request: RoutingRequest) -> Target:
        both.wait()
        return Target("fake")

    url = serve(application(to(provider, route))) + "/v1/responses"
    replies = await asyncio.gather(*(client.post(url, json=QUESTION, headers=ada) for _ in range(2)))
    assert [reply.status_code for reply in replies] == [200, 200]


async def test_a_plain_policy_finds_and_leaves_no_stale_connection(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    """`CONN_MAX_AGE` is 0: whatever the policy opened is closed once it has answered."""
    held: list[Any] = []

    def route(request: RoutingRequest) -> Target:
        get_user_model().objects.count()
        held.extend([connection.connection, connections["default"]])
        return Target("fake")

    url = serve(application(to(provider, route))) + "/v1/responses"
    await client.post(url, json=QUESTION, headers=ada)
    assert held[0] is not None
    assert held[1].connection is None


async def test_a_plain_policy_that_hangs_is_answered_in_time(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    release = threading.Event()

    def route(request: RoutingRequest) -> Target:
        if request.model == "hang":
            release.wait(20)
        return Target("fake")

    gateway = to(provider, route, timeouts=Timeouts(policy=0.2))
    url = serve(application(gateway)) + "/v1/responses"
    try:
        reply = await client.post(url, json={**QUESTION, "model": "hang"}, headers=ada)
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "policy_timeout")
        assert (await client.post(url, json=QUESTION, headers=ada)).status_code == 200
    finally:
        release.set()


# The view...


async def test_the_view_answers_behind_djangos_middlewares(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    url = serve(Closing(get_asgi_application(), get_gateway()))
    made = (await client.post(f"{url}/view/v1/responses", json=QUESTION, headers=ada)).json()
    assert (made["model"], made["provider"]) == ("ada", "fake")
    assert (await client.post(f"{url}/guarded/v1/responses", json=QUESTION, headers=ada)).status_code == 200


async def test_decorators_of_the_view_run_first(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider
) -> None:
    url = serve(Closing(get_asgi_application(), get_gateway()))
    assert (await client.post(f"{url}/guarded/v1/responses", json=QUESTION)).status_code == 302
    assert (await client.post(f"{url}/view/v1/responses", json=QUESTION)).status_code == 401
    assert not provider.requests


unguarded = types.ModuleType("unguarded")
unguarded.urlpatterns = [re_path(r"^view/v1/responses(?:/.*)?$", view)]  # type: ignore[attr-defined]
"""A URLconf that has the view without a decorator."""


class Masquerading:
    """A middleware that sets `request.user` itself, as those of tokens and of impersonation do: *how* it is set."""

    def __init__(self, name: str, how: Any = lambda look_up: look_up()) -> None:
        self.name = name
        self.how = how

    def __call__(self, get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            request.user = self.how(lambda: get_user_model().objects.get(username=self.name))
            return get_response(request)

        return middleware


at_once = Masquerading("bob")
lazily = Masquerading("bob", SimpleLazyObject)


@pytest.fixture
async def bob() -> None:
    @sync_to_async
    def make() -> None:
        get_user_model().objects.get_or_create(username="bob")
        connection.close()

    await make()


@pytest.mark.parametrize("setter", ["at_once", "lazily"])
async def test_the_user_that_a_middleware_has_set_is_the_user_of_the_view(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str], bob: None, setter: str
) -> None:
    with override_settings(MIDDLEWARE=[*django_host.MIDDLEWARE, f"{__name__}.{setter}"]):
        url = serve(Closing(get_asgi_application(), get_gateway()))
        assert (await client.post(f"{url}/view/v1/responses", json=QUESTION, headers=ada)).json()["model"] == "bob"


async def test_without_djangos_authentication_the_view_leaves_the_scopes_user(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    with override_settings(MIDDLEWARE=[]):
        url = serve(Closing(DjangoAuth(get_asgi_application()), get_gateway()))
        assert (await client.post(f"{url}/view/v1/responses", json=QUESTION, headers=ada)).json()["model"] == "ada"


async def test_the_view_knows_the_tokens_of_the_settings_before_the_session(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str], bob: None
) -> None:
    bobs = {"authorization": f"Bearer {await token('bob')}"}
    with gomodel(POLICY=f"{HOST}.on_the_orm", PROVIDERS=f"{HOST}.providers", AUTHENTICATION=[BEARER]):
        url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
        assert (await client.post(url, json=QUESTION, headers=ada | bobs)).json()["model"] == "bob"
        assert (await client.post(url, json=QUESTION, headers=ada)).json()["model"] == "ada"
        asked = len(provider.requests)
        refused = await client.post(url, json=QUESTION, headers=ada | {"authorization": "Bearer wrong"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert len(provider.requests) == asked


async def test_the_view_answers_401_where_the_login_is_required_of_every_view(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    """With any policy: what that middleware demands holds, in the form that an API client reads."""
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with (
        override_settings(MIDDLEWARE=[*django_host.MIDDLEWARE, required]),
        gomodel(PUBLIC=True, PROVIDERS=f"{HOST}.providers"),
    ):
        url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
        refused = await client.post(url, json=QUESTION)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
        assert not provider.requests
        assert (await client.post(url, json=QUESTION, headers=ada)).status_code == 200


async def test_the_view_streams_events_as_they_come(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    provider.fail_next(Stall(after_events=3))
    url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
    async with client.stream("POST", url, json={**QUESTION, "stream": True}, headers=ada) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "private, no-store, no-transform"
        pieces = reply.aiter_text()
        text = ""
        while text.count("event: ") < 3:
            text += await anext(pieces)
        provider.release()
        text += "".join([piece async for piece in pieces])
    assert "response.completed" in text


async def test_the_view_sends_heartbeats_while_the_upstream_is_silent(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    provider.fail_next(Stall(after_events=3))
    with gomodel(PROVIDERS=f"{HOST}.providers", POLICY=f"{HOST}.on_the_orm", TIMEOUTS={"heartbeat": 0.05}):
        url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
        async with client.stream("POST", url, json={**QUESTION, "stream": True}, headers=ada) as reply:
            pieces = reply.aiter_text()
            text = ""
            while ": heartbeat\n\n" not in text:
                text += await anext(pieces)
            provider.release()
            text += "".join([piece async for piece in pieces])
    assert "response.completed" in text


async def test_a_stream_of_the_view_that_broke_off_is_told_in_band(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    provider.fail_next(Cut(after_events=5))
    url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
    reply = await client.post(url, json={**QUESTION, "stream": True}, headers=ada)
    assert "upstream_stream_truncated" in reply.text


async def test_a_client_that_leaves_the_view_ends_the_upstream_request(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    provider.fail_next(Stall(after_events=3))
    url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
    async with client.stream("POST", url, json={**QUESTION, "stream": True}, headers=ada) as reply:
        await anext(reply.aiter_text())
    async with asyncio.timeout(5):
        await provider.requests[0].disconnected.wait()


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_an_answer_of_the_view_is_whole_also_where_it_goes_in_pieces(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str], size: int
) -> None:
    """A store that takes its time makes the last byte wait; a large answer is given to the server piece by piece."""
    whole = {"id": "resp_1", "object": "response", "output": [], "x": "y" * size}
    provider.script(Reply(whole))
    with gomodel(
        PUBLIC=True, PROVIDERS=f"{HOST}.providers", STORE=lambda: KeyValueStore(KeyValueMemory()), STAMP=False
    ):
        url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
        reply = await client.post(url, json=QUESTION, headers=ada)
    assert reply.json() == whole


async def test_a_body_over_djangos_own_limit_is_413_in_openais_form(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        reply = await client.post(url, json={**QUESTION, "input": "x" * 2000}, headers=ada)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")
    assert (reply.headers["content-type"], reply.headers["cache-control"]) == ("application/json", "private, no-store")
    assert not provider.requests


async def test_other_operations_work_through_the_view(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, ada: dict[str, str]
) -> None:
    url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
    reply = await client.post(f"{url}/input_tokens", json=QUESTION, headers=ada)
    assert reply.json()["object"] == "response.input_tokens"
    assert (await client.get(url, headers=ada)).status_code == 405


async def test_the_exception_of_a_policy_is_told_to_django_and_not_to_the_client(
    serve: Served, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    seen: list[Any] = []

    def tell(**signal: Any) -> None:
        seen.append(signal["request"].path)

    got_request_exception.connect(tell)
    try:
        with gomodel(PROVIDERS=f"{HOST}.providers", POLICY=f"{HOST}.broken_providers"):
            url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
            reply = await client.post(url, json=QUESTION, headers=ada)
    finally:
        got_request_exception.disconnect(tell)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert seen == ["/view/v1/responses"]


# The settings...


def test_the_gateway_of_the_settings_is_one_object() -> None:
    assert get_gateway() is get_gateway()
    assert list(get_gateway().setup.registry.by_name) == ["fake"]


def test_settings_that_change_make_another_gateway() -> None:
    first = get_gateway()
    with gomodel(PUBLIC=True, PROVIDERS=f"{HOST}.providers", PREFIX="/api", TIMEOUTS={"idle": 7}):
        assert get_gateway().prefix == "/api"
        assert get_gateway().setup.timeouts.idle == 7
    assert get_gateway() is not first


ready_made = Gateway(providers=[Provider("mine", "http://127.0.0.1:9/v1")])
exposed = Gateway(providers=[Provider("mine", "http://127.0.0.1:9/v1", api_key="sk-house")])


def test_a_gateway_that_the_project_makes_itself_is_used_as_it_is() -> None:
    with gomodel(GATEWAY=f"{__name__}.ready_made"):
        assert get_gateway() is ready_made


WRONG: list[tuple[Any, str]] = [
    ("rubbish", "give a dict"),
    ({"POLICIES": "x"}, "there is no key 'POLICIES'. Did you mean 'POLICY'?"),
    ({"timeouts": {}}, "there is no key 'timeouts'. Did you mean 'TIMEOUTS'?"),
    ({"PROVIDERS": f"{HOST}.providers"}, 'GOMODEL = {"POLICY": "yourapp.routing.policy"}'),
    ({"PROVIDERS": f"{HOST}.providers", "POLICY": None}, '"PUBLIC": True'),
    ({"PROVIDERS": f"{HOST}.providers", "PUBLIC": "yes"}, "GOMODEL['PUBLIC']: give a bool"),
    ({"PROVIDERS": ["openai"]}, "providers: give Provider objects, not a str"),
    ({"PROVIDERS": f"{HOST}.providers", "TIMEOUTS": 5}, "GOMODEL['TIMEOUTS']: give a dict of its members"),
    ({"PROVIDERS": f"{HOST}.providers", "TIMEOUTS": {"idle": -1}}, "GOMODEL['TIMEOUTS']: idle: give seconds"),
    ({"GATEWAY": f"{__name__}.exposed"}, "GOMODEL['GATEWAY']: without a policy"),
    ({"POLICY": "no.such.thing"}, "GOMODEL['POLICY']"),
    ({"POLICY": f"{HOST}.not_a_policy", "PROVIDERS": f"{HOST}.providers"}, "give a function"),
    ({"PROVIDERS": f"{HOST}.broken_providers"}, "GOMODEL['PROVIDERS']: ValueError: no key"),
    ({"PROVIDERS": []}, "providers: give at least one"),
    ({"PROVIDERS": f"{HOST}.providers", "PREFIX": "v1/"}, "prefix"),
    ({"PROVIDERS": f"{HOST}.providers", "PREFIX": 1}, "GOMODEL['PREFIX']: give a str"),
    ({"PROVIDERS": f"{HOST}.providers", "TIMEOUTS": {"idel": 7}}, "'idel'. Did you mean 'idle'?"),
    ({"GATEWAY": f"{HOST}.not_a_policy"}, "this is not a Gateway"),
    ({"GATEWAY": f"{__name__}.ready_made", "PREFIX": "/x"}, "leave other keys out"),
    ({"PUBLIC": True, "PROVIDERS": f"{HOST}.providers", "AUTHENTICATION": BEARER}, "give a list"),
    ({"PUBLIC": True, "PROVIDERS": f"{HOST}.providers", "AUTHENTICATION": ["no.such"]}, "GOMODEL['AUTHENTICATION']"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
def test_the_system_check_refuses_what_could_not_serve(given: Any, message: str) -> None:
    with override_settings(GOMODEL=given):
        [error] = check_settings()
    assert error.id == "gomodel.E001"
    assert message in error.msg


def test_without_providers_the_environment_variables_that_make_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL", "_BEDROCK")):
            monkeypatch.delenv(name)
    with override_settings(GOMODEL={"POLICY": f"{HOST}.on_the_orm"}):
        [error] = check_settings()
    assert "GOMODEL: there is no provider. Set one of these environment variables" in error.msg
    assert "'PROVIDERS': OPENAI_API_KEY, " in error.msg and "OLLAMA_BASE_URL" in error.msg


@pytest.mark.parametrize("given", [{"PUBLIC": True}, {"TENANT_REQUIRED": True}, {"POLICY": f"{HOST}.on_the_orm"}])
def test_the_settings_say_who_may_call(given: dict[str, Any]) -> None:
    with override_settings(ROOT_URLCONF=unguarded), gomodel(PROVIDERS=f"{HOST}.providers", **given):
        assert check_settings() == []


def test_bearer_tokens_without_the_app_of_their_table_are_refused_at_start() -> None:
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "gomodel_asgi.contrib.django"]
    with (
        override_settings(INSTALLED_APPS=apps),
        gomodel(POLICY=f"{HOST}.on_the_orm", PROVIDERS=f"{HOST}.providers", AUTHENTICATION=[BEARER]),
    ):
        [error] = check_settings()
    assert "add 'rest_framework.authtoken' to INSTALLED_APPS" in error.msg


def test_every_argument_of_a_gateway_has_its_key() -> None:
    arguments = {name.upper() for name in inspect.signature(Gateway).parameters}
    assert set(KEYS) == arguments | {"GATEWAY", "AUTHENTICATION"}


def search(call: Any) -> list[Any]:
    return []


def read_file(reference: Any, request: Any) -> bytes:
    return b""


def host_tools() -> list[Any]:
    return [tools.web_search(search)]


def test_tools_and_files_are_named_by_their_paths() -> None:
    common = {"PUBLIC": True, "PROVIDERS": f"{HOST}.providers"}
    gateway = build({**common, "TOOLS": f"{__name__}.host_tools", "FILES": f"{__name__}.read_file"})
    assert gateway.state.tools is not None and gateway.setup.files is not None
    assert build({**common, "TOOLS": [tools.web_search(search)]}).state.tools is not None
    for key, value, says in (
        ("TOOLS", f"{__name__}.search", "GOMODEL['TOOLS']: TypeError"),
        ("TOOLS", 5, "GOMODEL: tools: give a list of tools"),
        ("FILES", f"{HOST}.not_a_policy", "GOMODEL['FILES']: give a function"),
    ):
        with pytest.raises(ImproperlyConfigured, match=re.escape(says)):
            build({**common, key: value})


def test_the_system_check_runs_with_djangos_own() -> None:
    from django.core.checks import run_checks

    with gomodel(POLICIES="x"):
        assert "gomodel.E001" in [message.id for message in run_checks()]
    with override_settings(ROOT_URLCONF=unguarded):
        assert not [message for message in run_checks() if message.id.startswith("gomodel")]


def test_the_system_check_refuses_login_required_around_the_view() -> None:
    [error] = check_settings()
    assert (error.id, error.level) == ("gomodel.E002", ERROR)
    assert error.msg.startswith("^guarded/v1/responses(?:/.*)?$: a decorator of django.contrib.auth")


def test_the_system_check_warns_where_nobody_could_be_authenticated() -> None:
    with override_settings(
        ROOT_URLCONF=unguarded, INSTALLED_APPS=["django.contrib.contenttypes", "gomodel_asgi.contrib.django"]
    ):
        assert [warning.id for warning in check_settings()] == ["gomodel.W001"]


def test_without_the_setting_there_is_nothing_to_check_and_no_gateway() -> None:
    with override_settings():
        from django.conf import settings

        del settings.GOMODEL
        assert check_settings() == []
        with pytest.raises(ImproperlyConfigured, match="add this setting"):
            get_gateway()


def test_a_user_is_stored_under_djangos_session_key() -> None:
    """What the tests above rest on: the session that was made is Django's own."""
    assert SESSION_KEY in SessionStore(log_in()["cookie"].removeprefix("sessionid=")).load()
    connection.close()


cache = ResponseCache(when=lambda request: request.headers.get("x-cache") == "yes")


def make_cache() -> ResponseCache:
    return cache


@pytest.mark.parametrize(
    "given",
    [cache, f"{__name__}.cache", f"{__name__}.make_cache", make_cache],
    ids=["a cache", "its path", "a function's path", "a function"],
)
async def test_the_settings_name_a_cache(
    serve: Served, client: httpx.AsyncClient, provider: FakeProvider, given: Any
) -> None:
    with gomodel(PUBLIC=True, PROVIDERS=f"{HOST}.providers", CACHE=given):
        url = serve(Closing(get_asgi_application(), get_gateway())) + "/view/v1/responses"
        asked = {**QUESTION, "store": False}
        found = [
            (await client.post(url, json=asked, headers={"x-cache": value})).headers for value in "yes yes no".split()
        ]
    assert [headers["x-gomodel-cache"] for headers in found] == ["miss", "hit", "bypass"]
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("given", "message"), [(True, "cache: give"), ("nowhere.cache", "CACHE"), (dict, "cache: give")]
)
def test_a_cache_that_is_none_is_refused_with_the_name_of_its_key(given: Any, message: str) -> None:
    with gomodel(PUBLIC=True, PROVIDERS=f"{HOST}.providers", CACHE=given):
        with pytest.raises(ImproperlyConfigured, match=message):
            get_gateway()
