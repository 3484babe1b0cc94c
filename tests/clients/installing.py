"""Installs the clients, each in a folder of its own, current versions, from PyPI and npm."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 900
"""Seconds for one client: the largest is some 500 MB."""
NODE = ("openai", "ai", "@ai-sdk/openai", "zod", "@openai/codex")


@dataclass(frozen=True)
class Client:
    """*packages* are from PyPI, none where the client is one of npm's. *program* is in `programs`; Codex has none."""

    name: str
    program: str
    packages: tuple[str, ...] = ()
    npm: str = ""


CLIENTS = (
    Client("Codex", "", npm="@openai/codex"),
    Client("Codex, other model", "", npm="@openai/codex"),
    Client("openai-python", "openai_python.py", ("openai",)),
    Client("openai-node", "openai_node.mjs", npm="openai"),
    Client("Agents SDK", "agents_sdk.py", ("openai-agents",)),
    Client("AI SDK", "ai_sdk.mjs", npm="ai"),
    Client("pydantic-ai", "pydantic_ai_client.py", ("pydantic-ai-slim[openai]",)),
    Client("LangChain", "langchain_client.py", ("langchain-openai",)),
    Client("llama-index", "llama_index_client.py", ("llama-index-llms-openai",)),
    Client("LiteLLM", "litellm_client.py", ("litellm",)),
)


def install(client: Client, into: Path) -> None:
    """Install *client* below *into*, unless it is there."""
    if client.npm:
        _npm(into / "node")
    elif not python_of(client, into).exists():
        _pip(client, into)


def _npm(folder: Path) -> None:
    if (folder / "node_modules").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
    subprocess.run(["npm", "install", *quiet, *NODE], cwd=folder, check=True, stdout=sys.stderr, timeout=TIMEOUT)


def _pip(client: Client, into: Path) -> None:
    folder = environment(client, into)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=TIMEOUT)
    pip = [str(python_of(client, into)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *client.packages], check=True, timeout=TIMEOUT)


def environment(client: Client, into: Path) -> Path:
    return into / client.program.removesuffix(".py").removesuffix("_client")


def python_of(client: Client, into: Path) -> Path:
    return environment(client, into) / "bin" / "python"


def version(client: Client, into: Path) -> str:
    """The version that is installed."""
    if client.npm:
        package = into / "node" / "node_modules" / client.npm / "package.json"
        return str(json.loads(package.read_text())["version"])
    name = client.packages[0].partition("[")[0]
    code = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([str(python_of(client, into)), "-c", code], capture_output=True, text=True, timeout=60)
    return done.stdout.strip()
