"""What a gateway is configured with: refused at construction where it means nothing, in words that say what to do."""

from __future__ import annotations

# mypy: disable-error-code="arg-type, list-item"
import subprocess
import sys
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider, Target, tools

from .hosting import lookup

HOST = Provider("p", "http://127.0.0.1:1/v1")


def make(*given: Any, **options: Any) -> Gateway:
    return Gateway(providers=[HOST], tools=given, **options)


async def search(call: tools.Call) -> str:
    return ""


def bare(order) -> str:  # type: ignore[no-untyped-def]
    return ""


def loose(*orders: str) -> str:
    return ""


class Order:
    """Nothing that JSON could be."""


def strange(order: Order) -> str:
    return ""


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: tools.web_search("search"), TypeError, "give a function of a tools.Call, not str"),
    (lambda: tools.web_search(search, use="sometimes"), ValueError, "'missing' or 'always'"),
    (lambda: tools.mcp([lookup]), TypeError, "give a mapping of labels"),
    (lambda: tools.mcp({"crm": lookup}), TypeError, "give a list"),
    (lambda: tools.mcp({"crm": None}), TypeError, "must be a list of functions"),
    (lambda: tools.mcp({"": [lookup]}), ValueError, "1 to 64 characters"),
    (lambda: tools.mcp({"crm": [lookup, lookup]}), ValueError, "'lookup'"),
    (lambda: tools.mcp({"crm": [lambda order: order]}), ValueError, "has no name"),
    (lambda: tools.mcp({"crm": ["lookup"]}), TypeError, "call must be a function, not str"),
    (lambda: tools.mcp({"crm": [lookup]}, remote="yes"), TypeError, "remote must be a function"),
    (lambda: tools.function(lookup, approval="maybe"), ValueError, "'client', 'always' or 'never'"),
    (lambda: tools.Server([lookup], approval="no"), ValueError, "'client', 'always' or 'never'"),
    (lambda: tools.Server([lookup], allowed="lookup"), TypeError, "a list of names"),
    (lambda: tools.Server("https://x", headers="a"), TypeError, "headers must be a mapping"),
    (lambda: make(search), TypeError, "is no tool"),
    (lambda: make(tools.web_search(search), tools.web_search(search)), ValueError, "web_search is there twice"),
    (lambda: make(tools.mcp({"a": [lookup]}), tools.mcp({"a": [lookup]})), ValueError, "'a' is there twice"),
    (lambda: make(tools.mcp({"a": [bare]})), TypeError, "annotate the parameter 'order'"),
    (lambda: make(tools.mcp({"a": [loose]})), TypeError, "a.loose"),
    (lambda: make(tools.mcp({"a": [strange]})), TypeError, "a.strange"),
    (lambda: make(files="read"), TypeError, "files: give a function"),
    (lambda: Provider("p", "http://x/v1", hosted_tools="web_search"), TypeError, "give a list"),
    (lambda: Provider("p", "http://x/v1", hosted_tools=["search"]), ValueError, "give a list"),
    (lambda: Target("p", tools=["web_search"]), ValueError, "give declarations"),
]


@pytest.mark.parametrize(("build", "kind", "words"), REFUSED)
def test_what_means_nothing_is_refused_in_words_that_say_what_to_do(
    build: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as refused:
        build()
    assert words in str(refused.value)


def test_no_repr_shows_a_secret() -> None:
    server = tools.Server("https://x.example/canary", headers={"authorization": "canary"})
    assert "canary" not in repr(server) + repr(tools.mcp({"x": server}))


def test_presets_know_what_their_upstreams_run() -> None:
    from gomodel_asgi import providers

    assert providers.openai(api_key="k").runs == {
        "web_search", "file_search", "code_interpreter", "image_generation", "mcp",
    }  # fmt: skip
    assert providers.openrouter(api_key="k").runs == {"web_search"}
    assert providers.vllm().runs == providers.ollama().runs == providers.llamacpp().runs == frozenset()
    assert providers.groq(api_key="k").runs == frozenset()
    assert providers.gemini(api_key="k").runs == {"web_search", "code_interpreter"}
    assert providers.anthropic(api_key="k").runs == {"web_search", "code_interpreter", "mcp"}


def test_where_no_tools_are_configured_nothing_of_them_is_imported() -> None:
    code = (
        "import sys, gomodel_asgi as g; g.Gateway(providers=[g.Provider('p', 'http://x/v1')]);"
        "print([one for one in sys.modules if one.startswith(('gomodel_asgi.tools', 'gomodel_asgi.emulation.tools'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
