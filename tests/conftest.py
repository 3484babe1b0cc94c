"""What every test may use: the event loops, a served host app, a leak check."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
import trustme
from hypothesis import HealthCheck, settings

from gomodel_asgi.testing import FakeProvider

from .support.engines import open_atomic, open_store, postgres_server, redis_server, store, workers
from .support.gateways import make
from .support.serving import Served, serve_with_uvicorn
from .support.stage import Stage, staged

TESTS = Path(__file__).parent
FORMATTER = logging.Formatter()
HEADS = {
    "httpx": "HTTP Request: ",  # of the tests' own clients: the gateway has transports and no client
    "websockets.server": "",
    "websockets.client": "> Authorization: ",
    "httpcore": "receive_response_headers.complete",
}
"""Which loggers, and how they begin, show heads: what test servers get and test clients send, and those of replies,
whatever an upstream quotes there. (Ours go out in lower case.)"""

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a busy machine is no fault: no test asks how long something took

__all__ = ["make", "open_atomic", "open_store", "postgres_server", "redis_server", "store", "workers"]


LONG = (
    "test_docs.py",  # a process for each page, and the site
    "console/test_browser.py",
    "ledger/test_adding_up.py",
    "typing/test_public_api.py",  # two type checkers, which read the whole package
    "test_examples.py",
    "contrib/test_fuzzed.py",
    "ledger/test_databases.py",
    "quotas/test_workers.py",
    "quotas/test_counters_processes.py",
    "quotas/test_counters_machine.py",
    "test_wheel.py",
)
"""Files that take long and have few tests. They are run first, so that no process is left with one at the end."""


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell lets what it starts in the background ignore Ctrl-C, as would all processes that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.option.loadscopereorder = False  # processes that share the files take them in our order
    gone = [name for name in LONG if not (TESTS / name).exists()]
    if gone:
        raise pytest.UsageError(f"LONG in {__file__} names files that are gone: {gone}.")
    trust_one(config)


def trust_one(config: pytest.Config) -> None:
    """Lets all clients trust one authority in place of the system's: each reads them anew, which takes 20 ms, and no
    test speaks with anybody whom they vouch for."""
    roots = NamedTemporaryFile(suffix=".pem")
    config.add_cleanup(roots.close)
    roots.write(trustme.CA().cert_pem.bytes())
    roots.flush()
    os.environ["SSL_CERT_FILE"] = roots.name


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays until the end, so that the garbage collector need not look at it, neither while it is
    made nor later: of millions of objects each look takes a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files, the long ones come first, then those with the most tests.

    A test is called alike in every process, or two processes cannot share them: no name holds an address.
    """
    if hasattr(config, "workerinput"):
        counts = Counter(item.path for item in items)
        rank = {TESTS / name: place for place, name in enumerate(LONG)}
        items.sort(key=lambda item: (rank.get(item.path, len(LONG)), -counts[item.path], item.path))
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"Give ids to the parameters of {unstable[0]}: its name differs in each process.")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Async tests run on both event loops, unless a module narrows it."""
    return str(request.param)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """An upstream on a real socket, in a thread of its own."""
    with FakeProvider().run_in_thread() as running:
        yield running


@pytest.fixture
def serve() -> Iterator[Served]:
    """Serves ASGI apps with uvicorn, each on a port of its own, until the test ends."""
    with serve_with_uvicorn() as served:
        yield served


@pytest.fixture(scope="module")
def stages() -> Iterator[Callable[[], Stage]]:
    """One server and one provider for all tests of a module."""
    with serve_with_uvicorn() as served, staged(served) as stage:
        yield stage


@pytest.fixture
def stage(stages: Callable[[], Stage]) -> Iterator[Stage]:
    """A served gateway of the test's own; nothing may be left of it afterwards."""
    made = stages()
    yield made
    made.provider.release()
    made.settle()


@pytest.fixture(autouse=True)
def no_key_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every key in these tests has `canary` in it, and none may reach a log record, tracebacks included. (`caplog.text`
    is that of the phase it is read in alone, here the end of the test.)"""
    caplog.set_level(logging.DEBUG)
    yield
    for phase in ("setup", "call"):
        told = [(record.name, FORMATTER.format(record)) for record in caplog.get_records(phase)]
        assert [text for name, text in told if "canary" in text and not _is_head(name, text)] == []


def _is_head(name: str, text: str) -> bool:
    return any(name.startswith(logger) and text.startswith(start) for logger, start in HEADS.items())
