"""FastAPI: the gateway as a router, behind a dependency, with a policy per tenant and customers' own keys.

    OPENAI_API_KEY=sk-... uvicorn --app-dir examples fastapi_auth:app

The paths are on the OpenAPI page, /docs.
"""

from __future__ import annotations

from typing import Annotated

from accounts import Account, account_of
from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gomodel_asgi import Denied, Gateway, RoutingRequest, Target, policies, providers
from gomodel_asgi.contrib.fastapi import responses_router

bearer = HTTPBearer(auto_error=False, description="`token-of-ada`, `token-of-bob` or `token-of-eve`")


async def current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Account | None:
    """Whose token it is. Putting the account into the scope shows it to the gateway as `request.user`."""
    account = account_of(request)
    if account is not None:
        request.scope["user"] = account
    return account


async def route(request: RoutingRequest) -> Target:
    """Who brought a key of their own may use any model with it; the others have what their plan gives."""
    account: Account = request.user
    if account.own_key is not None:
        return Target("openai", api_key=account.own_key)
    if account.plan == "free" and request.body.get("tools"):
        raise Denied("Tools are part of the team plan.")
    return Target("openai", model="gpt-5" if account.plan == "team" else "gpt-5-nano")


gateway = Gateway(providers=providers.from_env(), policy=policies.authenticated(route))

app = FastAPI()
app.include_router(responses_router(gateway, dependencies=[Depends(current_user)]))


@app.get("/me")
async def me(account: Annotated[Account | None, Depends(current_user)]) -> dict[str, str | None]:
    """A route of the app's own, with the same dependency."""
    return {"name": account.name if account else None}
