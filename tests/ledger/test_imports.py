"""What is imported when, and what is said when it cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gomodel_asgi.ledger
from gomodel_asgi.extras import to_install

NEEDS = {
    "SqlLedger": ("sqlalchemy", "ledger"),
    "metadata": ("sqlalchemy", "ledger"),
    "DjangoLedger": ("django", "django"),
}


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    return result.stdout + result.stderr


def test_importing_the_package_imports_no_ledger_and_importing_that_no_library_of_an_extra() -> None:
    libraries = {"sqlalchemy", "django", "genai_prices", "cryptography"}
    code = (
        "import sys, gomodel_asgi; print([name for name in sys.modules if 'ledger' in name and 'tools' not in name])\n"
    )
    assert run(code) == "[]\n"
    assert run(f"import sys, gomodel_asgi.ledger; print({libraries!r} & set(sys.modules))") == "set()\n"


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_missing_is_named_with_the_extra_that_installs_it(name: str) -> None:
    library, extra = NEEDS[name]
    said = run(f"import sys; sys.modules[{library!r}] = None\nfrom gomodel_asgi.ledger import {name}")
    assert said.strip().splitlines()[-1].startswith("ImportError: ")
    assert said.strip().endswith(f"{to_install(extra)}.")


def test_sealed_content_without_its_library_names_the_extra() -> None:
    code = "import sys; sys.modules['cryptography'] = None\nfrom gomodel_asgi.ledger import Content\n"
    said = run(code + "Content(lambda request: True, key=None); Content(lambda request: True, key=bytes(32))")
    last = said.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and last.endswith(f"{to_install('encryption')}.")


def test_a_ledger_without_any_prices_says_so_at_the_start() -> None:
    code = (
        "import importlib.metadata as metadata, logging\n"
        "def version(name): raise metadata.PackageNotFoundError\n"
        "metadata.version = version\n"
        "from gomodel_asgi import Gateway, Provider\n"
        "from gomodel_asgi.ledger import JsonLines, Ledger\n"
        "Gateway(providers=[Provider('a', 'http://127.0.0.1:9')], ledger=Ledger(JsonLines('x')))\n"
    )
    assert f"{to_install('prices')}, or give Ledger(price=...)" in run(code)


def test_every_exported_name_is_there_and_no_other() -> None:
    for name in gomodel_asgi.ledger.__all__:
        assert getattr(gomodel_asgi.ledger, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gomodel_asgi.ledger.Nothing
