"""The console: pages that show what goes on in a gateway, behind the host's own login.

    app.mount("/ops", Console(gateway, allow=staff_only))

*allow* says of each request what it may see: a `View`, or None, which is answered with 404. Everything is read-only.
Needs the extra `console`.
"""

from __future__ import annotations

from .console import Allow, Console
from .view import View

__all__ = ["Allow", "Console", "View"]
