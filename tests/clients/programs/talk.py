"""How a program talks to the runner: a line of JSON for each feature to try, a line of JSON for how it went."""

from __future__ import annotations

import json
import os
import sys
import traceback
import urllib.request
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]


def want(actual: object, wanted: object) -> None:
    """Fail unless *actual* is *wanted*."""
    if actual != wanted:
        raise AssertionError(f"got {actual!r}, wanted {wanted!r}")


def pieces(texts: list[str], wanted: str) -> None:
    """Fail unless a stream came in several pieces that are *wanted* together."""
    want("".join(texts), wanted)
    if len(texts) < 2:
        raise AssertionError(f"the stream came in one piece: {texts!r}")


def release() -> None:
    """Let the upstream go on, which waits for this client to have read so far."""
    url = os.environ["OPENAI_BASE_URL"].removesuffix("/v1") + "/release"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()


def serve(*functions: Callable[[Facts], None]) -> None:
    """Try what the runner asks for until it asks for no more; each of *functions* has the name of its feature."""
    features = {function.__name__.replace("_", " "): function for function in functions}
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    print(json.dumps(sorted(features)), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            features[asked["feature"]](asked["facts"])
            outcome = None
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[0]
            outcome = f"{type(error).__name__}: {error} (in {last.name})"
        print(json.dumps({"problem": outcome}), file=answers, flush=True)
