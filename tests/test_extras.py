"""Whatever optional library is missing, one function says what to install, and it never names a package on no index."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from gomodel_asgi import extras
from gomodel_asgi.extras import arguments_of, missing

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gomodel_asgi"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NOT_OF_THE_PACKAGE = {"docs", "quickstart", "fuzz", "test"}
ALWAYS = {"anyio", "certifi", "httptools", "httpx", "msgspec", "pydantic", "pydantic_core", "starlette", "gomodel_asgi"}
"""The dependencies, as they are imported."""
HOSTS_OWN = {"trio", "pytest"}
"""Imported only where the host runs in it already."""
LIBRARIES = {
    "asgiref": "django",
    "asyncpg": "postgres",
    "cryptography": "encryption",
    "django": "django",
    "fastapi": "fastapi",
    "genai_prices": "prices",
    "httpx2": "httpx2",
    "jinja2": "console",
    "key_value": "kv",
    "limits": "limits",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "opentelemetry": "opentelemetry",
    "prometheus_client": "prometheus",
    "redis": "redis",
    "rest_framework": None,
    "sqlalchemy": "ledger",
    "websockets": "websockets",
}
"""Each optional library with its extra. None: the host's framework has no extra of ours."""
ELSEWHERE = {
    "history/compaction_item.py": "does without it",
    "transport/mcp_http.py": "imported by the client of mcp, which explains it",
}
"""Modules that need not explain that a library is missing; nor need those whose package does."""

# Every import of the source...


def imports() -> list[tuple[str, str]]:
    """File and library of each import that is neither a dependency nor of the standard library nor for typing alone."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        names: set[str] = set()
        for node in walked(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
        others = names - ALWAYS - sys.stdlib_module_names
        found += [(path.relative_to(PACKAGE).as_posix(), name) for name in sorted(others)]
    return found


def walked(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from walked(child)


IMPORTS = imports()


def test_each_optional_library_of_the_source_belongs_to_an_extra() -> None:
    assert {name for _, name in IMPORTS} - HOSTS_OWN <= LIBRARIES.keys()
    assert {extra for extra in LIBRARIES.values() if extra is not None} == EXTRAS.keys() - NOT_OF_THE_PACKAGE


@pytest.mark.parametrize(("file", "library"), [one for one in IMPORTS if one[1] not in HOSTS_OWN])
def test_a_module_that_imports_an_optional_library_says_what_to_install(file: str, library: str) -> None:
    if file not in ELSEWHERE and library != "rest_framework":
        asked_before = [PACKAGE / folder / "__init__.py" for folder in Path(file).parents]
        said = "\n".join(path.read_text() for path in (PACKAGE / file, *asked_before) if path.exists())
        assert f'raise missing("{LIBRARIES[library]}", ' in said


def test_no_except_clause_for_an_import_says_anything_of_its_own() -> None:
    own = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and "ImportError" in ast.unparse(node.type or ast.Pass()):
                raised = [ast.unparse(one.exc) for one in ast.walk(node) if isinstance(one, ast.Raise) and one.exc]
                own += [(path.name, said) for said in raised if not said.startswith(("missing(", "ImproperlyConf"))]
    assert sorted(own) == [
        ("files.py", 'ImportError("A ledger\'s files need POSIX file locks, which this system has not.")'),
        ("tokens.py", "ImportError('BearerToken needs Django REST framework: run `pip install djangorestframework`.')"),
    ]


def test_no_sentence_of_the_source_names_the_package_as_if_it_were_on_an_index() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "extras.py":
            assert not re.search(r"install\s+['\"`]?gomodel", path.read_text()), path


WALK = """
import importlib, pkgutil, sys
import gomodel_asgi
for name in [name for name in sys.modules if name.partition('.')[0] in LIBRARIES]:
    raise SystemExit(f'{name} is imported with the package')
