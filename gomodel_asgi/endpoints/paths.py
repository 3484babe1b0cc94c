"""Which requests are ours: a path, exactly as documented, and what it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import Scope

from ..errors import InvalidRequest, MethodNotAllowed
from ..routing import Operation

ID = re.compile(r"[A-Za-z0-9_.:=-]{1,512}")
FIXED: dict[str, Operation] = {"/compact": "compact", "/input_tokens": "input_tokens"}
BELOW_ID: dict[str, dict[str, Operation]] = {
    "": {"GET": "retrieve", "DELETE": "delete"},
    "/cancel": {"POST": "cancel"},
    "/input_items": {"GET": "input_items"},
}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path stands for: *methods* maps each allowed method to its operation."""

    methods: dict[str, Operation]
    response_id: str | None = None

    def operation(self, method: str) -> Operation:
        """The operation of *method*.

        :raises MethodNotAllowed: there is none.
        """
        found = self.methods.get(method)
        if found is None:
            allow = ", ".join(self.methods)
            raise MethodNotAllowed(f"Use {allow} here.", allow=allow)
        return found


CREATE = Route({"POST": "create"})
COLLECTION = {path: Route({"POST": operation}) for path, operation in FIXED.items()}


def route_path(scope: Scope) -> str:
    """The path below the point where the app is mounted.

    Servers and frameworks differ in whether `path` includes `root_path` (ASGI: it does): it is taken off where the
    path begins with it, else what a mount has added to it (the part after `app_root_path`).
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root:
        return path
    if _below(path, root):
        return path[len(root) :]
    mounted = root.removeprefix(scope.get("app_root_path", ""))
    return path[len(mounted) :] if mounted and _below(path, mounted) else path


def _below(path: str, root: str) -> bool:
    return path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")


def match(scope: Scope, prefix: str) -> Route | None:
    """The route that the request's path is, None where it is not one of ours.

    Only the exact spelling counts: where the server tells the raw path, it must end with the same bytes, so that an
    encoded or unnormalised path is never ours here and the host's elsewhere.
    """
    path = scope["path"]
    if "/responses" not in path:
        return None
    path = route_path(scope)
    if not path.startswith(prefix + "/responses"):
        return None
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and not raw.partition(b"?")[0].endswith(path.encode()):
        return None
    return _route(path[len(prefix) + len("/responses") :])


def _route(rest: str) -> Route | None:
    if not rest:
        return CREATE
    if rest in COLLECTION:
        return COLLECTION[rest]
    id, slash, tail = rest[1:].partition("/")
    methods = BELOW_ID.get(slash + tail)
    if not rest.startswith("/") or not id or methods is None:
        return None
    return Route(methods, id)


def check_id(id: str | None) -> None:
    """An id goes into the upstream's path, so it may hold nothing that could alter one.

    :raises InvalidRequest: 404, as for any id that does not exist.
    """
    if id is not None and (not ID.fullmatch(id) or id in (".", "..")):
        raise unknown_response()


def unknown_response() -> InvalidRequest:
    """The one answer for ids that are unknown, somebody else's, or impossible."""
    return InvalidRequest("No such response is known here.", status=404, code="response_not_found", param="response_id")
