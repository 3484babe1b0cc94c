"""The SDK is imported when the first server is opened, and named where it is missing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.emulation.tools.remote import client_named, source_of
from gomodel_asgi.emulation.tools.seams import Source
from gomodel_asgi.extras import to_install
from gomodel_asgi.transport import DefaultTransport

from .servers import Shop

SOURCES = "from gomodel_asgi import tools; from gomodel_asgi.emulation.tools.remote import client_named, source_of\n"


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    return result.stdout + result.stderr


def test_neither_the_package_nor_a_server_that_is_mapped_imports_the_sdk() -> None:
    code = SOURCES + "import sys, gomodel_asgi; source_of('wiki', tools.Server('https://wiki.example/mcp'), None)\n"

    assert run(code + "print({'mcp', 'mcp_types', 'httpx2', 'jsonschema'} & set(sys.modules))") == "set()\n"


MADE = ["source_of('w', tools.Server('https://w.example/mcp'), None)", "client_named(lambda url, call: True, None)"]


@pytest.mark.parametrize("made", MADE)
def test_without_the_sdk_it_is_said_what_to_install(made: str) -> None:
    code = "import importlib.util as u; found = u.find_spec; u.find_spec = lambda n: None if n == 'mcp' else found(n)\n"
    said = run(code + SOURCES + made).strip().splitlines()[-1]

    assert said.startswith("ImportError: mcp: ")
    assert said.endswith(f"{to_install('mcp')}.")


def test_an_sdk_that_is_too_old_is_named_with_what_to_install() -> None:
    code = "import sys, types; sys.modules['mcp'] = types.ModuleType('mcp')\n"
    said = run(code + "import gomodel_asgi.emulation.tools.mcp_client").strip().splitlines()[-1]

    assert said == f"ImportError: MCP servers need mcp, 2.0 or later: {to_install('mcp')}."


def opened_by(source: Any, **options: Any) -> Source:
    return source_of("shop", tools.Server(source, **options), DefaultTransport())


@pytest.mark.parametrize("source", [object(), 1.5, RuntimeError("canary"), type(Shop().server)])
def test_what_is_no_server_is_refused_when_it_is_mapped(source: Any) -> None:
    with pytest.raises(TypeError, match="'shop' must be a list of functions, a URL or a server of the mcp SDK"):
        opened_by(source)


@pytest.mark.parametrize(
    "url",
    ["", "wiki", "ftp://wiki.example/", "https://", "https://user:canary@wiki.example/", "https://wiki.example/ä"],
)
def test_a_url_that_is_none_is_refused_when_it_is_mapped(url: str) -> None:
    with pytest.raises(ValueError, match="mcp: 'shop': ") as refused:
        opened_by(url)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "headers", [{"x": "canary\r\n"}, {"Host": "canary"}, {"x y": "canary"}, {"content-length": "1"}]
)
def test_headers_that_cannot_be_sent_are_refused_when_they_are_mapped(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="mcp: 'shop': ") as refused:
        opened_by("https://wiki.example/mcp", headers=headers)
    assert "canary" not in str(refused.value)


def test_the_hosts_own_servers_may_be_anywhere() -> None:
    for url in ("http://127.0.0.1:8000/mcp", "http://[::1]/", "https://wiki.internal/mcp"):
        opened_by(url)
    client_named(lambda url, call: True, DefaultTransport())
    opened_by(Shop().server)