sys.modules.update(dict.fromkeys(LIBRARIES))
for _, name, _ in list(pkgutil.walk_packages(gomodel_asgi.__path__, 'gomodel_asgi.', lambda name: None)):
    if name.endswith('__main__'):
        continue
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f'{name}\\t{error}')
"""


def test_without_any_optional_library_each_module_is_imported_or_says_what_to_install() -> None:
    libraries = sorted(LIBRARIES)
    code = f"LIBRARIES = {libraries!r}\n{WALK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    unhelpful = {name: text for name, text in said.items() if " install " not in text}
    assert unhelpful.keys() <= {"gomodel_asgi.transport.mcp_http"}, unhelpful  # imported by the client of mcp alone
    assert {"gomodel_asgi.stores.redis", "gomodel_asgi.contrib.prometheus"} <= said.keys()
    named = {extra for text in said.values() for extra in re.findall(r"\[(\w+)\]", text)}
    assert named <= EXTRAS.keys() and len(named) >= 8, named


# What is said...


def installed(folder: Path, came_from: object = None, installer: str = "pip\n") -> PathDistribution:
    info = folder / "gomodel_asgi-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: gomodel-asgi\nVersion: 0.1.0\nRequires-Dist: anyio<5,>=4.4\n"
        "Requires-Dist: redis>=5.0; extra == 'redis'\nRequires-Dist: sqlalchemy[asyncio]>=2.0.30; extra == \"ledger\"\n"
    )
    (info / "INSTALLER").write_text(installer)
    if came_from is not None:
        (info / "direct_url.json").write_text(json.dumps(came_from))
    return PathDistribution(info)


def test_a_clone_is_installed_again_as_it_was(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    for folder, info, options in ((tmp_path / "1", {"editable": True}, ["-e"]), (tmp_path / "2", {}, [])):
        folder.mkdir()
        found = installed(folder, {"url": clone.as_uri(), "dir_info": info})
        assert shlex.split(" ".join(arguments_of(found, ("redis", "ledger")))) == [*options, f"{clone}[redis,ledger]"]


def test_a_wheel_is_installed_from_its_file_and_an_archive_from_its_address(tmp_path: Path) -> None:
    wheel = tmp_path / "gomodel_asgi-0.1.0-py3-none-any.whl"
    wheel.touch()
    for number, url in enumerate((wheel.as_uri(), "https://files.example/gomodel_asgi-0.1.0.tar.gz")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (argument,) = arguments_of(installed(folder, {"url": url, "archive_info": {}}), ("redis",))
        assert shlex.split(argument) == [f"gomodel-asgi[redis] @ {url}"]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://git.example/gomodel.git", "https://git.example/gomodel.git"),
        ("https://ada:canary@git.example/gomodel.git", "https://git.example/gomodel.git"),
        ("https://canary@git.example/gomodel.git", "https://git.example/gomodel.git"),
        (ROOT.as_uri(), f"file://localhost{ROOT}"),
        ("ssh://git@git.example/gomodel.git", "ssh://git@git.example/gomodel.git"),
    ],
)
def test_a_repository_is_installed_at_its_commit_and_no_credential_is_shown(
    tmp_path: Path, url: str, address: str
) -> None:
    came_from = {"url": url, "subdirectory": "python", "vcs_info": {"vcs": "git", "commit_id": "0a1b2c"}}
    (argument,) = arguments_of(installed(tmp_path, came_from), ("redis",))
    assert shlex.split(argument) == [f"gomodel-asgi[redis] @ git+{address}@0a1b2c#subdirectory=python"]


@pytest.mark.parametrize("came_from", [None, {"url": "file:///nowhere/gomodel.whl", "archive_info": {}}])
def test_where_nobody_knows_where_it_came_from_the_libraries_themselves_are_named(
    tmp_path: Path, came_from: object
) -> None:
    found = installed(tmp_path, came_from)
    assert shlex.split(" ".join(arguments_of(found, ("redis",)))) == ["redis>=5.0"]
    assert shlex.split(" ".join(arguments_of(found, ("ledger",)))) == ["sqlalchemy[asyncio]>=2.0.30"]


def test_a_clone_that_is_merely_on_the_path_is_named_itself() -> None:
    assert arguments_of(None, ("redis",)) == [shlex.quote(f"{ROOT}[redis]")]


def test_a_copy_without_any_metadata_points_to_the_list_of_extras(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extras, "CLONE", tmp_path)
    monkeypatch.setattr(extras, "NAME", "gomodel-asgi-of-nobody")
    assert str(missing("redis", "A needs b")) == "A needs b: install what pyproject.toml lists under redis."


@pytest.mark.parametrize(
    ("installer", "tool"), [("pip\n", "pip install"), ("uv", "uv pip install"), ("", "pip install")]
)
def test_whoever_installed_it_with_uv_is_told_to_use_uv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installer: str, tool: str
) -> None:
    found = installed(tmp_path, installer=installer)
    monkeypatch.setattr(extras, "distribution", lambda name: found)
    assert str(missing("redis", "A needs b")) == f"A needs b: run `{tool} 'redis>=5.0'`."
