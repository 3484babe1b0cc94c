"""Django REST framework's authentication under `GOMODEL["AUTHENTICATION"]`, the real one: each outcome is the one that
REST framework itself gives, in OpenAI's form, before the middleware and in the view alike."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, Provider
from gomodel_asgi.testing import FakeProvider

from ..support import django_host

django_host.set_up()

from asgiref.sync import sync_to_async  # noqa: E402  Django is configured first
from django.contrib.auth import get_user_model  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.exceptions import ImproperlyConfigured, PermissionDenied  # noqa: E402
from django.core.signals import got_request_exception  # noqa: E402
from django.db import connection  # noqa: E402
from django.middleware.csrf import get_token  # noqa: E402
from django.test import Client, RequestFactory, override_settings  # noqa: E402
from rest_framework import exceptions  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

from gomodel_asgi.contrib.django import DjangoAuth, get_gateway  # noqa: E402
from gomodel_asgi.contrib.django.auth import whole_request_of  # noqa: E402
from gomodel_asgi.contrib.django.checks import check_settings  # noqa: E402
from gomodel_asgi.contrib.django.tokens import authentication  # noqa: E402

pytestmark = pytest.mark.usefixtures("fresh_gateway")
QUESTION = {"model": "m", "input": "Hello"}
HOST = django_host.__name__
DRF = "rest_framework.authentication"
SESSION, TOKEN, BASIC = f"{DRF}.SessionAuthentication", f"{DRF}.TokenAuthentication", f"{DRF}.BasicAuthentication"
BEARER = "gomodel_asgi.contrib.django.tokens.BearerToken"


class Own(BaseAuthentication):
    """A host's own: the header `x-caller` says what it does."""

    def authenticate(self, request: Any) -> Any:
        match request.headers.get("x-caller"):
            case None:
                return None
            case "failed":
                raise exceptions.AuthenticationFailed("canary: no such caller")
            case "denied":
                raise exceptions.PermissionDenied("This caller is locked.")
            case "djangos":
                raise PermissionDenied
            case "throttled":
                raise exceptions.Throttled(wait=7)
            case "invalid":
                raise exceptions.ValidationError(["x-caller is malformed."])
            case "broken":
                raise KeyError("canary")
            case "signed":
                assert request.body and request.data["input"] == "Hello"
                return get_user_model().objects.get(username="ada"), None
            case name:
                return get_user_model().objects.get_or_create(username=name)[0], None


OWN = f"{__name__}.Own"


class Waiting(BaseAuthentication):
    async def authenticate(self, request: Any) -> Any:
        return None


class Demanding(BaseAuthentication):
    def __init__(self, realm: str) -> None:
        self.realm = realm


class Host:
    """Django with the gateway, by one of its two *doors*; what it has *raised* a server would log."""

    def __init__(self, door: str) -> None:
        self.gateway = get_gateway()
        django_app = get_asgi_application()
        self.app: Any = django_app
        if door == "middleware":
            self.app = DjangoAuth(GoModelMiddleware(django_app, gateway=self.gateway))
        self.path = "/view/v1/responses" if door == "view" else "/v1/responses"
        self.raised: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.raised.append(type(error).__name__)
        finally:
            await self.gateway.aclose()


