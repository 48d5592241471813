"""How lake, aggregates and publication follow the number of rows, and what more executors bring.

    python -m benchmarks scale [--scale 1] [--only WORD] [--repeat 1]

The shop's orders and their lines, in three sizes. The lake merges all rows, and then changes of the
newest ones. Spark computes the shop's aggregates in this process, on a standalone cluster and on
YARN, whose executors have one core each. All of them run on this machine and read the same lake in
a folder. So they share its cores. Results go to `benchmarks/results/scale.md`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks import publication, rig
from benchmarks.rig import Servers, cpu_seconds
from softcart_assets.assembly import LINES
from softcart_assets.lake import ChangeFile, LakeTable, lake_table, refresh_table
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack
from softcart_assets.stack.stack import HADOOP, SPARK
from spark.jobs import JOBS, aggregate_table, write_aggregate
from spark.session import build_session, stop_session

SMALLEST = 20_000
"""Order lines in the smallest size."""
FACTORS = 1, 10, 100
LINES_OF_AN_ORDER = 3
PRODUCTS, STORES = 1_000, 20
_DATE = "2026-01-01"
_INSTANT = pa.timestamp("us", tz="UTC")

# Two years of orders, whatever their number. {step}: microseconds from one to the next.
_AT = "make_timestamp(1704067200000000 + n * {step})"
_ROWS = {
    "shop.orders": f"""
        n::decimal(20, 0) AS id, (1 + n * 7919 % {{customers}})::decimal(20, 0) AS customer_id,
        (1 + n % {STORES})::decimal(20, 0) AS store_id,
        if(n % 20 = 7, 'cancelled', 'paid') AS status,
        if(n % 3 = 0, 'mobile', 'laptop') AS device, 'EUR' AS currency, {_AT} AS ordered_at
        FROM range({{first}}, {{last}}) AS numbers(n)""",
    "shop.order_lines": f"""
        n::decimal(20, 0) AS order_id, line::int AS line_number,
        'p' || (n * 31 + line * line * 7919) % {PRODUCTS} AS product_id,
        (1 + n % 5)::int AS quantity,
        ((100 + n * 17 % 9900 + {{load}}) / 100.0)::decimal(12, 2) AS unit_price,
        (n % 7)::decimal(12, 2) AS discount_amount,
        ((50 + n * 17 % 4900) / 100.0)::decimal(12, 2) AS unit_cost, {_AT} AS created_at
        FROM range({{first}}, {{last}}) AS numbers(n), range({LINES_OF_AN_ORDER}) AS lines(line)""",
}
_ROWS_AROUND = {
    "shop.customers": "n::decimal(20, 0) AS id FROM range(1, {customers} + 1) AS numbers(n)",
    "shop.stores": f"""
        n::decimal(20, 0) AS id, if(n = 1, 'online', 'physical') AS channel
        FROM range(1, {STORES} + 1) AS numbers(n)""",
    "shop.inventory": f"""
        store::decimal(20, 0) AS store_id, 'p' || n AS product_id,
        (n % 40)::int AS quantity_on_hand, 5::int AS reorder_point
        FROM range({PRODUCTS}) AS numbers(n), range(1, {STORES} + 1) AS stores(store)""",
    "catalog.products": f"""
        'p' || n AS _id, 'string' AS _id_type, 'c' || n % 40 AS category_id
        FROM range({PRODUCTS}) AS numbers(n)""",
    "catalog.categories": """
        'c' || n AS _id, 'string' AS _id_type, 'Category ' || n AS name,
        if(n < 5, NULL, 'c' || n % 5) AS parent_id FROM range(40) AS numbers(n)""",
}
_OF_THE_SHOP = [job for job in JOBS.values() if job.line == "shop"]


@dataclass
class Lake:
    """A lake with orders and their lines, and the change files that it was told of."""

    uri: str
    lines: int
    files: dict[str, list[ChangeFile]] = field(default_factory=dict)

    @property
    def orders(self) -> int:
        """The number of orders."""
        return self.lines // LINES_OF_AN_ORDER

    def table(self, name: str) -> LakeTable:
        """A table of the lake."""
        return lake_table(*LINES.table(name), self.uri)

    def load(self, rows: dict[str, str], first: int = 0) -> None:
        """Write a change file for each table, with the orders from `first` on."""
        for name, select in rows.items():
            files, table = self.files.setdefault(name, []), self.table(name)
            load = len(files) + 1
            folder = f"changes/{name.replace('.', '/')}/load_date={_DATE}"
            table.store.create_dir(folder)
            path = f"{folder}/{load}-0.parquet"
            values = select.format(
                first=first,
                last=self.orders,
                customers=max(self.orders // 5, 1),
                step=2 * 365 * 24 * 3600 * 1_000_000 // self.orders,
                load=load,
            )
            own = (
                f"SELECT false AS _deleted, TIMESTAMP '{_DATE}' AS _loaded_at, 'p' AS _position,"
                f" '{load}' AS _load_id, {load}::bigint AS _version, "
            )
            with duckdb.connect() as engine:
                reader = engine.sql(own + values).to_arrow_reader(100_000)
                schema = pa.schema(
                    f.with_type(_INSTANT) if pa.types.is_timestamp(f.type) else f
                    for f in reader.schema
                )
                with pq.ParquetWriter(path, schema, filesystem=table.store) as writer:
                    for batch in reader:
                        writer.write_batch(batch.cast(schema))
            files.append(ChangeFile(path, str(load), _DATE))

    def refresh(self) -> None:
        """Merge the change files that are new."""
        for name, files in self.files.items():
            refresh_table(self.table(name), files)


@dataclass(frozen=True)
class Cluster:
    """Where Spark runs. `of`: the processes whose processor time counts, besides the driver."""

    master: str
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    of: tuple[psutil.Process, ...] = ()


def _here(_: Servers) -> AbstractContextManager[Cluster]:
    return nullcontext(Cluster(LOCAL))


@contextmanager
def _cluster(servers: Servers, extra: str, executors: int) -> Iterator[Cluster]:
    """A cluster of the stack, with its own settings but for the executors."""
    stack = Stack(servers.home / extra, sources=(), ignore_environment=True)
    try:
        environment = stack.up(extras=[extra])
        settings = {
            "spark.cores.max": f"{executors}",
            "spark.executor.instances": f"{executors}",
            "spark.executor.cores": "1",
        }
        wanted = ("HADOOP_CONF_DIR", "SPARK_CONF_DIR", "PYSPARK_PYTHON")
        yield Cluster(
            environment["SOFTCART_SPARK_MASTER"],
            settings,
            {name: environment[name] for name in wanted if name in environment},
            tuple(psutil.Process(pid) for pid in stack.pids()),
        )
    finally:
        stack.delete()


LOCAL = "local[*]"
PLACES: dict[str, Callable[[Servers], AbstractContextManager[Cluster]]] = {
    LOCAL: _here,
    "YARN, 1 executor": partial(_cluster, extra=HADOOP, executors=1),
    "YARN, 2 executors": partial(_cluster, extra=HADOOP, executors=2),
    "standalone, 1 executor": partial(_cluster, extra=SPARK, executors=1),
    "standalone, 2 executors": partial(_cluster, extra=SPARK, executors=2),
}


def aggregate() -> None:
    """Compute the shop's aggregates of each lake, the first one twice. It runs in a child process.

    The first time, Java's classes are new, and its compiler has done nothing yet.
    """
    job = json.loads(os.environ["JOB"])
    cluster = [psutil.Process(), *map(psutil.Process, job["of"])]
    first, *_ = job["lakes"]
    started = time.monotonic()
    spark = build_session(
        "bench", master=job["master"], warehouse_uri=first, hive=False, settings=job["settings"]
    )
    found: list[dict[str, Any]] = []
    begun = time.monotonic()
    for uri in [first, *job["lakes"]]:
        # What an earlier run has kept would spare this one work.
        for database in ("aggregates", "aggregates_by_month"):
            shutil.rmtree(_folder(uri) / f"warehouse/{database}.db", ignore_errors=True)
        computed, seconds = sum(map(cpu_seconds, cluster)), {}
        for each in _OF_THE_SHOP:
            before = time.monotonic()
            write_aggregate(spark, each, uri)
            seconds[each.name] = time.monotonic() - before
        found.append({"jobs": seconds, "cpu": sum(map(cpu_seconds, cluster)) - computed})
    stop_session(spark)
    print(json.dumps({"start": begun - started, "found": found}))


def _aggregates(servers: Servers, cluster: Cluster, lakes: list[Lake]) -> dict[str, Any]:
    """What `aggregate` reports. `cpu` are seconds of all processes of Spark."""
    pids = [process.pid for process in cluster.of]
    return rig.watch(
        rig.python("scale", "aggregate"),
        job={
            "lakes": [lake.uri for lake in lakes],
            "master": cluster.master,
            "settings": cluster.settings,
            "of": pids,
        },
        env=cluster.environment | {"PYTHONPATH": str(REPOSITORY)},
        log=servers.home / "logs" / "scale.log",
    ).report


def _folder(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def _rows(lake: Lake) -> dict[str, tuple[Any, ...]]:
    """The number of rows of each aggregate, and the sum of a hash of each."""
    found = {}
    for job in _OF_THE_SHOP:
        table = aggregate_table(job, lake.uri)
        state = table.state()
        assert state
        folders = [each.folder for each in state.partitions.values()]
        rows = ds.dataset(folders[0], filesystem=table.store, format="parquet").to_table()  # noqa: F841
        with duckdb.connect() as engine:
            question = "SELECT count(*), sum(hash(rows)::hugeint) FROM rows"
            [found[job.name]] = engine.sql(question).fetchall()
    return found


@dataclass
class Measured:
    """Seconds by the clock and of processors, by step and number of lines.

    `jobs`: seconds of each aggregate on `local[*]`. `starts`: how long Spark took to start, and to
    compute the aggregates of the smallest size for the first time. `differing`: aggregates whose
    rows are not those of `local[*]`.
    """

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    cpu_seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    jobs: dict[str, dict[int, float]] = field(default_factory=dict)
    starts: dict[str, tuple[float, float]] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)

    def add(self, step: str, lines: int, seconds: float, computed: float) -> None:
        """Note the figures of a step."""
        self.seconds.setdefault(step, {})[lines] = seconds
        self.cpu_seconds.setdefault(step, {})[lines] = computed
        print(f"{step}, {lines:,} lines: {seconds:.2f} s, CPU {computed:.2f} s", flush=True)


def _merge(servers: Servers, lines: int, found: Measured) -> Lake:
    """Make a lake, measured."""
    lake = Lake((servers.home / "scale" / f"{lines}").as_uri(), lines)
    shutil.rmtree(_folder(lake.uri), ignore_errors=True)
    _folder(lake.uri).mkdir(parents=True)
    lake.load(_ROWS_AROUND)
    lake.refresh()
    for step, first in {"all rows": 0, "the newest 1%": lake.orders - lake.orders // 100}.items():
        lake.load(_ROWS, first)
        usage = publication.timed(lake.refresh)
        found.add(f"lake, {step}", lines, usage.seconds, usage.cpu_seconds)
    return lake


def _compute(
    servers: Servers, place: str, lakes: list[Lake], found: Measured, right: dict[int, Any]
) -> None:
    """Compute the aggregates of all lakes in one place, measured. `right`: the rows that count."""
    with PLACES[place](servers) as cluster:
        report = _aggregates(servers, cluster, lakes)
    cold, *warm = report["found"]
    found.starts[place] = report["start"], sum(cold["jobs"].values())
    for lake, each in zip(lakes, warm, strict=True):
        found.add(f"aggregates, {place}", lake.lines, sum(each["jobs"].values()), each["cpu"])
        rows = _rows(lake)
        expected = right.setdefault(lake.lines, rows)
        for name, seconds in each["jobs"].items():
            if place == LOCAL:
                found.jobs.setdefault(name, {})[lake.lines] = seconds
            if rows[name] != expected[name]:
                found.differing.append(f"{name}, {place}, {lake.lines:,} lines")


def _publish(servers: Servers, lines: int, repeat: int, found: Measured) -> None:
    """Publish a fact of so many rows, measured."""
    for case, (usages, _) in publication.measure(servers, lines, repeat).items():
        middle = sorted(usages, key=lambda usage: usage.seconds)[len(usages) // 2]
        computed = middle.cpu_seconds + middle.postgres_seconds
        found.add(f"publication, {case}", lines, middle.seconds, computed)


def _table(head: str, figures: dict[str, dict[int, float]], per_line: bool = False) -> list[str]:
    sizes = sorted({lines for each in figures.values() for lines in each})
    names = [f"{lines:,}" for lines in sizes]
    found = [f"| {head} | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for step, by_lines in figures.items():
        cells = [f"{by_lines[n] * (1e6 / n if per_line else 1):.1f}" for n in sizes]
        found.append(f"| {step} | {' | '.join(cells)} |")
    return found


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 1) -> None:
    """Measure and report. With `only`, just places of Spark with this word in their name, and no
    report is written.
    """
    found, right = Measured(), dict[int, Any]()
    load = os.getloadavg()[0]
    sizes = [int(SMALLEST * scale * factor) for factor in FACTORS]
    lakes = [_merge(servers, lines, found) for lines in sizes]
    if not only:
        for lines in sizes:
            _publish(servers, lines, repeat, found)
    for place in PLACES:
        if only in place:
            _compute(servers, place, lakes, found, right)
            lines_of_report = _report(found, load)
            # After each place, so that an interrupted run leaves a report, too.
            if not only:
                rig.write_result("scale", lines_of_report, servers)
            else:
                print("\n".join(lines_of_report))


def _report(found: Measured, load: float) -> list[str]:
    starts = [f"| {place} | {a:.1f} | {b:.1f} |" for place, (a, b) in found.starts.items()]
    return [
        "# From one to a hundred times as many rows",
        "",
        "The columns are numbers of order lines. Each executor has one core. `local[*]` has all "
        f"{rig.CORES} of this machine, which clusters share with their own servers. The load of "
        f"the machine was {load:.1f} before. Aggregates were computed in a session of Spark that "
        "had computed those of the smallest size once before. CPU is that of all processes, "
        "PostgreSQL and clusters included.",
        "",
        *_table("seconds", found.seconds),
        "",
        *_table("seconds of CPU", found.cpu_seconds),
        "",
        *_table("microseconds of CPU for each line", found.cpu_seconds, per_line=True),
        "",
        *_table("seconds of each aggregate, local[*]", found.jobs),
        "",
        "| seconds | start of Spark | aggregates of the smallest size, the first time |",
        "| --- | ---: | ---: |",
        *starts,
        "",
        f"Rows that are not those of `local[*]`: {'; '.join(found.differing) or 'none'}.",
    ]
