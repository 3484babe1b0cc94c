"""Pages and parts of pages as HTML: by templates that escape whatever they are given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anyio.lowlevel import checkpoint

from . import sparkline
from .formats import FILTERS
from .recorder import Exchange

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ImportError as error:
    raise ImportError("The console needs Jinja2: install gomodel-asgi[console].") from error

BATCH = 25
"""Rows that are rendered before others have their turn."""

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
environment.filters |= FILTERS
environment.globals |= {
    "line": sparkline.line,
    "area": sparkline.area,
    "bars": sparkline.bars,
    "words": sparkline.words,
}


def rendered(template: str, **values: Any) -> str:
    """Returns the *template* of this name, filled."""
    return environment.get_template(f"{template}.html").render(**values)


async def rows(exchanges: Iterable[Exchange]) -> list[str]:
    """Returns each of *exchanges*, which have been told, as a row of a table: rendered once, and then kept with it."""
    found = []
    template = environment.get_template("row.html")
    new = 0
    for one in exchanges:
        if one.html is None:
            new += 1
            if new % BATCH == 0:
                await checkpoint()
            one.html = template.render(one=one.told)
        found.append(one.html)
    return found
