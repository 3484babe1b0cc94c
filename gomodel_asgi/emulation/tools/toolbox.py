"""What the host has configured, looked up by family and label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...tools import HostTool, McpTool, Remote, Server, Tool
from .functions import FunctionSource
from .source import Source


class Toolbox:
    """The host's tools: *hosts* by family, *servers* and their *sources* by label.

    :raises TypeError: something else than a tool is among *tools*.
    :raises ValueError: two tools of one family, or two servers of one label.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.hosts: dict[str, HostTool] = {}
        self.servers: dict[str, Server] = {}
        self.sources: dict[str, Source] = {}
        self.remote: Remote | None = None
        for tool in tools:
            self._add(tool)

    def _add(self, tool: Tool) -> None:
        if isinstance(tool, HostTool):
            if tool.family in self.hosts:
                raise ValueError(f"tools: {tool.family} is there twice; give it one function.")
            self.hosts[tool.family] = tool
        elif isinstance(tool, McpTool):
            self._add_servers(tool.servers)
            self.remote = tool.remote or self.remote
        else:
            raise TypeError(f"tools: {type(tool).__name__} is no tool; make one with tools.web_search and its kin.")

    def _add_servers(self, servers: Mapping[str, Server]) -> None:
        for label, server in servers.items():
            if label in self.servers:
                raise ValueError(f"tools: the label {label!r} is there twice; give each server a label of its own.")
            self.servers[label] = server
            self.sources[label] = source_of(label, server)

    @property
    def public(self) -> frozenset[str]:
        """The labels whose paths are no secret."""
        return frozenset(label for label, server in self.servers.items() if server.public)


def source_of(label: str, server: Server) -> Source:
    """How *server* is opened.

    :raises TypeError: it is of no kind that can be.
    """
    if isinstance(server.source, tuple):
        return FunctionSource(label, server.source)
    raise TypeError(f"mcp: {label!r}: {type(server.source).__name__} cannot be opened here; give a list of functions.")
