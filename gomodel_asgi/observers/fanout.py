"""The observers of a gateway as one: whatever one of them does, the others and the request go on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

from .records import Context, KeepAliveLost, Record

logger = logging.getLogger("gomodel_asgi.observers")


class Observer(Protocol):
    """Called with each record, on the event loop: it must not block, cannot steer, and what it raises is logged once.

    One that has an `async def aclose(self)` is closed with the gateway.
    """

    def __call__(self, record: Record, /) -> object: ...


class Observers:
    """All of a gateway's observers; false where there is none."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.observers = tuple(observers)
        self.failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.observers)

    def tell(self, record: Record) -> None:
        """Give *record* to each; what one raises is logged the first time."""
        for observer in self.observers:
            try:
                observer(record)
            except Exception as error:
                self._failed(observer, error)

    def keepalive_lost(self, origin: str, seconds: float) -> None:
        """Tell that connections to *origin* are not used again for *seconds*."""
        if self.observers:
            self.tell(KeepAliveLost(Context(0, ""), origin=origin, seconds=seconds))

    async def aclose(self) -> None:
        """Close those that can be closed. Never raises."""
        for observer in self.observers:
            closing: Any = getattr(observer, "aclose", None)
            if closing is not None:
                await self._closed(observer, closing())

    async def _closed(self, observer: Observer, closing: Awaitable[object]) -> None:
        try:
            await closing
        except Exception as error:
            self._failed(observer, error)

    def _failed(self, observer: object, error: Exception) -> None:
        # Its type only: the text of an exception may quote anything, a key included.
        if id(observer) not in self.failed:
            self.failed.add(id(observer))
            name = type(observer).__qualname__
            logger.error("The observer %s raised %s; later failures are not logged.", name, type(error).__name__)
