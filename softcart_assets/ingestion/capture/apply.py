"""Bringing changes into PostgreSQL: raw, history, quarantine and positions, everything of a flush in one transaction.

Here belongs what a change does to the target. Where changes come from and when a flush is due is decided in `stream`.

The last writer by position wins: a change counts for a row only if the row does not stand for a later position already.
Rows that a snapshot copied later than the position that the log is read from are safe from it by that rule alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import class_row

from softcart_assets.ingestion import codec
from softcart_assets.ingestion.connectors.mysql.ddl import TableChange
from softcart_assets.ingestion.connectors.mysql.log import DELETE, UPDATE, TableMap
from softcart_assets.ingestion.connectors.mysql.schema import columns_of
from softcart_assets.ingestion.errors import SchemaChanged, TableBusy, UnsupportedColumn
from softcart_assets.ingestion.quarantine import Recorder, identity_of
from softcart_assets.ingestion.sinks.failures import explain
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.sinks.raw_schema import OWN_COLUMNS
from softcart_assets.ingestion.sinks.sql import literal, quote, typed
from softcart_assets.ingestion.types import Column, Kind, Rejected, Unfit, parse, widens
from softcart_assets.lines.model import Source, Table

_COPY_ROWS = 20_000
_LITTLE = 5_000
"""Up to so many rows are deleted from a staging table one by one; more make truncating it cheaper."""

_PLACE = "\0"
"""Stands in a statement's text where a value comes. Not in the text itself, so that PostgreSQL plans it once for all flushes."""

_OPERATION = Column("_operation", "", "smallint")
_SEQUENCE = Column("_sequence", "", "bigint")
_LAST = Column("_last", "", "boolean")
_POSITION = Column("_position", "", "text")
_COMMITTED_AT = Column("_committed_at", "", "timestamptz")
_STAGED = (_OPERATION, _SEQUENCE, _LAST, _POSITION, _COMMITTED_AT)


LOADED, UNLOADED = 3, 4
"""Beside the log's operations: rows that a load of a whole table states, or states not to be; the lake names no operation."""


class Run(NamedTuple):
    """So many changes of one table by one transaction; its position is None until it is known to be committed."""

    changes: int
    position: str | None
    committed_at: int | None


@dataclass(frozen=True)
class Changes:
    """Changes of one table in the log's order.

    `rows` have raw's columns; `operations` say what happened to each; `rejected` are the changes that cannot be carried: how many
    of the rows come before, the operation, and the row. `runs` count rows and rejected ones.
    """

    table: str
    columns: Sequence[Column]
    rows: pa.RecordBatch
    operations: pa.Array
    rejected: Sequence[tuple[int, int, Rejected]]
    runs: Sequence[Run]

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)

    @cached_property
    def per_row(self) -> tuple[pa.Array, pa.Array]:
        """Position and commit time of each of the rows."""
        _, positions, times = zip(*self.runs, strict=True)
        if len(self.runs) == len(self.rows) and not self.rejected:
            return pa.array(positions, pa.string()), pa.array(times, pa.timestamp("us", tz="UTC"))
        numbers, _ = self._run_numbers
        return (
            pa.array(positions, pa.string()).take(numbers),
            pa.array(times, pa.timestamp("us", tz="UTC")).take(numbers),
        )

    def run_of_rejected(self) -> list[Run]:
        """The run that each of the rejected changes belongs to."""
        return [self.runs[number] for number in self._run_numbers[1]]

    @cached_property
    def _run_numbers(self) -> tuple[pa.Array, list[int]]:
        """The number of the run of each row, and of each rejected change."""
        counts = [run.changes for run in self.runs]
        numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        if not self.rejected:
            return pa.array(numbers), []
        # The place of each rejected change among all.
        places = [before + index for index, (before, _, _) in enumerate(self.rejected)]
        return pa.array(np.delete(numbers, places)), numbers[places].tolist()

    @property
    def is_open(self) -> bool:
        """Whether the last transaction is not committed yet; all others are."""
        return self.runs[-1].position is None

    def after(self, position: str) -> Changes:
        """Those past a position; ones whose transaction is not committed are."""
        first = self.runs[0].position
        # Positions ascend.
        if first is None or first > position:
            return self
        return self.where(lambda run: run.position is None or run.position > position)

    def committed(self) -> Changes:
        """Those whose transaction is committed."""
        return self.where(lambda run: run.position is not None) if self.is_open else self

    def uncommitted(self) -> Changes:
        """Those whose transaction is not committed yet."""
        return self.where(lambda run: run.position is None)

    def without(self, known: Sequence[Column], key: Sequence[str]) -> Changes:
        """In the known columns; changes with a value beyond these are among the rejected."""
        names = [column.name for column in known]
        beyond = [column for column in self.columns if column.name not in names]
        is_out = pa.array(np.zeros(len(self.rows), bool))
        for column in beyond:
            is_out = pc.or_(is_out, pc.is_valid(self.rows.column(column.name)))
        if key:
            is_out = pc.and_(is_out, pc.not_equal(self.operations, DELETE))
        out = np.flatnonzero(is_out.to_numpy(zero_copy_only=False))
        rejected = []
        if len(out):
            texts = {
                c.name: as_text(c, self.rows.column(c.name).take(pa.array(out))).to_pylist()
                for c in self.columns
            }
            unknown = ", ".join(column.name for column in beyond)
            for index, place in enumerate(out.tolist()):
                row = {name: values[index] for name, values in texts.items()}
                reason = f"the raw table has no column {unknown}, and the table's contract is 'quarantine'"
                identity = tuple(row[name] or "" for name in key) if key else None
                operation = self.operations[place].as_py()
                rejected.append(
                    (place, operation, Rejected(identity, None, beyond[0].name, reason, row))
                )
        # Each as the number of rows that stay before it.
        merged = sorted([*self.rejected, *rejected], key=lambda each: each[0])
        gone = np.concatenate([[0], np.cumsum(is_out.to_numpy(zero_copy_only=False))])
        stays = pc.invert(is_out)
        return replace(
            self,
            columns=known,
            rows=self.rows.select(names).filter(stays),
            operations=self.operations.filter(stays),
            rejected=[
                (int(before - gone[before]), operation, row) for before, operation, row in merged
            ],
        )

    def with_deletions(self, key: Sequence[str]) -> Changes:
        """With the deletions among the rejected: these need no more than the key. Values that cannot be carried are NULL in them."""
        rows, operations, rejected = [], [], []
        at = carried = 0
        for before, operation, row in self.rejected:
            known = _known_of(self.columns, key, row) if key and operation == DELETE else None
            if known is None:
                rejected.append((before + carried, operation, row))
                continue
            rows += [self.rows.slice(at, before - at), known]
            operations += [self.operations.slice(at, before - at), pa.array([DELETE], pa.int8())]
            at, carried = before, carried + 1
        if not carried:
            return self
        rows.append(self.rows.slice(at))
        operations.append(self.operations.slice(at))
        values = [pa.concat_arrays([each.column(c.name) for each in rows]) for c in self.columns]
        return replace(
            self,
            rows=pa.RecordBatch.from_arrays(values, names=[c.name for c in self.columns]),
            operations=pa.concat_arrays(operations),
            rejected=rejected,
        )

    def where(self, is_wanted: Callable[[Run], bool]) -> Changes:
        """Those of the runs that are wanted."""
        wanted = [is_wanted(run) for run in self.runs]
        if all(wanted):
            return self
        numbers, of_rejected = self._run_numbers
        mask = pa.array(wanted, pa.bool_()).take(numbers)
        before = np.concatenate([[0], np.cumsum(mask.to_numpy(zero_copy_only=False))])
        return replace(
            self,
            rows=self.rows.filter(mask),
            operations=self.operations.filter(mask),
            rejected=[
                (int(before[at]), operation, row)
                for (at, operation, row), number in zip(self.rejected, of_rejected, strict=True)
                if wanted[number]
            ],
            runs=[run for run, is_in in zip(self.runs, wanted, strict=True) if is_in],
        )


