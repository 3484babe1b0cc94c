"""How a Redis is reached: by a bounded pool of ours, or by a client of the host's."""

from __future__ import annotations

from typing import TypeVar

from ..arguments import refusal
from ..extras import missing

try:
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError as exc:  # pragma: no cover - shown in a process of its own
    raise missing("redis", "Redis is reached through redis-py") from exc

__all__ = ["NoScriptError", "Redis", "RedisCluster", "RedisError", "check_client", "client_of", "decodes"]

# At a time and event loop; more wait for one, within their timeout.
CONNECTIONS = 32


Client = TypeVar("Client")


def check_client(redis: object) -> None:
    """Refuses what is neither a URL nor a client.

    :raises TypeError: *redis* is something else.
    """
    if not isinstance(redis, str) and (isinstance(redis, type) or not hasattr(redis, "eval")):
        raise refusal("redis", "a URL, or a client of redis.asyncio", redis)


def client_of(given: str | Client, timeout: float) -> Redis | Client:
    """Returns *given*, or a client of ours for that URL: at most `CONNECTIONS`, one silent retry on a connection that
    has gone stale.

    :raises ValueError: the URL is none.
    """
    if not isinstance(given, str):
        return given
    # The time limit is the caller's: with its own, redis-py waits through asyncio.wait_for, which loses cancellations
    # before Python 3.12.
    pool = BlockingConnectionPool.from_url(
        given, max_connections=CONNECTIONS, timeout=timeout, retry=Retry(NoBackoff(), 1), socket_timeout=None
    )
    return Redis.from_pool(pool)


def decodes(client: Redis) -> bool:
    """Returns whether *client* makes text of what Redis answers."""
    return bool(client.connection_pool.connection_kwargs.get("decode_responses"))