@pytest.fixture(params=["middleware", "view"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def one_provider() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as running:
        yield running


@pytest.fixture
def provider(one_provider: FakeProvider) -> FakeProvider:
    """One upstream for all tests of the module: most of them never come to it."""
    one_provider.clear()
    return one_provider


@contextmanager
def with_classes(*paths: str) -> Iterator[None]:
    settings = {"POLICY": f"{HOST}.on_the_orm", "PROVIDERS": f"{HOST}.providers", "AUTHENTICATION": [*paths]}
    with override_settings(GOMODEL=settings):
        yield


@pytest.fixture
async def credentials() -> dict[str, dict[str, str]]:
    """The headers of what callers send, by name."""

    @sync_to_async
    def make() -> dict[str, dict[str, str]]:
        browser = Client()
        assert browser.login(username="ada", password=django_host.PASSWORD)
        cookie = f"sessionid={browser.cookies['sessionid'].value}"
        bob = get_user_model().objects.get_or_create(username="bob")[0]
        key = Token.objects.get_or_create(user=bob)[0].key
        csrf = get_token(RequestFactory().get("/"))
        connection.close()
        return {
            "nothing": {},
            "session": {"cookie": cookie},
            "session and csrf": {"cookie": f"{cookie}; csrftoken={csrf}", "x-csrftoken": csrf},
            "token": {"authorization": f"Token {key}"},
            "bearer": {"authorization": f"Bearer {key}"},
            "wrong token": {"authorization": "Token canary"},
            "wrong bearer": {"authorization": "Bearer canary"},
            "basic": {"authorization": "Basic " + base64.b64encode(b"ada:lovelace").decode()},
            "wrong basic": {"authorization": "Basic " + base64.b64encode(b"ada:wrong").decode()},
        }

    return await make()


async def post(host: Host, headers: dict[str, str]) -> httpx.Response:
    """The answer to a question with these *headers*."""
    transport = httpx.ASGITransport(host)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=10) as client:
        return await client.post(host.path, json=QUESTION, headers=headers)


OUTCOMES: list[tuple[list[str], dict[str, str], str | int]] = [
    ([SESSION], {"nothing": ""}, 401),
    ([SESSION], {"session": ""}, 403),
    ([SESSION], {"session and csrf": ""}, "ada"),
    ([SESSION], {"token": ""}, 401),
    ([TOKEN], {"nothing": ""}, 401),
    ([TOKEN], {"token": ""}, "bob"),
    ([TOKEN], {"wrong token": ""}, 401),
    ([TOKEN], {"bearer": ""}, 401),
    ([TOKEN], {"session": ""}, "ada"),
    ([TOKEN], {"session": "", "token": ""}, "bob"),
    ([TOKEN], {"session": "", "wrong token": ""}, 401),
    ([BASIC], {"basic": ""}, "ada"),
    ([BASIC], {"wrong basic": ""}, 401),
    ([BEARER, SESSION], {"bearer": ""}, "bob"),
    ([BEARER, SESSION], {"session": ""}, 403),
    ([BEARER, SESSION], {"session and csrf": ""}, "ada"),
    ([BEARER, SESSION], {"session and csrf": "", "bearer": ""}, "bob"),
    ([SESSION, BEARER], {"session and csrf": "", "bearer": ""}, "ada"),
    ([SESSION, BEARER], {"wrong bearer": ""}, 401),
    ([BEARER, OWN, TOKEN], {"own": "eve"}, "eve"),
    ([OWN, BEARER], {"own": "failed", "bearer": ""}, 401),
    ([BEARER, OWN], {"own": "failed", "bearer": ""}, "bob"),
    ([OWN], {"own": "denied"}, 403),
    ([OWN], {"own": "djangos"}, 403),
    ([OWN], {"own": "throttled"}, 429),
    ([OWN], {"own": "invalid"}, 400),
    ([OWN], {"session": ""}, "ada"),
]


def named(outcome: tuple[list[str], dict[str, str], str | int]) -> str:
    classes, sent, found = outcome
    return f"{'+'.join(one.rpartition('.')[2] for one in classes)}-{'+'.join(sent)}-{found}"


@pytest.mark.parametrize(("classes", "sent", "found"), OUTCOMES, ids=map(named, OUTCOMES))
async def test_each_outcome_is_rest_frameworks_own(
    provider: FakeProvider,
    credentials: dict[str, dict[str, str]],
    door: str,
    classes: list[str],
    sent: dict[str, str],
    found: str | int,
) -> None:
    headers: dict[str, str] = {}
    for name, value in sent.items():
        headers |= {"x-caller": value} if name == "own" else credentials[name]
    with with_classes(*classes):
        host = Host(door)
        reply = await post(host, headers)
    if isinstance(found, str):
        assert (reply.status_code, reply.json().get("model")) == (200, found), reply.text
        return
    assert reply.status_code == found, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.json()["error"]["code"] == CODES.get(found)
    assert "canary" not in reply.text
    assert not provider.requests and not host.raised


CODES = {401: "unauthenticated", 403: "permission_denied", 429: "rate_limit_exceeded"}
"""What OpenAI's form calls them."""


@pytest.mark.parametrize(
    ("classes", "sent", "challenge"),
    [
        ([TOKEN], "wrong token", "Token"),
        ([BASIC], "wrong basic", 'Basic realm="api"'),
        ([BEARER], "wrong bearer", "Bearer"),
    ],
)
async def test_a_401_says_which_credential_is_wanted(
    credentials: Any, door: str, classes: list[str], sent: str, challenge: str
) -> None:
    with with_classes(*classes):
        host = Host(door)
        reply = await post(host, credentials[sent])
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, challenge)


