"""Copies two million orders and six million order lines from MySQL to PostgreSQL, with every tool.

    python -m benchmarks copy [--scale 1] [--only WORD] [--repeat 3]

It also measures the limits: the speed of the servers without any client in between. Every copy is
compared with its source by content. Results go to `benchmarks/results/copy.md` and `copy.svg`.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import altair
import pandas

from benchmarks import ours, peers, rig
from benchmarks.equality import differences, truth
from benchmarks.peers import Task
from benchmarks.rig import CORES, RESULTS, Failed, Servers, Usage, python
from benchmarks.tables import MadeTable, make, order_lines, orders
from softcart_assets.paths import REPOSITORY

ORDERS = 2_000_000
LONG_SECONDS = 45
"""A longer measurement is not repeated, because its noise is small in comparison."""


def our_copy(task: Task) -> Usage:
    """Our copy alone, without the steps after it."""
    return run_ours(task, "copy")


def our_copy_and_parquet(task: Task) -> Usage:
    """The same, with the lake's files."""
    return run_ours(task, "copy_and_parquet")


def our_load(task: Task) -> Usage:
    """Our whole load: primary key, Parquet, bookkeeping."""
    return run_ours(task, "load_without_checksums")


def our_load_with_checksums(task: Task) -> Usage:
    """The same. The source also computes a checksum of every column, to prove the copy."""
    return run_ours(task, "load_tables")


def run_ours(
    task: Task,
    function: str,
    strategy: str = "snapshot",
    cursor: str | None = None,
    module: str = "ours",
    **more: object,
) -> Usage:
    """Run a function of `benchmarks.ours`, or of another module; `more` is for its job."""
    names = ("host", "port", "user", "password", "database")
    job = {
        "mysql": task.mysql(),
        "postgres": {name: getattr(task.target, name) for name in names},
        "lake": (task.folder / "lake").as_uri(),
        "tables": [asdict(table) for table in task.tables],
        "strategy": strategy,
        "cursor": cursor,
        **more,
    }
    return task.run(python(module, function), job=job, env={"PYTHONPATH": str(REPOSITORY)})


def pymysql_one(task: Task) -> Usage:
    """One process."""
    return peers.pymysql(task, 1)


def pymysql_all(task: Task) -> Usage:
    """One process per core."""
    return peers.pymysql(task, CORES)


def pipe_one(task: Task) -> Usage:
    """One pipe at a time."""
    return peers.pipes(task, 1)


def pipe_all(task: Task) -> Usage:
    """One pipe per core."""
    return peers.pipes(task, CORES)


OURS: dict[str, Callable[[Task], Usage]] = {
    "ours: copy": our_copy,
    "ours: copy, and Parquet in the same pass": our_copy_and_parquet,
    "ours: whole load (primary key, Parquet, bookkeeping)": our_load,
    "ours: whole load, and checksums by the source": our_load_with_checksums,
}
PEERS: dict[str, Callable[[Task], Usage]] = {
    "ingestr": peers.ingestr,
    "PyMySQL, streaming cursor": pymysql_one,
    f"PyMySQL, streaming cursor, {CORES} processes": pymysql_all,
    "dlt, pyarrow backend": peers.dlt_pyarrow,
    "dlt, connectorx backend, as documented": peers.dlt_connectorx,
    "dlt, connectorx backend, streaming into Parquet and ADBC": peers.dlt_tuned,
    "sling": peers.sling,
    "pgloader": peers.pgloader,
    "mariadb client piped into psql": pipe_one,
    f"mariadb client piped into psql, {CORES} key ranges": pipe_all,
    f"ConnectorX stream to ADBC, {CORES} threads, key ranges": peers.connectorx,
}


def read_alone(task: Task, processes: int) -> Usage:
    """MySQL sends all rows to this number of clients in C, which discard them.

    It needs Debian's pkg-config and libmariadb-dev.
    """
    program = task.home / "read"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmariadb"],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(
        ["gcc", "-O2", "-o", program, Path(__file__).with_name("read.c"), *flags.stdout.split()],
        check=True,
    )
    to = task.source
    lines = [
        f'{program} {to.host} {to.port} {to.user} {to.database} "SELECT * FROM {table} WHERE '
        f'{condition}"'
        for table, condition in task.parts(ranges=processes)
    ]
    return peers.at_once(task, lines, processes)


def prepare_files(task: Task) -> list[tuple[str, Path]]:
    """The tables as files in COPY's binary format, one file per core for each table."""
    # PostgreSQL writes its binary format itself, from any copy of the tables.
    peers.pipes(task, CORES)
    files = []
    for number, (table, condition) in enumerate(task.parts()):
        file = task.home / "files" / f"{number}.bin"
        file.parent.mkdir(exist_ok=True)
        select = (
            f"COPY (SELECT * FROM {peers.SCHEMA}.{table} WHERE {condition}) TO STDOUT "
            "(FORMAT "
            "binary)"
        )
        with (
            task.target.connect() as session,
            session.cursor().copy(select.encode()) as rows,
            file.open("wb") as out,
        ):
            for block in rows:
                out.write(block)
        files.append((table, file))
    return files


