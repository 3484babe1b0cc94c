"""Rows reach the sink once, whatever is away, killed, cancelled or closed meanwhile."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import pytest

from gomodel_asgi.ledger import JsonLines, Ledger, Row, RowsRefused
from gomodel_asgi.ledger.files import append, held
from gomodel_asgi.ledger.row import Entry, decode_entry
from gomodel_asgi.ledger.spill import Spill
from gomodel_asgi.ledger.writer import Writer, Writers
from gomodel_asgi.observers import Observers

from ..support.ledgers import entries, row, rows_of
from ..support.seen import Seen

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Doubtful(JsonLines):
    """A sink in a file that is away while *away*, takes no row of the tenants *refuses*, and (*late*) does what it is
    told before it fails. *asked* counts the writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = self.late = False
        self.refuses: set[str | None] = set()
        self.asked = 0
        self.batches: list[int] = []

    async def write(self, entries: Sequence[Entry]) -> int:
        self.asked += 1
        if self.away and not self.late:
            raise ConnectionError("secret-canary-address")
        if any(entry.row.tenant in self.refuses for entry in entries):
            raise RowsRefused("DataError")
        rows = await super().write(entries)
        if self.away:
            raise ConnectionError("lost the answer")
        self.batches.append(len(entries))
        return rows


class Bench:
    """A sink, a spill and a ledger over them."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.sink = Doubtful(path / "ledger.jsonl")
        self.spill = path / "ledger.spill"
        self.seen = Seen()
        self.ledger = Ledger(self.sink, price=lambda *given: None, **options)
        self.ledger.attach(Observers([self.seen]))

    @property
    def writer(self) -> Writer:
        return self.ledger.writers.here()

    def book(self, *rows: Row) -> None:
        for one in rows:
            self.ledger.book(self.writer, Entry(one))

    def told(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for record in self.seen.records:
            result, rows = record.result, record.rows  # type: ignore[attr-defined]
            found[result] = found.get(result, 0) + rows
        return found


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the writer waits for is short."""
    monkeypatch.setattr("gomodel_asgi.ledger.writer.EVERY", 0.01)
    monkeypatch.setattr("gomodel_asgi.ledger.writer.PAUSES", (0.01,))
    monkeypatch.setattr("gomodel_asgi.ledger.writer.FAREWELL", 0.5)


def many(count: int) -> list[Row]:
    return [row() for _ in range(count)]


def ids(rows: Sequence[Row]) -> list[str]:
    return sorted(str(one.id) for one in rows)


async def test_rows_go_in_batches_and_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path), many(1201)
    bench.book(*rows)
    assert await bench.ledger.flush()
    assert bench.sink.batches == [500, 500, 201]
    assert [line[7:43] for line in bench.sink.path.read_text().splitlines()] == [str(one.id) for one in rows]
    assert bench.told() == {"written": 1201}
    await bench.ledger.aclose()


async def test_a_single_row_does_not_wait_for_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.book(*many(1))
    with anyio.fail_after(10):
        while not bench.sink.batches:  # noqa: ASYNC110  another thread brings it about
            await anyio.sleep(0.001)
    await bench.ledger.aclose()


async def test_rows_wait_while_the_sink_is_away_and_are_written_when_it_is_back(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path), many(700)
    bench.sink.away = True
    bench.book(*rows)
    assert not await bench.ledger.flush(0.1)
    assert bench.sink.asked > 1
    bench.sink.away = False
    assert await bench.ledger.flush()
    assert ids(await rows_of(bench.sink)) == ids(rows)
    assert bench.told() == {"written": 700}
    await bench.ledger.aclose()


async def test_rows_whose_commit_was_not_heard_of_are_counted_once(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path), many(3)
    bench.sink.away = bench.sink.late = True
    bench.book(*rows)
    assert not await bench.ledger.flush(0.1)
    bench.sink.away = False
    assert await bench.ledger.flush()
    (whole,) = await bench.ledger.sums(date(2026, 11, 1), date(2026, 12, 1), by=())
    assert whole.requests == 3
    await bench.ledger.aclose()


async def test_a_row_that_is_refused_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench, rows = Bench(tmp_path), many(40)
    bench.sink.refuses = {"bad"}
    bench.book(*rows[:20], row(tenant="bad"), *rows[20:])
    assert await bench.ledger.flush()
    assert ids(await rows_of(bench.sink)) == ids(rows)
    assert bench.told() == {"written": 40, "dropped": 1}
    assert "refuses the row" in caplog.text
    await bench.ledger.aclose()


async def test_a_row_that_is_refused_is_set_aside_where_there_is_a_spill(tmp_path: Path) -> None:
    bench, bad = Bench(tmp_path, spill=tmp_path / "ledger.spill"), row(tenant="bad")
    bench.sink.refuses = {"bad"}
    bench.book(bad, *many(3))
    assert await bench.ledger.flush()
    (line,) = (tmp_path / "ledger.spill.refused").read_bytes().splitlines()
    assert decode_entry(line) == Entry(bad)
    assert bench.told() == {"written": 3, "dropped": 1}
    await bench.ledger.aclose()