@pytest.mark.parametrize(
    ("caller", "message", "retry_after"),
    [
        ("denied", "This caller is locked.", None),
        ("throttled", "Request was throttled. Expected available in 7 seconds.", "7"),
        ("invalid", "The request was refused.", None),
    ],
)
async def test_a_refusal_says_what_rest_framework_would(
    door: str, caller: str, message: str, retry_after: str | None
) -> None:
    with with_classes(OWN):
        host = Host(door)
        reply = await post(host, {"x-caller": caller})
    assert reply.json()["error"]["message"] == message
    assert reply.headers.get("retry-after") == retry_after
    assert "www-authenticate" not in reply.headers


async def test_an_authentication_that_fails_is_told_to_the_host_and_not_to_the_client(
    provider: FakeProvider, door: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    got_request_exception.connect(collect := lambda request, **signal: told.append(request), weak=False)
    try:
        with with_classes(OWN):
            host = Host(door)
            reply = await post(host, {"x-caller": "broken"})
    finally:
        got_request_exception.disconnect(collect)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "canary" not in reply.text and "KeyError" not in reply.text
    assert host.raised == ([] if door == "view" else ["KeyError"])
    assert len(told) == (1 if door == "view" else 0)
    assert not provider.requests
    caplog.clear()  # Django logs the exception itself, and its text is the host's own


async def test_a_class_that_reads_the_body_works_in_the_view_alone(door: str) -> None:
    with with_classes(OWN):
        host = Host(door)
        reply = await post(host, {"x-caller": "signed"})
    assert reply.status_code == (200 if door == "view" else 500)
    assert host.raised == ([] if door == "view" else ["RuntimeError"])


async def test_a_websocket_that_is_refused_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def nothing() -> Any:
        raise AssertionError

    gateway = Gateway(providers=[Provider("a", "http://127.0.0.1:9/v1")], public=True)
    app = DjangoAuth(GoModelMiddleware(get_asgi_application(), gateway=gateway), authentication=[Own])
    for caller, code in ((b"failed", 1008), (b"denied", 1008), (b"broken", 1011)):
        scope = {"type": "websocket", "path": "/v1/responses", "headers": [(b"x-caller", caller)], "scheme": "wss"}
        try:
            await app(scope, nothing, send)
        except KeyError:
            assert caller == b"broken"
        assert sent.pop() == {"type": "websocket.close", "code": code}


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_a_class_sees_the_scheme_the_host_and_the_query(scheme: str) -> None:
    headers = [(b"host", b"shop.example"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x_caller", b"spoofed")]
    scope = {
        "type": "http",
        "path": "/v1/responses",
        "headers": headers,
        "scheme": scheme,
        "query_string": b"a=%ff\xff",
    }
    request: Any = whole_request_of(scope)
    assert request.is_secure() and request.build_absolute_uri("/x") == "https://shop.example/x"
    assert request.COOKIES == {"a": "1", "b": "2"} and "a" in request.GET
    assert request.headers.get("x-caller") is None
    assert not request.POST and not request.FILES


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ([f"{HOST}.providers"], "function is no authentication class: it has no method authenticate"),
        ([f"{__name__}.Waiting"], "authenticate must be a plain function"),
        ([f"{__name__}.Demanding"], "Demanding cannot be made"),
        ([f"{__name__}.Missing"], "Missing"),
        ([5], "int is no authentication class"),
        (SESSION, "give a list of dotted paths, not a str"),
        (5, "give a list of dotted paths, not an int"),
    ],
)
def test_what_is_no_authentication_class_is_refused_at_start(classes: Any, says: str) -> None:
    with override_settings(GOMODEL={"PUBLIC": True, "PROVIDERS": f"{HOST}.providers", "AUTHENTICATION": classes}):
        for start in (authentication, get_gateway, lambda: DjangoAuth(get_asgi_application())):
            with pytest.raises(ImproperlyConfigured, match=re.escape("GOMODEL['AUTHENTICATION']") + f".*{says}"):
                start()
        assert "gomodel.E001" in [message.id for message in check_settings()]


def test_djangos_wrapper_refuses_at_start_what_is_no_authentication_class_of_its_own_list() -> None:
    with pytest.raises(ImproperlyConfigured, match="int is no authentication class"):
        DjangoAuth(get_asgi_application(), authentication=[5])


def test_djangos_wrapper_refuses_what_is_no_app_and_no_list_of_classes() -> None:
    for app, classes, says in (
        (5, None, "app: give an ASGI app, not an int"),
        (get_asgi_application(), SESSION, "authentication: give a list of classes, not a str"),
    ):
        with pytest.raises(TypeError, match=says):
            DjangoAuth(app, authentication=classes)  # type: ignore[arg-type]
