"""A client made of a plain socket: it sends exactly the bytes that it is given."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 20.0
"""Seconds after which a test is stuck: never reached by one that passes."""


@dataclass
class Answer:
    """One reply. *headers* have lower-case names, the last of each."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of the envelope, which must have exactly its four keys."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@contextmanager
def connected(origin: str) -> Iterator[socket.socket]:
    """A connection to *origin*, closed at the end."""
    url = urlsplit(origin)
    with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as sock:
        yield sock


def read_answer(sock: socket.socket, method: str = "POST") -> Answer:
    """The reply on *sock*, to its end."""
    response = HTTPResponse(sock, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def head(
    method: str, target: str, length: int | None, *headers: str, content_type: str | None = "application/json"
) -> bytes:
    """A request's head; *length* None leaves the content-length out."""
    lines = [f"{method} {target} HTTP/1.1", "host: gateway", "connection: close", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def send(origin: str, *pieces: bytes, method: str = "POST") -> Answer:
    """The reply to these bytes."""
    with connected(origin) as sock:
        for piece in pieces:
            sock.sendall(piece)
        return read_answer(sock, method)


def post(
    origin: str,
    body: bytes,
    *headers: str,
    target: str = "/v1/responses",
    content_type: str | None = "application/json",
) -> Answer:
    """The reply to a POST of *body*."""
    return send(origin, head("POST", target, len(body), *headers, content_type=content_type), body)


def call(origin: str, method: str, target: str, *headers: str) -> Answer:
    """The reply to a request without a body."""
    return send(origin, head(method, target, None, *headers, content_type=None), method=method)
