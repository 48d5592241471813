"""Reconciliation: is raw what its source is, row by row, and if not, which rows differ, and in which columns?

Both sides are compared at one position by digests (`narrowing`). Only rows that differ travel, into the staging warehouse, which
says exactly what of them differs; a repair then merges just those, the way a load would. What is compared with what, and what
a difference means, belongs here.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from tempfile import SpooledTemporaryFile
from typing import Literal

import psycopg
from pyarrow import fs

from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion import bookkeeping, engine
from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.capture.bounded import CapturedLoad, epoch_of, follow_to
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job, Status
from softcart_assets.ingestion.connectors.mongodb import reader as mongodb
from softcart_assets.ingestion.connectors.mysql import reader as mysql
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader
from softcart_assets.ingestion.crew import Crew
from softcart_assets.ingestion.engine import LoadResult, Progress, Reader
from softcart_assets.ingestion.errors import MissingTable, NotStated, SchemaChanged, TableBehind
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.proof.digest import MYSQL, POSTGRES, Checksums
from softcart_assets.ingestion.proof.digest import row_number as number_of
from softcart_assets.ingestion.proof.digest import row_text as text_of
from softcart_assets.ingestion.proof.narrowing import Key, Narrowing
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.sinks import raw as postgres
from softcart_assets.ingestion.sinks.lake import open_lake
from softcart_assets.ingestion.sinks.raw import Counts, RawTable, as_text, quote, typed
from softcart_assets.ingestion.types import Column, widens
from softcart_assets.lines.model import Source, Table

SAMPLE = 10
"""So many differing rows of each kind are named."""
_FETCHED_NUMBERS = 10_000
_SPOOLED_BYTES = 8 << 20


@dataclass(frozen=True)
class Difference:
    """A row that differs. `key`: its key's values as text; of a table without a key, all its values.

    `kind`: raw lacks it (missing), has it beyond the source (extra), or has other values in `columns` (differing).
    """

    kind: Literal["missing", "extra", "differing"]
    key: tuple[str | None, ...]
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for a person."""
        key = "/".join("NULL" if value is None else value for value in self.key)
        return f"{self.kind} {key}" + (f" in {', '.join(self.columns)}" if self.columns else "")


@dataclass(frozen=True)
class Reconciliation:
    """A raw table against its source at `position`.

    `rows` at the source and `segments` were compared. `missing`, `extra` and `differing` count rows, `columns` how many of the differing
    ones differ in each column; `sample` names some. `unfit`: rows of the source that raw cannot take and that are not in
    quarantine. The `quarantined` rows were not compared.
    `before_load`: what was found wrong with raw before the load that had to bring it to the position, and that the
    load may have mended. `load`: what that load did, if there was one; `repair`: what the repair did, likewise.
    """

    table: str
    position: str
    rows: int
    segments: int
    missing: int = 0
    extra: int = 0
    differing: int = 0
    unfit: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    sample: list[Difference] = field(default_factory=list)
    quarantined: int = 0
    before_load: str | None = None
    load: LoadResult | None = None
    repair: LoadResult | None = None
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """The number of rows that differ, or differed before the repair."""
        return self.missing + self.extra + self.differing + self.unfit

    @property
    def is_repaired(self) -> bool:
        """Whether rows that differed were brought into raw."""
        return self.repair is not None

    @property
    def is_settled(self) -> bool:
        """Whether raw is now what the source was at the position, as far as was compared."""
        return not self.differences or self.is_repaired

    def __str__(self) -> str:
        """One line for a person."""
        if not self.differences:
            return f"{self.table}: {self.rows} rows equal the source at {self.position}"
        kinds = {
            "missing": self.missing,
            "extra": self.extra,
            "differing": self.differing,
            "unfit": self.unfit,
        }
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        return f"{self.table}: {told} of {self.rows} rows{', repaired' if self.is_repaired else ''} at {self.position}"


