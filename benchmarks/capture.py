"""Change data capture: how many row changes per second reach the target, and how late.

    python -m benchmarks capture [--scale 1] [--only WORD]

First, changes are written while nobody reads. Then the log is read, by us and by
`mysql-replication`. Then it is applied: rows and position are committed, and the change log is
written. At last, the lag is measured while changes are written at a fixed rate. Results go to
`benchmarks/results/capture.md`.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import ours, peers, rig
from benchmarks.copy import Bench, run_ours
from benchmarks.equality import truth
from benchmarks.peers import Task
from benchmarks.rig import Failed, Servers, Usage
from benchmarks.tables import MadeTable, make_numbers, orders
from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.session import current_position

CHANGES = 400_000
PEER_CHANGES = 60_000
"""Enough to measure the speed of a slow reader."""
RATE, SECONDS = 5_000, 30
_TRANSACTIONS = 100
"""Transactions per second while the lag is measured."""
TICKS = MadeTable("ticks", ("id",), "(id int NOT NULL PRIMARY KEY)", "n", 1)


def one_row_events(run: Callable[[str], object], low: int, count: int) -> None:
    """Inserts of one row each, a hundred per transaction."""
    run("DROP PROCEDURE IF EXISTS one_row_events")
    run(
        "CREATE PROCEDURE one_row_events(low int, high int) BEGIN DECLARE i int DEFAULT low; START "
        "TRANSACTION;"
        f" WHILE i <= high DO INSERT INTO orders SELECT {orders(1).select} FROM numbers WHERE n = "
        "i;"
        " IF i % 100 = 0 THEN COMMIT; START TRANSACTION; END IF; SET i = i + 1; END WHILE; COMMIT; "
        "END"
    )
    run(f"CALL one_row_events({low + 1}, {low + count})")


def many_row_events(run: Callable[[str], object], low: int, count: int) -> None:
    """Inserts of ten thousand rows per statement and transaction."""
    for start in range(low, low + count, 10_000):
        high = min(start + 10_000, low + count)
        run(
            f"INSERT INTO orders SELECT {orders(1).select} FROM numbers WHERE n > {start} AND n <= "
            f"{high} ORDER BY n"
        )
        run("COMMIT")


def updates(run: Callable[[str], object], low: int, count: int) -> None:
    """Updates of the rows last inserted, a thousand per statement and transaction."""
    for start in range(low - count, low, 1_000):
        run(
            "UPDATE orders SET total_amount = total_amount + 1, status = 'shipped', updated_at = "
            "updated_at + INTERVAL 1 DAY"
            f" WHERE order_id > {start} AND order_id <= {min(start + 1_000, low)}"
        )
        run("COMMIT")


WORKLOADS = {
    "one-row events": one_row_events,
    "many-row events": many_row_events,
    "updates": updates,
}


@dataclass(frozen=True)
class Workload:
    """The measurements of a workload.

    `changes`: the number of row changes. `peer`: the peer's usage, or why it failed. `reading` and
    `applying`: ours.
    """

    changes: int
    peer: Usage | Failed
    reading: Usage
    applying: Usage


def measure_workloads(bench: Bench, task: Task, changes: int) -> dict[str, Workload]:
    """Write each workload, read it, apply it."""
    run_ours(task, "load_tables", "cdc")
    measured = {}
    low = bench.tables[0].rows
    for name, write in WORKLOADS.items():
        start = str(current_position(bench.source))
        with bench.source.connect() as session:

            def run(statement: str, session: Any = session) -> None:
                session.query(statement)

            write(run, low, changes)
        # Updates add no rows.
        low += changes * (write is not updates)
        end = str(current_position(bench.source))
        try:
            peer: Usage | Failed = peers.mysql_replication(task, start, min(PEER_CHANGES, changes))
        except Failed as failure:
            peer = failure
        reading = run_ours(task, "read_log", "cdc", start=start, end=end)
        applying = bench.servers.watched(lambda: run_ours(task, "apply_log", "cdc", end=end))  # noqa: B023, called at once
        measured[name] = Workload(changes, peer, reading, applying)
        print(f"{name}: {changes / applying.seconds:,.0f} row changes/s", flush=True)
    return measured


@dataclass(frozen=True)
class Lag:
    """The lag of the stream.

    `seconds`: from each commit at the source until a reader of the target saw it. `rate`: the row
    changes per second that were really written.
    """

    seconds: list[float]
    rate: float
    usage: Usage


def write_steadily(
    source: MySQLConnection, low: int, seconds: float, committed: list[float]
) -> float:
    """Commit a hundred transactions a second, with `RATE` / 100 row changes each.

    Transaction i inserts row i of `ticks`, inserts orders with one statement, and updates as many
    with another. The times of the commits go to `committed`. Returns the row changes per second.
    """
    size = (RATE // _TRANSACTIONS - 1) // 2
    changes = 0
    started = time.monotonic()
    with source.connect() as session:
        for number in range(int(seconds * _TRANSACTIONS)):
            time.sleep(max(started + number / _TRANSACTIONS - time.monotonic(), 0))
            first = low + number * size
            for statement in (
                f"INSERT INTO ticks VALUES ({number + 1})",
                f"INSERT INTO orders SELECT {orders(1).select} FROM numbers WHERE n > {first} AND "
                f"n <= {first + size}",
                "UPDATE orders SET total_amount = total_amount + 1 WHERE order_id > "
                f"{number * size} AND order_id <= {(number + 1) * size}",
            ):
                changes += session.query(statement)
            committed.append(time.monotonic())
            session.commit()
    return changes / (time.monotonic() - started)


def watch_target(task: Task, seen: list[float], stopped: threading.Event) -> None:
    """Check every few milliseconds which rows of `ticks` have arrived, and note the times."""
    with task.target.connect(autocommit=True) as session:
        while not stopped.wait(0.002):
            row = session.execute(
                f"SELECT coalesce(max(id), 0) FROM {ours.SCHEMA}.ticks".encode()
            ).fetchone()
            assert row
            now = time.monotonic()
            # Several transactions may have arrived since the last look.
            seen += [now] * (row[0] - len(seen))


def measure_lag(bench: Bench, task: Task, low: int, seconds: float) -> Lag:
    """Write at a fixed rate while the stream follows."""
    run_ours(task, "load_tables", "cdc")
    ready = task.folder / "ready"
    committed: list[float] = []
    seen: list[float] = []
    stopped = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        stream = pool.submit(run_ours, task, "stream_log", "cdc", seconds=seconds + 10)
        # A stream that fails at its start never becomes ready.
        while not ready.exists() and not stream.done():
            time.sleep(0.1)
        watcher = pool.submit(watch_target, task, seen, stopped)
        try:
            rate = write_steadily(bench.source, low, seconds, committed)
            deadline = time.monotonic() + 10
            while len(seen) < len(committed) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            stopped.set()
        watcher.result()
        usage = stream.result()
    if len(seen) < len(committed):
        raise Failed(
            f"{len(committed) - len(seen)} of {len(committed)} transactions were never seen"
        )
    return Lag([there - here for here, there in zip(committed, seen, strict=True)], rate, usage)


def report(measured: dict[str, Workload], lag: Lag, differences: list[str]) -> list[str]:
    """The results as Markdown."""
    lines = [
        "# Change data capture",
        "",
        "Row changes per second of `orders` (11 columns). Applied: rows and position committed in "
        "PostgreSQL, the change log "
        "written to the lake and listed.",
        "",
        "| changes | number | `mysql-replication` reads | ours reads and decodes | ours applied, "
        "end to end | to `mysql-replication` "
        "| seconds | CPU s: ours / MySQL / PostgreSQL | memory, MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, w in measured.items():
        reading, applying = w.changes / w.reading.seconds, w.changes / w.applying.seconds
        if isinstance(w.peer, Usage):
            speed = w.peer.report["rows"] / w.peer.seconds
            peer, ratio = f"{speed:,.0f}", f"{applying / speed:.1f} ×"
        else:
            peer, ratio = f"failed: {w.peer}", "–"
        u = w.applying
        cpu = f"{u.cpu_seconds:.1f} / {u.mysql_seconds:.1f} / {u.postgres_seconds:.1f}"
        speeds = f"{peer} | {reading:,.0f} | {applying:,.0f} | {ratio}"
        lines.append(
            f"| {name} | {w.changes:,} | {speeds} | {u.seconds:.1f} | {cpu} | "
            f"{u.peak_bytes / 2**20:,.0f} |"
        )
    cuts = statistics.quantiles(lag.seconds, n=100)
    verdict = f"NOT equal: {'; '.join(differences)}" if differences else "equal to its source"
    lines += [
        "",
        f"The copy is {verdict} afterwards. "
        "One-row events come a hundred to a transaction; many-row events ten thousand, updates a "
        "thousand.",
        "",
        "Lag from the commit at the source until a reader of the target sees the transaction, at "
        f"{lag.rate:,.0f} row changes/s in {_TRANSACTIONS} transactions/s, {len(lag.seconds):,} "
        "transactions:",
        "",
        "| p50 | p90 | p99 | greatest | stream's CPU | stream's memory, MB |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {cuts[49] * 1000:.0f} ms | {cuts[89] * 1000:.0f} ms | {cuts[98] * 1000:.0f} ms | "
        f"{max(lag.seconds) * 1000:.0f} ms "
        f"| {lag.usage.cpu_seconds / len(lag.seconds) * _TRANSACTIONS:.0%} of a core | "
        f"{lag.usage.peak_bytes / 2**20:,.0f} |",
    ]
    return lines


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 1) -> None:
    """Measure and report."""
    base, changes = int(200_000 * scale), int(CHANGES * scale)
    seconds = max(SECONDS * min(scale, 1), 5)
    # From the beginning, because the changes of an earlier run would still be in the tables.
    with servers.mysql.connect() as session:
        session.query("DROP DATABASE IF EXISTS capture")
    bench = Bench(servers, "capture", [orders(base)])
    with bench.source.connect() as session, session.cursor() as cursor:
        # The log that is measured must have the changes only.
        cursor.execute("SET sql_log_bin = 0")

        def run_unlogged(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement)
            return list(cursor.fetchall())

        make_numbers(run_unlogged, base + 2 * changes + int(RATE * seconds))
        run_unlogged("CREATE TABLE ticks (id int NOT NULL PRIMARY KEY)")
    task = bench.task("capture")
    measured = measure_workloads(bench, task, changes)
    both = replace(task, tables=[*bench.tables, TICKS])
    lag = measure_lag(bench, both, base + 2 * changes, seconds)
    lines = report(measured, lag, bench_differences(bench, both))
    servers.drop_target("capture")
    if only:
        print("\n".join(lines))
    else:
        rig.write_result("capture", lines, servers)


def bench_differences(bench: Bench, task: Task) -> list[str]:
    """The differences between the copy and the present source."""
    bench.truth = truth(bench.source, task.tables)
    bench.tables = task.tables
    return bench.differences(task, ours.SCHEMA)
