"""One upstream provider as a frozen value; nothing is connected or read when it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from ..arguments import check_count, check_flags, check_instance, check_protocol, check_string, strings, texts
from ..dialects.base import Dialect, built_in
from ..settings import Retries, Timeouts
from ..wire.headers import NEVER_FORWARDED, Headers
from ..wire.read_only import read_only
from ..wire.redaction import carried
from .credential import KEY, ApiKey, Credential, check_key, credential_of, resolved_key

DialectName = Literal["responses", "chat", "anthropic", "gemini"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
PATTERN = frozenset("*?[")
DIALECTS = ("responses", "chat", "anthropic", "gemini")
HOSTED = frozenset({"web_search", "file_search", "code_interpreter", "image_generation", "mcp"})
HOSTED_OF: Mapping[str, frozenset[str]] = {
    "responses": HOSTED,
    "chat": frozenset(),
    "anthropic": frozenset({"web_search", "code_interpreter", "mcp"}),
    "gemini": frozenset({"web_search", "code_interpreter"}),
}
"""The families of hosted tools that an API has, by its dialect."""
PORTS = {"http": 80, "https": 443, "http+unix": 0}
DEMANDED: Mapping[str, Mapping[str, str]] = {"anthropic": {"anthropic-version": "2023-06-01"}}
"""Headers without which an API answers nothing, by dialect; a provider may give them other values."""


@dataclass(frozen=True)
class Provider:
    """One upstream.

    *name* is what hints, records and `x-gomodel-provider` say; *type* (the name, if None) is the vendor whose rules
    apply. *base_url* is what an operation's path is added to; `http+unix://%2Frun%2Fllm.sock/v1` is a Unix socket.
    *api_key* is a string, pydantic's `SecretStr`, or a plain or async callable that returns one for each request (a
    plain one must not block). *auth* is `"bearer"`, `"none"`, or the name of the header that carries the key.
    *headers* and *query* go out with every request and win over the client's; *forward_headers* names client headers
    that are passed on. *models* are patterns (`gpt-*`) of the models that a request without a hint finds here.
    *normalize* reads replies leniently, of upstreams that are not quite the Responses API. *stateful* False says
    that an upstream which speaks that API keeps no responses: the gateway does. *hosted_tools* are those that the
    upstream runs itself (`web_search`, `file_search`, `code_interpreter`, `image_generation`, `mcp`); None: all where
    it speaks the Responses API, else those that its dialect has. *unsupported* says what happens to what a
    translated upstream cannot carry: `"auto"` leaves preferences out, emulates what can be emulated and refuses the
    rest with 400, `"reject"` refuses all of these, `"drop"` leaves all of them out.
    *allow_private=False* refuses to connect to addresses that are not public: for base URLs that tenants supply.
    *max_concurrency* bounds the requests in flight. *estimate_tokens* says whether `input_tokens` of an upstream
    that cannot count is answered with an estimate, or with 501. *reasoning_tags* are what a model behind a chat API
    puts around its reasoning, for instance `("<think>", "</think>")`: a passage between them that opens an answer
    becomes a reasoning item. *discover* has `{prefix}/models` list what the upstream itself lists, too, as far as the
    patterns match, asked for with the provider's key once in so many seconds; None: it is never asked.

    :raises ValueError: a member is not usable; the message names it, and never holds its value if that is secret.
    :raises TypeError: a member is of another type, likewise.
    """

    name: str
    base_url: str
    _: KW_ONLY
    type: str | None = None
    dialect: DialectName | Dialect = "responses"
    api_key: ApiKey | None = field(default=None, repr=False)
    auth: str = "bearer"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    models: Iterable[str] = ()
    forward_headers: Iterable[str] = ()
    normalize: bool = False
    stateful: bool = True
    hosted_tools: Iterable[str] | None = None
    unsupported: Literal["auto", "reject", "drop"] = "auto"
    websocket: bool = False
    allow_private: bool = True
    api_version: str | None = None
    timeouts: Timeouts | None = None
    retries: Retries | None = None
    max_concurrency: int | None = None
    estimate_tokens: bool = True
    reasoning_tags: tuple[str, str] | None = None
    discover: float | None = None

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("models", "forward_headers"):
            object.__setattr__(self, name, strings(name, getattr(self, name)))
        for name in ("headers", "query"):
            object.__setattr__(self, name, read_only(texts(name, getattr(self, name))))
        if self.hosted_tools is not None:
            object.__setattr__(self, "hosted_tools", _families(self.hosted_tools))
        object.__setattr__(self, "type", self.type or self.name)
        self._check()

    def _check_types(self) -> None:
        check_string("name", self.name)
        check_string("base_url", self.base_url)
        check_string("auth", self.auth)
        for name, value in (("type", self.type), ("api_version", self.api_version)):
            if value is not None:
                check_string(name, value, "a string, or None")
        if not isinstance(self.dialect, str):
            check_protocol("dialect", self.dialect, Dialect, f"one of {', '.join(DIALECTS)}, or a Dialect object")
        check_key(self.api_key, f"api_key of provider '{self.name}'")
        check_times(self.timeouts, self.retries)
        check_flags(
            normalize=self.normalize, stateful=self.stateful, websocket=self.websocket,
            allow_private=self.allow_private, estimate_tokens=self.estimate_tokens,
        )  # fmt: skip
        if self.max_concurrency is not None:
            check_count("max_concurrency", self.max_concurrency)

    def _check(self) -> None:
        """Checks the members that the host gave.

        :raises ValueError: one has a value that it cannot have.
        """
        if not NAME.fullmatch(self.name):
            raise ValueError("name: use 1 to 64 letters, digits, '.', '_' or '-'.")
        if isinstance(self.dialect, str) and self.dialect not in DIALECTS:
            raise ValueError(f"dialect: use one of {', '.join(DIALECTS)}, or a Dialect object.")
        if not isinstance(self.unsupported, str) or self.unsupported not in ("auto", "reject", "drop"):
            raise ValueError("unsupported: use 'auto', 'reject' or 'drop'.")
        if self.reasoning_tags is not None and not _are_tags(self.reasoning_tags):
            raise ValueError("reasoning_tags: give two strings, what opens the reasoning and what closes it.")
        if self.discover is not None and not _is_period(self.discover):
            raise ValueError("discover: give seconds above zero, or None.")
        if not HEADER_NAME.fullmatch(self.auth):
            raise ValueError("auth: use 'bearer', 'none', or the name of a header.")
        _check_url(self.base_url)
        for name in self.forward_headers:
            if name.lower() in NEVER_FORWARDED:
                raise ValueError(f"forward_headers: '{name}' identifies the caller or belongs to one hop.")
        for name, value in self.headers.items():
            if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
                raise ValueError(f"headers: the name or value of {name!r} cannot stand in a header.")

    def __hash__(self) -> int:
        return hash((self.name, self.base_url, self.type))

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {self.address!r}, type={self.type!r}, dialect={self.dialect!r})"

    def serves(self, model: str) -> bool:
        """Returns whether one of the `models` patterns matches."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    @cached_property
    def native(self) -> bool:
        """Whether the upstream speaks the Responses API itself."""
        return self.dialect == "responses"

    @cached_property
    def runs(self) -> frozenset[str]:
        """Returns the families of hosted tools that the upstream runs itself."""
        if self.hosted_tools is not None:
            return frozenset(self.hosted_tools)
        if isinstance(self.dialect, str):
            return HOSTED_OF[self.dialect]
        return frozenset(getattr(self.dialect, "hosted_tools", ()))

    @cached_property
    def unread(self) -> frozenset[str]:
        """Returns the families of hosted tools whose items the upstream cannot read, though it reads items."""
        if not self.native:
            return frozenset()
        return HOSTED if self.normalize else HOSTED - self.runs

    @cached_property
    def keeps_state(self) -> bool:
        """Whether the upstream itself keeps responses and conversations."""
        return self.native and self.stateful

    @cached_property
    def dialect_name(self) -> str:
        """The name of the API that the upstream speaks."""
        return self.dialect if isinstance(self.dialect, str) else self.dialect.name

    # Where it is...

    @property
    def address(self) -> str:
        """The base URL as it may be shown: without its query, which may hold a key."""
        return self.base_url.partition("?")[0]

    @cached_property
    def url(self) -> SplitResult:
        """Returns the parts of the base URL."""
        return urlsplit(self.base_url)

    @cached_property
    def origin(self) -> tuple[str, str, int, str | None]:
        """Scheme, host, port and Unix socket path (None for TCP)."""
        url = self.url
        if url.scheme == "http+unix":
            return "http", "localhost", 80, unquote(url.netloc)
        return url.scheme, url.hostname or "", url.port or PORTS[url.scheme], None

    @cached_property
    def base_path(self) -> str:
        """The base URL's path without a slash at its end."""
        return self.url.path.rstrip("/")

    @cached_property
    def fixed_query(self) -> str:
        """The provider's own query, encoded; the query of the base URL included."""
        own = dict(self.query)
        if self.api_version is not None:
            own["api-version"] = self.api_version
        return "&".join(part for part in (self.url.query, urlencode(own)) if part)

    @cached_property
    def fixed_headers(self) -> Headers:
        """The provider's own headers as they go out, and those that its API demands."""
        demanded = DEMANDED.get(self.dialect, {}) if isinstance(self.dialect, str) else {}
        given = {**demanded, **{name.lower(): value for name, value in self.headers.items()}}
        return read_only(encoded(given.items()))  # type: ignore[no-any-return]

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Credentials beside the key, in its headers and query."""
        return carried(self.headers, self.query, dict(parse_qsl(self.url.query)))

    def secrets_with(self, credential: Credential, *others: str) -> tuple[str, ...]:
        """Returns what the upstream could quote and nobody may see: the key, the *others*, and what is `carried`."""
        return (*((credential.key,) if credential.key else ()), *others, *self.carried)

    # What it is paid with...

    async def credential(self, own: ApiKey | None = None) -> Credential:
        """Returns the credential for one request: *own* (a Target's key) if given, else the provider's.

        :raises ValueError: the key is not printable ASCII; the message never holds it.
        """
        key = await resolved_key(self.api_key if own is None else own)
        return credential_of(key, self.auth, self.name)

    @cached_property
    def static_credential(self) -> Credential | None:
        """The credential of a provider whose key never changes, None where a function gives it for each request.

        :raises ValueError: as `credential`.
        """
        if self.api_key is not None and not isinstance(self.api_key, str):
            return None
        return credential_of(self.api_key, self.auth, self.name)


def dialect_of(provider: Provider) -> Dialect:
    """Returns the dialect of *provider*, which does not speak the Responses API itself."""
    return built_in(provider.dialect) if isinstance(provider.dialect, str) else provider.dialect


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    """Returns *headers* as they go on the wire."""
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers]


def check_times(timeouts: Any, retries: Any) -> None:
    """Refuses what are no time-outs or retries, of a Provider or a Target.

    :raises TypeError: one is of another type.
    """
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retries", retries, Retries)):
        if value is not None:
            check_instance(name, value, kind, f"{kind.__name__}(...)")


def _families(given: Iterable[str]) -> tuple[str, ...]:
    """Returns the families of hosted tools that are *given*.

    :raises ValueError: one is unknown, or they are one string.
    """
    names = strings("hosted_tools", given)
    if not HOSTED.issuperset(names):
        raise ValueError(f"hosted_tools: give a list of some of {', '.join(sorted(HOSTED))}.")
    return names


def _are_tags(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return all(isinstance(tag, str) and tag.strip() == tag and tag for tag in value)


def _is_period(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def is_pattern(name: str) -> bool:
    """Returns whether *name* may stand for several models."""
    return not PATTERN.isdisjoint(name)


def _check_url(base_url: str) -> None:
    """Checks that requests can be sent to *base_url*.

    :raises ValueError: they cannot, or it holds credentials.
    """
    try:
        url = urlsplit(base_url)
        port = url.port
    except ValueError:
        raise ValueError("base_url: it is not a URL.") from None
    if url.scheme not in PORTS or not url.netloc or (port == 0):
        raise ValueError("base_url: use http://host[:port]/path, https://… or http+unix://%2Fpath%2Fto.sock/path.")
    if "@" in url.netloc:
        raise ValueError("base_url: give credentials as api_key, not inside the URL.")
    if not KEY.fullmatch(base_url) or url.fragment:
        raise ValueError("base_url: it holds characters that cannot go on the wire, or a fragment.")
