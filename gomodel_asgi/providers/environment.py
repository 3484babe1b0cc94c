"""Finds every provider that the environment configures.

`<TYPE>_API_KEY`, `<TYPE>_BASE_URL` and `<TYPE>_MODELS` (patterns, comma-separated) make the instance `type`;
`<TYPE>_<SUFFIX>_API_KEY` and its kin make the instance `type-suffix`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from .presets import PRESETS, Preset, azure_url, bedrock_url
from .provider import Provider

VARIABLE = re.compile(r"(?P<type>[A-Z]+)(?:_(?P<suffix>[A-Z0-9_]+))?_(?P<what>API_KEY|BASE_URL)")
STANDARD_URLS = {"azure": azure_url, "bedrock": bedrock_url}


def from_env(environ: Mapping[str, str] | None = None) -> list[Provider]:
    """The providers that *environ* (the process's environment, if None) configures, in the order of the presets and
    then of their suffixes.

    :raises ValueError: one is configured by half: a key without the base URL that its vendor needs, or the reverse.
    """
    environ = os.environ if environ is None else environ
    return [_instance(PRESETS[type], suffix, environ) for type, suffix in sorted(_found(environ), key=_order)]


def _order(instance: tuple[str, str]) -> tuple[int, str]:
    return list(PRESETS).index(instance[0]), instance[1]


def _found(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = {name for name, value in environ.items() if value}
    instances = {(type, "") for type, preset in PRESETS.items() if names.intersection(preset.keys)}
    for name in names:
        match = VARIABLE.fullmatch(name)
        if match is None or match["type"].lower() not in PRESETS:
            continue
        type, suffix = match["type"].lower(), match["suffix"] or ""
        if name not in PRESETS[type].keys:
            instances.add((type, suffix))
    yield from instances


def _instance(preset: Preset, suffix: str, environ: Mapping[str, str]) -> Provider:
    prefix = preset.type.upper() + (f"_{suffix}" if suffix else "")
    key = environ.get(f"{prefix}_API_KEY") or (None if suffix else preset.key(environ))
    url = environ.get(f"{prefix}_BASE_URL") or _standard_url(preset, environ)
    models = tuple(filter(None, (part.strip() for part in environ.get(f"{prefix}_MODELS", "").split(","))))
    name = preset.type + (f"-{suffix.lower().replace('_', '-')}" if suffix else "")
    if key is None and preset.needs_key:
        raise ValueError(f"{prefix}_BASE_URL is set without {prefix}_API_KEY.")
    return preset.make(url, name, key, {}, {"models": models} if models else {})


def _standard_url(preset: Preset, environ: Mapping[str, str]) -> str | None:
    derive = STANDARD_URLS.get(preset.type)
    return derive(environ) if derive else None
