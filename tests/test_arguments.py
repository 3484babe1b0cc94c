"""Every argument of every public constructor refuses what it cannot be, by its name: read from the signatures, so that
a new one cannot be forgotten."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from key_value.aio.stores.memory import MemoryStore as KeyValues
from msgspec import Struct
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import create_async_engine

from gomodel_asgi import (
    Explanation,
    Gateway,
    GoModelMiddleware,
    Limits,
    MemoryStore,
    NoStore,
    Provider,
    Retries,
    Target,
    Timeouts,
    policies,
    providers,
    tools,
)
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.console import Console, View
from gomodel_asgi.contrib.prometheus import GatewayCollector, PrometheusObserver
from gomodel_asgi.guards import Guard
from gomodel_asgi.ledger import Content, DjangoLedger, JsonLines, Ledger, SqlLedger
from gomodel_asgi.observers import AsyncObserver, LoggingObserver, Observers, RoundTrace, Trace
from gomodel_asgi.providers.presets import PRESETS, Options
from gomodel_asgi.quotas import Left, MemoryCounters, PostgresCounters, Quota, Quotas, RedisCounters
from gomodel_asgi.stores import Encrypted, KeyValueStore, PostgresStore, RedisStore
from gomodel_asgi.transport import Http11Transport, HttpxTransport

CANARY = "sk-canary"


class Wrong:
    """What no argument wants."""


def function(request: Any) -> Any:
    raise AssertionError("Nothing is asked at construction.")


HOUSE = Provider("house", "http://127.0.0.1:9/v1")
GATEWAY = Gateway(providers=[HOUSE], public=True)

CONSTRUCTORS: dict[Callable[..., Any], dict[str, Any]] = {
    Gateway: {"providers": [HOUSE]},
    GATEWAY.observe: {"observer": function},
    Console: {"gateway": GATEWAY, "allow": function},
    View: {"tenants": {"acme"}},
    GoModelMiddleware: {"app": function, "gateway": GATEWAY},
    GATEWAY.reload: {},
    Provider: {"name": "house", "base_url": "http://127.0.0.1:9/v1"},
    Target: {"provider": "house"},
    Timeouts: {},
    Limits: {},
    Retries: {},
    **{getattr(providers, name): {"base_url": "http://h/v1", "api_key": "k"} for name in PRESETS},
    providers.from_env: {},
    policies.authenticated: {"policy": function},
    policies.model_map: {"models": {"a": "house"}},
    policies.weighted: {"choices": [("house", 1)]},
    policies.fallback: {"targets": "house"},
    policies.per_tenant: {"resolver": function},
    policies.first_of: {"policies": function},
    policies.sticky: {"policy": function, "key": hash},
    policies.lowest_latency: {"targets": "house"},
    policies.limited: {"policy": function, "rate": "60/minute"},
    Quotas: {"rules": function},
    Quota: {"name": "month", "per": "month", "requests": 1},
    MemoryCounters: {},
    RedisCounters: {"redis": "redis://127.0.0.1:9"},
    PostgresCounters: {"postgres": "postgresql://127.0.0.1:9/x"},
    Guard: {"name": "pii", "input": function},
    ResponseCache: {"when": function},
    Ledger: {"sink": JsonLines("ledger.jsonl")},
    Content: {"keep": function, "key": None},
    JsonLines: {"path": "ledger.jsonl"},
    SqlLedger: {"engine": create_async_engine("sqlite+aiosqlite://")},
    MemoryStore: {},
    RedisStore: {"redis": "redis://127.0.0.1:9"},
    PostgresStore: {"postgres": "postgresql://127.0.0.1:9/x"},
    KeyValueStore: {"store": KeyValues()},
    Encrypted: {"store": MemoryStore(), "key": bytes(32)},
    Http11Transport: {},
    HttpxTransport: {},
    LoggingObserver: {},
    PrometheusObserver: {"registry": CollectorRegistry()},
    GatewayCollector: {"gateway": GATEWAY, "registry": CollectorRegistry()},
    AsyncObserver: {"sink": function},
    tools.web_search: {"function": function},
    tools.file_search: {"function": function},
    tools.code_interpreter: {"function": function},
    tools.image_generation: {"function": function},
    tools.mcp: {"servers": {}},
    tools.function: {"call": function},
    tools.Server: {"source": []},
}
"""With what each must be given."""

VALUES: dict[str, Any] = {
    "object": Wrong(),
    "none": None,
    "text": f"{CANARY}.y",
    "bytes": CANARY.encode(),
    "number": 3,
    "flag": True,
    "list": [Wrong()],
    "mapping": {CANARY: Wrong()},
    "keys": {Wrong(): CANARY},
    "class": Wrong,
}

KINDS = {
    "None": {"none"},
    "bool": {"flag"},
    "str": {"text"},
    "bytes": {"bytes"},
    "int": {"number"},
    "float": {"number"},
    "Decimal": {"number"},
    "Any": set(VALUES),
    "Literal": set(),
    "Iterable": set(),
    "Collection": set(),
    "tuple": set(),
    "Mapping[str,str]": set(),
    "Mapping[str,Any]": {"mapping"},
    "Mapping": set(),
    "Set": set(),
    "All": set(),
    "Callable": {"class"},
    "ApiKey": {"text", "class"},
    "Somewhere": {"text"},
    "Secret": set(),
    "PathLike": {"text"},
    **dict.fromkeys(["Price", "TenantOf", "ModelsOf", "FileSource", "Key", "Rules", "When", "ScopeOf"], {"class"}),
    **dict.fromkeys(["GuardFunction", "Keep", "Sink", "Remote", "ASGIApp", "Allow"], {"class"}),
    **dict.fromkeys(["DialectName", "Per", "Weekday", "Reserve", "OnUnknown", "OnUnavailable", "OnError"], set()),
    **dict.fromkeys(["Use", "Approval", "Policy", "Observer", "Store", "Transport", "Counters", "Dialect"], set()),
    **dict.fromkeys(["Timeouts", "Limits", "Retries", "Provider", "Target", "Gateway", "Quotas", "Guard"], set()),
    **dict.fromkeys(["ResponseCache", "Ledger", "Content", "Redis", "RedisCluster", "Pool", "AsyncEngine"], set()),
    **dict.fromkeys(
        ["AsyncKeyValueProtocol", "Storage", "Logger", "SSLContext", "timedelta", "CollectorRegistry"], set()
    ),
}
"""Which of `VALUES` an annotation takes, beside what it is named for. An annotation that is not here fails the test."""


def parameters(make: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """The names of the arguments of *make*, and how they are annotated."""
    for name, one in inspect.signature(make).parameters.items():
        if one.kind is one.VAR_KEYWORD:
            yield from ((key, kind.__forward_arg__) for key, kind in Options.__annotations__.items())
        else:
            yield name, str(one.annotation)


NOISE = re.compile(r"\b(?:\w+\.)+|<class |[ '>]")
"""What stands around the names of an annotation that Python has read."""


def alternatives(annotation: str) -> list[str]:
    """What stands between the bars of *annotation*, those inside brackets left alone."""
    return re.findall(r"(?:[^|\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])+", NOISE.sub("", annotation))


def taken_by(annotation: str) -> set[str]:
    found: set[str] = set()
    for one in alternatives(annotation):
        found |= KINDS[one] if one in KINDS else KINDS[one.partition("[")[0]]
    return found


SECRET = {"api_key", "base_url", "environ", "headers", "key", "params", "postgres", "proxy", "query", "redis", "secret"}
"""Arguments whose values are quoted in no message."""
UNSEEN = {("per_tenant", "resolver", "keys")}
"""What is not known at construction: a mapping of the host's own may be a table, asked for one tenant at a time."""


