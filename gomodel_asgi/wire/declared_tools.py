"""A client's declaration of a tool as it may be shown, kept and told: without what is secret in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

SECRET = frozenset({"authorization", "domain_secrets"})
"""Members that are left out wherever they stand in a declaration."""


def scrubbed(tool: Any, public: Collection[str] = ()) -> Any:
    """*tool* without its credentials: `authorization` and `domain_secrets` gone, `headers` null, `server_url` without
    userinfo, query and fragment, and without its path, which may be a token, unless its label is *public*."""
    if not isinstance(tool, dict):
        return tool
    shown: Json = _without_secrets(tool)
    if shown.get("type") == "mcp":
        if shown.get("headers") is not None:
            shown["headers"] = None
        if shown.get("server_url") is not None:
            shown["server_url"] = shown_url(shown["server_url"], with_path=shown.get("server_label") in public)
    return shown


def shown_url(url: Any, *, with_path: bool) -> str | None:
    """Returns what may be shown of *url*: scheme, host and port, and its path if that is no secret; None if it is no
    URL."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path if with_path else ''}"


def credentials_of(tool: Any, *, with_path: bool = False) -> tuple[str, ...]:
    """What `scrubbed` takes out of *tool*, as far as it is text: to black it out wherever somebody quotes it. The path
    of its `server_url` counts unless it may stay (*with_path*)."""
    if not isinstance(tool, dict):
        return ()
    headers = tool.get("headers")
    found = [tool.get("authorization"), *(headers.values() if isinstance(headers, dict) else ())]
    if isinstance(url := tool.get("server_url"), str) and shown_url(url, with_path=with_path) != url:
        found.append(url)
    container = tool.get("container")
    policy = container.get("network_policy") if isinstance(container, dict) else None
    secrets = policy.get("domain_secrets") if isinstance(policy, dict) else None
    found += [one.get("value") for one in secrets or () if isinstance(one, dict)] if isinstance(secrets, list) else []
    return tuple(value for value in found if isinstance(value, str))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(member) for name, member in value.items() if name not in SECRET}
    return [_without_secrets(member) for member in value] if isinstance(value, list) else value
