"""Which room may know which other, and which libraries it may use: read from the source, not from what ran."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "gomodel_asgi"
FILES = sorted(ROOT.rglob("*.py"))
IO = {
    "anyio",
    "asyncio",
    "socket",
    "ssl",
    "httpx",
    "httpx2",
    "trio",
    "threading",
    "subprocess",
    "httptools",
    "starlette",
}
PURE = ["sse", "emitter", "items", "unwrap", "envelope", "scan", "pieces", "tree", "errors", "headers"]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def runtime_imports(path: Path, *, at_import: bool) -> Iterator[str]:
    """The modules that *path* imports: those at its top, or (not *at_import*) inside functions too."""
    tree = ast.parse(path.read_text())
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in nodes(tree, at_import):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{target}.{alias.name}"
                yield whole if whole in MODULES else target


def nodes(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from nodes(child, at_import)


def own(path: Path) -> set[str]:
    found = {name for name in runtime_imports(path, at_import=True) if name in MODULES}
    return found - {name_of(path)}


def test_imports_form_no_cycle() -> None:
    graph = {name: own(path) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in runtime_imports(path, at_import=False)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_transports_and_the_testing_room_know_httpx(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] not in ("transport", "testing"):
        assert not libraries(path) & {"httpx", "httpx2"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_pure_rooms_know_no_io_and_no_framework(path: Path) -> None:
    room = path.relative_to(ROOT).with_suffix("").parts[0]
    if room in PURE or room == "dialects":
        assert not libraries(path) & IO
        assert not {name for name in runtime_imports(path, at_import=False) if ".transport" in name}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_called_utils_or_helpers(path: Path) -> None:
    assert path.stem not in ("utils", "helpers", "util", "helper", "common", "misc")
