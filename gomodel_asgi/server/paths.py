"""Which requests are ours: a path, exactly as documented, its operation, and the provider that it hints at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_plus, unquote_to_bytes

from starlette.types import Scope

from ..errors import InvalidRequest, MethodNotAllowed, ProviderConflict
from ..history.records import unknown_response
from ..operations import PLACEHOLDER, TABLE, Operation
from ..wire.headers import HINT

ID = re.compile(r"[A-Za-z0-9_.:=-]{1,512}")
NOTHING = (
    "Nothing is served at this path. The Responses API is at {0}/responses, {0}/conversations and {0}/models,"
    " without a slash at the end; other APIs are not served."
)
LONGEST_NAME = 512  # characters of a model's name


@dataclass(frozen=True, slots=True)
class Route:
    """What a path stands for: *methods* maps each allowed method to its operation. *model* is the model it names. Of a
    path that is not one of ours *base* is what stands before those that are."""

    methods: dict[str, Operation]
    response_id: str | None = None
    item_id: str | None = None
    model: str | None = None
    base: str = ""

    def operation(self, method: str) -> Operation:
        """Returns the operation of *method*.

        :raises MethodNotAllowed: there is none.
        :raises InvalidRequest: 404, the path has no methods at all: it is not one of ours.
        """
        if not self.methods:
            raise InvalidRequest(NOTHING.format(self.base), status=404, code="unknown_path")
        found = self.methods.get(method)
        if found is None:
            allow = ", ".join(self.methods)
            raise MethodNotAllowed(f"Use {allow} here.", allow=allow)
        return found


def _methods() -> dict[str, dict[str, Operation]]:
    """Returns the operations of each path of the table, by method. What a WebSocket carries has no method."""
    found: dict[str, dict[str, Operation]] = {}
    for row in TABLE:
        if row.method != "WEBSOCKET":
            found.setdefault(PLACEHOLDER.sub("{}", row.path), {})[row.method] = row.operation
    return found


METHODS = _methods()
FIXED = {path: Route(methods) for path, methods in METHODS.items() if "{}" not in path}
CREATE = FIXED["/responses"]
MODELS = FIXED["/models"]
ROOTS = tuple({"/" + path.split("/")[1] for path in METHODS})


def route_path(scope: Scope) -> str:
    """Returns the path below the point where the app is mounted.

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


def base_of(scope: Scope, prefix: str) -> str:
    """Returns what clients put before `/responses`: where the app is mounted, and *prefix*."""
    root: str = scope.get("root_path", "")
    return root.rstrip("/") + prefix


def _below(path: str, root: str) -> bool:
    return path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")


def match(scope: Scope, prefix: str) -> Route | None:
    """Returns the route of the request's path, None where it is not one of ours.

    Only the exact spelling counts: where the server gives the raw path, it must end with the same bytes, so that an
    encoded or unnormalised path is never ours here and the host's elsewhere.
    """
    path: str = route_path(scope) if scope.get("root_path") else scope["path"]
    raw, below = scope.get("raw_path"), path[len(prefix) :]
    if not path.startswith(prefix) or not below.startswith(ROOTS):
        return None
    if below.startswith("/models"):
        return _models(raw, prefix + "/models", path)
    route = FIXED.get(below)
    if route is not None and raw == path.encode():
        return route
    route = route or _named(below.split("/"))
    return route if route is not None and _is_spelled(raw, path) else None


def route_of(scope: Scope) -> Route:
    """Returns the route of a request in the host's own route, whatever its path: one that ends like one of ours is
    that operation's (a GET of `…/models` the models'), any other creates a response."""
    path = route_path(scope)
    at = path.rfind("/responses")
    if at < 0 and scope["method"] == "GET":
        at = path.rfind("/models")
    if at < 0:
        at = path.find("/conversations")
    return CREATE if at < 0 else match({"type": "http", "path": path[at:]}, "") or CREATE


def _named(parts: list[str]) -> Route | None:
    """Returns the route of a path with ids, which are every second part of it: `/responses/{id}/cancel`."""
    ids = parts[2::2]
    if not ids or not all(ids):
        return None
    methods = METHODS.get("/".join(part if number % 2 else "{}" for number, part in enumerate(parts))[2:])
    return None if methods is None else Route(methods, *ids)


def _is_spelled(raw: bytes | None, path: str) -> bool:
    return raw is None or raw.partition(b"?")[0].endswith(path.encode())


def _models(raw: bytes | None, at: str, path: str) -> Route | None:
    if path == at:
        return MODELS if _is_spelled(raw, path) else None
    name = path[len(at) + 1 :]
    if not path.startswith(at + "/") or not 0 < len(name) <= LONGEST_NAME:
        return None
    # Names may hold slashes, which clients escape: behind `at` the raw path may be spelled in another way.
    if raw is not None and not (b"%s/" % at.encode() in raw and _is_spelled(unquote_to_bytes(raw), path)):
        return None
    return Route({"GET": "models"}, model=name)


def check_id(id: str | None) -> None:
    """Refuses an id that could alter the upstream's path, of which it becomes a part.

    :raises InvalidRequest: 404, as for any id that does not exist.
    """
    if id is not None and (not ID.fullmatch(id) or id in (".", "..")):
        raise unknown_response()


# The provider hint, gathered from where a client may put it; it never goes further than this.


LONGEST = 256  # characters of a hint; a provider's name has at most 64


def split_query(raw: bytes) -> tuple[str, list[str]]:
    """Returns the raw query without its `provider` members, and the values of those.

    :raises InvalidRequest: the query holds bytes that no URL may hold.
    """
    if not raw:
        return "", []
    if any(byte <= 0x20 or byte >= 0x7F for byte in raw):
        raise InvalidRequest("The query string is not a valid one.", code="invalid_query")
    kept, hints = [], []
    for part in raw.decode("ascii").split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == "provider":
            hints.append(unquote_plus(value))
        else:
            kept.append(part)
    return "&".join(kept), hints


def agreed(body: str | None, headers: Iterable[tuple[bytes, bytes]], query: list[str]) -> str | None:
    """Returns the hint that all sources agree on, None where none gives one.

    :raises ProviderConflict: two of them disagree.
    :raises InvalidRequest: a hint holds what no name can hold.
    """
    hint = body or None
    if headers or query:
        given = [value.decode("latin-1") for name, value in headers if name == HINT]
        found = {one.strip() for one in (*given, *query, body or "")} - {""}
        if len(found) > 1:
            raise ProviderConflict("The provider hints in body, header and query disagree; give one.")
        hint = next(iter(found), None)
    if hint is not None and (len(hint) > LONGEST or not hint.isprintable()):
        raise InvalidRequest("'provider' is not a provider's name.", param="provider", code="invalid_type")
    return hint
