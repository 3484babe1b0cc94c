"""Which paths are ours, and what they ask for."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.errors import InvalidRequest, MethodNotAllowed
from gomodel_asgi.server.paths import check_id, match, route_path

OURS = [
    ("POST", "/v1/responses", "create", None),
    ("POST", "/v1/responses/compact", "compact", None),
    ("POST", "/v1/responses/input_tokens", "input_tokens", None),
    ("GET", "/v1/responses/resp_1", "retrieve", "resp_1"),
    ("DELETE", "/v1/responses/resp_1", "delete", "resp_1"),
    ("POST", "/v1/responses/resp_1/cancel", "cancel", "resp_1"),
    ("GET", "/v1/responses/resp_1/input_items", "input_items", "resp_1"),
    ("POST", "/v1/responses/compact/cancel", "cancel", "compact"),
]


def scope(path: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "path": path, **more}


@pytest.mark.parametrize(("method", "path", "operation", "id"), OURS)
def test_each_documented_path_is_its_operation(method: str, path: str, operation: str, id: str | None) -> None:
    route = match(scope(path), "/v1")

    assert route is not None
    assert (route.operation(method), route.response_id) == (operation, id)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/a", "/v1/responses/compact"])
def test_another_method_is_refused_with_those_allowed(path: str) -> None:
    route = match(scope(path), "/v1")

    assert route is not None
    with pytest.raises(MethodNotAllowed) as caught:
        route.operation("PATCH")
    assert caught.value.allow == ", ".join(route.methods)


@pytest.mark.parametrize(
    ("path", "root", "app_root", "expected"),
    [
        ("/v1/responses", "", "", "/v1/responses"),
        ("/api/v1/responses", "/api", "", "/v1/responses"),
        ("/v1/responses", "/api", "", "/v1/responses"),
        ("/apiary/v1", "/api", "", "/apiary/v1"),
        ("/llm/v1/responses", "/proxy/llm", "/proxy", "/v1/responses"),
        ("/proxy/llm/v1/responses", "/proxy/llm", "/proxy", "/v1/responses"),
        ("/api", "/api", "", ""),
    ],
)
def test_root_path_is_taken_off_where_the_path_has_it(path: str, root: str, app_root: str, expected: str) -> None:
    assert route_path(scope(path, root_path=root, app_root_path=app_root)) == expected


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/responses", b"/v1/responses%2f.."),
        ("/v1/responses", b"/v1/%72esponses"),
        ("/v1/responses/a", b"/v1/responses%2Fa"),
        ("/v1/responses/a", b"/v1/responses/%61"),
    ],
)
def test_a_path_that_was_spelled_otherwise_is_not_ours(path: str, raw: bytes) -> None:
    assert match(scope(path, raw_path=raw), "/v1") is None


def test_a_server_that_tells_no_raw_path_or_the_query_in_it_is_understood() -> None:
    assert match(scope("/v1/responses"), "/v1") is not None
    assert match(scope("/v1/responses", raw_path=b"/v1/responses?a=b"), "/v1") is not None
    assert match(scope("/v1/responses", raw_path=None), "/v1") is not None


@pytest.mark.parametrize("id", ["a", "resp_1", "a.b:c=d-e", "...", "x" * 512])
def test_a_well_formed_id_is_accepted(id: str) -> None:
    check_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "a%", "é", "a\n", "a\0", "x" * 513])
def test_any_other_id_is_a_404_like_an_unknown_one(id: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_id(id)
    assert (caught.value.status, caught.value.code) == (404, "response_not_found")