def reconcile(
    source: Source,
    connection: MySQLConnection | MongoConnection,
    staging: PostgresConnection,
    lake_uri: str,
    table: str,
    *,
    repair: bool = False,
    may_load: bool = True,
    on_progress: Progress | None = None,
) -> Reconciliation:
    """Compare a raw table with its source; `repair` then brings just the rows that differ into raw, history and lake.

    A MySQL table of strategy `cdc` is brought to the position of a snapshot, for which a stream gives way a moment, and compared there
    while the stream goes on. Another one is held as by a load; if it changed at the source since it was loaded, it is loaded
    first, in the usual way, and compared at the load's position. A table without a key is repaired by a full load; so is
    MongoDB's, whose documents are all read. With `may_load` false, nothing is brought anywhere: `TableBehind` if that would be
    needed. `on_progress` is told the table's rows compared so far. Raises what `load` raises
    for one table.
    """
    declared = source.table(table)
    with _explained(source, declared), ExitStack() as stack:
        control = stack.enter_context(
            staging.connect(autocommit=True, application_name=engine.own_name("reconcile"))
        )
        bookkeeping.prepare(control, source.schema)

        def call(readers: Sequence[Reader]) -> engine.Call:
            crew = stack.enter_context(Crew(readers))
            return engine.Call(
                source, staging, control, crew, lake_uri, str(uuid.uuid4()), False, True, (), None
            )

        if declared.strategy == "cdc" and isinstance(connection, MySQLConnection):
            if not may_load:
                _refuse_behind(source, connection, control, declared)
            return _reconcile_captured(
                Job(source, connection, staging, lake_uri, Status(source.name)),
                declared,
                call,
                repair,
                on_progress,
            )
        engine.lock(control, source, declared)
        work = _Reconciler(
            call(stack.enter_context(engine.open_readers(source, connection, 2))),
            declared,
            on_progress,
        )
        return work.call.crew.submit(
            lambda reader: work.run(reader, repair=repair, may_load=may_load)
        ).result()


@contextmanager
def _explained(source: Source, table: Table) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise postgres.explain(error, f"{source.schema}/{table.name}", table.key) from error


def _reconcile_captured(
    job: Job,
    table: Table,
    call: Callable[[Sequence[Reader]], engine.Call],
    repair: bool,
    on_progress: Progress | None,
) -> Reconciliation:
    """Compare at a position to which the log is applied exactly, with a view of both sides that stays while the log goes on."""
    started = time.monotonic()
    with ExitStack() as views:
        with ExitStack() as held:
            follower, readers = _caught_up(job, table, held, views)
            stopped = follower.captured.tables[table.name].stopped
            if stopped:
                raise SchemaChanged(stopped)
            view = views.enter_context(
                job.staging.connect(application_name=engine.own_name("reconcile"))
            )
            raw = RawTable(view, job.source, table)
            _see_one_moment(view, raw)
        work = _Reconciler(call(readers), table, on_progress)
        found = work.compare(readers[0], raw)
        found = replace(
            found, warnings=[*work.warnings, *readers[0].warnings(table), *work.strays()]
        )
    if repair and found.differences:
        # At a position of its own: whatever changed meanwhile is left alone, as it no longer differs.
        with ExitStack() as held:
            _, readers = _caught_up(job, table, held, held)
            load = (
                _CapturedRepair(call(readers), table, work.fetch, work.extra)
                if table.key
                else CapturedLoad(call(readers), table, is_full=True)
            )
            found = replace(found, repair=load.call.crew.submit(load.run).result())
    return replace(found, seconds=time.monotonic() - started)


def _caught_up(
    job: Job, table: Table, held: ExitStack, views: ExitStack
) -> tuple[Follower, list[MySQLReader]]:
    """Hold a source as long as `held` lasts, its log applied up to exactly the position of readers, which `views` closes."""
    control = held.enter_context(
        job.staging.connect(autocommit=True, application_name=engine.own_name("reconcile"))
    )
    key = (job.source.name, table.name)
    if not control.execute(
        "SELECT 1 FROM ingestion.captures WHERE source = %s AND table_name = %s", key
    ).fetchone():
        raise _never_loaded(job.source, table)
    follower = Follower(job, held.enter_context(hold(job, is_stream=False)), control)
    readers = views.enter_context(mysql.snapshot(job.source, job.connection, 2, epoch_of(follower)))
    follower = follow_to(follower, Position.parse(readers[0].position(table)))
    follower.merge_reread()
    follower.finish()
    return follower, readers


