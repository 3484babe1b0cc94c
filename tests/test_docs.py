"""The documentation is true: its Python runs, its shell lines are shell, its pages build without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gomodel_asgi.testing import FakeProvider

from .support.page import blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINK = re.compile(r"\]\((?!https?://|#)([\w./-]+)(?:#[\w-]+)?\)")
names = [page.name for page in PAGES]


def environ(provider: FakeProvider) -> dict[str, str]:
    """Providers that are all the fake one, whatever the page calls them."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    for name in ("OPENAI", "OPENAI_EU"):
        kept |= {f"{name}_API_KEY": "sk-house", f"{name}_BASE_URL": provider.base_url}
    return {**kept, "ANTHROPIC_API_KEY": "sk-ant", "PYTHONPATH": str(ROOT), "FAKE_URL": provider.base_url}


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


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (DOCS / target).exists(), target


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


def test_the_site_is_built_by_one_command_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    pytest.importorskip("myst_parser", reason="the extra `docs` is not installed")
    built = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "--keep-going", "-d", str(tmp_path / "trees"), "docs", str(built)],
        cwd=ROOT, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gomodel_asgi.Gateway.explain" in (built / "reference.html").read_text()
