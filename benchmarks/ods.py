"""Running totals: how many changes per second reach them, how late, and at what cost.

    python -m benchmarks ods [--scale 1] [--only WORD]

Calls are written while nobody reads the log. Then the log is applied: without totals, with totals,
and with triggers on the raw table that keep the same totals row by row. This is done with few and
with many subscribers, because the cost of a change must not depend on their number. A recount of
all rows is timed, too: whoever counts periodically is as late as that. At last, calls are written
at steady rates while the stream follows. The lag is measured from each commit at the source until
a reader of the total sees it. Results go to `benchmarks/results/ods.md`.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import ours, rig
from benchmarks.copy import Bench, run_ours
from benchmarks.equality import source_of
from benchmarks.peers import Task
from benchmarks.rig import Failed, Servers, Usage
from benchmarks.tables import MadeTable, make_numbers
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql.session import current_position
from softcart_assets.ingestion.sinks.ods.keeping import totals_of
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.lines.model import RunningTotal, Source, Where

CHANGES, SPARK_CHANGES = 300_000, 10_000
SUBSCRIBERS = 10_000, 1_000_000
RATES, SECONDS = (5_000, 30_000), 20
_TRANSACTIONS = 100
"""Transactions per second while the lag is measured."""

TOTAL = RunningTotal(
    "calls_out",
    "Outgoing calls.",
    table="calls",
    key="subscriber_id",
    measures={"calls": "*", "seconds": "seconds"},
    where=(Where("direction", "=", "out"),),
    at="started_at",
    identity=("event_id", "direction"),
    windows=("life", "cycle", "day"),
)

_TRIGGER = """
CREATE TABLE kept (subscriber_id bigint, bucket timestamptz, calls bigint NOT NULL,
  seconds bigint NOT NULL, PRIMARY KEY (subscriber_id, bucket)) WITH (fillfactor = 70);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.direction = 'out' AND NOT OLD._deleted THEN
    UPDATE kept SET calls = calls - 1, seconds = seconds - OLD.seconds
    WHERE subscriber_id = OLD.subscriber_id AND bucket IN ('-infinity',
      date_bin('15 minutes', OLD.started_at AT TIME ZONE 'UTC', '2000-01-01 00:00+00'));
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.direction = 'out' AND NOT NEW._deleted THEN
    INSERT INTO kept SELECT NEW.subscriber_id, bucket, 1, NEW.seconds
    FROM (VALUES ('-infinity'::timestamptz), (date_bin('15 minutes',
      NEW.started_at AT TIME ZONE 'UTC', '2000-01-01 00:00+00'))) b (bucket)
    ON CONFLICT (subscriber_id, bucket) DO UPDATE SET calls = kept.calls + 1,
      seconds = kept.seconds + EXCLUDED.seconds;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER keep AFTER INSERT OR UPDATE OR DELETE ON raw_bench.calls
  FOR EACH ROW EXECUTE FUNCTION keep();
"""
"""What triggers need for the same sums. They do not find duplicates."""


def calls(rows: int, subscribers: int) -> MadeTable:
    """Calls, a third of them incoming. One in a hundred is told twice."""
    return MadeTable(
        "calls",
        ("id",),
        """(
          id bigint NOT NULL PRIMARY KEY,
          event_id varchar(36) NOT NULL,
          direction varchar(3) NOT NULL,
          subscriber_id bigint NOT NULL,
          started_at datetime(6) NOT NULL,
          seconds int NOT NULL,
          cell varchar(12) NOT NULL
        )""",
        f"""
          n,
          concat('e', md5(if(n % 100 = 0, n - 1, n))),
          if(n % 3 = 0, 'in', 'out'),
          1 + crc32(n) % {subscribers},
          '2026-03-01' + INTERVAL n * 7001 MICROSECOND,
          crc32(n + 1) % 600,
          concat('c', crc32(n + 2) % 5000)
        """,
        rows,
        range_column="id",
    )


def with_totals(job: ours.Job) -> ours.Job:
    """Declare the total for a job's source."""
    job.source = replace(job.source, totals=(TOTAL,))
    return job