async def test_rows_are_spilled_while_the_sink_is_away_and_replayed_once(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path, spill=tmp_path / "ledger.spill"), many(1300)
    bench.sink.away = True
    bench.book(*rows)
    assert await bench.ledger.flush()
    assert spilled(bench) == 1300
    assert bench.told() == {"spilled": 1300}
    bench.sink.away = False
    more = many(1)
    bench.book(*more)
    await bench.ledger.flush()
    await replayed(bench)
    assert ids(await rows_of(bench.sink)) == ids([*rows, *more])
    assert len(bench.sink.path.read_text().splitlines()) == 1301
    told = bench.told()
    assert told["spilled"] == told["replayed"] and told["replayed"] + told.get("written", 0) == 1301
    await bench.ledger.aclose()


def spilled(bench: Bench) -> int:
    """How many lines lie in the spill."""
    return sum(len(path.read_text().splitlines()) for path in bench.spill.parent.glob("ledger.spill*"))


async def replayed(bench: Bench) -> None:
    """Wait until nothing is spilled any more."""
    with anyio.fail_after(10):
        while list(bench.spill.parent.glob("ledger.spill*")):  # noqa: ASYNC110  another thread brings it about
            await anyio.sleep(0.001)


async def test_a_spill_that_is_left_is_replayed_without_a_row_of_ones_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, spill=tmp_path / "ledger.spill")
    bench.sink.away = True
    bench.book(*many(5))
    assert await bench.ledger.flush()
    bench.sink.away = False
    await replayed(bench)
    assert len(await rows_of(bench.sink)) == 5
    await bench.ledger.aclose()


async def test_two_that_replay_write_each_row_once(tmp_path: Path) -> None:
    rows, path = many(2000), tmp_path / "ledger.spill"
    for at in range(0, 2000, 250):
        await Spill(path).put(entries(*rows[at : at + 250]))
    benches = [Bench(tmp_path, spill=path) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for bench in benches:
            bench.writer.start()
            tasks.start_soon(replayed, bench)
    assert ids(await rows_of(benches[0].sink)) == ids(rows)
    assert len(benches[0].sink.path.read_text().splitlines()) == 2000
    assert sum(bench.told().get("replayed", 0) for bench in benches) == 2000
    for bench in benches:
        await bench.ledger.aclose()


def test_what_is_added_while_another_takes_the_file_goes_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, taken, lock, waits = tmp_path / "spill", tmp_path / "taken", fcntl.flock, threading.Event()

    def flock(file: int, how: int) -> None:
        if threading.current_thread() is thread:
            waits.set()
        lock(file, how)

    thread = threading.Thread(target=append, args=(path, b"second\n"))
    append(path, b"first\n")
    monkeypatch.setattr("gomodel_asgi.ledger.files.fcntl.flock", flock)
    with held(path):
        thread.start()
        assert waits.wait(20)  # it has opened the file, and waits for it
        path.rename(taken)
    thread.join(20)
    assert (taken.read_bytes(), path.read_bytes()) == (b"first\n", b"second\n")


async def test_a_line_that_a_killed_process_left_half_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = many(2), many(2)
    path = tmp_path / "ledger.spill"
    await Spill(path).put(entries(*first))
    path.write_bytes(path.read_bytes() + b'{"row":{"id":"01a1')
    await Spill(path).put(entries(*second))
    bench = Bench(tmp_path, spill=path)
    bench.writer.start()
    await replayed(bench)
    assert ids(await rows_of(bench.sink)) == ids([*first, *second])
    assert "1 spilled rows were cut off" in caplog.text
    await bench.ledger.aclose()


async def test_what_a_killed_process_had_begun_to_replay_is_begun_anew(tmp_path: Path) -> None:
    rows, path = many(3), tmp_path / "ledger.spill"
    await Spill(path).put(entries(*rows))
    claim = await Spill(path).claim()
    assert claim is not None and len(await claim.read(2)) == 2
    assert await Spill(path).claim() is None
    claim.release()  # as the system does when a process dies
    bench = Bench(tmp_path, spill=path)
    bench.writer.start()
    await replayed(bench)
    assert ids(await rows_of(bench.sink)) == ids(rows)
    await bench.ledger.aclose()


async def test_a_spill_that_is_full_lets_rows_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gomodel_asgi.ledger.spill.MOST", 10)
    bench, rows = Bench(tmp_path, spill=tmp_path / "ledger.spill"), many(5)
    bench.sink.away = True
    bench.book(*rows)
    assert not await bench.ledger.flush(0.1)
    bench.sink.away = False
    assert await bench.ledger.flush()
    assert ids(await rows_of(bench.sink)) == ids(rows)
    await bench.ledger.aclose()


async def test_more_than_may_wait_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gomodel_asgi.ledger.writer.QUEUE", 10)
    bench, rows = Bench(tmp_path), many(12)
    bench.sink.away = True
    bench.book(*rows)
    assert bench.ledger.dropped == 2
    assert bench.told() == {"dropped": 2}
    assert caplog.text.count("The ledger drops rows") == 1
    bench.sink.away = False
    await bench.ledger.aclose()
    assert ids(await rows_of(bench.sink)) == ids(rows[:10])


async def test_closing_brings_everything_and_the_ledger_goes_on(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path), many(4)
    for one in rows:
        bench.book(one)
        await bench.ledger.aclose()
    assert ids(await rows_of(bench.sink)) == ids(rows)
    assert not bench.writer.running


async def test_closing_while_the_sink_is_away_spills(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path, spill=tmp_path / "ledger.spill"), many(4)
    bench.sink.away = True
    bench.book(*rows)
    await bench.ledger.aclose()
    assert spilled(bench) == 4


async def test_closing_while_the_sink_is_away_ends_and_says_what_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    bench.sink.away = True
    bench.book(*many(4))
    with anyio.fail_after(10):
        await bench.ledger.aclose()
    assert "4 rows of the ledger wait as it closes" in caplog.text
    bench.sink.away = False
    bench.book(*many(1))
    assert await bench.ledger.flush()
    assert len(await rows_of(bench.sink)) == 5
    await bench.ledger.aclose()


async def test_a_sink_that_hangs_holds_up_no_close(tmp_path: Path) -> None:
    class Hanging(Doubtful):
        async def write(self, entries: Sequence[Entry]) -> int:
            await anyio.sleep_forever()
            return 0

    bench = Bench(tmp_path, spill=tmp_path / "ledger.spill")
    bench.ledger.sink = bench.ledger.writers.sink = Hanging(tmp_path / "none")
    bench.book(*many(3))
    with anyio.fail_after(10):
        await bench.writer.close(0.05)
    assert spilled(bench) == 3


async def test_failures_of_the_sink_are_logged_once_and_quote_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    bench.sink.away = True
    bench.book(*many(1))
    assert not await bench.ledger.flush(0.1)
    assert bench.sink.asked > 2
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage().count("does not take rows: ConnectionError. ") == 1 for record in errors] == [True]
    bench.sink.away = False
    await bench.ledger.aclose()


