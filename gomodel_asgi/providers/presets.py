"""The vendors we know: one function each, `preset(base_url=None, *, name=…, api_key=None, **provider_options)`.

A key that is not given is read from the vendor's usual environment variable when the provider is made. Sources: each
vendor's API reference, November 2026.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from ..arguments import check_one_of, check_string, texts
from ..dialects.base import Dialect
from ..settings import Retries, Timeouts
from .credential import ApiKey
from .provider import DialectName, Provider


class Options(TypedDict, total=False):
    """What every preset takes beside base URL, name and key: the options of `Provider`."""

    type: str | None
    dialect: DialectName | Dialect
    auth: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    models: Iterable[str]
    forward_headers: Iterable[str]
    normalize: bool
    stateful: bool
    hosted_tools: Iterable[str] | None
    unsupported: Literal["auto", "reject", "drop"]
    websocket: bool
    allow_private: bool
    api_version: str | None
    timeouts: Timeouts | None
    retries: Retries | None
    max_concurrency: int | None
    estimate_tokens: bool
    reasoning_tags: tuple[str, str] | None
    discover: float | None


@dataclass(frozen=True, slots=True)
class Preset:
    """The facts of one vendor. *keys* are environment variables, first found wins; *needs_key* False where an
    installation of one's own may have none."""

    type: str
    base_url: str | None
    keys: tuple[str, ...]
    needs_key: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(
        self, base_url: str | None, name: str, api_key: ApiKey | None, environ: Mapping[str, str], options: Any
    ) -> Provider:
        """Returns the provider, with *options* over the vendor's own.

        :raises ValueError: no key or no base URL; the message says which variable would give it.
        :raises TypeError: an option is of another type than it must be.
        """
        if base_url is not None:
            check_string("base_url", base_url, "a string, or None")
        url = base_url or self.base_url
        if url is None:
            raise ValueError(f"{self.type}: give a base_url (or set {self.type.upper()}_BASE_URL).")
        key = api_key if api_key is not None else self.key(environ)
        if key is None and self.needs_key:
            raise ValueError(f"{self.type}: give an api_key or set {self.keys[0]}.")
        merged = {"type": self.type, **self.options, **options}
        merged["headers"] = {**self.options.get("headers", {}), **texts("headers", options.get("headers", {}))}
        return Provider(name, url, api_key=key, **merged)

    def key(self, environ: Mapping[str, str]) -> str | None:
        """Returns the key that the environment gives, if any."""
        return next((environ[name] for name in self.keys if environ.get(name)), None)


def _preset(type: str, base_url: str | None, *keys: str, needs_key: bool = True, **options: Any) -> Preset:
    return Preset(type, base_url, keys or (f"{type.upper()}_API_KEY",), needs_key, options)


PRESETS: dict[str, Preset] = {
    preset.type: preset
    for preset in (
        _preset("openai", "https://api.openai.com/v1"),
        _preset("azure", None, "AZURE_OPENAI_API_KEY", "AZURE_API_KEY", auth="api-key"),
        _preset("anthropic", "https://api.anthropic.com/v1", dialect="anthropic", auth="x-api-key"),
        _preset(
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta",
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            dialect="gemini",
            auth="x-goog-api-key",
        ),
        _preset("deepseek", "https://api.deepseek.com", dialect="chat", stateful=False),
        _preset("groq", "https://api.groq.com/openai/v1", dialect="chat", stateful=False),
        _preset("openrouter", "https://openrouter.ai/api/v1", stateful=False, hosted_tools=("web_search",)),
        _preset("xai", "https://api.x.ai/v1"),
        _preset("mistral", "https://api.mistral.ai/v1", dialect="chat"),
        _preset("zai", "https://api.z.ai/api/paas/v4", dialect="chat"),
        _preset("minimax", "https://api.minimax.io/v1", dialect="chat", reasoning_tags=("<think>", "</think>")),
        _preset("oracle", None),
        _preset("ollama", "http://localhost:11434/v1", needs_key=False, stateful=False, hosted_tools=()),
        _preset("vllm", "http://localhost:8000/v1", needs_key=False, stateful=False, hosted_tools=()),
        _preset("llamacpp", "http://localhost:8080/v1", needs_key=False, stateful=False, hosted_tools=()),
        _preset("bedrock", None, "AWS_BEARER_TOKEN_BEDROCK", "BEDROCK_API_KEY"),
    )
}


def _make(type: str, base_url: str | None, name: str, api_key: ApiKey | None, options: Options) -> Provider:
    return PRESETS[type].make(base_url, name, api_key, os.environ, options)