def load_with_totals() -> None:
    """Copy the table and make its total."""
    ours.timed(lambda job: ours.load_request(with_totals(job), None))


def apply_with_totals() -> None:
    """Apply the log up to a position, with totals."""
    ours.timed(lambda job: ours.apply(with_totals(job)))


def stream_with_totals() -> None:
    """Run the stream for `seconds`, with totals."""
    ours.timed(lambda job: ours.stream(with_totals(job)))


def run_here(task: Task, function: str, **more: Any) -> Usage:
    """Run a function of this module, see `run_ours`."""
    return run_ours(task, function, "cdc", module="ods", **more)


def _count_with_spark(task: Task) -> Usage:
    return run_ours(task, "count", "cdc", module="spark_totals")


@dataclass(frozen=True)
class Way:
    """How totals are kept. `load` and `apply`: what is run. `trigger`: see `_TRIGGER`. `spark`:
    whether Spark counts what these have brought to the lake.
    """

    name: str
    load: Callable[[Task], Usage]
    apply: Callable[[Task, str], Usage]
    trigger: bool = False
    spark: bool = False


WAYS = (
    Way(
        "raw alone, without totals",
        lambda task: run_ours(task, "load_without_checksums", "cdc"),
        lambda task, end: run_ours(task, "apply_log", "cdc", end=end),
    ),
    Way(
        "running totals",
        lambda task: run_here(task, "load_with_totals"),
        lambda task, end: run_here(task, "apply_with_totals", end=end),
    ),
    Way(
        "triggers in PostgreSQL, without duplicates",
        lambda task: run_ours(task, "load_without_checksums", "cdc"),
        lambda task, end: run_ours(task, "apply_log", "cdc", end=end),
        trigger=True,
    ),
    Way(
        "Spark Structured Streaming, from the lake",
        lambda task: run_here(task, "load_with_totals"),
        lambda task, end: run_here(task, "apply_with_totals", end=end),
        spark=True,
    ),
)


@dataclass(frozen=True)
class Applied:
    """What applying one kind of changes took."""

    way: str
    changes: str
    subscribers: int
    number: int
    usage: Usage


def writer(source: MySQLConnection) -> Callable[[str], list[tuple[Any, ...]]]:
    """A function that runs a statement over one connection and returns its rows."""
    cursor = source.connect().cursor()

    def run(statement: str) -> list[tuple[Any, ...]]:
        cursor.execute(statement)
        return list(cursor.fetchall())

    return run


def _insert(run: Callable[[str], object], table: MadeTable, low: int, count: int) -> None:
    for start in range(low, low + count, 1_000):
        high = min(start + 1_000, low + count)
        run(
            f"INSERT INTO calls SELECT {table.select} FROM numbers WHERE n > {start} AND n <= "
            f"{high} ORDER BY n"
        )
        run("COMMIT")


def _rate_again(run: Callable[[str], object], low: int, count: int) -> None:
    for start in range(low, low + count, 1_000):
        high = min(start + 1_000, low + count)
        run(f"UPDATE calls SET seconds = seconds + 1 WHERE id > {start} AND id <= {high}")
        run("COMMIT")


