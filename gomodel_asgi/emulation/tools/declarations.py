"""The tools that the host has configured, and those that a request declares, as far as the host could run them.

A declaration is read once, before any upstream is chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...dialects.tools import family_of
from ...dialects.values import expect, malformed, optional_string, string
from ...errors import InvalidRequest
from ...seams.transport import Transport
from ...tools import FAMILIES, Approval, HostTool, Server
from ...wire.response import credentials_of, scrubbed
from .seams import Json, Listed, Source

# What the host has configured, looked up by family and label.


@dataclass(slots=True, eq=False, repr=False)  # servers have credentials in their headers
class Toolbox:
    """The host's tools: *hosts* by family, *servers* and their *sources* by label. *client_named* is how servers are
    opened that only a client names, None where none are; *transport* reaches servers by URL."""

    transport: Transport
    hosts: dict[str, HostTool] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    client_named: Source | None = None

    @property
    def public(self) -> frozenset[str]:
        """The labels whose paths are no secret."""
        return frozenset(label for label, server in self.servers.items() if server.public)


APPROVALS = ("always", "never")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tools of a server are meant: those of *names* (None: any), and (*read_only*) those that say so of
    themselves; both must hold."""

    names: frozenset[str] | None = None
    read_only: bool | None = None

    def admits(self, tool: Listed) -> bool:
        """Returns whether *tool* is among them."""
        if self.names is not None and tool.name not in self.names:
            return False
        return self.read_only is None or tool.read_only is self.read_only


@dataclass(frozen=True, slots=True)
class Declared:
    """One declaration at *path*: *value* as the client sent it, *shown* without its credentials. *added* says that the
    host's policy has added it."""

    path: str
    family: str
    value: Json = field(repr=False)
    shown: Json = field(repr=False)
    added: bool = False

    @property
    def label(self) -> str:
        """The `server_label` of an MCP server, else empty."""
        label = self.value.get("server_label")
        return label if self.family == "mcp" and isinstance(label, str) else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Returns the credentials in it."""
        return credentials_of(self.value)

    @property
    def allowed(self) -> Filter:
        """Returns the filter that its `allowed_tools` is.

        :raises InvalidRequest: it is malformed.
        """
        given = self.value.get("allowed_tools")
        return Filter() if given is None else _filter(given, f"{self.path}.allowed_tools")

    def approval_of(self, tool: Listed) -> Approval:
        """Returns whether the client wants to approve calls of *tool*. It does where it says both, or nothing.

        :raises InvalidRequest: its `require_approval` is malformed.
        """
        given, path = self.value.get("require_approval"), f"{self.path}.require_approval"
        if self.added:
            return "never"
        if given is None or isinstance(given, str):
            if given is not None and given not in APPROVALS:
                raise malformed(path, f"must be one of {', '.join(APPROVALS)}, or an object")
            return "never" if given == "never" else "always"
        found = {name: _filter(value, f"{path}.{name}") for name, value in expect(given, dict, path).items() if value}
        if unknown := found.keys() - set(APPROVALS):
            raise malformed(f"{path}.{min(unknown)[:64]}", f"must be one of {', '.join(APPROVALS)}")
        if "always" in found and found["always"].admits(tool):
            return "always"
        return "never" if "never" in found and found["never"].admits(tool) else "always"


def read_declarations(
    tools: Any, added: Iterable[Mapping[str, Any]] = (), public: Collection[str] = ()
) -> list[Declared]:
    """The declarations of hosted tools in the member *tools*, then those that the policy has *added*.

    :raises InvalidRequest: one is malformed, or two servers have one label; *param* is its path.
    """
    values = [] if tools is None else expect(tools, list, "tools")
    found = []
    for index, value in enumerate([*values, *added]):
        path = f"tools[{index}]"
        kind = string(expect(value, dict, path), "type", path)
        family = family_of(kind)
        if family in FAMILIES:
            found.append(Declared(path, family, dict(value), scrubbed(dict(value), public), index >= len(values)))
    _check(found)
    return found


def _check(declared: Sequence[Declared]) -> None:
    """Checks that each server has a label of its own.

    :raises InvalidRequest: two have the same.
    """
    labels: set[str] = set()
    for one in declared:
        if one.family != "mcp":
            continue
        label = string(one.value, "server_label", one.path)
        if label in labels:
            message = f"`{one.path}.server_label` is that of another server of this request too."
            raise InvalidRequest(message, code="invalid_value", param=f"{one.path}.server_label")
        labels.add(label)
        for name in ("server_url", "authorization", "server_description", "connector_id"):
            optional_string(one.value, name, one.path)
        if one.value.get("headers") is not None:
            expect(one.value["headers"], dict, f"{one.path}.headers")


def _filter(given: Any, path: str) -> Filter:
    """Returns the filter that *given* is: names of tools, or whether they only read.

    :raises InvalidRequest: it is malformed.
    """
    if isinstance(given, list):
        return Filter(frozenset(expect(name, str, f"{path}[{index}]") for index, name in enumerate(given)))
    members = expect(given, dict, path)
    names, read_only = members.get("tool_names"), members.get("read_only")
    if read_only is not None and not isinstance(read_only, bool):
        raise malformed(f"{path}.read_only", "must be a boolean")
    return Filter(None if names is None else _filter(expect(names, list, f"{path}.tool_names"), path).names, read_only)
