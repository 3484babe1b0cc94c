"""What goes out is one request with one framing, and the peer that gets it may be required to be a public one."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.transport import Transport
from gomodel_asgi.transport.request import authority, is_public, request_head

from ..support.requests import post

UNSAFE: list[dict[str, Any]] = [
    {"headers": [(b"x", b"a\r\nhost: evil")]},
    {"headers": [(b"x", b"a\nb")]},
    {"headers": [(b"x", b"a\rb")]},
    {"headers": [(b"x", b"a\0b")]},
    {"headers": [(b"x\r\ny", b"a")]},
    {"headers": [(b"content-length", b"5")]},
    {"headers": [(b"transfer-encoding", b"chunked")]},
    {"headers": [(b"host", b"evil")]},
    {"target": b"/a HTTP/1.1\r\nhost: evil\r\n\r\n"},
    {"target": b"/a b"},
    {"method": b"GET /"},
    {"scheme": "ftp"},
    {"host": "h\u00f6st"},
]


@pytest.mark.parametrize("unsafe", UNSAFE, ids=repr)
async def test_what_reads_as_another_request_is_never_written(unsafe: dict[str, Any], transport: Transport) -> None:
    with pytest.raises(ValueError):
        await transport.open(post(1, **unsafe))


def test_a_request_is_framed_by_one_content_length() -> None:
    head = request_head(post(80, b"12345"), b"h")

    assert head == (
        b"POST /v1/responses HTTP/1.1\r\nhost: h\r\naccept-encoding: identity\r\n"
        b"content-type: application/json\r\ncontent-length: 5\r\n\r\n"
    )


def test_a_post_without_a_body_has_length_zero_and_a_get_has_none() -> None:
    assert b"content-length: 0\r\n" in request_head(post(80, None), b"h")
    assert b"content-length" not in request_head(post(80, None, method=b"GET"), b"h")


def test_the_host_header_leaves_out_a_default_port_and_brackets_ipv6() -> None:
    assert authority("https", "api.example", 443) == b"api.example"
    assert authority("http", "api.example", 443) == b"api.example:443"
    assert authority("http", "::1", 8000) == b"[::1]:8000"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    """0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 192.168.1.1 192.0.2.1 198.18.0.1
    224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fe80::1%lo fc00::1 fd00:ec2::254 ff02::1 fec0::1
    2001:db8::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1::1
    2002:808:808::1 2001:0:808:808::1 ::127.0.0.1 localhost /run/socket""".split(),
)
def test_any_other_address_is_not(address: str) -> None:
    assert not is_public(address)
