"""Hosted tools on any upstream: web_search, file_search, code_interpreter and mcp, run by this app's own functions.

    python examples/hosted_tools.py

It needs no key: the model is a fake one that calls whatever tools it is offered, in this process but on a real socket.
With OPENAI_API_KEY set it is OpenAI. PORT chooses another port than 8000. Tokens of callers are in `accounts.py`.

WARNING: `execute` below is no sandbox. It bounds time, memory (on Linux) and output of code that a model writes, and
nothing else: as the user who started this, the code may read this machine's files, use its network and leave processes
behind. Before anybody but you can call your app, run code in a container or a virtual machine of its own.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import uvicorn
from accounts import TokenBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, RoutingRequest, Target, policies, providers, tools
from gomodel_asgi.testing import Answer, FakeProvider, Prompt, ToolCall

DOCS = Path(__file__).parents[1] / "docs"


# A search engine of the host's own: this project's documentation in SQLite's full-text index...


class Library:
    """The sections of the pages in *folder*, which are served below *site*."""

    def __init__(self, folder: Path, site: str) -> None:
        self.site = site
        self.lock = threading.Lock()
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.database.execute("CREATE VIRTUAL TABLE sections USING fts5(page, title, text)")
        for page in sorted(folder.glob("*.md")):
            for section in page.read_text().split("\n## "):
                title, _, text = section.lstrip("# ").partition("\n")
                self.database.execute("INSERT INTO sections VALUES (?, ?, ?)", (page.name, title, text))

    def find(self, query: str, most: int = 3) -> Iterator[tuple[str, str, str, float]]:
        """Page, title, text and score of the sections that fit best."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query)) or '""'
        chosen = "SELECT page, title, text, -rank FROM sections WHERE sections MATCH ? ORDER BY rank LIMIT ?"
        with self.lock:
            rows = self.database.execute(chosen, (words, most)).fetchall()
        for page, title, text, score in rows:
            yield page, title, text[:2000], score / (1 + score)

    def search(self, call: tools.Call) -> list[tools.Page]:
        """For web_search. A plain function runs in a thread."""
        found = self.find(call.arguments["query"])
        return [tools.Page(f"{self.site}/{page}", title, text) for page, title, text, _ in found]

    def passages(self, call: tools.Call) -> list[tools.Passage]:
        """For file_search. A real app looks up which of `call.tool["vector_store_ids"]` this tenant may read."""
        found = [row for query in call.arguments["queries"] for row in self.find(query)]
        return [tools.Passage(page, page, text, score) for page, _, text, score in found]


# Functions on the host's own data, as the MCP server "orders"...


class Orders:
    """The orders of all tenants."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, tenant TEXT, status TEXT)")
        rows = [(7, "ada", "on its way"), (8, "ada", "delivered"), (9, "bob", "delivered")]
        self.database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)

    def status(self, number: int, call: tools.Call) -> str:
        """Where an order is."""
        with self.lock:
            return f"Order {number} is {self._status(number, call)}."

    def refund(self, number: int, call: tools.Call) -> str:
        """Pay an order back."""
        with self.lock:
            if self._status(number, call) == "paid back":
                raise tools.ToolError(f"Order {number} has been paid back already.")
            self.database.execute("UPDATE orders SET status = 'paid back' WHERE number = ?", (number,))
        return f"Order {number} has been paid back."

    def _status(self, number: int, call: tools.Call) -> str:
        """The tenant is the host's own knowledge, never an argument that the model could choose."""
        chosen = "SELECT status FROM orders WHERE number = ? AND tenant = ?"
        row = self.database.execute(chosen, (number, call.request.tenant)).fetchone()
        if row is None:
            raise tools.ToolError(f"There is no order {number}.")
        return str(row[0])


# Code, in a process with limits. NO SANDBOX: see above...

SECONDS = 5
LIMITED = """
import resource, sys
limits = {"CPU": 2, "FSIZE": 64 << 10, "NOFILE": 32, "CORE": 0}
if sys.platform == "linux":  # elsewhere a process may not be given less memory than it has mapped
    limits["AS"] = 512 << 20
for name, most in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
exec(compile(sys.argv[1], "code", "exec"), {"__name__": "__main__"})
"""


