"""A FastAPI app that serves the Responses API and decides per tenant which model answers.

    python examples/quickstart.py

It needs no key: the model is a fake one, in this process but on a real socket. With OPENAI_API_KEY set it is OpenAI.
PORT chooses another port than 8000.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import Scope

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, RoutingRequest, Target, providers
from gomodel_asgi.testing import FakeProvider

PLANS = {"acme": "gpt-5", "globex": "gpt-5-mini"}
"""The host's own knowledge of its tenants; in a real app, a database."""


def tenant(scope: Scope) -> str | None:
    """Whose request it is. A real app asks its login, never a header that anybody can write."""
    return Headers(scope=scope).get("x-tenant")


async def route(request: RoutingRequest) -> Target:
    """Each tenant gets the model of its plan, whatever the client asked for."""
    return Target("openai", model=PLANS.get(request.tenant or "", "gpt-5-nano"))


def make_app(upstream: Provider) -> FastAPI:
    """The host app, with the gateway in it."""
    app = FastAPI(title="Quickstart")

    @app.get("/")
    async def home() -> dict[str, str]:
        return {"message": "The host's own routes work as ever."}

    app.add_middleware(GoModelMiddleware, gateway=Gateway(providers=[upstream], policy=route, tenant=tenant))
    return app


TRY_IT = """
{model} is served on {url}. With curl:

curl -sN {url}/responses -H 'content-type: application/json' -H 'x-tenant: acme' -d '{{"model": "any", "input": "Hello"}}'

With the OpenAI SDK ({python}):

from openai import OpenAI
client = OpenAI(base_url="{url}", api_key="none", default_headers={{"x-tenant": "globex"}})
with client.responses.stream(model="any", input="Hello from Python") as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    response = stream.get_final_response()
print("\\nanswered by", response.model)

Ctrl-C stops it.
"""  # noqa: E501  the curl line works as it is printed


def listening(port: int) -> socket.socket:
    """A socket on *port*; where it is taken, this ends with a sentence that says so."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"Port {port}: {os.strerror(error.errno or 0)}. Choose another: PORT=8001 python {sys.argv[0]}")


def main() -> None:
    """Serve until Ctrl-C."""
    with ExitStack() as stack:
        if os.environ.get("OPENAI_API_KEY"):
            upstream, model = providers.openai(), "OpenAI"
        else:
            fake = stack.enter_context(FakeProvider(pace=0.05).run_in_thread())
            upstream, model = Provider("openai", fake.base_url), "A fake model"
        listener = listening(int(os.environ.get("PORT", "8000")))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        print(TRY_IT.format(url=url, model=model, python=sys.executable), flush=True)
        uvicorn.Server(uvicorn.Config(make_app(upstream), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped.")
        sys.exit(130)
