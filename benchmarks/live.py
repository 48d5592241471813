"""The live path: how late raw, production and the dashboard are while traffic never stops.

    python -m benchmarks live [--minutes 60]

Traffic of five operations per second runs against the demo's data, with the Dagster UI's daemon and
its planning sensor. First `softcart stream` follows the source, then nobody does. Each new order is
timed from its commit at the source until it is in raw, in production and on the dashboard. Results
go to `benchmarks/results/live.md`.
"""

from __future__ import annotations

import bisect
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil

from benchmarks import rig
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.stack import Stack

RATE = 5
GOALS = {"raw": 1.0, "production": 45.0, "dashboard": 60.0}
"""Seconds at p95."""
RAW_WITHOUT_STREAM = 15.0
_LOOK_SECONDS = 0.2
_ENDS_WITHIN_SECONDS = 600
_PLACES = ("source", "raw", "production", "dashboard")

Seen = list[tuple[float, int]]
"""When the greatest number of an order was seen first, ascending."""


@dataclass
class Watch:
    """What was seen of the orders at each place, from a thread of its own."""

    home: Path
    seen: dict[str, Seen] = field(default_factory=lambda: {place: [] for place in _PLACES})

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs."""
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        page = self.home / "extracts" / "dashboard.html"
        made = page.stat().st_mtime_ns
        with (
            closing(MySQLConnection.from_env("SOFTCART_SHOP").connect(autocommit=True)) as source,
            PostgresConnection.from_env("SOFTCART_STAGING").connect(autocommit=True) as staging,
            PostgresConnection.from_env("SOFTCART_PRODUCTION").connect(autocommit=True) as ready,
        ):
            cursor = source.cursor()
            while not done.wait(_LOOK_SECONDS):
                cursor.execute("SELECT max(id) FROM orders")
                self._note("source", cursor.fetchone())
                row = staging.execute("SELECT max(id) FROM raw_shop.orders").fetchone()
                self._note("raw", row)
                row = ready.execute(
                    "SELECT max(order_id) FROM production.fct_order_lines"
                ).fetchone()
                self._note("production", row)
                # A run publishes before it makes the page. So the page has what is published.
                if (now := page.stat().st_mtime_ns) != made:
                    made = now
                    self._note("dashboard", row)

    def _note(self, place: str, row: tuple[int] | None) -> None:
        assert row
        seen = self.seen[place]
        if not seen or row[0] > seen[-1][1]:
            seen.append((time.time(), row[0]))

    def lags(self, place: str, since: float, until: float) -> list[float]:
        """Seconds from the commit of each order in that time until it was seen at a place.

        An order that was never seen there has an infinite lag.
        """
        numbers = [number for _, number in self.seen[place]]
        found = []
        for at, number in self.seen["source"]:
            if since <= at <= until:
                index = bisect.bisect_left(numbers, number)
                late = index == len(numbers)
                found.append(float("inf") if late else self.seen[place][index][0] - at)
        return found


@dataclass(frozen=True)
class Measured:
    """The figures of one way. `runs`: seconds of each run by kind. `red`: how many runs failed."""

    lags: dict[str, list[float]]
    runs: dict[str, list[float]]
    red: int
    cpu_seconds_per_minute: float


def measure(home: Path, minutes: float, *, with_stream: bool) -> Measured:
    """Run the live path for some minutes on the demo's data in `home`."""
    watch = Watch(home)
    with ExitStack() as stack, dg.DagsterInstance.get() as instance:
        since = datetime.now(UTC)
        stack.enter_context(_started(home, "ui"))
        if with_stream:
            stack.enter_context(_started(home, "stream", "shop"))
        stack.enter_context(watch.watching())
        with _started(home, "simulate", "--rate", str(RATE)):
            # The first waves find the start of the daemon and of the stream.
            _wait(lambda: bool(watch.seen["dashboard"]), _ENDS_WITHIN_SECONDS)
            began, cpu = time.time(), _cpu_seconds()
            time.sleep(minutes * 60)
            ended, cpu = time.time(), _cpu_seconds() - cpu
        last = watch.seen["source"][-1][1]
        _wait(lambda: watch.seen["dashboard"][-1][1] >= last, _ENDS_WITHIN_SECONDS)
        records = instance.get_run_records(dg.RunsFilter(created_after=since))
    runs: dict[str, list[float]] = {}
    for record in records:
        if record.start_time and record.end_time:
            kind = record.dagster_run.tags.get("softcart/planned", "other")
            runs.setdefault(kind, []).append(record.end_time - record.start_time)
    red = [each for each in records if each.dagster_run.status == dg.DagsterRunStatus.FAILURE]
    lags = {place: watch.lags(place, began, ended) for place in GOALS}
    return Measured(lags, runs, len(red), cpu / minutes)