@dataclass
class Place:
    """A place in a source's log: `gtid` is the same place for another server than `server`."""

    position: str
    gtid: str | None
    server: str


@dataclass
class CapturedTable:
    """A table as the target has it, and what of the flush at hand is staged for it.

    `position`: its changes up to here are in raw; `consistent_at`: up to here some of its rows may be newer than the log.
    """

    table: Table
    raw: RawTable
    columns: list[Column]
    position: str
    consistent_at: str
    lake_position: str
    open_entries: int
    staging: str
    stopped: str | None = None
    stale_since: str | None = None
    dropped: Sequence[str] = ()
    is_retyped: bool = False
    """Whether raw's values became others of another type, of which the lake has not been told yet."""
    is_staged: bool = False
    pieces: int = 0
    rows_staged: int = 0
    garbage: int = 0
    counts: Counts = field(default_factory=Counts)
    open_counts: Counts = field(default_factory=Counts)
    rejected: list[tuple[int, int, str | None, Rejected]] = field(default_factory=list)
    """Sequence, operation, position, row."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    def forget(self) -> None:
        """Nothing of it is staged any more."""
        self.is_staged = False
        self.pieces = self.rows_staged = 0
        self.counts = self.open_counts = Counts()
        self.rejected = []


@dataclass(frozen=True)
class Reread:
    """Rows of a table that were read from the source again at a position, in a relation; `scope`: all of which rows of raw."""

    id: int
    table: str
    relation: str
    position: str
    scope: str | None


class TableFailed(Exception):
    """PostgreSQL refuses a table's changes for what they are; the others can go on without it."""

    def __init__(self, table: str, reason: str) -> None:
        super().__init__(reason)
        self.table, self.reason = table, reason


def capture(
    connection: psycopg.Connection, source: str, table: str, position: str, consistent_at: str
) -> None:
    """Follow a table whose rows were copied at `position`, some perhaps later, up to `consistent_at`.

    Belongs into the transaction that brings the rows. If the stream is past that position already, it goes back, and every
    other table stays where it is.
    """
    row = connection.execute(
        "SELECT position, lake_position FROM ingestion.streams WHERE source = %s FOR UPDATE",
        (source,),
    ).fetchone()
    assert row
    at, lake_at = row
    if position < at:
        connection.execute(
            'UPDATE ingestion.captures SET position = greatest(position COLLATE "C", %s),'
            " lake_position = greatest(lake_position COLLATE \"C\", %s) WHERE source = %s AND state = 'live'",
            (at, lake_at, source),
        )
        connection.execute(
            "UPDATE ingestion.streams SET position = %s, lake_position = %s WHERE source = %s",
            (position, min(position, lake_at), source),
        )
    connection.execute(
        "INSERT INTO ingestion.captures (source, table_name, state, position, consistent_at, lake_position)"
        " VALUES (%s, %s, 'live', %s, %s, %s) ON CONFLICT (source, table_name) DO UPDATE SET state = 'live', reason = NULL,"
        " position = EXCLUDED.position, consistent_at = EXCLUDED.consistent_at, lake_position = EXCLUDED.lake_position,"
        " stale_since = NULL, changed_at = NULL, rows_inserted = 0, rows_updated = 0, rows_deleted = 0",
        (source, table, position, consistent_at, position),
    )


