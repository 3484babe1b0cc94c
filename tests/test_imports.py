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
FLOORS = (
    ("errors", "arguments", "extras", "logs", "settings", "version", "operations", "schema"),
    ("deadline", "threads", "tasks", "wire", "seams"),
    ("dialects", "observers", "transport", "stores"),
    ("providers",),
    ("resilience",),
    ("routing", "policies"),
    ("exchange", "tools", "ledger"),
    ("upstream", "history"),
    ("quotas", "cache", "guards"),
    ("emulation",),
    ("pipeline",),
    ("server",),
    ("gateway", "middleware", "composition", "explanation"),
    ("contrib", "testing", "cli", "__main__", "console"),
)
"""From the ground up. A room imports what is below it; of its own floor only what `BESIDE` says."""
BESIDE = {
    ("policies", "routing"),
    ("middleware", "gateway"),
    ("gateway", "composition"),
    ("gateway", "explanation"),
    ("cli", "testing"),
    ("__main__", "cli"),
    ("tasks", "deadline"),
    ("threads", "deadline"),
    ("settings", "arguments"),
}
DEEPEST = 19


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


def every_import(path: Path) -> set[str]:
    """The modules that *path* imports anywhere: at its top, in a function, for typing alone."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{target}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else target for name in names}
    return (found & MODULES.keys()) - {name_of(path)}


def test_imports_form_no_cycle_with_lazy_ones_and_those_for_typing_counted() -> None:
    graph = {name: every_import(path) for name, path in MODULES.items()}
    depths: dict[str, int] = {}

    def visit(name: str, trace: tuple[str, ...]) -> int:
        assert name not in trace, " → ".join([*trace[trace.index(name) :], name])
        if name not in depths:
            depths[name] = 1 + max((visit(other, (*trace, name)) for other in sorted(graph[name])), default=0)
        return depths[name]

    for name in graph:
        visit(name, ())
    assert max(depths.values()) <= DEEPEST


def room_of(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


@pytest.mark.parametrize("path", [path for path in FILES if path != ROOT / "__init__.py"], ids=name_of)
def test_a_room_imports_only_from_the_floors_below(path: Path) -> None:
    heights = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
    own_room = room_of(name_of(path))
    for room in {room_of(name) for name in every_import(path)} - {own_room, ""}:
        assert heights[room] < heights[own_room] or (own_room, room) in BESIDE, room


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in runtime_imports(path, at_import=False)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_transports_and_the_testing_room_know_httpx(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] not in ("transport", "testing"):
        assert not libraries(path) & {"httpx", "httpx2"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_pure_rooms_know_no_io_and_no_framework(path: Path) -> None:
    room = path.relative_to(ROOT).with_suffix("").parts[0]
    if room in ("errors", "operations", "wire", "dialects"):
        assert not libraries(path) & IO
        assert not {name for name in runtime_imports(path, at_import=False) if ".transport" in name}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_called_utils_or_helpers(path: Path) -> None:
    assert path.stem not in ("utils", "helpers", "util", "helper", "common", "misc")


def test_the_tests_stand_in_folders_named_as_the_rooms_that_they_are_about() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if (path / "__init__.py").exists()}
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert folders - {"clients", "fuzz", "support", "typing"} <= rooms
