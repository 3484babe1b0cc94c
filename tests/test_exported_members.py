"""The public names of the package, which users rely on."""

from __future__ import annotations

import gomodel_asgi

NAMES = (
    "Gateway GoModelMiddleware RoutingRequest Target Provider Policy Reply Explanation RoutingError Unauthenticated "
    "Denied RateLimited UnknownProvider UnknownModel ProviderConflict Timeouts Limits Retries Store MemoryStore "
    "NoStore Observer providers policies tools __version__"
).split()


def test_the_package_exports_exactly_these_26_names() -> None:
    assert len(NAMES) == 26
    assert sorted(gomodel_asgi.__all__) == sorted(NAMES)


def test_every_exported_name_is_there() -> None:
    assert [name for name in gomodel_asgi.__all__ if not hasattr(gomodel_asgi, name)] == []