def _refuse_behind(
    source: Source, connection: MySQLConnection, control: psycopg.Connection, table: Table
) -> None:
    """Raise `TableBehind` if the log has changes of captured tables that are not applied."""
    row = control.execute(
        "SELECT position FROM ingestion.streams WHERE source = %s", (source.name,)
    ).fetchone()
    captured = tuple(each for each in source.tables if each.strategy == "cdc")
    since = {each.name: row[0] for each in captured} if row else {}
    if mysql.changed_tables(replace(source, tables=captured), connection, since)[1]:
        raise _behind(source, table)


def _behind(source: Source, table: Table) -> TableBehind:
    return TableBehind(
        f"{source.schema}/{table.name} was not compared: its source has changes that are not loaded. Run "
        f"`softcart reconcile {source.name}.{table.name}`, which loads them first."
    )


def _never_loaded(source: Source, table: Table) -> MissingTable:
    return MissingTable(
        f"{source.schema}/{table.name} was never loaded, so there is nothing to compare. Run `softcart load "
        f"{source.name}.{table.name}` first."
    )


def _see_one_moment(connection: psycopg.Connection, raw: RawTable) -> None:
    """Have a new connection see a raw table as it is now, and keep it from being altered, which would show."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
    connection.execute(f"LOCK TABLE {raw.name} IN ACCESS SHARE MODE".encode())
    raw.is_empty()


class _Reconciler:
    """The comparison of one table, and what comes before and after it for a table that loads bring to a position."""

    def __init__(self, call: engine.Call, table: Table, on_progress: Progress | None) -> None:
        self.call, self.table, self.source = call, table, call.source
        self.on_progress = on_progress
        self.asset = f"{self.source.schema}/{table.name}"
        self.fetch, self.extra = _Keys(), _Keys()
        self.warnings: list[str] = []

    def run(self, reader: Reader, *, repair: bool, may_load: bool) -> Reconciliation:
        """Bring the table to the reader's position if it is not there, compare, perhaps repair."""
        started = time.monotonic()
        last = bookkeeping.last_load(self.call.control, self.source.name, self.table.name)
        if last is None:
            raise _never_loaded(self.source, self.table)
        before_load = loaded = None
        if self._is_behind(reader, last):
            if not may_load:
                raise _behind(self.source, self.table)
            before_load = self._wrong_already()
            loaded = engine.load_of(self.call, self.table).run(reader)
        with self.call.staging.connect(application_name=f"softcart reconcile {self.asset}") as view:
            raw = RawTable(view, self.source, self.table)
            _see_one_moment(view, raw)
            found = self.compare(reader, raw)
        if repair and found.differences:
            again = replace(self.call, load_id=str(uuid.uuid4()))
            load = (
                _Repair(again, self.table, self.fetch, self.extra)
                if isinstance(reader, MySQLReader) and self.table.key
                else engine.load_of(replace(again, full=True), self.table)
            )
            found = replace(found, repair=load.run(reader))
        return replace(
            found,
            before_load=before_load,
            load=loaded,
            seconds=time.monotonic() - started,
            warnings=[*self.warnings, *reader.warnings(self.table), *self.strays()],
        )

    def compare(self, reader: Reader, raw: RawTable) -> Reconciliation:
        """Compare what the reader sees with what is seen of raw; rows to be repaired are noted by key."""
        if not isinstance(reader, MySQLReader):
            return self._compare_documents(reader, raw)
        return (
            self._compare(reader, raw) if self.table.key else self._compare_without_key(reader, raw)
        )

    def _is_behind(self, reader: Reader, last: LastLoad) -> bool:
        """Whether the table changed at the source since it was loaded; asked after the reader's snapshot was opened."""
        only, since = replace(self.source, tables=(self.table,)), {self.table.name: last.position}
        if isinstance(reader, MySQLReader):
            return bool(mysql.changed_tables(only, reader.connection, since)[1])
        assert isinstance(reader, mongodb.MongoReader)
        return bool(mongodb.changed_tables(only, reader.connection, since)[1])

    def _wrong_already(self) -> str | None:
        """How raw differs from what the source said of itself at the last load, if it does."""
        try:
            found = compare(self.source, self.call.staging, self.table.name)
        except NotStated:
            return None
        return None if found.is_equal else str(found)

    def _tell(self, reader: Reader) -> Progress | None:
        """Tell of rows compared, with the number expected."""
        if not self.on_progress:
            return None
        expected, on_progress = reader.expected_rows(self.table), self.on_progress
        return lambda table, rows, _: on_progress(table, rows, expected)

    def _columns(self, raw: RawTable, reader: Reader) -> list[Column]:
        """The columns that both sides have, typed as raw has them."""
        have = {c.name: c for c in raw.columns()}
        columns = []
        for column in reader.columns(self.table, list(have.values())):
            ours = have.get(column.name)
            if ours and widens(column.target_type, ours.target_type):
                columns.append(replace(column, target_type=ours.target_type))
            else:
                what = f"has it as {ours.target_type}" if ours else "does not have it"
                self.warnings.append(
                    f"column {column.name!r} ({column.source_type}) is not compared: raw {what}"
                )
        return columns

    def _left_out(self, raw: RawTable, columns: Sequence[Column], query: str) -> list[Key]:
        """Make `left_out` of a query of keys; its keys."""
        key = [next(c for c in columns if c.name == name) for name in raw.key]
        raw.connection.execute(f"CREATE TEMP TABLE left_out ON COMMIT DROP AS {query}".encode())
        rows = raw.connection.execute(
            f"SELECT {text_of(POSTGRES, key)}, {', '.join(as_text(quote(c.name), c) for c in key)}"
            " FROM pg_temp.left_out".encode()
        )
        return [Key(tuple(values), text) for text, *values in rows]

    def _compare(self, reader: MySQLReader, raw: RawTable) -> Reconciliation:
        """By key: digests first, then the rows that differ."""
        position = reader.position(self.table)
        columns = self._columns(raw, reader)
        recorder = Recorder(raw.connection, self.source.name, self.table.name, "", position)
        raw.hold(columns, recorder.entries([]))
        names = ", ".join(map(quote, raw.key))
        left_out = self._left_out(raw, columns, f"SELECT {names} FROM pg_temp.held")
        self._check_quarantine(reader, columns, left_out)
        narrowing = self._narrowing(reader, raw, columns, left_out)
        for found in narrowing.differing():
            self.fetch.add(found.fetch)
            self.extra.add(found.extra)
        result = Reconciliation(
            self.asset, position, narrowing.rows, narrowing.segments, quarantined=recorder.open()[0]
        )
        if not (self.fetch or self.extra):
            return result
        raw.stage(columns)
        batches = reader.rows_of(self.table, columns, self.fetch)[1]
        unfit = sum(len(batch.rejected) for batch in raw.copy("pg_temp.incoming", columns, batches))
        raw.find_changes(columns, missing_is_deleted=False)
        _add_extra(raw, columns, self.extra)
        return replace(result, **_describe(raw, columns), unfit=unfit)

    def _narrowing(
        self, reader: MySQLReader, raw: RawTable, columns: Sequence[Column], left_out: Sequence[Key]
    ) -> Narrowing:
        tell = self._tell(reader)
        return Narrowing(
            reader,
            self.table,
            raw,
            columns,
            left_out,
            (lambda rows: tell(self.table.name, rows, None)) if tell else (lambda rows: None),
        )

    def _check_quarantine(
        self, reader: MySQLReader, columns: Sequence[Column], held: Sequence[Key]
    ) -> None:
        """Whether the rows in quarantine are still at the source, and still unfit."""
        if not held:
            return
        fit = unfit = 0
        for batch in reader.rows_of(self.table, columns, (key.values for key in held))[1]:
            fit, unfit = fit + len(batch.rows), unfit + len(batch.rejected)
        if fit:
            self.warnings.append(
                f"{fit} row(s) in quarantine are fit now: `softcart quarantine replay` takes them in"
            )
        if gone := len(held) - fit - unfit:
            self.warnings.append(
                f"{gone} row(s) in quarantine are no longer at the source; a full load closes them"
            )

    def _compare_without_key(self, reader: MySQLReader, raw: RawTable) -> Reconciliation:
        """By the digests of whole rows, counting how often each occurs."""
        position = reader.position(self.table)
        missing = extra = 0
        numbers: dict[int, int] = {}
        columns = self._columns(raw, reader)
        quarantined = Recorder(
            raw.connection, self.source.name, self.table.name, "", position
        ).open()[0]
        narrowing = self._narrowing(reader, raw, columns, [])
        for found in narrowing.differing():
            missing += sum(count for count in found.surplus.values() if count > 0)
            extra -= sum(count for count in found.surplus.values() if count < 0)
            numbers |= dict(islice(found.surplus.items(), _FETCHED_NUMBERS - len(numbers)))
        sample = self._rows_in_raw(raw, columns, [n for n, count in numbers.items() if count < 0])
        # Rows in quarantine are among those that raw lacks; they are told by what is wrong with them.
        unfit = 0
        lacked = [number for number, count in numbers.items() if count > 0]
        if lacked:
            condition = f"{number_of(MYSQL, columns)} IN ({', '.join(map(str, lacked))})"
            named: list[Difference] = []
            for batch in reader.batches(self.table, columns, condition):
                unfit += len(batch.rejected)
                for row in islice(batch.rows.to_pylist(), SAMPLE - len(named)):
                    named.append(
                        Difference(
                            "missing", tuple(None if v is None else str(v) for v in row.values())
                        )
                    )
            sample = named + sample
        return Reconciliation(
            self.asset,
            position,
            narrowing.rows,
            narrowing.segments,
            missing=missing - unfit,
            extra=extra,
            unfit=max(unfit - quarantined, 0),
            sample=sample,
            quarantined=quarantined,
        )

    def _rows_in_raw(
        self, raw: RawTable, columns: Sequence[Column], numbers: Sequence[int]
    ) -> list[Difference]:
        if not numbers:
            return []
        rows = raw.connection.execute(
            f"SELECT {', '.join(as_text(quote(c.name), c) for c in columns)} FROM {raw.name}"
            f" WHERE {number_of(POSTGRES, columns)} IN ({', '.join(map(str, numbers[:SAMPLE]))}) LIMIT {SAMPLE}".encode()
        )
        return [Difference("extra", tuple(row)) for row in rows]

    def _compare_documents(self, reader: Reader, raw: RawTable) -> Reconciliation:
        """All documents, in the staging warehouse: MongoDB has no digests that PostgreSQL has too."""
        position = reader.position(self.table)
        tell = self._tell(reader)
        known = raw.columns()
        columns, batches = reader.all_rows(self.table, known)
        new = [c.name for c in columns if c.name not in {k.name for k in known}]
        self.warnings += [f"field {name!r} is new: a load adds its column" for name in new]
        columns = [c for c in columns if c.name not in new]
        recorder = Recorder(raw.connection, self.source.name, self.table.name, "", position)
        raw.hold(columns, recorder.entries([]))
        raw.stage(columns)
        rows = unfit = 0
        with closing(raw.copy("pg_temp.incoming", columns, batches)) as copied:
            for batch in copied:
                rows, unfit = rows + len(batch.rows), unfit + len(batch.rejected)
                if tell:
                    tell(self.table.name, rows, None)
        raw.find_changes(columns, missing_is_deleted=True)
        same = " AND ".join(f"h.{quote(name)} = c.{quote(name)}" for name in raw.key)
        raw.connection.execute(
            f"DELETE FROM pg_temp.changes c USING pg_temp.held h WHERE {same} AND c._deleted".encode()
        )
        described, quarantined = _describe(raw, columns), recorder.open()[0]
        return Reconciliation(
            self.asset,
            position,
            rows,
            1,
            **described,
            unfit=max(unfit - quarantined, 0),
            quarantined=quarantined,
        )

    def strays(self) -> Iterator[str]:
        """What the lake has beyond the files that count, and lacks of those."""
        key = (self.source.name, self.table.name)

        def paths(query: str) -> set[str]:
            return {path for (path,) in self.call.control.execute(query.encode(), key)}

        listing = "SELECT path FROM ingestion.lake_files WHERE source = %s AND table_name = %s"
        # Others may be writing: what is listed before it is looked for must be there, and what is there be listed afterwards.
        listed = paths(listing)
        system, root = open_lake(self.call.lake_uri)
        directory = f"{root}/changes/{self.source.name}/{self.table.name}"
        found = system.get_file_info(
            fs.FileSelector(directory, recursive=True, allow_not_found=True)
        )
        present = {
            info.path.removeprefix(f"{root}/") for info in found if info.type == fs.FileType.File
        }
        writing = tuple(
            paths("SELECT load_id FROM ingestion.attempts WHERE source = %s AND table_name = %s")
        )
        ranges = paths(
            "SELECT f ->> 'path' FROM ingestion.snapshot_ranges, jsonb_array_elements(files) f WHERE source = %s AND table_name = %s"
        )
        orphans = [
            path
            for path in present - ranges - paths(listing)
            if not path.rsplit("/", 1)[1].startswith(writing)
        ]
        if orphans:
            yield f"{len(orphans)} file(s) in the lake do not count and can be deleted, among them {min(orphans)}"
        if lost := listed - present:
            yield f"{len(lost)} file(s) of the change log are missing in the lake, among them {min(lost)}"


