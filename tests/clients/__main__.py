"""Runs real clients against a gateway in front of fakes of each dialect, and prints what works as a table.

python -m tests.clients                                     # all of it; some minutes, 1 GB in a temporary folder
python -m tests.clients --into clients --client Codex --dialect anthropic --feature tools
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from gomodel_asgi.testing.provider import Dialect

from .codex import Codex
from .features import FEATURES, Feature
from .installing import CLIENTS, Client, install, version
from .program import Driver, Program
from .scene import Scene, set_up

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
Cell = str | None
"""What is wrong, empty where nothing is; None where the client has no such feature."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where all that was tried works, else 1."""
    given = parser().parse_args(arguments)
    clients = [client for client in CLIENTS if not given.client or client.name in given.client]
    features = [feature for feature in FEATURES if not given.feature or feature.name in given.feature]
    found: dict[tuple[str, Dialect], dict[str, Cell]] = {}
    with folder(given.into) as into:
        for client in clients:
            install(client, into)
            about = f"{client.name} {version(client, into)}"
            for dialect in given.dialect or DIALECTS:
                found[about, dialect] = tried(client, dialect, features, into, given)
                print(f"{about} on {dialect}: {summary(found[about, dialect])}", file=sys.stderr, flush=True)
    print(table(found, features))
    problems = report(found)
    print(problems)
    return 1 if problems else 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser("python -m tests.clients", description=(__doc__ or "").splitlines()[0])
    whole.add_argument("--into", type=Path, help="where the clients are installed and kept; else a temporary folder")
    whole.add_argument("--client", action="append", choices=[client.name for client in CLIENTS])
    whole.add_argument("--dialect", action="append", choices=DIALECTS)
    whole.add_argument("--feature", action="append", choices=[feature.name for feature in FEATURES])
    whole.add_argument(
        "--unsupported", help="a setting of the provider other than its default, to see what lies behind"
    )
    whole.add_argument("--verbose", action="store_true", help="with each problem all that went in and out")
    return whole


@contextmanager
def folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="gomodel-clients-") as temporary:
        yield Path(temporary)


def tried(
    client: Client, dialect: Dialect, features: Sequence[Feature], into: Path, given: argparse.Namespace
) -> dict[str, Cell]:
    """How each feature of *client* goes on *dialect*."""
    cells: dict[str, Cell] = {}
    options = {"unsupported": given.unsupported} if given.unsupported else {}
    with set_up(dialect, features[0], options) as scene, driver(client, scene, into) as driven:
        for feature in features:
            scene.set(feature)
            problem = driven.attempt(feature)
            if problem == "" and feature.after is not None:
                problem = feature.after(scene.fake) or ""
            cells[feature.name] = f"{problem}\n{scene.report()}" if problem and given.verbose else problem
    return cells


@contextmanager
def driver(client: Client, scene: Scene, into: Path) -> Iterator[Driver]:
    if client.program:
        with Program(client, into, environment(scene)) as program:
            yield program
        return
    model = "house-model" if "other" in client.name else None
    with tempfile.TemporaryDirectory(prefix="gomodel-codex-") as home:
        yield Codex(into, Path(home), environment(scene), scene, model)


def environment(scene: Scene) -> dict[str, str]:
    """What a client finds: the gateway's URL, a key, and no way to anywhere else."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    nowhere = "http://127.0.0.1:9"
    return {
        **kept,
        "OPENAI_API_KEY": "sk-of-the-client",
        "OPENAI_BASE_URL": scene.base_url,
        "OPENAI_API_BASE": scene.base_url,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DO_NOT_TRACK": "1",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "NO_PROXY": "127.0.0.1,localhost",
    }


# What is printed...


def mark(cell: Cell) -> str:
    return "-" if cell is None else ("no" if cell else "ok")


def summary(cells: dict[str, Cell]) -> str:
    marks = [mark(cell) for cell in cells.values()]
    return f"{marks.count('ok')} ok, {marks.count('no')} not"


def table(found: dict[tuple[str, Dialect], dict[str, Cell]], features: Sequence[Feature]) -> str:
    """Client × dialect × feature, as Markdown."""
    names = [feature.name for feature in features]
    rows = [["client", "dialect", *names], ["---"] * (len(names) + 2)]
    for (client, dialect), cells in found.items():
        rows.append([client, dialect, *(mark(cells[name]) for name in names)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def report(found: dict[tuple[str, Dialect], dict[str, Cell]]) -> str:
    """What is wrong where not all is right, each problem of a client once."""
    lines: list[str] = []
    for (client, dialect), cells in found.items():
        problems: dict[str, list[str]] = {}
        for name, cell in cells.items():
            if cell:
                problems.setdefault(cell.partition("\n")[0], []).append(name)
        for problem, names in problems.items():
            lines.append(f"\n{client} on {dialect}: {', '.join(names)}\n  {problem}")
            lines.append((cells[names[0]] or "").partition("\n")[2])
    return "\n".join(filter(None, lines))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"a client cannot be installed: {error}")
