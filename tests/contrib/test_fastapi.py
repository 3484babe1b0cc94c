"""`responses_router`: FastAPI's own way to the same gateway."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Query, Request
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, OAuth2PasswordBearer
from openai import OpenAI
from starlette.authentication import SimpleUser

from gomodel_asgi import Denied, Gateway, Provider, RoutingRequest, Target, Unauthenticated
from gomodel_asgi.contrib.fastapi import responses_router
from gomodel_asgi.schema import ResponsesRequest
from gomodel_asgi.server.paths import match
from gomodel_asgi.testing import FakeProvider

from ..support.serving import Served
from ..support.websocket_client import connected, knocking

QUESTION = {"model": "m", "input": "Hello"}
PATHS = {
    "/v1/responses": {"post"},
    "/v1/responses/compact": {"post"},
    "/v1/responses/input_tokens": {"post"},
    "/v1/responses/{response_id}": {"get", "delete"},
    "/v1/responses/{response_id}/cancel": {"post"},
    "/v1/responses/{response_id}/input_items": {"get"},
    "/v1/models": {"get"},
    "/v1/models/{model}": {"get"},
    "/v1/conversations": {"post"},
    "/v1/conversations/{conversation_id}": {"get", "post", "delete"},
    "/v1/conversations/{conversation_id}/items": {"get", "post"},
    "/v1/conversations/{conversation_id}/items/{item_id}": {"get", "delete"},
}


def hosting(gateway: Gateway, *dependencies: Dependency) -> FastAPI:
    """An app with the router, which closes the gateway at its end."""

    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            yield

    app = FastAPI(lifespan=asynccontextmanager(lifespan))
    app.include_router(responses_router(gateway, dependencies=dependencies, tags=["llm"]))
    return app


def to(provider: FakeProvider, **options: Any) -> Gateway:
    return Gateway(providers=[Provider("fake", provider.base_url)], **options)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


async def test_every_operation_of_the_api_is_served(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    url = serve(hosting(to(provider))) + "/v1/responses"
    made = (await client.post(url, json={**QUESTION, "background": True})).json()
    one = f"{url}/{made['id']}"
    assert made["provider"] == "fake"
    assert (await client.get(one)).json()["id"] == made["id"]
    assert (await client.get(f"{one}/input_items")).json()["object"] == "list"
    assert (await client.post(f"{one}/cancel")).status_code in (200, 400)
    assert (await client.delete(one)).json()["deleted"] is True
    assert (await client.post(f"{url}/input_tokens", json=QUESTION)).json()["object"] == "response.input_tokens"
    assert (await client.post(f"{url}/compact", json=QUESTION)).json()["object"] == "response.compaction"


async def test_models_are_listed_and_found_by_names_with_slashes(serve: Served, client: httpx.AsyncClient) -> None:
    models = ["plain", "vendor/model"]
    gateway = Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1", models=models)])
    url = serve(hosting(gateway)) + "/v1/models"
    assert [one["id"] for one in (await client.get(url)).json()["data"]] == models
    assert (await client.get(f"{url}/vendor/model")).json()["id"] == "vendor/model"
    assert (await client.get(f"{url}/other")).status_code == 404


async def test_the_body_reaches_the_upstream_byte_for_byte(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    body = b'{"model":"m","input":"\\u00e9","temperature":1.0,"unknown":{"b":1,"a":1e2}}'
    url = serve(hosting(to(provider))) + "/v1/responses"
    await client.post(url, content=body, headers={"content-type": "application/json"})
    assert provider.requests[0].body == body


async def test_errors_of_the_gateway_keep_openais_form(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    url = serve(hosting(to(provider))) + "/v1/responses"
    reply = await client.post(url, content=b"{", headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_json"
    assert reply.headers["cache-control"] == "private, no-store"
    assert (await client.post(url, content=b"{}", headers={"content-type": "text/plain"})).status_code == 415


async def test_a_dependency_refuses_before_anything_is_read(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def nobody() -> None:
        raise HTTPException(401, "Not you.")

    url = serve(hosting(to(provider), Depends(nobody))) + "/v1/responses"
    assert (await client.post(url, content=b"not even JSON")).status_code == 401
    assert not provider.requests


async def test_what_a_dependency_puts_into_request_state_is_seen_by_the_policy(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def plan(request: Request) -> None:
        request.state.plan = "team"

    async def route(request: RoutingRequest) -> Target:
        return Target("fake", model=request.state.plan)

    url = serve(hosting(to(provider, policy=route), Depends(plan))) + "/v1/responses"
    assert (await client.post(url, json=QUESTION)).json()["model"] == "team"


async def test_dependencies_of_an_including_app_run_too(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def plan(request: Request) -> None:
        request.state.plan = "outer"

    async def route(request: RoutingRequest) -> Target:
        return Target("fake", model=request.state.plan)

    gateway = to(provider, policy=route)
    app = hosting(gateway)
    app.include_router(responses_router(gateway), prefix="/api", dependencies=[Depends(plan)])
    assert (await client.post(serve(app) + "/api/v1/responses", json=QUESTION)).json()["model"] == "outer"


async def test_background_tasks_of_a_dependency_run_after_the_reply(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    ran = threading.Event()

    async def later(tasks: BackgroundTasks) -> None:
        tasks.add_task(ran.set)

    url = serve(hosting(to(provider), Depends(later))) + "/v1/responses"
    async with client.stream("POST", url, json={**QUESTION, "stream": True}) as reply:
        await reply.aread()
    assert await asyncio.to_thread(ran.wait, 5)


async def test_the_exception_of_a_policy_reaches_the_host_and_the_client_has_its_envelope(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    seen: list[str] = []

    async def route(request: RoutingRequest) -> Target:
        raise ZeroDivisionError("secret detail")

    app = hosting(to(provider, policy=route))

    @app.middleware("http")
    async def tracker(request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except ZeroDivisionError as error:
            seen.append(str(error))
            raise

    reply = await client.post(serve(app) + "/v1/responses", json=QUESTION)
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.fixture
def page() -> dict[str, Any]:
    """The OpenAPI document of an app with the router, as JSON has it."""
    app = hosting(Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1")]))
    document: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return document


def test_every_path_is_on_the_openapi_page(page: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in page["paths"].items()} == PATHS
    assert all(operation["tags"] == ["llm"] for path in page["paths"].values() for operation in path.values())


def references(node: Any) -> set[str]:
    """Every `$ref` in *node*."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(references, node.values()))


