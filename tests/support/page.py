"""Runs the code of a documentation page, as a reader would: block after block, in one namespace.

    python -m tests.support.page docs/policies.md

Fences marked `python` run, and so do comments that begin with `<!-- python`: they hold what a reader need not see, such
as the request that shows that an example works. `await` may stand at the top of a block. A traceback names the page and
the line in it.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(?P<language>\w+)?[^\n]*\n(?P<shown>.*?)^```$|^<!-- python\n(?P<hidden>.*?)^-->$", re.M | re.S)


def blocks(text: str, language: str) -> Iterator[tuple[int, str]]:
    """The blocks of *language* in a page, each with the number of its first line."""
    for match in FENCE.finditer(text):
        group = "hidden" if match["hidden"] is not None else "shown"
        if (match["language"] or ("python" if group == "hidden" else "")) == language:
            yield text.count("\n", 0, match.start(group)), match[group]


def run(page: Path) -> None:
    """Run all Python of *page*."""
    module = types.ModuleType("__page__")
    module.__file__ = str(page)
    sys.modules["__page__"] = module  # so that what a page defines can be found by its dotted path
    with asyncio.Runner() as runner:
        for line, source in blocks(page.read_text(), "python"):
            code = compile("\n" * line + source, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            answer: Any = eval(code, module.__dict__)
            if asyncio.iscoroutine(answer):
                runner.run(answer)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