def arguments() -> Iterator[Any]:
    for make, given in CONSTRUCTORS.items():
        for name, annotation in parameters(make):
            wrong = VALUES.keys() - taken_by(annotation)
            yield pytest.param(make, given, name, sorted(wrong), id=f"{make.__qualname__}-{name}")


@pytest.mark.parametrize(("make", "given", "name", "kinds"), [*arguments()])
def test_what_an_argument_cannot_be_is_refused_by_its_name(
    make: Callable[..., Any], given: dict[str, Any], name: str, kinds: list[str]
) -> None:
    for kind in kinds:
        if (make.__qualname__, name, kind) in UNSEEN:
            continue
        try:
            call(make, {**given, name: VALUES[kind]})
        except (TypeError, ValueError) as error:
            assert re.search(rf"\b{name}\b", str(error)) and SAYS.search(str(error)), (kind, error)
            assert name not in SECRET or CANARY not in str(error), kind
        else:
            pytest.fail(f"{kind} is taken")


SAYS = re.compile(r"\b(give|use|must|neither|make|there are|is the name of no)\b")
"""How a message says what is wanted."""


def call(make: Callable[..., Any], given: dict[str, Any]) -> Any:
    """*make* with what is *given*: by position where it has to be."""
    kinds = [(one.name, one.kind) for one in inspect.signature(make).parameters.values()]
    several = [given[name] for name, kind in kinds if kind is inspect.Parameter.VAR_POSITIONAL]
    named = {name for name, kind in kinds if kind is not inspect.Parameter.VAR_POSITIONAL} | set(
        Options.__annotations__
    )
    return make(*several, **{name: value for name, value in given.items() if name in named})


RESULTS = {
    *(Explanation, NoStore, Left, DjangoLedger, Observers, RoundTrace, Trace),
    *(tools.Call, tools.FileReference, tools.HostTool, tools.Function, tools.McpTool),
    *(tools.Page, tools.Passage, tools.Image, tools.File, tools.Execution),
}
"""Classes whose objects the package makes, that take no argument, or that hold what a host's function has found."""


@pytest.mark.parametrize("room", ["", ".quotas", ".guards", ".cache", ".ledger", ".stores", ".transport", ".observers"])
def test_every_public_class_that_a_host_makes_objects_of_is_asked(room: str) -> None:
    module = import_module(f"gomodel_asgi{room}")
    classes = {one for name in module.__all__ if isinstance(one := getattr(module, name), type)}
    plain = {one for one in classes if not issubclass(one, BaseException | Struct) and not is_protocol(one)}
    assert plain - RESULTS <= CONSTRUCTORS.keys()


def is_protocol(one: type) -> bool:
    return getattr(one, "_is_protocol", False) is True


def test_the_presets_take_every_option_of_a_provider() -> None:
    members = set(inspect.signature(Provider).parameters) - {"name", "base_url", "api_key"}
    assert set(Options.__annotations__) == members
