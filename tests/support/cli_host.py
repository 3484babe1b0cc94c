"""A host app for the command line: each test puts its gateway here, found as `tests.support.cli_host:gateway`."""

from __future__ import annotations

from typing import Any

from starlette.authentication import SimpleUser

from gomodel_asgi import Denied, Gateway, Provider, RoutingRequest, Target, policies

gateway: Any = None
small = Gateway(providers=[Provider("small", "http://127.0.0.1:9/v1")])
not_a_gateway = object()
ada = SimpleUser("ada")


async def route(request: RoutingRequest) -> Target:
    """Whoever is logged in gets the large model, with the small one behind it."""
    if request.model == "forbidden":
        raise Denied("That one is not for you.")
    if request.model == "broken":
        raise KeyError("plan")
    if request.model == "elsewhere":
        return Target("nowhere")
    return Target("east", model="large", fallbacks=[Target("west", model="small")])


def plain(request: RoutingRequest) -> Target:
    return Target("east")


guarded = policies.authenticated(route)