def test_rows_of_a_loop_that_ends_without_a_close_are_written(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path), many(3)

    async def main() -> None:
        bench.book(*rows)

    asyncio.run(main())
    assert ids(asyncio.run(rows_of(bench.sink))) == ids(rows)


def test_rows_of_a_loop_that_was_closed_under_them_are_written_on_the_next(tmp_path: Path) -> None:
    bench, rows = Bench(tmp_path), many(3)

    async def main() -> None:
        bench.ledger.writers.here().waiting.extend(entries(*rows))  # its task never had a turn

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()

    async def later() -> list[Row]:
        bench.book(*many(1))
        await bench.ledger.aclose()
        return await rows_of(bench.sink)

    assert len(asyncio.run(later())) == 4


def test_a_forked_process_writes_its_own_rows_only(tmp_path: Path) -> None:
    bench, (first, second) = Bench(tmp_path), many(2)
    loop = asyncio.new_event_loop()

    async def book() -> None:
        bench.book(first)

    async def write() -> None:
        await bench.ledger.aclose()

    loop.run_until_complete(book())
    pid = os.fork()
    if pid == 0:
        try:
            bench.sink.path = tmp_path / "child.jsonl"

            async def child() -> None:
                bench.book(second)
                await bench.ledger.aclose()

            asyncio.events._set_running_loop(None)
            asyncio.run(child())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    loop.run_until_complete(write())
    loop.close()
    assert ids(asyncio.run(rows_of(bench.sink))) == ids([first])
    assert ids(asyncio.run(rows_of(JsonLines(tmp_path / "child.jsonl")))) == ids([second])


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.ledger.test_writer import Bench, many

async def main():
    bench = Bench(Path(sys.argv[1]), spill=Path(sys.argv[1]) / "ledger.spill")
    bench.sink.away = True
    bench.book(*many(800))
    await bench.ledger.flush()
    print("spilled", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_a_killed_process_has_spilled_the_next_one_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(  # noqa: ASYNC220  the test waits for it
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"spilled\n"
        process.send_signal(signal.SIGKILL)
    bench = Bench(tmp_path, spill=tmp_path / "ledger.spill")
    bench.book(*many(1))
    await bench.ledger.flush()
    await replayed(bench)
    assert len({one.id for one in await rows_of(bench.sink)}) == 801
    assert len(bench.sink.path.read_text().splitlines()) == 801
    await bench.ledger.aclose()


def test_a_sink_that_needs_asyncio_says_so_at_the_start_under_trio(tmp_path: Path) -> None:
    import trio

    class Asyncio(JsonLines):
        needs_asyncio = True

    async def main() -> None:
        with pytest.raises(RuntimeError, match="asyncio only"):
            Writers(Asyncio(tmp_path / "x"), None, lambda rows, result: None).here()

    trio.run(main)


def test_a_spill_whose_directory_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no directory"):
        Ledger(JsonLines(tmp_path / "x"), spill=tmp_path / "no" / "spill")
    with pytest.raises(ValueError, match="on_full"):
        Ledger(JsonLines(tmp_path / "x"), on_full="wait")  # type: ignore[arg-type]
