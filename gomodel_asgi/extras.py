"""How an extra of this package is installed: with the command that fits how the package itself came here.

The package is on no index, so `pip install gomodel-asgi[...]` finds nothing, or a stranger's. Where it came from stands
in its metadata: `direct_url.json` (PEP 610), which pip and uv write.
"""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

NAME = "gomodel-asgi"
CLONE = Path(__file__).parents[1]
"""The folder that the package's own folder stands in: a clone, if it has a `pyproject.toml`."""
EXTRA = re.compile(r"""extra\s*==\s*['"]([\w.-]+)['"]""")


def missing(extra: str, need: str) -> ImportError:
    """Returns the error for a library of *extra* that is not installed. *need* is a sentence without its full stop that
    says what needs which library."""
    return ImportError(f"{need}: {to_install(extra)}.")


def to_install(*extras: str) -> str:
    """Returns what to do to get *extras*, as the end of a sentence: "run `pip install …`"."""
    try:
        found = distribution(NAME)
    except PackageNotFoundError:  # on the path of Python, but not installed
        found = None
    arguments = arguments_of(found, extras)
    if not arguments:
        return f"install what pyproject.toml lists under {' and '.join(extras)}"
    installer = "" if found is None else found.read_text("INSTALLER") or ""
    tool = "uv pip install" if installer.strip() == "uv" else "pip install"
    return f"run `{tool} {' '.join(arguments)}`"


def arguments_of(found: Distribution | None, extras: tuple[str, ...]) -> list[str]:
    """Returns the arguments of `pip install` that add *extras* to the package *found*, quoted for a shell."""
    if found is None:
        return _of_folder(CLONE, extras) if (CLONE / "pyproject.toml").exists() else []
    came_from = found.read_text("direct_url.json")
    arguments = [] if came_from is None else _of_url(json.loads(came_from), extras)
    return arguments or [shlex.quote(each) for each in _requirements(found, extras)]


def _of_folder(folder: Path, extras: tuple[str, ...]) -> list[str]:
    return [shlex.quote(f"{folder}[{','.join(extras)}]")]


def _of_url(came_from: dict[str, Any], extras: tuple[str, ...]) -> list[str]:
    """Returns nothing where the file or folder that it came from is gone."""
    url = urlsplit(came_from["url"])
    path = Path(url2pathname(url.path))
    if url.scheme == "file" and not path.exists():
        return []
    if "dir_info" in came_from:
        editable = ["-e"] if came_from["dir_info"].get("editable") else []
        return [*editable, *_of_folder(path, extras)]
    address = _without_credentials(url).geturl()
    if "vcs_info" in came_from:
        source = came_from["vcs_info"]
        # pip takes no requirement `git+file:///…`, since it has no host.
        address = f"{source['vcs']}+{address.replace(':///', '://localhost/', 1)}@{source['commit_id']}"
    if came_from.get("subdirectory"):
        address += f"#subdirectory={came_from['subdirectory']}"
    return [shlex.quote(f"{NAME}[{','.join(extras)}] @ {address}")]


def _without_credentials(url: SplitResult) -> SplitResult:
    """Returns *url* without its user and password; the user of `ssh://git@…` is a part of the address."""
    user, at, host = url.netloc.rpartition("@")
    return url if not at or user == "git" else url._replace(netloc=host)


def _requirements(found: Distribution, extras: tuple[str, ...]) -> list[str]:
    """Returns what *extras* require, for a package of which nobody knows where it came from."""
    listed = [requirement.partition(";") for requirement in found.requires or ()]
    wanted = [name.strip() for name, _, marker in listed if not set(EXTRA.findall(marker)).isdisjoint(extras)]
    return list(dict.fromkeys(wanted))
