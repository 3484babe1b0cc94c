"""What is published is the package and nothing beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gomodel_asgi"
NO_ISOLATION = ("--no-isolation", "--skip-dependency-check")  # tests download nothing


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel that is built from this checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", *NO_ISOLATION, "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("*.whl")
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_only_the_package_and_what_describes_it(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    (about,) = tops - {"gomodel_asgi"}

    assert about.startswith("gomodel_asgi-") and about.endswith(".dist-info")
    assert {name for name in names if name.startswith(about)} == {
        f"{about}/{part}" for part in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }


def test_the_wheel_holds_all_of_the_package(names: set[str]) -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sources = {path.relative_to(ROOT).as_posix() for path in files}

    assert {name for name in names if name.startswith("gomodel_asgi/")} == sources