def test_the_router_has_every_method_of_every_path_that_the_gateway_serves() -> None:
    for path, methods in PATHS.items():
        route = match({"type": "http", "path": path.replace("{", "").replace("}", "")}, "/v1")
        assert route is not None
        assert {method.lower() for method in route.methods} == methods


def test_every_reference_on_the_page_leads_somewhere(page: dict[str, Any]) -> None:
    assert references(page)
    for reference in references(page):
        place: Any = page
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_the_page_shows_the_request_its_hint_its_events_and_its_errors(page: dict[str, Any]) -> None:
    create = page["paths"]["/v1/responses"]["post"]
    body = create["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == set(ResponsesRequest.model_fields)
    assert all(ResponsesRequest.model_validate(example["value"]) for example in body["examples"].values())
    assert {(one["in"], one["name"]) for one in create["parameters"]} == {
        ("header", "x-gomodel-provider"),
        ("query", "provider"),
    }
    assert set(create["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {"400", "401", "429", "502", "504"} <= set(create["responses"])
    error = create["responses"]["502"]["content"]["application/json"]["schema"]["$ref"]
    assert error.endswith("/ErrorEnvelope")


def test_an_id_in_a_path_is_on_the_page_as_a_parameter(page: dict[str, Any]) -> None:
    for path, methods in page["paths"].items():
        for operation in methods.values():
            named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_the_page_of_an_app_with_models_of_the_same_names_keeps_both() -> None:
    from pydantic import BaseModel

    class Response(BaseModel):
        mine: Annotated[int, "the host's own"]

    app = hosting(Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1")]))
    app.add_api_route("/mine", lambda: Response(mine=1), response_model=Response)
    schemas = app.openapi()["components"]["schemas"]
    assert sum(name.endswith("Response") and "mine" in schemas[name]["properties"] for name in schemas) == 1


# Refusals...


def is_openais(reply: httpx.Response, status: int) -> dict[str, Any]:
    """The error of *reply*, which must have this status and OpenAI's form."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/json")
    assert reply.headers["cache-control"] == "private, no-store"
    assert reply.headers["x-request-id"]
    assert set(reply.json()) == {"error"}
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_what_a_dependency_refuses_has_openais_form_and_its_own_headers(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def nobody() -> None:
        raise HTTPException(401, "Not you.", {"WWW-Authenticate": "Bearer", "Retry-After": "7"})

    url = serve(hosting(to(provider), Depends(nobody))) + "/v1/models"
    reply = await client.get(url, headers={"x-request-id": "mine"})
    assert is_openais(reply, 401)["message"] == "Not you."
    assert (reply.headers["www-authenticate"], reply.headers["x-request-id"]) == ("Bearer", "mine")
    assert reply.headers.get_list("retry-after") == ["7"]


async def test_what_a_dependency_of_a_dependency_refuses_has_openais_form(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def user(token: Annotated[str, Depends(OAuth2PasswordBearer("token"))]) -> None:
        raise AssertionError(token)

    url = serve(hosting(to(provider), Depends(user))) + "/v1/responses"
    assert is_openais(await client.post(url, json=QUESTION), 401)["type"] == "authentication_error"


async def test_a_parameter_that_a_dependency_misses_is_named_in_openais_form(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def team(team: Annotated[str, Query()]) -> None:
        raise AssertionError(team)

    url = serve(hosting(to(provider), Depends(team))) + "/v1/responses"
    assert "query.team" in is_openais(await client.post(url, json=QUESTION), 422)["message"]


async def test_an_error_of_ours_that_a_dependency_raises_is_the_answer(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    async def nobody() -> None:
        raise Unauthenticated("Log in first.")

    url = serve(hosting(to(provider), Depends(nobody))) + "/v1/responses"
    assert is_openais(await client.post(url, json=QUESTION), 401)["message"] == "Log in first."


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/responses", "POST"),
        ("PUT", "/responses/resp_1", "GET, DELETE"),
        ("GET", "/responses/resp_1/cancel", "POST"),
        ("DELETE", "/conversations", "POST"),
        ("POST", "/models", "GET"),
    ],
)
async def test_a_method_that_a_path_lacks_is_405_in_openais_form(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    reply = await client.request(method, serve(hosting(to(provider))) + "/v1" + path)
    is_openais(reply, 405)
    assert reply.headers["allow"] == allow


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/completions"),
        ("POST", "/completions"),
        ("POST", "/embeddings"),
        ("POST", "/messages"),
        ("GET", "/responses/resp_1/none"),
        ("GET", "/responses/"),
        ("POST", "/v1/responses"),
    ],
)
@pytest.mark.parametrize("mounted", [False, True], ids=["router", "mount"])
async def test_a_path_where_nothing_is_says_in_openais_form_what_is_served(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient, method: str, path: str, mounted: bool
) -> None:
    if mounted:
        app: Any = FastAPI()
        app.mount("/v1", to(provider, prefix=""))
    else:
        app = hosting(to(provider))
        path = "/responses/v1/responses" if path.startswith("/v1") else path
    error = is_openais(await client.request(method, f"{serve(app)}/v1{path}", json={}), 404)
    assert error["code"] == "unknown_path"
    assert "/responses" in error["message"]


async def test_what_the_host_serves_beside_the_router_stays_its_own(
    provider: FakeProvider, serve: Served, client: httpx.AsyncClient
) -> None:
    app = hosting(to(provider))
    app.add_api_route("/v1/users", lambda: {"users": []})
    origin = serve(app)
    assert (await client.get(origin + "/v1/users")).json() == {"users": []}
    assert (await client.get(origin + "/v1/nowhere")).json() == {"detail": "Not Found"}
    assert (await client.options(origin + "/v1/responses")).status_code == 405


# WebSocket mode...


async def test_a_client_of_the_sdk_converses_over_the_router(provider: FakeProvider, serve: Served) -> None:
    origin = serve(hosting(to(provider)))

    def conversed() -> str:
        with OpenAI(base_url=origin + "/v1", api_key="k") as client, client.responses.connect() as connection:
            connection.response.create(model="m", input="Hello")
            for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text
        raise AssertionError("the connection ended first")

    assert await asyncio.to_thread(conversed)


async def test_dependencies_run_before_a_connection_and_what_they_put_into_the_state_is_seen(
    provider: FakeProvider,
) -> None:
    closed: list[str] = []

    async def plan(request: Request) -> AsyncIterator[None]:
        request.state.plan, request.scope["user"] = "team", SimpleUser("ada")
        yield
        closed.append("plan")

    async def route(request: RoutingRequest) -> Target:
        return Target("fake", model=f"{request.state.plan}-{request.tenant}")

    gateway = to(provider, policy=route, tenant=lambda scope: scope["user"].username)
    async with connected(hosting(gateway, Depends(plan))) as socket:
        assert (await socket.talk())["model"] == "team-ada"
        assert not closed
    assert closed
    await gateway.aclose()


async def test_fastapis_own_security_guards_connections(provider: FakeProvider) -> None:
    seen: list[str] = []

    async def user(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
        seen.append(credentials.credentials)

    gateway = to(provider)
    app = hosting(gateway, Depends(user))
    async with connected(app, headers=[(b"host", b"testserver"), (b"authorization", b"Bearer ada")]) as socket:
        assert (await socket.talk())["status"] == "completed"
    async with knocking(app) as socket:
        assert (await socket.message())["status"] in (401, 403)
    assert seen == ["ada"]
    await gateway.aclose()


@pytest.mark.parametrize(
    ("refusal", "status"), [(HTTPException(401, "Not you."), 401), (Denied("Not you."), 403)], ids=["http", "ours"]
)
async def test_a_connection_that_a_dependency_refuses_is_told_so_in_openais_form(
    provider: FakeProvider, refusal: Exception, status: int
) -> None:
    async def nobody() -> None:
        raise refusal

    async with knocking(hosting(to(provider), Depends(nobody))) as socket:
        start, body = await socket.message(), await socket.message()
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert json.loads(body["body"])["error"]["message"] == "Not you."
    assert not provider.requests


async def test_a_test_of_the_host_may_override_a_dependency_of_connections(provider: FakeProvider) -> None:
    async def nobody() -> None:
        raise HTTPException(401, "Not you.")

    gateway = to(provider)
    app = hosting(gateway, Depends(nobody))
    app.dependency_overrides[nobody] = lambda: None
    async with connected(app) as socket:
        assert (await socket.talk())["status"] == "completed"
    await gateway.aclose()
