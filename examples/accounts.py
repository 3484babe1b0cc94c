"""What every host app has already: accounts, and a way to tell whose request it is. Used by the other examples."""

from __future__ import annotations

from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.requests import HTTPConnection


class Account(BaseUser):
    """A user of the host app. *own_key* is the provider key that a customer has brought."""

    def __init__(self, name: str, plan: str, own_key: str | None = None) -> None:
        self.name = name
        self.plan = plan
        self.own_key = own_key

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.name

    @property
    def identity(self) -> str:
        """What the gateway keeps tenants apart by."""
        return self.name


ACCOUNTS = {
    "token-of-ada": Account("ada", plan="team"),
    "token-of-bob": Account("bob", plan="free"),
    "token-of-eve": Account("eve", plan="team", own_key="sk-eves-own"),
}


def account_of(connection: HTTPConnection) -> Account | None:
    """The account whose token the request carries, as OpenAI's SDKs send their key: `Authorization: Bearer …`."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return ACCOUNTS.get(token) if scheme.lower() == "bearer" else None


class TokenBackend(AuthenticationBackend):
    """For Starlette's AuthenticationMiddleware. It lets anonymous requests pass: the policy must refuse them."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        account = account_of(conn)
        return None if account is None else (AuthCredentials(["authenticated"]), account)
