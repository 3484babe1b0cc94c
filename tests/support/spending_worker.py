"""A worker process of a host app with quotas: a gateway whose counters several of them share."""

from __future__ import annotations

import os

from gomodel_asgi import Gateway, Provider, Retries, Timeouts
from gomodel_asgi.quotas import Counters, PostgresCounters, RedisCounters

from .spending import month
from .worker import tenant

TIMEOUT = 10.0
"""Seconds in which counters answer on a machine that is as busy as it is with tests."""


def counters_of(engine: str, url: str, name: str) -> Counters:
    """Counters that share the data of this *name*."""
    if engine == "redis":
        return RedisCounters(url, prefix=f"{name}:", timeout=TIMEOUT)
    return PostgresCounters(url, table=name, timeout=TIMEOUT)


def make_app() -> Gateway:
    """The app, as its environment says."""
    env = os.environ
    counters = counters_of(env["WORKER_ENGINE"], env["WORKER_URL"], env["WORKER_NAME"])
    return Gateway(
        providers=[Provider("fake", env["WORKER_UPSTREAM"], api_key="sk-canary-house-key")],
        quotas=month(tokens=int(env["WORKER_TOKENS"]), counters=counters),
        tenant=tenant,
        retries=Retries(per_target=1),
        timeouts=Timeouts(total=float(env.get("WORKER_TOTAL", "3600"))),
    )