@contextmanager
def _started(home: Path, *command: str) -> Iterator[None]:
    """A `softcart` command, until the block ends."""
    log = home / "logs" / f"bench-{command[0]}.log"
    program = Path(sys.executable).with_name("softcart")
    with log.open("w") as output:
        process = subprocess.Popen([program, *command], stdout=output, stderr=subprocess.STDOUT)
    try:
        time.sleep(1)
        if process.poll() is not None:
            raise rig.Failed(rig.last_words(log.read_text()))
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(until: Callable[[], bool], seconds: float) -> None:
    given_up_at = time.monotonic() + seconds
    while not until():
        if time.monotonic() > given_up_at:
            raise rig.Failed(f"nothing came to the dashboard for {seconds:g} s")
        time.sleep(1)


def _cpu_seconds() -> float:
    """The processor time of this machine, everything else included."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


def _row(way: str, place: str, lags: list[float], goal: float) -> str:
    ranked = sorted(lags)
    p95 = ranked[int(0.95 * (len(ranked) - 1))]
    return (
        f"| {way} | {place} | {len(lags):,} | {statistics.median(ranked):.1f} | {p95:.1f} | "
        f"{ranked[-1]:.1f} | {goal:g} | {'yes' if p95 <= goal else 'no'} |"
    )


def write_report(measured: dict[str, Measured], minutes: float) -> None:
    """Write and print `results/live.md`."""
    lines = [
        "# The live path",
        "",
        f"Traffic of {RATE} operations per second for {minutes:g} minutes on the demo's data, with "
        "the daemon and its planning sensor. Seconds from the commit of an order at the source "
        "until a reader sees it.",
        "",
        "| | seen in | orders | p50 | p95 | greatest | goal at p95 | reached |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for way, found in measured.items():
        goals = GOALS | ({} if way == "stream" else {"raw": RAW_WITHOUT_STREAM})
        lines += [_row(way, place, found.lags[place], goals[place]) for place in GOALS]
    lines += [
        "",
        "| | runs | red runs | seconds of a load, median | of a wave, median | CPU s per minute |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, found in measured.items():
        medians = [
            f"{statistics.median(found.runs[kind]):.1f}" if found.runs.get(kind) else "–"
            for kind in ("load", "build")
        ]
        lines.append(
            f"| {way} | {sum(map(len, found.runs.values()))} | {found.red} | {' | '.join(medians)} "
            f"| {found.cpu_seconds_per_minute:.0f} |"
        )
    rig.write_result("live", lines)


def run(minutes: float) -> None:
    """Measure both ways and write the report."""
    for name in [name for name in os.environ if name.startswith(("SOFTCART_", "DAGSTER_"))]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="softcart-bench-live-"))
    stack = Stack(home, ignore_environment=True)
    try:
        os.environ |= stack.up()
        subprocess.run([Path(sys.executable).with_name("softcart"), "demo"], check=True)
        measured = {}
        for way in ("stream", "no stream"):
            print(f"{way}: {minutes:g} minutes in {home}", flush=True)
            measured[way] = measure(home, minutes, with_stream=way == "stream")
            # After each, so that an interrupted run leaves a report too.
            write_report(measured, minutes)
    finally:
        stack.down()
        shutil.rmtree(home)
