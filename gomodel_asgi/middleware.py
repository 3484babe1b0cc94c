"""What `add_middleware` takes: the Responses paths are answered here, all else goes to the host app untouched."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .arguments import check_function, check_instance
from .gateway import Gateway
from .server.paths import CREATE, match


class GoModelMiddleware:
    """Wraps *app*. Holds configuration only; each request is answered by an object of its own.

    :raises TypeError: *app* is no ASGI app, or *gateway* no Gateway.
    """

    def __init__(self, app: ASGIApp, *, gateway: Gateway) -> None:
        check_function("app", app, "an ASGI app")
        check_instance("gateway", gateway, Gateway, "a Gateway")
        self.app = app
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = match(scope, self.gateway.prefix)
            if route is not None and scope["method"] != "OPTIONS":
                return await self.gateway.serve(route, scope, receive, send)
        elif scope["type"] == "websocket":
            if match(scope, self.gateway.prefix) is CREATE:
                return await self.gateway.converse(scope, receive, send)
        elif scope["type"] == "lifespan":
            self.gateway.announce()
            return await self.app(scope, receive, self._closing(send))
        await self.app(scope, receive, send)

    def _closing(self, send: Send) -> Send:
        """*send*, with the gateway closed before the host's shutdown is reported as done."""

        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.gateway.aclose()
            await send(message)

        return closing
