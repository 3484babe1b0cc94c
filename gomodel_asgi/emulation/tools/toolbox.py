"""What the host has configured, looked up by family and label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...seams.transport import Transport
from ...tools import HostTool, McpTool, Server, Tool
from .functions import FunctionSource
from .remote import client_named, source_of
from .source import Source


class Toolbox:
    """The host's tools: *hosts* by family, *servers* and their *sources* by label. *strangers* is how servers are
    opened that only a client names, None where none are; *transport* reaches servers by URL.

    :raises TypeError: something else than a tool is among *tools*, or a server is of no kind that can be opened.
    :raises ValueError: two tools of one family, or two servers of one label; a URL or a header cannot be used.
    :raises ImportError: a server needs the extra `mcp`, which is not installed.
    """

    def __init__(self, tools: Iterable[Tool], transport: Transport) -> None:
        self.transport = transport
        self.hosts: dict[str, HostTool] = {}
        self.servers: dict[str, Server] = {}
        self.sources: dict[str, Source] = {}
        self.strangers: Source | None = None
        for tool in tools:
            self._add(tool)

    def _add(self, tool: Tool) -> None:
        if isinstance(tool, HostTool):
            if tool.family in self.hosts:
                raise ValueError(f"tools: {tool.family} is there twice; give it one function.")
            self.hosts[tool.family] = tool
        elif isinstance(tool, McpTool):
            self._add_servers(tool.servers)
            if tool.remote is not None:
                self.strangers = client_named(tool.remote, self.transport)
        else:
            raise TypeError(f"tools: {type(tool).__name__} is no tool; make one with tools.web_search and its kin.")

    def _add_servers(self, servers: Mapping[str, Server]) -> None:
        for label, server in servers.items():
            if label in self.servers:
                raise ValueError(f"tools: the label {label!r} is there twice; give each server a label of its own.")
            self.servers[label] = server
            self.sources[label] = (
                FunctionSource(label, server.source)
                if isinstance(server.source, tuple)
                else source_of(label, server, self.transport)
            )

    @property
    def public(self) -> frozenset[str]:
        """The labels whose paths are no secret."""
        return frozenset(label for label, server in self.servers.items() if server.public)