class _Repair(engine.TableLoad):
    """A load of just the rows that differ."""

    def __init__(
        self, call: engine.Call, table: Table, fetch: Iterable[tuple], extra: Iterable[tuple]
    ) -> None:
        super().__init__(call, table)
        self.fetch, self.extra = fetch, extra

    def _move(
        self, columns: Sequence[Column], last: LastLoad | None
    ) -> tuple[Sequence[Column], tuple[int | None, Checksums | None] | None, str]:
        _take_rows(self, columns, self.fetch, self.extra)
        return columns, None, "repair"


class _CapturedRepair(CapturedLoad):
    """A load of just the rows that differ, on top of what the log brought."""

    def __init__(
        self, call: engine.Call, table: Table, fetch: Iterable[tuple], extra: Iterable[tuple]
    ) -> None:
        super().__init__(call, table, is_full=False)
        self.fetch, self.extra = fetch, extra

    def _move(
        self, columns: Sequence[Column], last: LastLoad | None
    ) -> tuple[Sequence[Column], tuple[int | None, Checksums | None] | None, str]:
        columns, sums, _ = super()._move(columns, last)
        _take_rows(self, columns, self.fetch, self.extra)
        return columns, sums, "repair"


def _take_rows(
    load: engine.TableLoad,
    columns: Sequence[Column],
    fetch: Iterable[tuple],
    extra: Iterable[tuple],
) -> None:
    """Bring rows with some keys into raw as they are at the source now, or as deleted if they are not there."""
    raw = load.raw
    raw.stage(columns)
    _, batches = load.reader.rows_of(load.table, columns, chain(fetch, extra))
    load._take(raw.copy("pg_temp.incoming", columns, batches), columns)
    # A key that only its case tells from another's finds that one's row at the source.
    same = " AND ".join(f"i.{quote(name)} = other.{quote(name)}" for name in raw.key)
    raw.connection.execute(
        f"DELETE FROM pg_temp.incoming i USING pg_temp.incoming other WHERE {same} AND i.ctid > other.ctid".encode()
    )
    load._merge(
        columns,
        raw.find_changes(columns, missing_is_deleted=False) + _add_extra(raw, columns, extra),
    )
    load._close_held_in("pg_temp.incoming")


