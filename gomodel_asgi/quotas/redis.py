"""Counters in Redis (or Valkey, or whatever speaks its protocol and its Lua), for several workers and machines.

    {prefix}{quotas}:counter:{window}:{key}  →  hash: s what is spent, h<slot> what is held
    {prefix}{quotas}:hold:{hold}             →  r reserved, s settled

Each call is one script, which Redis runs alone. All keys have one hash tag and are named to the script, as a cluster
asks for. Lua reckons in doubles, which are exact up to 2**53: limits beyond are refused, and a counter stops there.

Set-up: give the counters a Redis that keeps its data (`appendonly yes`), and whose `maxmemory-policy` is `noeviction`:
what Redis forgets has not been spent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..arguments import check_seconds, check_string
from ..errors import QuotaUnavailable
from ..seams.counters import (
    PARTS,
    REPEATS,
    Figures,
    Line,
    Reserved,
    open_for,
    quota_unavailable,
    require_countable,
    require_distinct,
)
from ..stores.redis import NoScriptError, Redis, RedisCluster, RedisError, check_client, client_of
from ..stores.shared import PerLoop, answering

MOST = 2**53 - 1
"""What a double counts to without a gap: the largest limit."""

# A line has two KEYS, its counter and that of the window before (the same one again: there is none); the hold comes
# last. Of its ARGV the first three are the oldest slot that counts, the first that is not forgotten, and its weight.
READ = """
local PARTS = %d
local function count(key, oldest, forgotten)
  local spent, held, old = 0, 0, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local field, amount = all[i], tonumber(all[i + 1])
    if field == 's' then
      spent = amount
    else
      local slot = tonumber(string.sub(field, 2))
      if slot >= oldest then held = held + amount end
      if slot < forgotten then old[#old + 1] = field end
    end
  end
  return spent, held, old
end
local function share(amount, parts)
  local rest = amount %% PARTS
  return (amount - rest) / PARTS * parts + math.ceil(rest * parts / PARTS)
end
local function figures(key, before, oldest, forgotten, parts)
  local spent, held, old = count(key, oldest, forgotten)
  local total = 0
  if before ~= key then
    local then_spent, then_held = count(before, oldest, forgotten)
    total = then_spent + then_held
    local spent_share = share(then_spent, parts)
    spent, held = spent + spent_share, held + share(total, parts) - spent_share
  end
  return {spent = spent, held = held, before = total, old = old}
end
local function every(width)
  local all = {}
  for at = 0, math.floor(#KEYS / 2) - 1 do
    local one = at * width
    all[at + 1] = figures(
      KEYS[2 * at + 1], KEYS[2 * at + 2], tonumber(ARGV[one + 1]), tonumber(ARGV[one + 2]), tonumber(ARGV[one + 3])
    )
  end
  return all
end
local function answer(refused, all)
  local reply = {refused}
  for _, one in ipairs(all) do
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = one.spent, one.held, one.before
  end
  return reply
end
""" % (PARTS,)

KEEP = """
local function keep(key, milliseconds)
  if redis.call('PTTL', key) < tonumber(milliseconds) then redis.call('PEXPIRE', key, milliseconds) end
end
"""

FIGURES = READ + "return answer(0, every(3))"

# ARGV goes on with limit, amount, "1" if it holds, slot and milliseconds of the counter; those of the hold come last.
RESERVE = (
    READ
    + KEEP
    + """
local hold, all = KEYS[#KEYS], every(8)
if redis.call('EXISTS', hold) == 1 then return answer(0, all) end
for i, one in ipairs(all) do
  if one.spent + one.held + tonumber(ARGV[8 * i - 3]) > tonumber(ARGV[8 * i - 4]) then return answer(i, all) end
end
for i, one in ipairs(all) do
  local key, amount, holds, slot = KEYS[2 * i - 1], ARGV[8 * i - 3], ARGV[8 * i - 2], ARGV[8 * i - 1]
  if holds == '1' then
    redis.call('HINCRBY', key, 'h' .. slot, amount)
    one.held = one.held + tonumber(amount)
    if #one.old > 0 then redis.call('HDEL', key, unpack(one.old)) end
  else
    redis.call('HINCRBY', key, 's', amount)
    one.spent = one.spent + tonumber(amount)
  end
  keep(key, ARGV[8 * i])
end
redis.call('SET', hold, 'r', 'PX', ARGV[#ARGV])
return answer(0, all)
"""
)

# KEYS: a counter for each line, then the hold. ARGV of a line: amount, "1" if it holds, slot, milliseconds of the
# counter, and what was really used; last come the milliseconds of the hold.
SETTLE = (
    KEEP
    + """
local hold = KEYS[#KEYS]
local state = redis.call('GET', hold)
if state == 's' then return 0 end
for i = 1, #KEYS - 1 do
  local key, amount, actual = KEYS[i], tonumber(ARGV[5 * i - 4]), tonumber(ARGV[5 * i])
  if state == 'r' and ARGV[5 * i - 3] == '1' then
    local field = 'h' .. ARGV[5 * i - 2]
    local left = (tonumber(redis.call('HGET', key, field)) or 0) - amount
    if left > 0 then
      redis.call('HSET', key, field, left)
    else
      redis.call('HDEL', key, field)
    end
  elseif state == 'r' then
    actual = actual - amount
  end
  if actual ~= 0 then
    local spent = (tonumber(redis.call('HGET', key, 's')) or 0) + actual
    redis.call('HSET', key, 's', math.max(0, math.min(spent, %d)))
  end
  keep(key, ARGV[5 * i - 1])
end
redis.call('SET', hold, 's', 'PX', ARGV[#ARGV])
return 1
"""
    % (MOST,)
)


class Script:
    """What Redis runs, and the name by which it knows it once it has."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Any, keys: Sequence[str], arguments: Iterable[object]) -> Any:
        """Returns what the script does. It is sent in full only where Redis does not know it (yet, or any more)."""
        arguments = list(arguments)
        try:
            return await client.evalsha(self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.eval(self.text, len(keys), *keys, *arguments)


reserving, settling, reading = Script(RESERVE), Script(SETTLE), Script(FIGURES)


class RedisCounters:
    """Counts in the Redis at *redis*: a URL (`redis://`, `rediss://`, `unix://`) or a client of your own, also one of a
    cluster, which belongs to one event loop and stays yours to close. *timeout* is in seconds, for each call.

    :raises ValueError: the URL is none.
    """

    shared = True

    def __init__(self, redis: str | Redis | RedisCluster, *, prefix: str = "gomodel:", timeout: float = 0.25) -> None:
        check_client(redis)
        check_string("prefix", prefix)
        check_seconds("timeout", timeout)
        self._prefix = f"{prefix}{{quotas}}:"
        self.timeout = timeout
        self._ours = isinstance(redis, str)
        self._clients: PerLoop[Any] = PerLoop(partial(client_of, redis, timeout))
        client_of(redis, timeout)  # opens nothing; a bad URL is raised here and not with the first request

    def __repr__(self) -> str:
        return f"<RedisCounters prefix={self._prefix!r}>"

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        """Reserves all *lines* for *hold*, or none. Returns which one had no room, and the figures.

        :raises QuotaUnavailable: Redis does not answer.
        :raises ValueError: two of *lines* have the same key and window, or a limit is 2**53 or more.
        """
        require_distinct(lines)
        require_countable(lines, MOST, "Redis")
        arguments: list[object] = []
        for line in lines:
            arguments += self._read(line)
            arguments += line.limit, line.amount, int(line.holds), line.slot, life(line.until, now)
        reply = await self._run(reserving, [*self._both(lines), self._hold(hold)], [*arguments, open_life(lines)])
        return Reserved(reply[0] - 1 if reply[0] else None, figures_of(reply))

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        """Releases what *hold* holds in each of *lines* and books *actual*, once; see `Counters`."""
        arguments: list[object] = []
        for line, amount in zip(lines, actual, strict=True):
            arguments += line.amount, int(line.holds), line.slot, life(line.until, now), amount
        keys = [self._counter(line.key, line.window.name) for line in lines]
        await self._run(settling, [*keys, self._hold(hold)], [*arguments, int(REPEATS * 1000)])

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        """Returns what each line has spent and held; see `Counters`."""
        if not lines:
            return ()  # a script without a key belongs nowhere in a cluster
        return figures_of(
            await self._run(reading, self._both(lines), [each for one in lines for each in self._read(one)])
        )

    async def aclose(self) -> None:
        """Closes what the running event loop has open. The counters stay usable."""
        client = self._clients.take()
        if client is not None and self._ours:
            with suppress(QuotaUnavailable):
                async with answering(self.timeout, RedisError, unavailable=quota_unavailable):
                    await client.aclose()

    async def _run(self, script: Script, keys: Sequence[str], arguments: Iterable[object]) -> Any:
        async with answering(self.timeout, RedisError, unavailable=quota_unavailable):
            return await script.run(self._clients.get(), keys, arguments)

    def _counter(self, key: str, window: str) -> str:
        return f"{self._prefix}counter:{window}:{key}"

    def _hold(self, hold: str) -> str:
        return f"{self._prefix}hold:{hold}"

    def _both(self, lines: Sequence[Line]) -> list[str]:
        keys: list[str] = []
        for line in lines:
            window = line.window
            keys += self._counter(line.key, window.name), self._counter(line.key, window.before or window.name)
        return keys

    def _read(self, line: Line) -> tuple[int, int, int]:
        return line.oldest, line.forgotten, line.window.parts


def figures_of(reply: Sequence[int]) -> tuple[Figures, ...]:
    """Returns the figures that follow the first number of a script's answer, three for each line."""
    return tuple(Figures(*reply[at : at + 3]) for at in range(1, len(reply), 3))


def life(until: float, now: float) -> int:
    """Returns the milliseconds from *now* to *until* as Redis takes them: at least 1."""
    return max(1, math.ceil((until - now) * 1000))


def open_life(lines: Sequence[Line]) -> int:
    """Returns the milliseconds for which a hold of *lines* may wait to be settled."""
    return math.ceil(open_for(lines) * 1000)
