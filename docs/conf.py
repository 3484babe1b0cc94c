"""How the site is built: `sphinx-build -W docs site`."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

from gomodel_asgi import __version__

# What stands on Django's models can be imported only where a project is configured.
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework.authtoken"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

project = "gomodel_asgi"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"gomodel_asgi {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["wide.css"]
default_role = "code"  # docstrings write code in single backticks
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]
exclude_patterns = ["site"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True


def code_in_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings show code and drawings by indenting them; reStructuredText wants to be told."""
    found: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not inside and found and not found[-1] and not any(each.startswith(":") for each in found):
            found += ["::", ""]
        inside = indented or (inside and not line)
        found.append(line)
    lines[:] = found


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", code_in_docstring)
