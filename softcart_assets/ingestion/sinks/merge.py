"""The sink that brings changes into raw and its history.

A flush first copies its changes into a temporary table per raw table, as they come. One statement
per table then merges them. So a row that changed a hundred times in a flush is written once.
Changes that cannot be carried go to quarantine.

A change counts only if the row does not stand for a later position already. A snapshot may have
copied rows later than the position that the log is read from. This rule alone protects them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from softcart_assets.ingestion.captured import Captured, CapturedTable, TableFailed, moment_of
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.codec.copying import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.position import Place, Position, ordered
from softcart_assets.ingestion.sinks.failures import CAUSED_BY_ROWS, cause, explain
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.sinks.raw_schema import OWN_COLUMNS, VERSION
from softcart_assets.ingestion.sinks.staged import Rejection, Staged, quarantine
from softcart_assets.ingestion.sinks.statements import COMMA, name_of, names_of, same_key, text
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source

_COPY_ROWS = 20_000
_LITTLE = 5_000
"""Up to this many rows are deleted from a staging table one by one. For more, truncating is
cheaper.
"""

_OPERATION = Column("_operation", "", "smallint")
_SEQUENCE = Column("_sequence", "", "bigint")
_LAST = Column("_last", "", "boolean")
_POSITION = Column("_position", "", "text")
_COMMITTED_AT = Column("_committed_at", "", "timestamptz")
_STAGED = (_OPERATION, _SEQUENCE, _LAST, _POSITION, _COMMITTED_AT)

_OWN = names_of(OWN_COLUMNS)
_DEFAULT = sql.Placeholder()
"""Stands for the values of rows of an open transaction: those of its end. It is not part of the
statement's text, so PostgreSQL plans the statement once for all flushes.
"""
_AT = sql.SQL("coalesce(s._position, {})").format(_DEFAULT)


class RawSink:
    """Raw and history of a source's captured tables."""

    def __init__(self, captured: Captured, connection: psycopg.Connection, source: Source) -> None:
        self.captured, self.connection, self.source = captured, connection, source
        self.staged: dict[str, Staged] = {}
        self._sequence = 0
        # The few statements of a flush are the same every time, so they are prepared early. Their
        # hash joins stay in
        # memory, and compiling them would take longer than running them.
        connection.prepare_threshold = 3
        # Staging tables are temporary, and `temp_buffers` keeps them in memory.
        connection.execute("SET work_mem = '64MB'; SET jit = off; SET temp_buffers = '32MB'")
        # A rollback would undo the settings as well.
        connection.commit()

    def begin(self, table: CapturedTable) -> None:
        """Create the temporary table for a table's changes, with raw's columns."""
        staged = self.staged.get(table.name)
        if staged is None or staged.table is not table:
            raw = RawTable(self.connection, self.source, table.table)
            name = staged.relation if staged else f"staged_{len(self.staged)}"
            staged = self.staged[table.name] = Staged(table, raw, name)
            columns = raw.columns()
            # The same columns twice: nothing is changed but for what is missing beside the table.
            raw.prepare(columns, columns)  # a history that was declared since
        table.columns = staged.raw.columns()
        definitions = COMMA.join(
            sql.SQL("{} {}").format(name_of(c.name), text(c.target_type))
            for c in (*table.columns, *_STAGED)
        )
        relation = sql.Identifier(staged.relation)
        # Not ON COMMIT DELETE ROWS: each commit would truncate those of all tables.
        self.run(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(relation))
        self.run(sql.SQL("CREATE TEMP TABLE {} ({})").format(relation, definitions))

    def since(self, table: CapturedTable) -> Position:
        """Return the position up to which changes are in raw for good."""
        return table.position

    def take(self, changes: Changes) -> None:
        """Bring changes to PostgreSQL, but not into raw yet. This opens the flush's transaction."""
        if changes.is_open and len(changes.runs) > 1:
            # Apart, so that what is committed stands by itself if the rest turns out to be void.
            self.take(changes.committed())
            changes = changes.uncommitted()
        staged = self.staged[changes.table]
        table = staged.table
        # Contract 'quarantine': rows come with the source's new columns, and raw does not get
        # these.
        if len(changes.columns) > len(table.columns):
            changes = changes.without(table.columns, table.table.key)
        staged.is_staged = True
        first, self._sequence = self._sequence, self._sequence + len(changes)
        for index, ((before, operation, row), run) in enumerate(
            zip(changes.rejected, changes.run_of_rejected(), strict=True)
        ):
            staged.rejected.append(Rejection(first + before + index, operation, run.position, row))
        if not len(changes.rows):
            return
        # Counted apart, as a rollback takes them back.
        if changes.is_open:
            staged.open_counts += counts_of(changes.operations)
        else:
            staged.counts += counts_of(changes.operations)
        batch = self._with_own_columns(table, changes, first)
        if not table.table.history and table.table.key:
            # Without a history only a key's last version in the piece matters.
            batch = batch.filter(batch.column("_last"))
        staged.pieces += 1
        staged.rows += len(batch)
        self._copy(staged, (*changes.columns, *_STAGED), batch)

    def _with_own_columns(
        self, table: CapturedTable, changes: Changes, first: int
    ) -> pa.RecordBatch:
        """Return the rows with what the merge has to know of each.

        `first`: the sequence number of the first change.
        """
        sequence = np.arange(first, first + len(changes.rows), dtype=np.int64)
        if changes.rejected:
            places = [before + index for index, (before, _, _) in enumerate(changes.rejected)]
            sequence = first + np.delete(np.arange(len(changes), dtype=np.int64), places)
        positions, times = changes.per_row
        arrays = [
            *changes.rows.columns,
            changes.operations.cast(pa.int16()),
            pa.array(sequence),
            pa.array(_last_versions(changes.rows, table.table.key)),
            positions,
            times,
        ]
        names = [column.name for column in (*changes.columns, *_STAGED)]
        return pa.RecordBatch.from_arrays(arrays, names=names)

    def _copy(self, staged: Staged, columns: Sequence[Column], batch: pa.RecordBatch) -> None:
        statement = sql.SQL("COPY pg_temp.{} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(staged.relation), COMMA.join(sql.Identifier(c.name) for c in columns)
        )
        with (
            # A row may be wider than a page (singer-io/tap-hubspot#262).
            table_failures(staged.table),
            self.connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            copy.write(COPY_HEADER)
            for start in range(0, len(batch), _COPY_ROWS):
                copy.write(copy_rows(columns, batch.slice(start, _COPY_ROWS)))
            copy.write(COPY_TRAILER)

    def void(self) -> None:
        """Remove what is staged of the open transaction. Only its rows have no position yet."""
        for staged in self.staged.values():
            if staged.is_staged:
                self.run(sql.SQL("DELETE FROM {} WHERE _position IS NULL").format(staged.name))
                staged.rejected = [each for each in staged.rejected if each.position is not None]
                staged.open_counts = Counts()

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Bring what is staged into raw and history.

        `place` and `committed_at` are those of the last transaction's end.
        """
        filled = [staged for staged in self.staged.values() if staged.is_staged]
        for staged in filled:
            staged.counts += staged.open_counts
            self.merge(staged, place.position, moment_of(committed_at))
        changed = [staged for staged in filled if staged.counts]
        if changed:
            self.connection.execute(
                "UPDATE ingestion.captures c SET changed_at = %s, rows_inserted = c.rows_inserted "
                "+ n.inserted,"
                " rows_updated = c.rows_updated + n.updated, rows_deleted = c.rows_deleted + "
                "n.deleted"
                " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[]) AS n (name, "
                "inserted, updated, deleted)"
                " WHERE c.source = %s AND c.table_name = n.name",
                (
                    place.position,
                    [staged.table.name for staged in changed],
                    [staged.counts.inserted for staged in changed],
                    [staged.counts.updated for staged in changed],
                    [staged.counts.deleted for staged in changed],
                    self.source.name,
                ),
            )
        for staged in filled:
            staged.forget()
        self._sequence = 0

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """Do nothing: the load itself has brought the rows."""

    def discard(self) -> None:
        """Do nothing: everything is in PostgreSQL, and its transaction is rolled back."""

    def merge(self, staged: Staged, position: Position, committed_at: datetime | None) -> None:
        """Bring what is staged of one table into raw.

        Raises `TableFailed` if PostgreSQL refuses it.
        """
        table = staged.table
        with table_failures(table):
            if staged.rows:
                if table.table.key:
                    self._merge(staged, position, committed_at)
                else:
                    self._merge_without_key(staged, position)
            if table.open_entries or staged.rejected:
                quarantine(self.connection, self.source.name, staged, position)
            if staged.rows:
                self._empty(staged)
        staged.pieces = staged.rows = 0
        staged.rejected = []

    def _merge(self, staged: Staged, position: Position, committed_at: datetime | None) -> None:
        raw, table, relation = staged.raw, staged.table, staged.name
        names, key = [c.name for c in table.columns], table.table.key
        # Until then, a snapshot may have copied rows that are newer than the log: their positions
        # decide.
        is_consistent = table.position >= table.consistent_at
        parts = {
            "raw": text(raw.name),
            "history": text(raw.history or ""),
            "staged": relation,
            "names": names_of(names),
            "values": names_of(names, "s"),
            "key": names_of(key),
            "own": _OWN,
            "at": _AT,
            "moment": sql.SQL("coalesce(s._committed_at, {})").format(_DEFAULT),
        }
        if raw.history:
            is_newer = sql.SQL(" WHERE NOT EXISTS (SELECT FROM {} r WHERE {} AND {} >= {})").format(
                parts["raw"],
                same_key(key, "r", "s"),
                ordered(sql.SQL("r._position")),
                ordered(_AT),
            )
            self.run(
                sql.SQL(
                    "INSERT INTO {history} ({names}, {own}, _committed_at)"
                    " SELECT {values}, s._operation = 0, now(), {at}, {moment} FROM {staged} "
                    "s{where}"
                    # The history's `_version` is given out in this order, so it follows the log.
                    " ORDER BY s._sequence"
                ).format(**parts, where=sql.SQL("") if is_consistent else is_newer),
                position,
                committed_at,
                *(() if is_consistent else (position,)),
            )
        last = sql.SQL("{staged} s WHERE s._last")
        if staged.pieces > 1:  # each piece of a transaction has last versions of its own
            last = sql.SQL(
                # A statement with ON CONFLICT fails if it meets a key twice.
                "(SELECT DISTINCT ON ({key}) * FROM {staged} WHERE _last ORDER BY {key}, "
                "_sequence DESC) s"
            )
        # Deleted rows stay in raw with their position. Otherwise an older change, read again, would
        # bring them back.
        changed = [*(name for name in names if name not in key), *OWN_COLUMNS, VERSION]
        condition = sql.SQL(" WHERE {} < {}").format(
            ordered(sql.SQL("r._position")), ordered(sql.SQL("EXCLUDED._position"))
        )
        self.run(
            sql.SQL(
                "INSERT INTO {raw} AS r ({names}, {own}) SELECT {values}, s._operation = 0, "
                "now(), {at} FROM {last}"
                " ON CONFLICT ({key}) DO UPDATE SET {changed}{condition}"
            ).format(
                **parts,
                last=last.format(**parts),
                changed=COMMA.join(
                    sql.SQL("{0} = EXCLUDED.{0}").format(name_of(name)) for name in changed
                ),
                condition=sql.SQL("") if is_consistent else condition,
            ),
            position,
        )

    def _merge_without_key(self, staged: Staged, position: Position) -> None:
        """Merge the difference of insertions and deletions for each distinct row.

        Without a key, identical rows cannot be told apart.
        """
        names = [c.name for c in staged.table.columns]
        parts = {
            "raw": text(staged.raw.name),
            "staged": staged.name,
            "names": names_of(names),
            "own": _OWN,
            "sign": sql.SQL("sum(CASE WHEN _operation = 0 THEN -1 ELSE 1 END)"),
            "row": sql.SQL("ROW({})").format(names_of(names, "s")),
            "raw_row": sql.SQL("ROW({})").format(names_of(names, "r")),
        }
        # A record's hash can be joined by, the record itself cannot.
        self.run(
            sql.SQL(
                "WITH gone AS (SELECT {row} AS row, hash_record_extended({row}, 0) AS hash, "
                "-{sign} AS count"
                # A hash may collide, so the rows are compared as well. Rows with NULLs compare as
                # equal this way.
                " FROM {staged} s GROUP BY 1, 2 HAVING {sign} < 0),"
                " found AS (SELECT r.ctid, row_number() OVER (PARTITION BY gone.hash, gone.row) "
                "AS number, gone.count"
                " FROM {raw} r JOIN gone ON gone.hash = hash_record_extended({raw_row}, 0) AND "
                "gone.row = {raw_row})"
                " DELETE FROM {raw} WHERE ctid IN (SELECT ctid FROM found WHERE number <= count)"
            ).format(**parts)
        )
        # Changes are staged in the log's order, so the last of alike rows has the latest position.
        self.run(
            sql.SQL(
                "INSERT INTO {raw} ({names}, {own}) SELECT {values}, false, now(), "
                "coalesce(s._position, {default}) FROM"
                " (SELECT {names}, (array_agg(_position ORDER BY _sequence DESC) FILTER (WHERE "
                "_position IS NOT NULL))[1]"
                # Names of ours: the table may well have columns `position` and `count`.
                " AS _position, {sign} AS _copies FROM {staged} GROUP BY {names} HAVING {sign} > 0)"
                " s, generate_series(1, s._copies)"
            ).format(**parts, values=names_of(names, "s"), default=_DEFAULT),
            position,
        )

    def _empty(self, staged: Staged) -> None:
        staged.garbage += staged.rows
        # A truncation makes new files, which costs more than deleting a few rows does.
        if staged.garbage <= _LITTLE:
            self.run(sql.SQL("DELETE FROM {}").format(staged.name))
        else:
            self.run(sql.SQL("TRUNCATE {}").format(staged.name))
            staged.garbage = 0

    def run(self, statement: sql.SQL | sql.Composed, *values: object) -> None:
        """Run a statement as one with placeholders, see `statements`."""
        self.connection.execute(statement, values)


@contextmanager
def table_failures(table: CapturedTable) -> Iterator[None]:
    """Raise `TableFailed` for what the rows of a table cause in PostgreSQL, and nothing else.

    A full disk or a lost connection concerns all tables. It ends the flush, and nothing of it is
    committed (airbytehq/airbyte#48717).
    """
    try:
        yield
    except CAUSED_BY_ROWS as error:
        raise TableFailed(table.name, str(explain(error, table.asset, table.table.key))) from cause(
            error
        )


def counts_of(operations: pa.Array) -> Counts:
    """Return how many changes there are of each kind."""
    deleted, inserted, updated = np.bincount(operations.to_numpy(), minlength=3)
    return Counts(int(inserted), int(updated), int(deleted))


def _last_versions(rows: pa.RecordBatch, key: Sequence[str]) -> np.ndarray:
    """Return a mask of the rows that are the last of their key."""
    if len(rows) == 1 or not key:
        return np.ones(len(rows), bool)
    numbers = pa.array(np.arange(len(rows), dtype=np.int64))
    # Named by place, as a column of the key may have any name.
    names = [str(place) for place in range(len(key))]
    keys = pa.Table.from_arrays(
        [*(rows.column(name) for name in key), numbers], names=[*names, "number"]
    )
    last = (
        keys.group_by(names, use_threads=False).aggregate([("number", "max")]).column("number_max")
    )
    is_last = np.zeros(len(rows), bool)
    is_last[last.to_numpy()] = True
    return is_last
