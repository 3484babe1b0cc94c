"""What a client may say of a server that only it names: where it is, and what is sent there."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.emulation.tools.remote import MOST_HEADERS, MOST_OF_HEADERS, MOST_URL, read_place
from gomodel_asgi.errors import InvalidRequest

URL = "https://mcp.example/mcp"


@pytest.mark.parametrize(
    "url", [URL, "https://mcp.example", "https://mcp.example:8443/a%20b?key=1", "https://[2606::1]/"]
)
def test_a_public_looking_url_may_be_read_place(url: str) -> None:
    place, headers = read_place(url, None, None)

    assert place.geturl() == url
    assert headers == {}


@pytest.mark.parametrize(
    "url",
    [
        None,
        1,
        "",
        "mcp.example",
        "//mcp.example/mcp",
        "http://mcp.example/mcp",
        "file:///etc/passwd",
        "https://",
        "https://:443/",
        "https://user@mcp.example/canary",
        "https://user:canary@mcp.example/",
        "https://@mcp.example/",
        "https://mcp.example\\@canary.example/",
        "https://mcp.example:0/",
        "https://mcp.example:99999/",
        "https://mcp.example:port/",
        "https://[::1/",
        "https://mcp.exämple/",
        "https://mcp.example/a b",
        "https://mcp.example/\r\nx: y",
        "https://mcp.example/\t",
        URL + "a" * MOST_URL,
    ],
)
def test_a_url_that_may_not_be_asked_is_refused_and_not_quoted(url: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_place(url, None, None)

    assert refused.value.param == "tools"
    assert "server_url" in refused.value.message
    assert "canary" not in refused.value.message and "mcp.ex" not in refused.value.message


@pytest.mark.parametrize(
    ("authorization", "headers", "sent"),
    [
        (None, {}, {}),
        ("token", None, {"authorization": "Bearer token"}),
        ("Bearer token", None, {"authorization": "Bearer token"}),
        (None, {"Authorization": "Basic abc"}, {"authorization": "Basic abc"}),
        ("token", {"X-Api-Key": "key"}, {"x-api-key": "key", "authorization": "Bearer token"}),
    ],
)
def test_credentials_are_sent_as_headers(authorization: Any, headers: Any, sent: dict[str, str]) -> None:
    assert read_place(URL, authorization, headers)[1] == sent


FORBIDDEN = [
    "Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "TE",
    "Trailer", "Upgrade", "Expect", "Accept", "Accept-Encoding", "Cookie", "Set-Cookie", "Proxy-Authorization", "Via",
    "Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Last-Event-ID", "Forwarded", "X-Forwarded-For",
    "X-Real-IP",
]  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_header_of_the_protocol_or_of_one_hop_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="headers"):
        read_place(URL, None, {name: "canary"})


@pytest.mark.parametrize(
    ("authorization", "headers"),
    [
        (None, []),
        (None, "x: canary"),
        (None, {"x": None}),
        (None, {"x": ["canary"]}),
        (None, {"x": "canary\r\ny: z"}),
        (None, {"x": "canary\n"}),
        (None, {"x": "canary\0"}),
        (None, {"x": "cänary"}),
        (None, {"x\r\ny": "canary"}),
        (None, {"x y": "canary"}),
        (None, {"": "canary"}),
        (None, {"x": "canary", "X": "canary"}),
        (None, {f"x-{number}": "canary" for number in range(MOST_HEADERS + 1)}),
        (None, {"x": "canary" * MOST_OF_HEADERS}),
        (1, None),
        ("canary\r\nx: y", None),
        ("cänary", None),
        ("canary" * MOST_OF_HEADERS, None),
        ("canary", {"authorization": "canary"}),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_and_not_quoted(authorization: Any, headers: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_place(URL, authorization, headers)

    assert refused.value.param == "tools"
    assert "nary" not in refused.value.message