def write_alone(task: Task, files: Sequence[tuple[str, Path]], sessions: int) -> Usage:
    """Let PostgreSQL read all rows from local files in `sessions` sessions, without a client."""
    task.make_target_tables()

    def copy(table_and_file: tuple[str, Path]) -> None:
        table, file = table_and_file
        with task.target.connect() as session:
            session.execute(f"COPY {peers.SCHEMA}.{table} FROM '{file}' (FORMAT binary)".encode())

    started = time.monotonic()
    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(copy, files))
    seconds = time.monotonic() - started
    return Usage(seconds, seconds)


def median(runs: Sequence[Usage]) -> Usage:
    """The run of median speed."""
    return sorted(runs, key=lambda usage: usage.seconds)[len(runs) // 2]


@dataclass
class Measured:
    """The result of a way of copying.

    `usage`: that of the run of median speed. `failure`: why it failed. `differences`: between its
    copy and the source.
    """

    usage: Usage | None = None
    failure: str = ""
    differences: Sequence[str] = ()


class Bench:
    """Tables in the source and their checksums. Each measurement gets an empty target database."""

    def __init__(self, servers: Servers, database: str, tables: Sequence[MadeTable]) -> None:
        self.servers = servers
        self.tables = tables
        self.source = servers.source(database)
        make(self.source, *tables)
        self.truth = truth(self.source, tables)

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables)

    def task(self, name: str = "bench") -> Task:
        """A new task with an empty target database of that name and an empty folder."""
        home = self.servers.home
        shutil.rmtree(home / "work" / name, ignore_errors=True)
        (home / "work" / name).mkdir(parents=True)
        return Task(
            home,
            home / "work" / name,
            self.source,
            self.servers.target(name),
            self.tables,
            self.truth,
        )

    def differences(self, task: Task, schema: str) -> list[str]:
        """Where a task's copy differs from the source."""
        return differences(self.truth, self.tables, task.target, schema)

    def measure(self, name: str, way: Callable[[Task], Usage], repeat: int = 1) -> Measured:
        """Measure a way and compare its copy with the source."""
        print(f"{name}: ", end="", flush=True)
        runs: list[Usage] = []
        try:
            while len(runs) < repeat and not (runs and runs[0].process_seconds > LONG_SECONDS):
                task = self.task()
                runs.append(self.servers.watched(lambda: way(task)))  # noqa: B023, called at once
        except Failed as failure:
            print(f"failed: {failure}")
            return Measured(failure=str(failure))
        usage = median(runs)
        # The last of the copies, which is still there.
        differing = self.differences(task, ours.SCHEMA if way in OURS.values() else peers.SCHEMA)
        print(f"{self.rows / usage.seconds:,.0f} rows/s{', differs' * bool(differing)}", flush=True)
        return Measured(usage, differences=differing)


def measure_limits(bench: Bench, repeat: int) -> dict[str, Usage]:
    """The speed of the servers without a client."""
    watched = bench.servers.watched
    # The first reading brings the tables into the server's memory. It does not count.
    read_alone(bench.task(), CORES)
    files = prepare_files(bench.task())
    limits = {}
    for number in sorted({1, CORES}):

        def read(task: Task, number: int = number) -> Usage:
            return watched(lambda: read_alone(task, number))

        def write(task: Task, number: int = number) -> Usage:
            return watched(lambda: write_alone(task, files, number))

        limits[f"MySQL alone, read by {number}"] = median(
            [read(bench.task()) for _ in range(repeat)]
        )
        limits[f"PostgreSQL alone, binary COPY from files by {number}"] = median(
            [write(bench.task()) for _ in range(repeat)]
        )
    shutil.rmtree(bench.servers.home / "files")
    for name, usage in limits.items():
        print(f"{name}: {bench.rows / usage.seconds:,.0f} rows/s", flush=True)
    return limits