def measure(servers: Servers, subscribers: int, changes: int) -> tuple[list[Applied], float]:
    """Apply new calls, then corrections of them, in each way. Also returns the seconds of a
    recount.
    """
    with servers.mysql.connect() as session:
        session.query("DROP DATABASE IF EXISTS ods")
    # As many old calls as there are subscribers, so that most have a row for all time.
    table = calls(subscribers, subscribers)
    bench = Bench(servers, "ods", [table])
    run = writer(bench.source)
    run("SET sql_log_bin = 0")
    make_numbers(run, subscribers + changes)
    run("SET sql_log_bin = 1")
    tasks = {}
    # Spark needs minutes for the first rows of a million subscribers.
    ways = [way for way in WAYS if not way.spark or subscribers == min(SUBSCRIBERS)]
    for number, way in enumerate(ways):
        tasks[way.name] = task = bench.task(f"ods{number}")
        way.load(task)
        if way.spark:
            _count_with_spark(task)
        if way.trigger:
            with task.target.connect() as session:
                session.execute(_TRIGGER)
                session.execute(_filled().encode())
    found = []
    few = min(SPARK_CHANGES, changes)
    for name in ("new calls", "corrections"):
        if name == "new calls":
            _insert(run, table, subscribers, few)
            first = str(current_position(bench.source))
            _insert(run, table, subscribers + few, changes - few)
        else:
            _rate_again(run, subscribers, changes)
        end = str(current_position(bench.source))
        for way in ways:
            if way.spark and name != "new calls":
                continue
            number, until = (few, first) if way.spark else (changes, end)
            with servers.postgres.connect(autocommit=True) as admin:
                admin.execute("CHECKPOINT")
            usage = servers.watched(lambda: way.apply(tasks[way.name], until))  # noqa: B023
            if way.spark:
                # Applying the log has only filled the lake.
                usage = servers.watched(lambda: _count_with_spark(tasks[way.name]))  # noqa: B023
            found.append(Applied(way.name, name, subscribers, number, usage))
            cost = (usage.cpu_seconds + usage.postgres_seconds) / number * 1e6
            print(f"{way.name}, {name}: {number / usage.seconds:,.0f}/s, {cost:.1f} CPU µs each")
    seconds = _recount(tasks[WAYS[1].name].target)
    for number in range(len(ways)):
        servers.drop_target(f"ods{number}")
    return found, seconds


def _recount(target: PostgresConnection) -> float:
    """Return the seconds that a recount takes. Raises `Failed` if the total differs from it."""
    source = _declared()
    with target.connect() as session:
        [table] = totals_of(session, source, TOTAL.table)
        started = time.monotonic()
        session.execute(f"CREATE TEMP TABLE recounted AS {table.recount()}".encode())
        seconds = time.monotonic() - started
    _assert_exact(target)
    return seconds


def _assert_exact(target: PostgresConnection) -> None:
    answer = check(target, _declared(), TOTAL)
    if answer.wrong:
        raise Failed(f"totals differ from a recount: {answer}")


def _declared() -> Source:
    return replace(source_of([calls(1, 1)], "cdc"), totals=(TOTAL,))


def _filled() -> str:
    """SQL that gives the triggers' table the sums of the rows that were copied."""
    return (
        "INSERT INTO kept SELECT subscriber_id, b, count(*), sum(seconds) FROM raw_bench.calls,"
        " LATERAL (VALUES ('-infinity'::timestamptz), (date_bin('15 minutes',"
        " started_at AT TIME ZONE 'UTC', '2000-01-01 00:00+00'))) v (b)"
        " WHERE direction = 'out' GROUP BY 1, 2"
    )


