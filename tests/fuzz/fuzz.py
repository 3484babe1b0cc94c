"""Fuzzing that is guided by coverage, for as long as one likes: needs the extra `fuzz`, and is no part of the tests.

    python -m tests.fuzz.fuzz TARGET [-max_total_time=60] [more options of libFuzzer]
    python -m tests.fuzz.fuzz TARGET FILE      one input again

`targets.py` says what must hold. Inputs that reached something new are kept in `.fuzz/TARGET`, from where the next run
goes on; one that broke a promise is written to `.fuzz/` and ends the run with a status that is not 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

from .mutation import mutator
from .seeds import FILES, seeds

with atheris.instrument_imports(include=["gomodel_asgi"]):
    from gomodel_asgi.dialects.base import CLASSES, built_in

    from .targets import TARGETS

    for name in CLASSES:
        built_in(name)  # a dialect is imported when it is first needed, which would be too late to be instrumented

KEPT = Path(__file__).parents[2] / ".fuzz"
BOUNDS = ["-max_total_time=60", "-max_len=20000", "-rss_limit_mb=2048", "-timeout=10"]


def of_bytes(data: bytes, longest: int) -> bytes:
    return bytes(atheris.Mutate(data, longest))  # looked up late: `Fuzz` puts the working one there


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTARGET is one of {', '.join(TARGETS)}.")
    target, options = sys.argv[1], sys.argv[2:]
    corpus = KEPT / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    where = [] if any(Path(option).is_file() for option in options) else [str(corpus)]
    arguments = [sys.argv[0], *BOUNDS, f"-artifact_prefix={KEPT}/{target}-", *options, *where]
    mutating = {"custom_mutator": mutator(of_bytes)} if target in FILES else {}
    atheris.Setup(arguments, TARGETS[target], **mutating)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