def report(bench: Bench, limits: dict[str, Usage], measured: dict[str, Measured]) -> list[str]:
    """The results as Markdown."""
    rows = bench.rows
    read, write = (usage.seconds for usage in list(limits.values())[-2:])
    limit = rows / (read + write)
    speeds = {name: rows / m.usage.seconds for name, m in measured.items() if m.usage}
    lines = [
        "# Copying a database, side by side",
        "",
        f"{', '.join(f'{table.rows:,} {table.name}' for table in bench.tables)}: MySQL protocol to "
        "PostgreSQL, all on one "
        "machine, tables logged, without primary keys unless said otherwise. Seconds are those of "
        "the work; tools used as a "
        "Python library report them themselves, without imports, beside those of the whole "
        "process. Memory is the greatest sum "
        "of the resident memory of the tool's processes, without the servers. Copies were compared "
        "by content.",
        "",
        "| way | rows/s | of the limit | seconds | of the process | CPU s: tool | MySQL | "
        "PostgreSQL | memory, MB | copy |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, m in measured.items():
        if not m.usage:
            lines.append(f"| {name} | – | | | | | | | | failed: {m.failure} |")
            continue
        u = m.usage
        figures = (
            f"{rows / u.seconds:,.0f} | {rows / u.seconds / limit:.2f} | {u.seconds:.1f} | "
            f"{u.process_seconds:.1f}"
        )
        cpu = f"{u.cpu_seconds:.1f} | {u.mysql_seconds:.1f} | {u.postgres_seconds:.1f}"
        copy = "; ".join(m.differences) or "equal"
        lines.append(f"| {name} | {figures} | {cpu} | {u.peak_bytes / 2**20:,.0f} | {copy} |")
    for name, u in limits.items():
        cpu = f"{u.cpu_seconds:.1f} | {u.mysql_seconds:.1f} | {u.postgres_seconds:.1f}"
        lines.append(f"| {name} | {rows / u.seconds:,.0f} | | {u.seconds:.1f} | | {cpu} | | |")
    lines += [
        "",
        "Both ends share the cores, so the limit is the time to read alone plus the time to write "
        f"alone, each by {CORES}: "
        f"{read:.1f} s + {write:.1f} s, **{limit:,.0f} rows/s**.",
        "",
        *goals(measured, speeds, limit),
        "",
        "![rows per second](copy.svg)",
    ]
    return lines


def goals(measured: dict[str, Measured], speeds: dict[str, float], limit: float) -> list[str]:
    """The goals, and the figures that were reached."""
    names = list(OURS)
    exact = [
        (speed, name)
        for name, speed in speeds.items()
        if name in PEERS and not measured[name].differences
    ]
    if not exact or not speeds.keys() >= set(names):
        return []
    copy, with_parquet = (speeds[name] for name in names[:2])
    best = max(exact)
    usage = measured[names[0]].usage
    assert usage
    found = [
        f"- {copy / limit:.2f} of the limit (goal 0.75)",
        f"- {copy / best[0]:.1f} times the fastest exact peer, {best[1]} (goal 2)",
        f"- {usage.peak_bytes / 2**20:.0f} MB (goal below 256)",
        f"- Parquet in the same pass costs {1 - with_parquet / copy:.0%} of the speed (goal at "
        "most 33%)",
    ]
    if "sling" in speeds:
        found.insert(2, f"- {copy / speeds['sling']:.1f} times sling (goal 10)")
    return ["Our copy:", "", *found]


def chart(bench: Bench, limits: dict[str, Usage], measured: dict[str, Measured]) -> None:
    """Rows per second as bars."""
    speeds = [
        (name, bench.rows / m.usage.seconds, "ours" if name in OURS else "others")
        for name, m in measured.items()
        if m.usage
    ]
    speeds += [(name, bench.rows / usage.seconds, "limits") for name, usage in limits.items()]
    both = sum(usage.seconds for usage in list(limits.values())[-2:])
    speeds.append(
        (
            f"limit: read and write alone by {CORES}, one after the other",
            bench.rows / both,
            "limits",
        )
    )
    frame = pandas.DataFrame(speeds, columns=["way", "rows per second", "who"])
    bars = altair.Chart(frame, title="Copying a database: rows per second").mark_bar()
    bars.encode(
        x=altair.X("rows per second:Q"),
        y=altair.Y("way:N").sort("-x").title(None).axis(labelLimit=400),
        color=altair.Color("who:N").sort(["ours", "others", "limits"]).title(None),
    ).properties(width=600, padding={"left": 60, "top": 5, "right": 5, "bottom": 5}).save(
        str(RESULTS / "copy.svg")
    )


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 3) -> None:
    """Measure and report. With `only`, just ways with this word in their name, and no report is
    written.
    """
    number = int(ORDERS * scale)
    bench = Bench(servers, f"copy_{number}", [orders(number), order_lines(number)])
    limits = measure_limits(bench, repeat)
    ways = {name: way for name, way in (OURS | PEERS).items() if only in name}
    measured = {name: bench.measure(name, way, repeat) for name, way in ways.items()}
    lines = report(bench, limits, measured)
    if only:
        print("\n".join(lines))
        return
    chart(bench, limits, measured)
    rig.write_result("copy", lines, servers)