def openai(
    base_url: str | None = None, *, name: str = "openai", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns the provider OpenAI; key from `OPENAI_API_KEY`. An organization or project goes into *headers*."""
    return _make("openai", base_url, name, api_key, options)


def azure(
    base_url: str | None = None, *, name: str = "azure", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Azure OpenAI on its v1 surface; endpoint from `AZURE_OPENAI_ENDPOINT`, key from `AZURE_OPENAI_API_KEY`.

    A callable *api_key* is taken for a token provider (Microsoft Entra ID) and sent as a bearer token.
    """
    return _make("azure", base_url or azure_url(os.environ), name, api_key, azure_auth(api_key, options))


def azure_auth(api_key: ApiKey | None, options: Options) -> Options:
    """Returns *options* with bearer authentication where *api_key* is a token callable."""
    return {"auth": "bearer", **options} if callable(api_key) else options


def azure_url(environ: Mapping[str, str]) -> str | None:
    """Returns the v1 surface of the resource that the environment names, None if it names none."""
    endpoint = environ.get("AZURE_OPENAI_ENDPOINT", "").rstrip("/")
    return endpoint.removesuffix("/openai/v1") + "/openai/v1" if endpoint else None


def anthropic(
    base_url: str | None = None, *, name: str = "anthropic", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Anthropic's Messages API; key from `ANTHROPIC_API_KEY`.

    Vertex AI: give its base URL (`https://aiplatform.googleapis.com/v1/projects/P/locations/L/publishers/anthropic`)
    and a token callable as *api_key*. Bedrock: `https://bedrock-mantle.REGION.api.aws/anthropic/v1` with
    `auth="bearer"` and a Bedrock API key.
    """
    return _make("anthropic", base_url, name, api_key, vertex_options(base_url, options))


def vertex_options(base_url: str | None, options: Options) -> Options:
    """Returns *options* with what Vertex AI requires of a client, where *base_url* is its publisher `anthropic`."""
    if not isinstance(base_url, str) or not base_url.rstrip("/").endswith("/publishers/anthropic"):
        return options
    return {"type": "vertex", "auth": "bearer", **options}


def gemini(
    base_url: str | None = None, *, name: str = "gemini", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Google's Gemini API; key from `GEMINI_API_KEY` or `GOOGLE_API_KEY`.

    Vertex AI: give its base URL (`https://aiplatform.googleapis.com/v1/projects/P/locations/L/publishers/google`) and
    a token callable as *api_key*, which is then sent as a bearer token.
    """
    return _make("gemini", base_url, name, api_key, azure_auth(api_key, options))


def deepseek(
    base_url: str | None = None, *, name: str = "deepseek", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns DeepSeek, over its chat API (`dialect="responses"` for the native one); key from `DEEPSEEK_API_KEY`."""
    return _make("deepseek", base_url, name, api_key, options)


def groq(
    base_url: str | None = None, *, name: str = "groq", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Groq, over its chat API (`dialect="responses"` for the native beta); key from `GROQ_API_KEY`."""
    return _make("groq", base_url, name, api_key, options)


def openrouter(
    base_url: str | None = None, *, name: str = "openrouter", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns OpenRouter; key from `OPENROUTER_API_KEY`. `HTTP-Referer` and `X-Title` go into *headers*."""
    return _make("openrouter", base_url, name, api_key, options)


def xai(
    base_url: str | None = None, *, name: str = "xai", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns xAI; key from `XAI_API_KEY`."""
    return _make("xai", base_url, name, api_key, options)


def mistral(
    base_url: str | None = None, *, name: str = "mistral", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Mistral, over its chat API; key from `MISTRAL_API_KEY`."""
    return _make("mistral", base_url, name, api_key, options)


def zai(
    base_url: str | None = None, *, name: str = "zai", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Z.ai, over its chat API; key from `ZAI_API_KEY`."""
    return _make("zai", base_url, name, api_key, options)


def minimax(
    base_url: str | None = None, *, name: str = "minimax", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns MiniMax, over its chat API; key from `MINIMAX_API_KEY`."""
    return _make("minimax", base_url, name, api_key, options)


def oracle(
    base_url: str | None = None, *, name: str = "oracle", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Oracle's OpenAI-compatible endpoint at *base_url*; key from `ORACLE_API_KEY`."""
    return _make("oracle", base_url or os.environ.get("ORACLE_BASE_URL"), name, api_key, options)


def ollama(
    base_url: str | None = None, *, name: str = "ollama", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns Ollama; `dialect="chat"` for versions without the Responses API, `normalize=True` for early ones."""
    return _make("ollama", base_url, name, api_key, options)


def vllm(
    base_url: str | None = None, *, name: str = "vllm", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns vLLM; `normalize=True` for versions whose events lack members, or name an item anew each time."""
    return _make("vllm", base_url, name, api_key, options)


def llamacpp(
    base_url: str | None = None, *, name: str = "llamacpp", api_key: ApiKey | None = None, **options: Unpack[Options]
) -> Provider:
    """Returns llama.cpp's server; `dialect="chat"` for versions without the Responses API."""
    return _make("llamacpp", base_url, name, api_key, options)


def bedrock(
    base_url: str | None = None,
    *,
    name: str = "bedrock",
    api_key: ApiKey | None = None,
    region: str | None = None,
    endpoint: Literal["runtime", "mantle"] = "runtime",
    **options: Unpack[Options],
) -> Provider:
    """Returns Amazon Bedrock with a Bedrock API key, from `AWS_BEARER_TOKEN_BEDROCK`; *region* from `AWS_REGION`.

    The path depends on the model: `endpoint="mantle"` gives `/openai/v1` (gpt-5 and newer); for models that it serves
    below `/v1`, such as gpt-oss, give the whole *base_url*.
    """
    check_one_of("endpoint", endpoint, ("runtime", "mantle"))
    if region is not None:
        check_string("region", region, "a string, or None")
    return _make("bedrock", base_url or bedrock_url(os.environ, region, endpoint), name, api_key, options)


def bedrock_url(environ: Mapping[str, str], region: str | None = None, endpoint: str = "runtime") -> str | None:
    """Returns the regional endpoint, None where no region is known."""
    region = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if region is None:
        return None
    if endpoint == "mantle":
        return f"https://bedrock-mantle.{region}.api.aws/openai/v1"
    return f"https://bedrock-runtime.{region}.amazonaws.com/openai/v1"


# Finds every provider that the environment configures.
#
# `<TYPE>_API_KEY`, `<TYPE>_BASE_URL` and `<TYPE>_MODELS` (patterns, comma-separated) make the instance `type`;
# `<TYPE>_<SUFFIX>_API_KEY` and its kin make the instance `type-suffix`.


VARIABLE = re.compile(r"(?P<type>[A-Z]+)(?:_(?P<suffix>[A-Z0-9_]+))?_(?P<what>API_KEY|BASE_URL)")
STANDARD_URLS = {"azure": azure_url, "bedrock": bedrock_url}


def from_env(environ: Mapping[str, str] | None = None) -> list[Provider]:
    """Returns the providers that *environ* (the process's environment, if None) configures, in the order of the presets
    and then of their suffixes.

    :raises ValueError: one is configured by half: a key without the base URL that its vendor needs, or the reverse.
    """
    environ = os.environ if environ is None else texts("environ", environ)
    order = list(PRESETS)
    found = sorted(_found(environ), key=lambda instance: (order.index(instance[0]), instance[1]))
    return [_instance(PRESETS[type], suffix, environ) for type, suffix in found]


def variables() -> list[str]:
    """Returns the environment variables that make `from_env` find a provider, those with a suffix left out: the key of
    each vendor, or the base URL where an installation of one's own needs no key."""
    named = [preset.keys if preset.needs_key else (f"{preset.type.upper()}_BASE_URL",) for preset in PRESETS.values()]
    return [name for names in named for name in names]


def _found(environ: Mapping[str, str]) -> set[tuple[str, str]]:
    names = {name for name, value in environ.items() if value}
    instances = {(type, "") for type, preset in PRESETS.items() if names.intersection(preset.keys)}
    for name in names:
        match = VARIABLE.fullmatch(name)
        if match is None or match["type"].lower() not in PRESETS:
            continue
        type, suffix = match["type"].lower(), match["suffix"] or ""
        if name not in PRESETS[type].keys:
            instances.add((type, suffix))
    return instances


def _instance(preset: Preset, suffix: str, environ: Mapping[str, str]) -> Provider:
    """Returns the provider that the variables with *suffix* describe.

    :raises ValueError: they lack the key that this kind of provider needs.
    """
    prefix = preset.type.upper() + (f"_{suffix}" if suffix else "")
    key = environ.get(f"{prefix}_API_KEY") or (None if suffix else preset.key(environ))
    derive = STANDARD_URLS.get(preset.type)
    url = environ.get(f"{prefix}_BASE_URL") or (None if derive is None else derive(environ))
    models = tuple(filter(None, (part.strip() for part in environ.get(f"{prefix}_MODELS", "").split(","))))
    name = preset.type + (f"-{suffix.lower().replace('_', '-')}" if suffix else "")
    if key is None and preset.needs_key:
        raise ValueError(f"{prefix}_BASE_URL is set without {prefix}_API_KEY.")
    return preset.make(url, name, key, {}, {"models": models} if models else {})
