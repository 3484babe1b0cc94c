"""What is imported when, and what is said when it cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gomodel_asgi.stores
from gomodel_asgi.extras import to_install

NEEDS = {
    "RedisStore": ("redis", "redis"),
    "PostgresStore": ("asyncpg", "postgres"),
    "KeyValueStore": ("key_value", "kv"),
    "Encrypted": ("cryptography", "encryption"),
}


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    return result.stdout + result.stderr


def test_importing_state_imports_no_library_of_an_extra() -> None:
    code = "import sys, gomodel_asgi.stores; print([name for name in %r if name in sys.modules])"

    assert "[]\n" == run(code % [library for library, _ in NEEDS.values()])


@pytest.mark.parametrize("name", NEEDS)
def test_a_store_whose_library_is_missing_names_the_extra(name: str) -> None:
    library, extra = NEEDS[name]
    code = f"import sys; sys.modules[{library!r}] = None\nfrom gomodel_asgi.stores import {name}"
    said = run(code).strip().splitlines()[-1]

    assert said.startswith("ImportError: ")
    assert said.endswith(f"{to_install(extra)}.")


def test_every_exported_name_is_there_and_no_other() -> None:
    for name in gomodel_asgi.stores.__all__:
        assert getattr(gomodel_asgi.stores, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gomodel_asgi.stores.Nothing
