"""What `softcart seed` and `softcart simulate` do: plain functions, which the command line and the tests call.

Here stages are put together and shown; making rows and loading them are the parts of `generator` and `loader`, live
traffic that of `simulator`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from seed_data.generator import COLLECTIONS, TABLES, generate
from seed_data.loader import MADE_BY, CatalogDatabase, SeedError, Shop
from seed_data.parameters import Parameters
from softcart_assets.connections import MongoConnection, MySQLConnection
from spark.session import build_session, softcart_home, stop_session

SHORT_SCALE = 3
"""Up to this scale Spark's work is over before Java's optimising compiler has paid for itself."""


def seed(
    scale: float = 1.0,
    seed: int = 1,
    until: datetime | None = None,
    tables: Collection[str] = (),
    keep: bool = False,
    spark: SparkSession | None = None,
) -> dict[str, int]:
    """Make the seed data and load them into MySQL (`SOFTCART_SHOP_*`) and MongoDB (`SOFTCART_CATALOG_*`).

    `scale` 1 is about 10,000 customers and 60,000 orders; `until` (UTC) is the moment up to which there are data, now
    by default; `tables` restricts to some tables and collections; `keep` leaves the Parquet files in
    `<SOFTCART_HOME>/seed`; `spark` is a running session to use instead of an own one.

    Returns the number of rows loaded per table; nothing if both databases hold this seed already (without `until`: up
    to any moment). Otherwise what an earlier seed loaded is replaced. Raises `SeedError` if a database holds anything
    else.
    """
    names = [name for name in TABLES + COLLECTIONS if not tables or name in tables]
    if unknown := set(tables) - set(names):
        raise SeedError(
            f"There is no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES + COLLECTIONS)}."
        )
    if until and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    try:
        parameters = Parameters(scale, seed, until or datetime.now(UTC))
    except ValueError as error:
        raise SeedError(f"These data cannot be made: {error}.") from None
    own = [name for name in names if name in TABLES]
    server = MySQLConnection.from_env("SOFTCART_SHOP")
    shop, catalog = Shop(server), CatalogDatabase(MongoConnection.from_env("SOFTCART_CATALOG"))
    console = Console()
    with shop.exclusive():
        comments, filled = shop.comments(), catalog.is_filled()
        mark = f"scale={scale:g} seed={seed} until="
        wanted = f"{MADE_BY} {mark}{parameters.until.isoformat() if until else ''}"
        if (
            own
            and all(comments.get(name, "").startswith(wanted) for name in own)
            and (filled or names == own)
        ):
            console.print(f"The sources hold this seed already: {comments[own[0]]}.")
            return {}
        shop.recreate(own)
        catalog.clear()
        directory = softcart_home() / "seed" / f"{server.host}-{server.port}-{server.database}"
        shutil.rmtree(directory, ignore_errors=True)  # what a killed seed left
        try:
            rows = _make_and_load(parameters, directory, names, shop, catalog, keep, spark, console)
        finally:
            if not keep:
                shutil.rmtree(directory, ignore_errors=True)
        shop.complete(own, mark + parameters.until.isoformat())
    if keep:
        console.print(f"The Parquet files are in {directory}.")
    return rows


def _make_and_load(
    parameters: Parameters,
    directory: Path,
    names: list[str],
    shop: Shop,
    catalog: CatalogDatabase,
    keep: bool,
    spark: SparkSession | None,
    console: Console,
) -> dict[str, int]:
    """Load each table while the generator makes the next ones; the number of rows per table."""
    started: list[SparkSession] = []

    def session() -> SparkSession:
        if spark is not None:
            return spark
        started.append(_start_spark(parameters.scale))
        return started[0]

    jobs: dict[Future[int], str] = {}
    with (
        _progress(console) as progress,
        ThreadPoolExecutor(4, thread_name_prefix="load") as threads,
    ):
        bars = {name: progress.add_task(name, total=None, start=False) for name in names}

        def load(name: str, path: Path) -> int:
            bar = bars[name]
            total = sum(pq.read_metadata(file).num_rows for file in path.glob("*.parquet"))
            progress.update(bar, total=total)
            progress.start_task(bar)
            database = catalog if name in COLLECTIONS else shop
            rows = database.load(name, path, lambda rows: progress.advance(bar, rows))
            if not keep:
                shutil.rmtree(path)
            return rows

        def written(name: str, path: Path) -> None:
            jobs[threads.submit(load, name, path)] = name

        try:
            generate(session, parameters, directory, only=names, written=written)
        finally:
            if started:
                stop_session(started[0])
        return {jobs[job]: job.result() for job in as_completed(jobs)}


def _start_spark(scale: float) -> SparkSession:
    """A session on this machine, whose files the loader can read; without Hive, which costs seconds to start."""
    master = os.environ.get("SOFTCART_SPARK_MASTER") or ""
    options = os.environ.get("SPARK_SUBMIT_OPTS")
    if scale <= SHORT_SCALE:
        os.environ["SPARK_SUBMIT_OPTS"] = (
            f"{options or ''} -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
        )
    try:
        session = build_session(
            "seed", master=master if master.startswith("local") else "local[*]", hive=False
        )
    finally:
        if options is None:
            os.environ.pop("SPARK_SUBMIT_OPTS", None)
        else:
            os.environ["SPARK_SUBMIT_OPTS"] = options
    session.sparkContext.setLogLevel(
        "ERROR"
    )  # warnings about large plans would tear the progress bar
    return session


class _Rate(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:>9,.0f} rows/s" if speed else "")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    )