class Target:
    """A source's tables in PostgreSQL, over one connection, which also holds the source's lock.

    Whatever fails, the connection is to be closed and a new `Target` made: it takes up what was committed.
    """

    def __init__(self, source: Source, connection: psycopg.Connection) -> None:
        self.source, self.connection = source, connection
        connection.prepare_threshold = 3
        connection.execute("SET work_mem = '64MB'; SET jit = off; SET temp_buffers = '32MB'")
        connection.commit()
        self.tables: dict[str, CapturedTable] = {}
        self.place: Place | None = None
        self.lake_place: Place | None = None
        self.committed_at: datetime | None = None
        self._sequence = 0
        self.read_state()

    # State

    def read_state(self, *, anew: bool = False) -> None:
        """Take up what is committed: tables that are new, or all `anew`."""
        if anew:
            self.tables.clear()
        execute = self.connection.execute
        execute(  # what is not followed any more misses changes from now on
            "DELETE FROM ingestion.captures WHERE source = %s AND table_name <> ALL(%s)",
            (
                self.source.name,
                [table.name for table in self.source.tables if table.strategy == "cdc"],
            ),
        )
        row = execute(
            "SELECT position, gtid, server, lake_position, lake_gtid, lake_server, committed_at"
            " FROM ingestion.streams WHERE source = %s",
            (self.source.name,),
        ).fetchone()
        if row:
            position, gtid, server, lake_position, lake_gtid, lake_server, self.committed_at = row
            self.place = Place(position, gtid, server)
            self.lake_place = Place(lake_position, lake_gtid, lake_server)
        known = {
            name: rest
            for name, *rest in execute(
                "SELECT c.table_name, c.position, c.consistent_at, c.lake_position, c.reason, c.stale_since, c.dropped,"
                " (SELECT count(*) FROM ingestion.quarantine q WHERE q.source = c.source AND q.table_name = c.table_name"
                " AND closed_at IS NULL) FROM ingestion.captures c WHERE c.source = %s",
                (self.source.name,),
            )
        }
        for declared in self.source.tables:
            if (
                declared.strategy == "cdc"
                and declared.name in known
                and declared.name not in self.tables
            ):
                (
                    position,
                    consistent_at,
                    lake_position,
                    reason,
                    stale_since,
                    dropped,
                    open_entries,
                ) = known[declared.name]
                raw = RawTable(self.connection, self.source, declared)
                columns = raw.columns()
                raw.prepare(columns, columns)  # a history that was declared since
                if raw.history:
                    execute(
                        f"ALTER TABLE {raw.history} ADD COLUMN IF NOT EXISTS _committed_at timestamptz".encode()
                    )
                assert self.place
                if not reason:
                    position = max(position, self.place.position)
                    assert self.lake_place
                    lake_position = max(lake_position, self.lake_place.position)
                self.tables[declared.name] = CapturedTable(
                    declared,
                    raw,
                    columns,
                    position,
                    consistent_at,
                    lake_position,
                    open_entries,
                    f"pg_temp.staged_{len(self.tables)}",
                    reason,
                    stale_since,
                    dropped,
                )
        self.connection.commit()
        for table in self.tables.values():
            self._make_staging(table)
        self.connection.commit()

    def _make_staging(self, table: CapturedTable) -> None:
        definitions = ", ".join(
            f"{quote(c.name)} {c.target_type}" for c in (*table.columns, *_STAGED)
        )
        # Not ON COMMIT DELETE ROWS: each commit would truncate those of all tables.
        self.connection.execute(f"DROP TABLE IF EXISTS {table.staging}".encode())
        self.connection.execute(
            f"CREATE TEMP TABLE {table.staging.split('.')[1]} ({definitions})".encode()
        )

    def stop(self, table: CapturedTable, reason: str) -> None:
        """Let a table stand where it is, and say why."""
        table.stopped = reason
        self.connection.execute(
            "UPDATE ingestion.captures SET state = 'stopped', reason = %s, position = %s, lake_position = %s"
            " WHERE source = %s AND table_name = %s",
            (reason, table.position, table.lake_position, self.source.name, table.name),
        )

    # Definitions

    def adapt(self, table: CapturedTable, definition: TableMap) -> Sequence[Column] | None:
        """The columns in which rows of a definition are wanted, raw having followed it if the contract says so; None: not at all."""
        try:
            return self.fit(table, columns_of(definition.columns, table.raw.asset))
        except (UnsupportedColumn, SchemaChanged) as error:
            self.stop(table, str(error))
            return None

    def fit(self, table: CapturedTable, columns: Sequence[Column]) -> Sequence[Column]:
        """The columns in which rows with these columns at the source are wanted; `SchemaChanged` if the contract forbids."""
        have = {column.name: column for column in table.columns}
        names = {column.name for column in columns}
        if missing := [name for name in table.table.key if name not in names]:
            raise SchemaChanged(
                f"{table.raw.asset}: column {', '.join(map(repr, missing))} of the declared key is no longer at the source. Declare "
                f"the key that the table has now, drop the raw table, and load again."
            )
        new = [c for c in columns if c.name not in have]
        gone = [name for name in have if name not in names and name not in table.dropped]
        retyped = [
            c
            for c in columns
            if c.name in have and not widens(c.target_type, have[c.name].target_type)
        ]
        match table.table.contract:
            case "freeze" if new or gone or retyped:
                changes = [
                    *(f"{c.name!r} was added" for c in new),
                    *(f"{name!r} was dropped" for name in gone),
                    *(f"{c.name!r} became {c.source_type}" for c in retyped),
                ]
                raise SchemaChanged(_frozen(table, f"column {', '.join(changes)}"))
            case "quarantine":
                return [*table.columns, *new]
            case "evolve" if new or retyped:
                if table.is_staged:
                    self._merge_staged(table, "", None)
                # All or nothing: what fails here stops this table, not the flush.
                self.connection.execute("SELECT 1")
                with self.connection.transaction():
                    _, is_retyped = table.raw.evolve(columns, table.columns)
                table.is_retyped |= is_retyped
                table.columns = table.raw.columns()
                self._make_staging(table)
        return table.columns

    def define(
        self, change: TableChange, place: Place, committed_at: int | None, database: str
    ) -> Iterator[Changes]:
        """Do what a statement at `place` did to the source's tables; the changes of rows that it meant."""
        for table in self.tables.values():
            is_it = change.database == database and change.table in (table.name, "")
            becomes_it = change.new == (database, table.name)
            if table.stopped or place.position <= table.position or not (is_it or becomes_it):
                continue
            if becomes_it:
                self._note_stale(table, place.position)
            elif change.kind in ("truncate", "drop", "rename"):
                yield from self._delete_all(table, place.position, committed_at)
            elif change.kind == "rewrite" or change.changes_values:
                if table.table.contract == "freeze":
                    self.stop(table, _frozen(table, "its definition"))
                else:
                    self._note_stale(table, place.position)

    def rereads(self) -> list[Reread]:
        """The rows that were read again and can be merged: the log is past their position."""
        assert self.place
        with self.connection.cursor(row_factory=class_row(Reread)) as cursor:
            return cursor.execute(
                'SELECT id, table_name AS "table", relation, position, scope FROM ingestion.resnapshots'
                ' WHERE source = %s AND merged_at IS NULL AND position COLLATE "C" <= %s ORDER BY id',
                (self.source.name, self.place.position),
            ).fetchall()

    def merge_reread(self, table: CapturedTable, reread: Reread) -> Iterator[Changes]:
        """Merge rows that were read again where raw's stand for no later position; the changes that this made."""
        raw, found = table.raw, table.raw.columns(relation=reread.relation)
        names = [column.name for column in found]
        columns = [column for column in self.fit(table, found) if column.name in names]
        names = [column.name for column in columns]
        raw.stage(columns)
        recorder = Recorder(
            self.connection, self.source.name, table.name, reread.relation, reread.position
        )
        emptied = self.connection.execute(
            'SELECT emptied_at COLLATE "C" > %s FROM ingestion.captures WHERE source = %s AND table_name = %s',
            (reread.position, self.source.name, table.name),
        ).fetchone()
        if emptied and emptied[0]:  # by then its rows were gone, those too that raw never had
            self._execute(f"DELETE FROM {reread.relation}")
            recorder.close(
                [entry for entry, at in recorder.positions() if at <= reread.position], "deleted"
            )
        raw.hold(table.columns, recorder.entries([]))
        same, at = _same(table.table.key, "i", "r"), literal(reread.position)
        first = quote(table.table.key[0])
        self._execute(
            f"INSERT INTO pg_temp.changes ({_names(names)}, _deleted, _is_new)"
            f" SELECT {_names(names, 'i')}, false, r.{first} IS NULL OR r._deleted FROM {reread.relation} i"
            f' LEFT JOIN {raw.name} r ON {same} WHERE r.{first} IS NULL OR (r._position COLLATE "C" <= {at}'
            f" AND (r._deleted OR ROW({_names(names, 'r')}) IS DISTINCT FROM ROW({_names(names, 'i')})))"
        )
        self._execute(
            f"INSERT INTO pg_temp.changes ({_names(names)}, _deleted, _is_new) SELECT {_names(names, 'r')}, true, false"
            f' FROM {raw.name} r WHERE NOT r._deleted AND r._position COLLATE "C" <= {at} AND ({reread.scope or "true"})'
            f" AND NOT EXISTS (SELECT FROM {reread.relation} i WHERE {same})"
            f" AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND {_same(table.table.key, 'h', 'r')})"
        )
        raw.apply_changes(columns, reread.position)
        yield from self._changes_made(table, Run(0, reread.position, None), columns)
        # Entries of rows that are in now, or were out when they were read but have come since.
        recorder.close(raw.held_in(reread.relation), "mended")
        rows = self.connection.execute(
            f"SELECT h._held_entry, r._deleted FROM pg_temp.held h JOIN {raw.name} r ON {_same(table.table.key, 'h', 'r')}"
            f' WHERE h._held_seen AND r._position COLLATE "C" > {at}'.encode()
        ).fetchall()
        for is_deleted, because in ((False, "mended"), (True, "deleted")):
            recorder.close([entry for entry, gone in rows if gone == is_deleted], because)
        table.open_entries = recorder.open()[0]
        changed = self.connection.execute("SELECT count(*) FROM pg_temp.changes").fetchone()
        self._execute(f"DROP TABLE {reread.relation}")
        self.connection.execute(
            "UPDATE ingestion.resnapshots SET merged_at = now(), rows_changed = %s WHERE id = %s",
            (changed and changed[0], reread.id),
        )
        if not reread.scope and table.stale_since and table.stale_since <= reread.position:
            table.stale_since = None
            self.connection.execute(
                "UPDATE ingestion.captures SET stale_since = NULL WHERE source = %s AND table_name = %s",
                (self.source.name, table.name),
            )

    def leave_server(self) -> None:
        """Another server goes on, whose positions lie behind all earlier ones.

        If some tables, or rows of them, are further than the stream, which went back for one that is new, positions no longer
        tell what they have, and the GTIDs may be those from before it went back: all have to be read again.
        """
        assert self.place
        live = [table for table in self.tables.values() if not table.stopped]
        if any(max(table.position, table.consistent_at) > self.place.position for table in live):
            for table in live:
                self._note_stale(table, table.position)
        self.connection.commit()

    def _note_stale(self, table: CapturedTable, position: str) -> None:
        """From a position on, rows may have values that the log does not show."""
        table.stale_since = position
        self.connection.execute(
            "UPDATE ingestion.captures SET stale_since = %s WHERE source = %s AND table_name = %s",
            (position, self.source.name, table.name),
        )

    def unlisted(self, table: CapturedTable) -> Iterator[Changes]:
        """Changes that bring the lake to where raw is, for when the log does not tell them: the rows that changed since.

        A table whose columns became others, and one without a key, is stated as a whole; the latter as its loads do.
        """
        is_whole = table.is_retyped or not table.table.key
        if table.lake_position >= table.position and not table.is_retyped:
            return
        raw = table.raw
        raw.find_own(table.columns, None if is_whole else table.lake_position)
        table.is_retyped = False
        gone, here = DELETE, UPDATE
        if not table.table.key:
            gone, here = UNLOADED, LOADED
            # Of no row there must be one, too, that says so.
            self._execute(
                "INSERT INTO pg_temp.changes (_deleted, _is_new) SELECT true, false WHERE NOT EXISTS (SELECT FROM pg_temp.changes)"
            )
        for rows, is_deleted in raw.changed_rows(table.columns):
            operations = pc.if_else(
                is_deleted, pa.scalar(gone, pa.int8()), pa.scalar(here, pa.int8())
            )
            yield Changes(
                table.name,
                table.columns,
                rows,
                operations,
                [],
                [Run(len(rows), table.position, None)],
            )

    def _delete_all(
        self, table: CapturedTable, position: str, committed_at: int | None
    ) -> Iterator[Changes]:
        """Every row is gone at a position."""
        raw, names = table.raw, _names([c.name for c in table.columns])
        raw.stage(table.columns)
        self._execute(
            f"INSERT INTO pg_temp.changes ({names}, _deleted, _is_new) SELECT {names}, true, false FROM {raw.name}"
            f' WHERE NOT _deleted AND _position COLLATE "C" < {literal(position)}'
        )
        if table.table.key:
            raw.apply_changes(table.columns, position)
        else:
            self._execute(
                f'DELETE FROM {raw.name} WHERE _position COLLATE "C" < {literal(position)}'
            )
        yield from self._changes_made(table, Run(0, position, committed_at))
        self.connection.execute(
            "UPDATE ingestion.captures SET emptied_at = %s WHERE source = %s AND table_name = %s",
            (position, self.source.name, table.name),
        )
        recorder = Recorder(self.connection, self.source.name, table.name, position, position)
        recorder.close([entry for entry, at in recorder.positions() if at < position], "deleted")
        table.open_entries = recorder.open()[0]

    def _changes_made(
        self, table: CapturedTable, run: Run, columns: Sequence[Column] | None = None
    ) -> Iterator[Changes]:
        """The rows of `changes`, counted, as changes at a position."""
        inserted, updated, deleted = self.connection.execute(
            "SELECT count(*) FILTER (WHERE _is_new), count(*) FILTER (WHERE NOT _is_new AND NOT _deleted),"
            " count(*) FILTER (WHERE _deleted) FROM pg_temp.changes"
        ).fetchone() or (0, 0, 0)
        self.connection.execute(
            "UPDATE ingestion.captures SET changed_at = %s, rows_inserted = rows_inserted + %s, rows_updated = rows_updated + %s,"
            " rows_deleted = rows_deleted + %s WHERE source = %s AND table_name = %s",
            (run.position, inserted, updated, deleted, self.source.name, table.name),
        )
        columns = columns or table.columns
        for rows, is_deleted in table.raw.changed_rows(columns):
            operations = pc.if_else(
                is_deleted, pa.scalar(DELETE, pa.int8()), pa.scalar(UPDATE, pa.int8())
            )
            yield Changes(
                table.name, columns, rows, operations, [], [run._replace(changes=len(rows))]
            )

    # Flushes

    def stage(self, changes: Changes) -> None:
        """Bring changes to PostgreSQL, not yet into raw; opens the flush's transaction."""
        table = self.tables[changes.table]
        if not len(changes) or not len(changes := changes.after(table.position)):
            return
        is_open = changes.is_open
        if is_open and len(changes.runs) > 1:
            # Apart, so that what is committed stands by itself if the rest turns out to be void.
            self.stage(changes.committed())
            changes = changes.uncommitted()
        if len(changes.columns) > len(table.columns):
            changes = changes.without(table.columns, table.table.key)
        table.is_staged = True
        first, self._sequence = self._sequence, self._sequence + len(changes)
        for index, ((before, operation, row), run) in enumerate(
            zip(changes.rejected, changes.run_of_rejected(), strict=True)
        ):
            table.rejected.append((first + before + index, operation, run.position, row))
        if not len(changes.rows):
            return
        if is_open:
            table.open_counts += counts_of(changes.operations)
        else:
            table.counts += counts_of(changes.operations)
        sequence = np.arange(first, first + len(changes.rows), dtype=np.int64)
        if changes.rejected:
            places = [before + index for index, (before, _, _) in enumerate(changes.rejected)]
            sequence = first + np.delete(np.arange(len(changes), dtype=np.int64), places)
        positions, times = changes.per_row
        last = _last_versions(changes.rows, table.table.key)
        names = [c.name for c in changes.columns]
        arrays = [
            *changes.rows.columns,
            changes.operations.cast(pa.int16()),
            pa.array(sequence),
            pa.array(last),
        ]
        batch = pa.RecordBatch.from_arrays(
            [*arrays, positions, times], names=[*names, *(c.name for c in _STAGED)]
        )
        if not table.raw.history and table.table.key:
            batch = batch.filter(batch.column("_last"))
        table.pieces += 1
        table.rows_staged += len(batch)
        self._copy(table.staging, (*changes.columns, *_STAGED), batch)

    def void(self) -> None:
        """What is staged of a transaction that is not committed yet is void."""
        for table in self.tables.values():
            if table.is_staged:
                self._execute(f"DELETE FROM {table.staging} WHERE _position IS NULL")
                table.rejected = [each for each in table.rejected if each[2] is not None]
                table.open_counts = Counts()

    def _copy(self, relation: str, columns: Sequence[Column], batch: pa.RecordBatch) -> None:
        names = ", ".join(quote(c.name) for c in columns)
        statement = f"COPY {relation} ({names}) FROM STDIN (FORMAT BINARY)".encode()
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(codec.COPY_HEADER)
            for start in range(0, len(batch), _COPY_ROWS):
                copy.write(codec.copy_rows(columns, batch.slice(start, _COPY_ROWS)))
            copy.write(codec.COPY_TRAILER)

    def merge(self, place: Place, committed_at: int | None) -> None:
        """Bring what is staged into raw and history. `place` and `committed_at` are those of the last transaction's end."""
        staged = [table for table in self.tables.values() if table.is_staged]
        moment = (
            None if committed_at is None else datetime.fromtimestamp(committed_at / 1_000_000, UTC)
        )
        for table in staged:
            table.counts += table.open_counts
            self._merge_staged(table, place.position, moment)
        changed = [table for table in staged if table.counts]
        if changed:
            self.connection.execute(
                "UPDATE ingestion.captures c SET changed_at = %s, rows_inserted = c.rows_inserted + n.inserted,"
                " rows_updated = c.rows_updated + n.updated, rows_deleted = c.rows_deleted + n.deleted"
                " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[]) AS n (name, inserted, updated, deleted)"
                " WHERE c.source = %s AND c.table_name = n.name",
                (
                    place.position,
                    [table.name for table in changed],
                    [table.counts.inserted for table in changed],
                    [table.counts.updated for table in changed],
                    [table.counts.deleted for table in changed],
                    self.source.name,
                ),
            )
        for table in staged:
            table.forget()
        self._sequence = 0

    def commit(
        self, place: Place, committed_at: int | None, lake_place: Place | None = None
    ) -> None:
        """Move the stream to `place`, and the lake's if given, and commit the transaction with all that it holds.

        A place before the present one, as while the log is read again for the lake, leaves it where it is.
        """
        assert self.place
        if place.position <= self.place.position:
            place = self.place
        moment = (
            None if committed_at is None else datetime.fromtimestamp(committed_at / 1_000_000, UTC)
        )
        lake = lake_place or self.lake_place
        assert lake
        done = self.connection.execute(
            "UPDATE ingestion.streams SET position = %s, gtid = %s, server = %s, lake_position = %s, lake_gtid = %s,"
            " lake_server = %s, committed_at = coalesce(%s, committed_at), updated_at = now()"
            " WHERE source = %s AND position = %s",
            (
                place.position,
                place.gtid,
                place.server,
                lake.position,
                lake.gtid,
                lake.server,
                moment,
                self.source.name,
                self.place.position,
            ),
        )
        if not done.rowcount:
            raise TableBusy(
                f"{self.source.schema}: somebody else has moved the stream of source {self.source.name!r} meanwhile. Nothing of "
                "this flush was committed."
            )
        self.connection.commit()
        self.place, self.lake_place = place, lake
        self.committed_at = moment or self.committed_at
        for table in self.tables.values():
            if not table.stopped:
                table.position = max(table.position, place.position)
                if lake_place:
                    table.lake_position = max(table.lake_position, lake_place.position)

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        self.connection.rollback()
        for table in self.tables.values():
            table.forget()
        self._sequence = 0

    def _merge_staged(
        self, table: CapturedTable, position: str, committed_at: datetime | None
    ) -> None:
        try:
            if table.rows_staged:
                self._merge(table, position, committed_at)
            if table.open_entries or table.rejected:
                self._quarantine(table, position)
            if table.rows_staged:
                self._empty(table)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            raise TableFailed(
                table.name, str(explain(error, table.raw.asset, table.table.key))
            ) from error
        table.pieces = table.rows_staged = 0
        table.rejected = []

    def _merge(self, table: CapturedTable, position: str, committed_at: datetime | None) -> None:
        raw, names = table.raw, [c.name for c in table.columns]
        if not table.table.key:
            self._merge_without_key(table, position)
            return
        listed = _names(names)
        at = f"coalesce(s.{_POSITION.name}, {_PLACE})"
        is_newer = (
            f"NOT EXISTS (SELECT FROM {raw.name} r WHERE {_same(table.table.key, 'r', 's')}"
            f' AND r._position COLLATE "C" >= {at})'
        )
        is_consistent = table.position >= table.consistent_at
        if raw.history:
            where = "" if is_consistent else f" WHERE {is_newer}"
            self._execute(
                f"INSERT INTO {raw.history} ({listed}, {', '.join(OWN_COLUMNS)}, _committed_at)"
                f" SELECT {_names(names, 's')}, s._operation = 0, now(), {at}, coalesce(s._committed_at, {_PLACE})"
                f" FROM {table.staging} s{where} ORDER BY s._sequence",
                position,
                committed_at,
                *(() if is_consistent else (position,)),
            )
        # Each piece of a transaction has last versions of its own.
        distinct = (
            f"(SELECT DISTINCT ON ({_names(table.table.key)}) * FROM {table.staging} WHERE _last"
            f" ORDER BY {_names(table.table.key)}, _sequence DESC) s"
        )
        last = distinct if table.pieces > 1 else f"{table.staging} s WHERE s._last"
        values = [*(quote(name) for name in names if name not in table.table.key), *OWN_COLUMNS]
        condition = "" if is_consistent else ' WHERE r._position COLLATE "C" < EXCLUDED._position'
        self._execute(
            f"INSERT INTO {raw.name} AS r ({listed}, {', '.join(OWN_COLUMNS)})"
            f" SELECT {_names(names, 's')}, s._operation = 0, now(), {at} FROM {last}"
            f" ON CONFLICT ({_names(table.table.key)}) DO UPDATE SET {', '.join(f'{v} = EXCLUDED.{v}' for v in values)}{condition}",
            position,
        )

    def _merge_without_key(self, table: CapturedTable, position: str) -> None:
        """Insertions less deletions of each distinct row."""
        raw, names = table.raw, [c.name for c in table.columns]
        sign = "sum(CASE WHEN _operation = 0 THEN -1 ELSE 1 END)"

        def row(alias: str) -> str:
            return f"ROW({_names(names, alias)})"

        # A record's hash can be joined by, the record itself cannot.
        self._execute(
            f"WITH gone AS (SELECT {row('s')} AS row, hash_record_extended({row('s')}, 0) AS hash, -{sign} AS count"
            f" FROM {table.staging} s GROUP BY 1, 2 HAVING {sign} < 0),"
            f" found AS (SELECT r.ctid, row_number() OVER (PARTITION BY gone.hash, gone.row) AS number, gone.count FROM {raw.name} r"
            f" JOIN gone ON gone.hash = hash_record_extended({row('r')}, 0) AND gone.row = {row('r')})"
            f" DELETE FROM {raw.name} WHERE ctid IN (SELECT ctid FROM found WHERE number <= count)"
        )
        self._execute(
            f"INSERT INTO {raw.name} ({_names(names)}, {', '.join(OWN_COLUMNS)})"
            f" SELECT {_names(names)}, false, now(), coalesce(position, {_PLACE}) FROM"
            f" (SELECT {_names(names)}, max(_position) AS position, {sign} AS count FROM {table.staging} GROUP BY {_names(names)}"
            f" HAVING {sign} > 0) s, generate_series(1, s.count)",
            position,
        )

    def _empty(self, table: CapturedTable) -> None:
        table.garbage += table.rows_staged
        if table.garbage <= _LITTLE:
            self._execute(f"DELETE FROM {table.staging}")
        else:
            self._execute(f"TRUNCATE {table.staging}")
            table.garbage = 0

    def _quarantine(self, table: CapturedTable, position: str) -> None:
        """Close entries of rows that came in a good version or went, record rows that cannot be carried."""
        recorder = Recorder(self.connection, self.source.name, table.name, position, position)
        key = table.table.key
        if table.open_entries and table.rows_staged and key:
            table.raw.hold(table.columns, recorder.entries([]))
            rows = self.connection.execute(
                f"SELECT DISTINCT ON (h._held_entry) h._held_entry, s._operation FROM pg_temp.held h JOIN {table.staging} s"
                f" ON {_same(key, 'h', 's')} JOIN ingestion.quarantine q ON q.id = h._held_entry"
                f' WHERE coalesce(s._position, {literal(position)}) > q.position COLLATE "C"'
                " ORDER BY h._held_entry, s._sequence DESC".encode()
            ).fetchall()
            recorder.close([entry for entry, operation in rows if operation != DELETE], "mended")
            recorder.close([entry for entry, operation in rows if operation == DELETE], "deleted")
        for sequence, operation, at, rejected in _last_rejected(table.rejected):
            at = at or position
            recorder.position = at
            if rejected.key is not None and self._is_superseded(table, rejected.key, sequence, at):
                continue
            alike = recorder.alike(identity_of(rejected))
            if operation == DELETE:
                recorder.close(alike[:1], "deleted")
            else:
                recorder.record([rejected])
        table.open_entries = recorder.open()[0]

    def _is_superseded(
        self, table: CapturedTable, key: Sequence[str], sequence: int, position: str
    ) -> bool:
        """Whether a rejected change of a row has been overtaken, in this flush or by what raw has."""
        row = self.connection.execute(
            f"SELECT EXISTS (SELECT FROM {table.staging} s WHERE {self._is_row(table, key)} AND s._sequence > {sequence}) OR"
            f" EXISTS (SELECT FROM {table.raw.name} WHERE {self._is_row(table, key)}"
            f' AND _position COLLATE "C" > {literal(position)})'.encode()
        ).fetchone()
        return bool(row and row[0])

    def _is_row(self, table: CapturedTable, key: Sequence[str]) -> str:
        by_name = {c.name: c for c in table.columns}
        pairs = zip(table.table.key, key, strict=True)
        return " AND ".join(
            f"{quote(name)} = {typed(literal(text), by_name[name])}" for name, text in pairs
        )

    def _execute(self, statement: str, *values: object) -> int:
        """Run a statement with values in the places of `_PLACE`; names and texts in it may hold what else looks like one."""
        if not values:
            return self.connection.execute(statement.encode()).rowcount
        return self.connection.execute(
            statement.replace("%", "%%").replace(_PLACE, "%s").encode(), values
        ).rowcount


