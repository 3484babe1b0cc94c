"""The app that is measured: a Gateway with a policy of its own, observers off, in front of the URL in `UPSTREAM`."""

from __future__ import annotations

import os

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9100/v1")


async def route(request: RoutingRequest) -> Target:
    """What a host's policy does at least: look at the hint, name a provider."""
    return Target(request.provider or "bench")


app = Gateway(providers=[Provider("bench", UPSTREAM, api_key="sk-bench")], policy=route)
