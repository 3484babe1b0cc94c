"""An integration without its framework says in one sentence what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gomodel_asgi.extras import to_install

MISSING = [
    ("fastapi", "gomodel_asgi.contrib.fastapi", f"needs FastAPI: {to_install('fastapi')}."),
    ("django", "gomodel_asgi.contrib.django", f"needs Django: {to_install('django')}."),
    (
        "rest_framework",
        "gomodel_asgi.contrib.django.tokens; gomodel_asgi.contrib.django.tokens.BearerToken",
        "needs Django REST framework: run `pip install djangorestframework`.",
    ),
]


@pytest.mark.parametrize(("package", "statement", "sentence"), MISSING, ids=[package for package, _, _ in MISSING])
def test_a_missing_package_is_named_with_what_installs_it(package: str, statement: str, sentence: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.rstrip().endswith(sentence)


def test_importing_the_package_imports_no_framework_but_starlette() -> None:
    code = "import gomodel_asgi, sys; sys.exit(bool({'fastapi', 'django', 'rest_framework'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
