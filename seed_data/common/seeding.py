"""Makes the seed data of lines of business and loads them into their sources."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich.console import Console

from seed_data.common.databases import Database
from seed_data.common.model import LineSeed, Output, SeedError
from seed_data.common.packages import database_of, seeds_of
from seed_data.common.parameters import Parameters
from seed_data.common.session import spark_on_demand
from softcart_assets.lines.model import Line, Source, Table
from softcart_assets.paths import softcart_home
from softcart_assets.progress import TableProgress

LOADS_AT_ONCE = 4


@dataclass(frozen=True)
class _Target:
    """The database of a source, and its tables to make."""

    source: Source
    database: Database
    tables: list[Table]


def seed(
    lines: Iterable[Line],
    scale: float = 1.0,
    seed: int = 1,
    until: datetime | None = None,
    tables: Collection[str] = (),
    spark: SparkSession | None = None,
    *,
    keep_spark: bool = False,
    console: Console | None = None,
) -> dict[str, int]:
    """Make the seed data of these lines, and load them into their sources.

    `until` (UTC): the data end at this moment, by default now. `tables`: make only these tables,
    `<source>.<table>`, and leave the others as they are. `spark`: a running session to use.
    `keep_spark`: let a session that it started run on, see `spark_on_demand`. `console`: where
    progress is shown, by default the standard error.

    Returns the rows loaded per table. If the databases of a line hold this seed already, the line
    is left alone, and only tables of a newer release are made that no source declares. Without
    `until`, a seed up to any moment counts as this one. Data of another seed are replaced. Raises
    `SeedError` if a database holds anything else.
    """
    seeds = seeds_of(lines)
    parameters = _parameters(scale, seed, until)
    known = [f"{source.name}.{table.name}" for line, _ in seeds for source, table in line.tables()]
    if unknown := sorted(set(tables) - set(known)):
        raise SeedError(f"There is no table {', '.join(unknown)}; there are {', '.join(known)}.")
    made = f"scale={scale:g} seed={seed} until="
    rows: dict[str, int] = {}
    with (
        spark_on_demand(scale, spark, keep=keep_spark) as session,
        TableProgress(console) as progress,
    ):
        for line, data in seeds:
            targets = _targets(line, tables)
            if not targets:
                continue
            with _exclusive(line, targets) as directory:
                # Without `until`, the moment is left out: it is another one in each run.
                if _hold(targets, made + (parameters.until.isoformat() if until else "")):
                    if not tables:
                        for target in targets:
                            target.database.add_further()
                    progress.say(f"The sources of {line.name} hold this seed already.")
                    continue
                for target in targets:
                    target.database.recreate(target.tables)
                loaded = _make_and_load(data, parameters, targets, directory, session, progress)
                for target in targets:
                    target.database.complete(target.tables, made + parameters.until.isoformat())
                progress.say(
                    f"Made {sum(loaded.values()):,} rows in {len(loaded)} tables of {line.name}."
                )
                rows |= loaded
    return rows


def _parameters(scale: float, seed: int, until: datetime | None) -> Parameters:
    if until and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    try:
        return Parameters(scale, seed, until or datetime.now(UTC))
    except ValueError as error:
        raise SeedError(f"These data cannot be made: {error}.") from None


def _targets(line: Line, tables: Collection[str]) -> list[_Target]:
    """The databases of the line's sources that have wanted tables."""
    targets = []
    for source in line.sources:
        chosen = [
            table
            for table in source.tables
            if not tables or f"{source.name}.{table.name}" in tables
        ]
        if chosen:
            targets.append(_Target(source, database_of(line, source), chosen))
    return targets


@contextmanager
def _exclusive(line: Line, targets: list[_Target]) -> Iterator[Path]:
    """An empty folder for the Parquet files of the line, while no other seed runs.

    A lock on a file keeps out other seeds of this installation. The locks of the databases keep out
    those of other installations.
    """
    home = softcart_home() / "seed"
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context((home / f"{line.name}.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeedError(
                f"Another `softcart seed` of {line.name} is at work. Wait until it ends."
            ) from None
        for target in targets:
            stack.enter_context(target.database.exclusive())
        directory = home / line.name
        shutil.rmtree(directory, ignore_errors=True)  # what a killed seed left
        directory.mkdir()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        yield directory


def _hold(targets: list[_Target], parameters: str) -> bool:
    """Whether every table was made with these parameters. Raises `SeedError` for foreign data."""
    # All databases first, because `marks` finds the foreign data.
    marks = [(target, target.database.marks()) for target in targets]
    return all(
        found.get(table.at_source, "").startswith(f"{target.database.mark} {parameters}")
        for target, found in marks
        for table in target.tables
    )


def _make_and_load(
    data: LineSeed,
    parameters: Parameters,
    targets: list[_Target],
    directory: Path,
    session: Callable[[], SparkSession],
    progress: TableProgress,
) -> dict[str, int]:
    """Load each table while the line makes the next ones. Returns the number of rows per table."""
    databases: Mapping[str, tuple[Database, Table]] = {
        f"{target.source.name}.{table.name}": (target.database, table)
        for target in targets
        for table in target.tables
    }
    jobs: dict[str, Future[int]] = {}

    def load(name: str, path: Path) -> int:
        database, table = databases[name]
        total = sum(pq.read_metadata(file).num_rows for file in path.glob("*.parquet"))
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            progress.tell(name, done, total)

        rows = database.load(table, path, advance)
        progress.done(name, rows)
        # At once, because the files of all tables together need much space.
        shutil.rmtree(path)
        return rows

    with ThreadPoolExecutor(LOADS_AT_ONCE, thread_name_prefix="load") as threads:

        def written(name: str, path: Path) -> None:
            # A failed load ends the making of further tables, which may take minutes.
            for job in list(jobs.values()):
                if job.done():
                    job.result()
            jobs[name] = threads.submit(load, name, path)

        try:
            data.generate(parameters, Output(directory, databases, session, written))
            if missing := databases.keys() - jobs.keys():
                raise SeedError(
                    f"The generator did not write {', '.join(sorted(missing))}. "
                    "It must write every table that the line declares."
                )
            for job in as_completed(jobs.values()):
                job.result()
        except BaseException:
            # Loads that have not begun would only delay the error.
            threads.shutdown(cancel_futures=True)
            raise
    return {name: job.result() for name, job in jobs.items()}
