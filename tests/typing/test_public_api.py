"""The types that users get: `py.typed` is in the package, and the public API reads as documented."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_package_says_that_it_is_typed() -> None:
    assert files("gomodel_asgi").joinpath("py.typed").is_file()


@pytest.mark.timeout(300)
def test_mypy_in_strict_mode_accepts_right_uses_and_refuses_wrong_ones() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing/public_api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(300)
def test_pyright_in_strict_mode_accepts_right_uses_and_refuses_wrong_ones() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "tests/typing/public_api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
