"""Pages and parts of pages as HTML: by templates that escape whatever they are given."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ..extras import missing
from . import sparkline
from .formats import FILTERS
from .recorder import Exchange

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ImportError as error:
    raise missing("console", "Console needs Jinja2") from error

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


def row(one: Exchange) -> str:
    """Returns an exchange, which has been told, as a row of a table: rendered once, and then kept with it."""
    if one.html is None:
        one.html = str(_row().row(one.told))
    return one.html


@cache
def _row() -> Any:
    return environment.get_template("row.html").module