async def execute(call: tools.Call) -> tools.Execution:
    """Runs the code in a process and a folder of its own, without this process's environment."""
    note = "[The time is up.]"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        with anyio.move_on_after(SECONDS):  # the process is killed when the time is up
            ended = await anyio.run_process(
                [sys.executable, "-I", "-c", LIMITED, call.arguments["code"]],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False, cwd=folder, env={},
            )  # fmt: skip
            note = f"[It ended with status {ended.returncode}.]" if ended.returncode else ""
        output.seek(0)
        logs = output.read().decode("utf-8", "replace")
    return tools.Execution(logs + note)


# The app...


async def route(request: RoutingRequest) -> Target:
    """Everybody who has logged in gets the same model."""
    return Target("upstream", model="gpt-5-mini")


def make_app(upstream: Provider, origin: str) -> Starlette:
    """The host app, with the gateway in it."""
    library, orders = Library(DOCS, f"{origin}/docs"), Orders()
    gateway = Gateway(
        providers=[upstream],
        policy=policies.authenticated(route),
        tools=[
            tools.web_search(library.search, use="always", live=False),  # an index: it goes nowhere
            tools.file_search(library.passages, use="always"),
            tools.code_interpreter(execute, use="always"),
            tools.mcp({"orders": [orders.status, tools.function(orders.refund, approval="always")]}),
        ],
    )
    middleware = [
        Middleware(AuthenticationMiddleware, backend=TokenBackend()),
        Middleware(GoModelMiddleware, gateway=gateway),
    ]
    return Starlette(routes=[Mount("/docs", StaticFiles(directory=DOCS))], middleware=middleware)


def model(prompt: Prompt) -> Answer:
    """The fake model: calls each tool that it is offered, then says what it was shown, with links and marks."""
    said = prompt.last.text
    if prompt.last.role == "tool":
        shown = "\n".join(output.text for output in prompt.outputs)
        cited = re.findall(r"\[[^\[\]\n]+\]\(https?://\S+?\)|【\d+†[^】]+】", shown)
        return Answer(text="See " + ", ".join(cited) if cited else shown)
    number = next(iter(re.findall(r"\d+", said)), "0")
    arguments: dict[str, dict[str, object]] = {
        "web_search": {"query": said},
        "file_search": {"queries": [said]},
        "code_interpreter": {"code": said},
        "refund" if "refund" in said.lower() else "status": {"number": int(number)},
    }
    calls = [ToolCall(tool.name, arguments[tool.name]) for tool in prompt.tools if tool.name in arguments]
    return Answer(calls=calls) if calls else Answer(text="Offer me a tool.")


CURL = """
curl -s {url}/responses -H 'content-type: application/json' -H 'authorization: Bearer token-of-ada' -d '{body}'"""
BODIES = [
    '{"model": "any", "input": "retries and fallbacks", "tools": [{"type": "web_search"}]}',
    '{"model": "any", "input": "background", "tools": [{"type": "file_search", "vector_store_ids": ["docs"]}], "stream": true}',  # noqa: E501
    '{"model": "any", "input": "print(6 * 7)", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}',
    '{"model": "any", "input": "Where is order 7?", "tools": [{"type": "mcp", "server_label": "orders", "require_approval": "never"}]}',  # noqa: E501
]
TRY_IT = """
{model} is served on {url}. It searches the documentation of gomodel_asgi, runs code, and knows orders:

{lines}

What the host wants to have approved waits for you, with the OpenAI SDK ({python}):

from openai import OpenAI
client = OpenAI(base_url="{url}", api_key="token-of-ada")
orders = {{"type": "mcp", "server_label": "orders"}}
first = client.responses.create(model="any", input="Refund order 8.", tools=[orders])
asked = next(item for item in first.output if item.type == "mcp_approval_request")
print("May it call", asked.name, asked.arguments)
answer = {{"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": True}}
second = client.responses.create(model="any", input=[answer], previous_response_id=first.id, tools=[orders])
print(second.output_text)

WARNING: code runs as a process of yours, with limits, but in no sandbox. Ctrl-C stops it all.
"""


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
            upstream, name = providers.openai(name="upstream"), "OpenAI"
        else:
            fake = stack.enter_context(FakeProvider(dialect="chat", model=model).run_in_thread())
            upstream, name = Provider("upstream", fake.base_url, dialect="chat"), "A fake model"
        listener = listening(int(os.environ.get("PORT", "8000")))
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        lines = "\n".join(CURL.format(url=f"{origin}/v1", body=body) for body in BODIES)
        print(TRY_IT.format(url=f"{origin}/v1", model=name, lines=lines, python=sys.executable), flush=True)
        uvicorn.Server(uvicorn.Config(make_app(upstream, origin), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped.")
        sys.exit(130)