@contextmanager
def _watching(target: PostgresConnection, seen: list[float]) -> Iterator[None]:
    """Note when a reader of the total saw each transaction: each has one call of subscriber 0."""
    stopped = threading.Event()

    def watch() -> None:
        with target.connect(autocommit=True) as session:
            while not stopped.wait(0.002):
                row = session.execute(
                    "SELECT calls FROM ods.calls_out WHERE subscriber_id = 0 AND bucket = "
                    "'-infinity'"
                ).fetchone()
                now = time.monotonic()
                seen.extend([now] * ((int(row[0]) if row else 0) - len(seen)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@dataclass(frozen=True)
class Lag:
    """The lags of transactions, at a rate of changes that was really written."""

    seconds: list[float]
    rate: float
    usage: Usage


def measure_lag(servers: Servers, rate: int, seconds: float) -> Lag:
    """Write calls at a fixed rate while the stream follows."""
    size = rate // _TRANSACTIONS - 1
    with servers.mysql.connect() as session:
        session.query("DROP DATABASE IF EXISTS ods")
    table = calls(100_000, 100_000)
    bench = Bench(servers, "ods", [table])
    run = writer(bench.source)
    make_numbers(run, int(table.rows + rate * seconds))
    task = bench.task("ods")
    run_here(task, "load_with_totals")
    committed: list[float] = []
    seen: list[float] = []
    with ThreadPoolExecutor(1) as pool, _watching(task.target, seen):
        follow = partial(run_here, task, "stream_with_totals", seconds=seconds + 10)
        stream = pool.submit(servers.watched, follow)
        while not (task.folder / "ready").exists() and not stream.done():
            time.sleep(0.1)
        started = time.monotonic()
        for number in range(int(seconds * _TRANSACTIONS)):
            time.sleep(max(started + number / _TRANSACTIONS - time.monotonic(), 0))
            # A source that is slower than the rate must not outlast the stream.
            if time.monotonic() > started + seconds:
                break
            low = table.rows + number * size
            run(
                f"INSERT INTO calls SELECT {table.select} FROM numbers WHERE n > {low} AND n <= "
                f"{low + size}"
            )
            run(
                f"INSERT INTO calls VALUES ({-number - 1}, 't{number}', 'out', 0, '2026-03-01', 1,"
                " 'c')"
            )
            committed.append(time.monotonic())
            run("COMMIT")
        written = len(committed) * (size + 1) / (time.monotonic() - started)
        usage = stream.result()
    if len(seen) < len(committed):
        raise Failed(f"{len(committed) - len(seen)} transactions were never counted")
    _assert_exact(task.target)
    servers.drop_target("ods")
    lags = [there - here for here, there in zip(committed, seen, strict=True)]
    print(f"lag at {written:,.0f} changes/s: {statistics.quantiles(lags, n=100)[98]:.3f} s (p99)")
    return Lag(lags, written, usage)


def report(found: list[Applied], recounts: dict[int, float], lags: list[Lag]) -> list[str]:
    """The results as Markdown."""
    lines = [
        "# Running totals",
        "",
        "Calls and their seconds per subscriber and quarter of an hour, and for all time; "
        "duplicates count once. The log is applied from its commit at the source to the commit of "
        "raw and totals.",
        "",
        "| subscribers | changes | kept by | changes/s | CPU µs per change: ours + PostgreSQL | "
        "memory, MB |",
        "|---:|---|---|---:|---:|---:|",
    ]
    for each in found:
        usage = each.usage
        cost = [s / each.number * 1e6 for s in (usage.cpu_seconds, usage.postgres_seconds)]
        lines.append(
            f"| {each.subscribers:,} | {each.number:,} {each.changes} | {each.way} | "
            f"{each.number / usage.seconds:,.0f} | {cost[0]:.1f} + {cost[1]:.1f} | "
            f"{usage.peak_bytes / 2**20:,.0f} |"
        )
    for subscribers, seconds in recounts.items():
        lines.append(
            f"\nA recount of all calls of {subscribers:,} subscribers takes {seconds:.1f} s, so "
            "totals that are counted periodically are at least as late."
        )
    lines += [
        "",
        "From the commit at the source until a reader of the total sees it, at steady rates in "
        f"{_TRANSACTIONS} transactions/s. Writer, MySQL, stream and PostgreSQL share the machine:",
        "",
        "| changes/s | seconds | p50 | p90 | p99 | greatest | in the last second | cores: stream + "
        "PostgreSQL |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for lag in lags:
        cuts = statistics.quantiles(lag.seconds, n=100)
        shown = [cuts[49], cuts[89], cuts[98], max(lag.seconds)]
        # If the stream did not keep up, this would be the greatest.
        shown.append(statistics.mean(lag.seconds[-_TRANSACTIONS:]))
        lasted = len(lag.seconds) / _TRANSACTIONS
        cores = [s / lasted for s in (lag.usage.cpu_seconds, lag.usage.postgres_seconds)]
        lines.append(
            f"| {lag.rate:,.0f} | {lasted:.0f} | {' | '.join(f'{s * 1000:.0f} ms' for s in shown)}"
            f" | {cores[0]:.2f} + {cores[1]:.2f} |"
        )
    return lines


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 1) -> None:
    """Measure and report. `only`: a number of subscribers."""
    found, recounts = [], {}
    for subscribers in SUBSCRIBERS:
        if only and only != str(subscribers):
            continue
        applied, recounts[subscribers] = measure(servers, subscribers, int(CHANGES * scale))
        found += applied
    lags = [measure_lag(servers, rate, max(SECONDS * min(scale, 1), 5)) for rate in RATES]
    lines = report(found, recounts, lags)
    if only:
        print("\n".join(lines))
    else:
        rig.write_result("ods", lines, servers)