def _frozen(table: CapturedTable, what: str) -> str:
    source, name = table.raw.asset.removeprefix("raw_").split("/", 1)
    return (
        f"{table.raw.asset}: {what} at the source, and the table's contract is 'freeze'. It stays as it was then; the other tables "
        f"go on. Look what the change means for the models, then run `softcart resnapshot {source}.{name}`, which takes it over."
    )


def _names(names: Iterable[str], alias: str | None = None) -> str:
    return ", ".join(f"{alias}.{quote(name)}" if alias else quote(name) for name in names)


def _same(key: Iterable[str], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{quote(name)} = {right}.{quote(name)}" for name in key)


def counts_of(operations: pa.Array) -> Counts:
    """How many changes there are of each kind."""
    deleted, inserted, updated = np.bincount(operations.to_numpy(), minlength=3)
    return Counts(int(inserted), int(updated), int(deleted))


def _last_versions(rows: pa.RecordBatch, key: Sequence[str]) -> np.ndarray:
    """Which of the rows are the last of their key."""
    if len(rows) == 1 or not key:
        return np.ones(len(rows), bool)
    numbers = pa.array(np.arange(len(rows), dtype=np.int64))
    keys = pa.Table.from_arrays(
        [*(rows.column(name) for name in key), numbers], names=[*key, "_number"]
    )
    last = (
        keys.group_by(list(key), use_threads=False)
        .aggregate([("_number", "max")])
        .column("_number_max")
    )
    is_last = np.zeros(len(rows), bool)
    is_last[last.to_numpy()] = True
    return is_last


def as_text(column: Column, array: pa.Array) -> pa.Array:
    """Values as text, as rejected rows have them."""
    match column.kind:
        case Kind.TEXT | Kind.JSON:
            return array
        case Kind.BYTES:
            return pa.array(
                [None if value is None else "\\x" + value.hex() for value in array.to_pylist()],
                pa.string(),
            )
        case Kind.DATETIME | Kind.INSTANT:
            return array.cast(pa.timestamp("us")).cast(pa.string())
        case _:
            return array.cast(pa.string())


def _known_of(
    columns: Sequence[Column], key: Sequence[str], rejected: Rejected
) -> pa.RecordBatch | None:
    """What can be carried of a rejected row, the other values NULL; None if its key cannot be."""
    arrays = []
    for column in columns:
        text = rejected.row.get(column.name)
        try:
            if column.kind is Kind.BYTES and text is not None:
                value: bytes | None = bytes.fromhex(text.removeprefix("\\x"))
            elif text is not None and text.startswith("\\x") and column.name not in key:
                value = None  # text that is not text
            else:
                value = None if text is None else text.encode()
            arrays.append(parse(column, pa.array([value], pa.binary())))
        except Unfit:
            if column.name in key:
                return None
            arrays.append(pa.nulls(1, column.arrow_type))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _last_rejected(
    rejected: Sequence[tuple[int, int, str | None, Rejected]],
) -> Iterator[tuple[int, int, str | None, Rejected]]:
    """The last one of each key; those without a key all."""
    last = {each[3].key: each[0] for each in rejected if each[3].key is not None}
    return (each for each in rejected if each[3].key is None or last[each[3].key] == each[0])
