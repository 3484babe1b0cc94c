"""The documentation is true: its Python runs, its shell lines are shell, its pages build without a warning, its links
lead somewhere, and its reference has everything that can be imported."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from shutil import copytree, which
from urllib.parse import urlsplit

import pytest

from gomodel_asgi.server.handler import Served
from gomodel_asgi.testing import FakeProvider

from .support.page import blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
WRITTEN = [*PAGES, *sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]
"""Everything that is written for a reader."""
names = [page.name for page in PAGES]
written = [str(page.relative_to(ROOT)) for page in WRITTEN]


def environ(provider: FakeProvider) -> dict[str, str]:
    """Providers that are all the fake one, whatever the page calls them."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    for name in ("OPENAI", "OPENAI_EU"):
        kept |= {f"{name}_API_KEY": "sk-house", f"{name}_BASE_URL": provider.base_url}
    return {**kept, "ANTHROPIC_API_KEY": "sk-ant", "PYTHONPATH": str(ROOT), "FAKE_URL": provider.base_url}


# The code of each page...


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_python_of_every_page_runs(page: Path, provider: FakeProvider, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.support.page", str(page)],
        cwd=tmp_path, env=environ(provider), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_shell_lines_of_every_page_parse(page: Path) -> None:
    for line, source in blocks(page.read_text(), "bash"):
        done = subprocess.run(["bash", "-n"], input=source, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{page.name}:{line}: {done.stderr}"


def test_no_block_is_left_out_for_want_of_a_known_language() -> None:
    """Every fence is one that these tests look at, or plainly no code of ours."""
    for page in PAGES:
        fences = re.findall(r"^```(\{?\w*)", page.read_text(), re.M)
        assert set(fences[::2]) <= {
            "python",
            "bash",
            "text",
            "json",
            "nginx",
            "{toctree",
            "{literalinclude",
            "{eval",
        }, page


# Links...

FENCED = re.compile(r"^```.*?^```$|^<!--.*?^-->$", re.M | re.S)
INLINE = re.compile(r"\]\(([^()\s]+)\)")
DEFINED = re.compile(r"^\[[^\]]+\]: (\S+)$", re.M)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


def prose(page: Path) -> str:
    """The text of *page* without its code and what a reader does not see."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of *page*, as GitHub and MyST make them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    yield from INLINE.findall(text)
    yield from DEFINED.findall(text)


@pytest.mark.parametrize("page", WRITTEN, ids=written)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the repository, to a heading in it, or to an address that is one."""
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" and "." in parts.netloc, link
            continue
        assert not parts.netloc, link
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        if parts.fragment:
            assert parts.fragment in anchors(target), link


@pytest.mark.parametrize("page", WRITTEN, ids=written)
def test_every_link_by_reference_is_defined(page: Path) -> None:
    """`[text][name]` without a definition is shown as it is."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    defined = {name.lower() for name in re.findall(r"^\[([^\]]+)\]: \S+$", text, re.M)}
    for _, name in re.findall(r"\[([^\[\]\n]+)\]\[([^\[\]\n]+)\]", text):
        assert name.lower() in defined, name


def test_every_page_can_be_reached_from_the_index() -> None:
    """By links that a reader sees, not by the list at the side alone."""
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        waiting += [
            found
            for link in links(page)
            if (found := (page.parent / urlsplit(link).path).resolve()) in PAGES and not urlsplit(link).scheme
        ]
    assert sorted(reached) == PAGES


def test_every_page_is_in_the_list_at_the_side() -> None:
    [tree] = re.findall(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (DOCS / "index.md").read_text(), re.S)
    assert sorted([*tree.split(), "index"]) == [page.stem for page in PAGES]


# How the package is installed...


@pytest.mark.parametrize("page", WRITTEN, ids=written)
def test_the_package_is_installed_from_a_clone_since_no_index_has_it(page: Path) -> None:
    """`pip install 'gomodel-asgi[…]'` would find nothing, or a stranger's package."""
    text = page.read_text()
    assert "gomodel-asgi[" not in text and "gomodel_asgi[" not in text
    for command in re.findall(r"pip install ([^`\n]*)", text):
        assert re.match(r"'/path/to/the/clone(\[[\w,]+\])?'|(-q )?-e '\.\[[\w,]+\]'", command), command


@pytest.mark.parametrize("page", WRITTEN, ids=written)
def test_every_extra_that_is_named_in_an_installation_exists(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"(?:clone|\.)\[([\w,]+)\]'", page.read_text()):
        assert set(named.split(",")) <= set(extras), named


# The site...


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; `.ci/run` builds it once more from an environment that has the extra `docs` and nothing else."""
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    pytest.importorskip("myst_parser", reason="the extra `docs` is not installed")
    built = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "--keep-going", "-d", str(built / "trees"), "docs", str(built)],
        cwd=ROOT, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return built


def test_the_site_is_built_by_one_command_without_a_warning(site: Path) -> None:
    assert "gomodel_asgi.Gateway.explain" in (site / "reference.html").read_text()


def test_every_page_wraps_what_is_too_long_for_it(site: Path) -> None:
    """Lines of code are up to 120 characters, a page at 1280 pixels shows some 100 and a phone 40."""
    style = (site / "_static" / "wide.css").read_text()
    assert ".highlight pre { white-space: pre-wrap;" in style and ".table-wrapper { overflow-x: auto; }" in style
    for page in PAGES:
        assert "_static/wide.css" in (site / f"{page.stem}.html").read_text(), page


PHONE, DESKTOP = 390, 1280
MEASURE = """<script>addEventListener("load", () => {
    const boxes = [...document.querySelectorAll(".table-wrapper, pre"), document.documentElement]
    const wide = boxes.filter(box => box.scrollWidth > box.clientWidth + 1)
    const cut = wide.map(box => box.textContent.trim().slice(0, 40))
    parent.postMessage([location.pathname.split("/").pop(), ...cut].join(" / "), "*")
})</script></body>"""
FRAMES = """<pre id="found"></pre><script>
addEventListener("message", event => { found.textContent += event.data + "\\n" })</script>"""


@pytest.mark.skipif(which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_nothing_is_cut_at_the_right_of_a_page(site: Path, tmp_path: Path, width: int) -> None:
    shown = tmp_path / "site"
    copytree(site, shown)
    for page in PAGES:
        html = shown / f"{page.stem}.html"
        html.write_text(html.read_text().replace("</body>", MEASURE))
    frames = [f'<iframe src="{page.stem}.html" style="width: {width}px; height: 900px"></iframe>' for page in PAGES]
    (shown / "all.html").write_text(FRAMES + "".join(frames))
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*browser, "--virtual-time-budget=20000", "--dump-dom", (shown / "all.html").as_uri()],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    [found] = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert sorted(found.split("\n")[:-1]) == sorted(f"{page.stem}.html" for page in PAGES)


INNER = {
    "gomodel_asgi.dialects.anthropic",
    "gomodel_asgi.dialects.chat",
    "gomodel_asgi.dialects.gemini",
    "gomodel_asgi.dialects.lenient",
    "gomodel_asgi.gateway",
    "gomodel_asgi.schema",
    "gomodel_asgi.stores.redis",
    "gomodel_asgi.transport.http11",
}
"""Modules that list their names for the package's own use: hosts name these dialects and transports in other ways."""


def public_modules() -> list[str]:
    """Every module that says which names of it are public."""
    found = []
    for path in sorted((ROOT / "gomodel_asgi").rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in named):
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return [module for module in found if module not in INNER]


@pytest.fixture(scope="module")
def documented(site: Path) -> set[str]:
    """The dotted paths of all that the site describes, as other projects' documentation would link to it."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines() if " py:" in line}


FED = {"Observers", "RoundTrace", "Trace"}
"""What `gomodel_asgi.observers` exports for the gateway, which feeds the observers by it."""


@pytest.mark.parametrize("module", public_modules())
def test_the_reference_has_every_name_that_a_public_module_exports(module: str, documented: set[str]) -> None:
    """Under this path, or under that of the same thing elsewhere."""
    exported = importlib.import_module(module)
    for name in sorted({*exported.__all__} - FED):
        paths = [path for path in documented if path.rpartition(".")[2] == name]
        assert f"{module}.{name}" in paths or any(resolve_name(path) is getattr(exported, name) for path in paths), name


LEFT_OUT = re.compile(r"^\.\. auto\w+:: ([\w.]+)(?:\(\))?\n(?:   :.*\n)*?   :exclude-members: (.*)$", re.M)


def test_what_the_reference_leaves_out_exists() -> None:
    """A name that is gone leaves nothing out: what has taken its place is shown."""
    given = [(path, name) for path, names in LEFT_OUT.findall((DOCS / "reference.md").read_text())
             for name in names.split(", ")]  # fmt: skip
    assert given and not [one for one in given if not hasattr(resolve_name(one[0]), one[1])]


def test_the_reference_leaves_out_what_the_server_alone_calls(documented: set[str]) -> None:
    called = [name for name, found in vars(Served).items() if callable(found) and not name.startswith("_")]
    assert {"list_models", "trace"} <= {*called}
    assert not documented & {f"gomodel_asgi.Gateway.{name}" for name in called}


def test_every_key_of_djangos_setting_is_in_its_table() -> None:
    from gomodel_asgi.contrib.django.configuration import KEYS

    table = (DOCS / "django.md").read_text().partition("## Every key")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(KEYS)


def test_the_picture_is_the_one_that_its_script_draws() -> None:
    drawn = subprocess.run(
        [sys.executable, "-c", "import picture, sys; sys.stdout.write(picture.picture())"],
        cwd=DOCS, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert (DOCS / "picture.svg").read_text() == drawn.stdout
