"""The README keeps its word: its code runs, its links lead somewhere, its commands are the ones that CI runs."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gomodel_asgi import Provider
from gomodel_asgi.testing import run_policy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
DOCUMENTS = ["README.md", "SECURITY.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_code_is_python(number: int) -> None:
    ast.parse(BLOCKS[number])


def test_the_mount_works_as_it_stands(fake_key: str) -> None:
    class YourAuthentication:
        def __init__(self, app: Any) -> None: ...

    names: dict[str, Any] = {"YourAuthentication": YourAuthentication, "__name__": "readme"}
    block = BLOCKS[0].replace("providers.openai()", f"providers.openai(api_key={fake_key!r})")
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    assert names["app"].user_middleware[0].cls is YourAuthentication


def test_the_policy_decides_as_its_comments_say(monkeypatch: pytest.MonkeyPatch, fake_key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fake_key)
    monkeypatch.setenv("ANTHROPIC_API_KEY", fake_key)
    names: dict[str, Any] = {"__name__": "readme"}
    imports = BLOCKS[0].partition("\n\n")[0]
    exec(compile(f"{imports}\n{BLOCKS[1]}", "README.md", "exec", dont_inherit=True), names)

    def target_for(**account: Any) -> Any:
        user = SimpleNamespace(is_authenticated=True, identity="ada", **{"own_key": None, "region": "us"} | account)
        return run_policy(names["gateway"].setup.ask, {"model": "m"}, user=user, providers=PROVIDERS)

    assert [each.provider for each in target_for().chain()] == ["openai", "claude"]
    assert target_for(own_key="sk-canary").api_key == "sk-canary"
    assert [each.provider for each in target_for(region="eu").chain()] == ["vllm"]


PROVIDERS = [Provider(name, "http://127.0.0.1:9/v1") for name in ("openai", "claude", "vllm")]


@pytest.fixture
def fake_key() -> str:
    return "sk-none"


def test_the_two_commands_are_one_line_each_and_install_what_they_run() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        assert len(command.splitlines()) == 1
        assert command.startswith("python3 -m venv .venv && ")
        assert re.findall(r"\.\[(\w+)\]", command)[0] in extras


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 150


def test_the_command_that_builds_the_documentation_is_one_that_can_be_pasted() -> None:
    """`.ci/run` finds it by these words, and runs it in a clean environment."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [command] = re.findall(r"`(python3 -m venv [^`]*sphinx-build[^`]*)`", README)
    assert re.fullmatch(
        r"python3 -m venv \.venv && \.venv/bin/pip install -q -e '\.\[docs\]' && \.venv/bin/sphinx-build -W docs site",
        command,
    )
    assert "docs" in extras


@pytest.mark.parametrize(
    "path", ["responses", "responses/resp_1/input_items", "conversations/conv_1", "models", "models/m"]
)
def test_the_pattern_for_a_urlconf_knows_every_path(path: str) -> None:
    for page in (README, (ROOT / "docs" / "django.md").read_text()):
        [pattern] = {found for found in re.findall(r'r"(\^v1/[^"]+)"', page)}
        assert re.match(pattern, f"v1/{path}")
        assert not re.match(pattern, "v1/responsesx")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert document != "README.md" or links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_invariant_that_is_stated_is_held_by_the_test_that_is_named() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"^\| (\d+) \| .* \| `(\w+)`.*\|$", text, re.MULTILINE)
    tests = (ROOT / "tests" / "test_invariants.py").read_text()
    assert [int(number) for number, _ in named] == list(range(1, 15))
    for _, name in named:
        assert f"def {name}(" in tests
    for name, file in re.findall(r"`(test_\w+)` in `(tests/[\w/]+\.py)`", text):
        assert f"def {name}(" in (ROOT / file).read_text()


def test_the_changelog_knows_the_version() -> None:
    from gomodel_asgi import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