class _Keys:
    """Keys as text, any number of them: many go to a temporary file."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_SPOOLED_BYTES, mode="w+")  # noqa: SIM115 - closed with the object
        self._count = 0

    def add(self, keys: Iterable[tuple[str, ...]]) -> None:
        """Add some."""
        for key in keys:
            self._file.write(json.dumps(key) + "\n")
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        self._file.seek(0)
        for line in self._file:
            yield tuple(json.loads(line))


def _add_extra(raw: RawTable, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]) -> Counts:
    """Add the rows of raw with these keys to `changes`, as deleted, but for those in `incoming` or just found unfit."""
    key = [next(c for c in columns if c.name == name) for name in raw.key]
    names = ", ".join(quote(c.name) for c in key)
    definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in key)
    raw.connection.execute(f"CREATE TEMP TABLE extra ({definitions}) ON COMMIT DROP".encode())
    with raw.connection.cursor() as cursor:
        values = ", ".join(typed("%s", c) for c in key)
        into = f"pg_temp.extra ({names})".replace("%", "%%")
        cursor.executemany(f"INSERT INTO {into} VALUES ({values})".encode(), keys)
    listed = ", ".join(quote(c.name) for c in columns)
    done = raw.connection.execute(
        f"INSERT INTO pg_temp.changes ({listed}, _deleted, _is_new) SELECT {listed}, true, false FROM {raw.name} r"
        f" WHERE NOT _deleted AND ({names}) IN (SELECT {names} FROM pg_temp.extra EXCEPT SELECT {names} FROM pg_temp.incoming"
        f" EXCEPT SELECT {names} FROM pg_temp.held WHERE _held_seen)".encode()
    )
    return Counts(deleted=done.rowcount)


def _describe(raw: RawTable, columns: Sequence[Column]) -> dict:
    """What `changes` says of raw, before it is applied: counts of each kind, of differing columns, and a sample."""
    same = " AND ".join(f"c.{quote(name)} = r.{quote(name)}" for name in raw.key)
    both = f"pg_temp.changes c LEFT JOIN {raw.name} r ON {same}"
    others = [c for c in columns if c.name not in raw.key]
    is_differing = "(NOT c._deleted AND NOT c._is_new)"

    def differs(column: Column) -> str:
        return f"{is_differing} AND c.{quote(column.name)} IS DISTINCT FROM r.{quote(column.name)}"

    counts = ", ".join(
        f"count(*) FILTER (WHERE {condition})"
        for condition in ("c._is_new", "c._deleted", is_differing, *map(differs, others))
    )
    row = raw.connection.execute(f"SELECT {counts} FROM {both}".encode()).fetchone()
    assert row is not None
    missing, extra, differing, *by_column = row
    kind = "CASE WHEN c._deleted THEN 'extra' WHEN c._is_new THEN 'missing' ELSE 'differing' END"
    by_name = {c.name: c for c in columns}
    key = ", ".join(as_text(f"c.{quote(name)}", by_name[name]) for name in raw.key)
    names = ", ".join(
        f"CASE WHEN {differs(c)} THEN {number} END" for number, c in enumerate(others)
    )
    sample = raw.connection.execute(
        f"SELECT kind, key, columns FROM (SELECT {kind} AS kind, ARRAY[{key}] AS key, array_remove(ARRAY[{names}]::int[], NULL)"
        f" AS columns, row_number() OVER (PARTITION BY {kind} ORDER BY {', '.join(f'c.{quote(n)}' for n in raw.key)}) AS number"
        f" FROM {both}) sample WHERE number <= {SAMPLE} ORDER BY kind DESC, number".encode()
    )
    return {
        "missing": missing,
        "extra": extra,
        "differing": differing,
        "columns": {c.name: count for c, count in zip(others, by_column, strict=True) if count},
        "sample": [
            Difference(kind, tuple(key), tuple(others[number].name for number in numbers))
            for kind, key, numbers in sample
        ],
    }
