"""Changes of raw that the log does not tell row by row: emptied tables, and rows that were read
again.

Each function yields the changes it makes, in the same form as the log's, so that every other sink
takes them. It does so before raw has them, as with the log's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import DELETE, LOADED, UNLOADED, UPDATE, Changes, Run
from softcart_assets.ingestion.position import Position, ordered
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.sinks.merge import RawSink
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.sinks.statements import name_of, names_of, same_key, text
from softcart_assets.ingestion.types import Column


@dataclass(frozen=True)
class Reread:
    """Rows of a table that were read from the source again, in a relation of their own.

    `position`: where they were read. `scope`: filter for the raw rows that this re-read replaces.
    None: all rows.
    """

    id: int
    table: str
    relation: str
    position: Position
    scope: str | None


def unfit_of(relation: str) -> str:
    """Return the relation of the entries of rows that could not be read again into `relation`.

    `relation` is quoted. The other one is only there if there are such rows. The merge brings its
    entries into the quarantine.
    """
    return f'{relation[:-1]}_unfit"'


class Rewrites:
    """Corrects raw where the log is not enough."""

    def __init__(self, captured: Captured, raw: RawSink) -> None:
        self.captured, self.raw = captured, raw
        self.connection, self.source = captured.connection, captured.source

    def empty(
        self, table: CapturedTable, position: Position, committed_at: int | None
    ) -> Iterator[Changes]:
        """Delete every row at a position. Yields the changes."""
        raw = self.raw.staged[table.name].raw
        # A snapshot may have copied rows that came later than this position: they stay.
        is_older = sql.SQL("{} < {}").format(
            ordered(sql.SQL("_position")), ordered(sql.Literal(position))
        )
        parts = {
            "raw": text(raw.name),
            "names": names_of(c.name for c in table.columns),
            "is_older": is_older,
        }
        raw.stage(table.columns)
        self.raw.run(
            sql.SQL(
                "INSERT INTO pg_temp.changes ({names}, _deleted, _is_new) SELECT {names}, true, "
                "false FROM {raw}"
                " WHERE NOT _deleted AND {is_older}"
            ).format(**parts)
        )
        yield from self._changes_found(raw, table, Run(0, position, committed_at), table.columns)
        if table.table.key:
            raw.apply_changes(table.columns, str(position))
        else:
            self.raw.run(sql.SQL("DELETE FROM {raw} WHERE {is_older}").format(**parts))
        # For rows that are read again and not merged yet: see `_drop_rows_gone`.
        self.captured.note_emptied(table, position)
        recorder = self._recorder(table, str(position), position)
        recorder.close(
            [entry for entry, at in recorder.positions() if Position.parse(at) < position],
            "deleted",
        )
        table.open_entries = recorder.open_entries()

    def unlisted(self, table: CapturedTable, position: Position) -> Iterator[Changes]:
        """Yield the changes since the lake's position, for when the log does not tell them.

        `position`: where raw's rows stand.

        A table with retyped columns, or without a key, is stated as a whole. The latter is done as
        in its loads.
        """
        if table.lake_position >= table.position and not table.is_retyped:
            return
        raw = self.raw.staged[table.name].raw
        is_whole = table.is_retyped or not table.table.key
        raw.find_own(table.columns, None if is_whole else table.lake_position)
        table.is_retyped = False
        gone, here = DELETE, UPDATE
        if not table.table.key:
            gone, here = UNLOADED, LOADED
            # A table without rows needs one row that says so.
            self.connection.execute(
                "INSERT INTO pg_temp.changes (_deleted, _is_new) SELECT true, false WHERE NOT "
                "EXISTS (SELECT FROM pg_temp.changes)"
            )
        for rows, is_deleted in raw.changed_rows(table.columns):
            yield Changes(
                table.name,
                table.columns,
                rows,
                _either(is_deleted, gone, here),
                [],
                [Run(len(rows), position, None)],
            )

    def rereads(self) -> list[Reread]:
        """Return the rows that were read again and can be merged, because the log is past their
        position.
        """
        assert self.captured.place
        rows = self.connection.execute(
            "SELECT id, table_name, relation, position, scope FROM ingestion.resnapshots"
            " WHERE source = %s AND merged_at IS NULL ORDER BY id",
            (self.source.name,),
        ).fetchall()
        found = [
            Reread(id, table, relation, Position.parse(position), scope)
            for id, table, relation, position, scope in rows
        ]
        return [each for each in found if each.position <= self.captured.place.position]

    def merge_reread(
        self, table: CapturedTable, reread: Reread, columns: Sequence[Column]
    ) -> Iterator[Changes]:
        """Merge rows that were read again, except where raw's row stands for a later position.

        Yields the changes that were made. `columns`: the columns of the relation that raw takes.
        """
        raw, key = self.raw.staged[table.name].raw, table.table.key
        raw.stage(columns)
        recorder = self._recorder(table, reread.relation, reread.position)
        if not self._drop_rows_gone(table, reread, recorder):
            recorder.take_in(unfit_of(reread.relation), with_key=True)
        raw.hold(table.columns, recorder.entries([]))
        # Found by the torture (seed 800000): the log goes on before the merge, and a row that it
        # has made unfit since is not settled by the values of before.
        self.raw.run(
            sql.SQL(
                "UPDATE pg_temp.held h SET _held_seen = true FROM ingestion.quarantine q "
                "WHERE q.id = h._held_entry AND {} >= {}"
            ).format(ordered(sql.SQL("q.position")), ordered(sql.Literal(reread.position)))
        )
        self._find_changes(raw, reread, [column.name for column in columns])
        yield from self._changes_found(raw, table, Run(0, reread.position, None), columns)
        raw.apply_changes(columns, str(reread.position))
        # Entries of rows that are in now, are gone, or were out when they were read but have come
        # since.
        recorder.close(raw.held_in(reread.relation), "mended")
        gone = self.connection.execute(
            sql.SQL("SELECT _held_entry FROM pg_temp.held WHERE NOT _held_seen AND ({})").format(
                text(reread.scope or "true")
            ),
            (),
        ).fetchall()
        recorder.close([entry for (entry,) in gone], "deleted")
        rows = self.connection.execute(
            sql.SQL(
                "SELECT h._held_entry, r._deleted FROM pg_temp.held h JOIN {} r ON {} "
                "JOIN ingestion.quarantine q ON q.id = h._held_entry WHERE h._held_seen AND {} > {}"
            ).format(
                text(raw.name),
                same_key(key, "h", "r"),
                ordered(sql.SQL("r._position")),
                ordered(sql.SQL("q.position")),
            ),
            (),
        ).fetchall()
        for is_deleted, because in ((False, "mended"), (True, "deleted")):
            recorder.close([entry for entry, gone in rows if gone == is_deleted], because)
        table.open_entries = recorder.open_entries()
        self._finish(table, reread)

    def _drop_rows_gone(self, table: CapturedTable, reread: Reread, recorder: Recorder) -> bool:
        """Empty the relation if all rows went after it was read, including rows that raw never
        had. Returns whether they did.
        """
        emptied_at = self.captured.emptied_at(table)
        # Found by the torture (seed 9035): rows that came with a RENAME and were read again are not
        # in raw yet. A truncation before the merge cannot delete them there, and the merge would
        # bring them back.
        if emptied_at is None or emptied_at <= reread.position:
            return False
        self.raw.run(sql.SQL("DELETE FROM {}").format(text(reread.relation)))
        recorder.close(
            [entry for entry, at in recorder.positions() if Position.parse(at) <= reread.position],
            "deleted",
        )
        return True

    def _find_changes(self, raw: RawTable, reread: Reread, names: Sequence[str]) -> None:
        """Fill `changes` with what the rows read again change: other values, new rows, and missing
        rows.
        """
        key = raw.table.key
        parts = {
            "raw": text(raw.name),
            "read": text(reread.relation),
            "names": names_of(names),
            "read_values": names_of(names, "i"),
            "raw_values": names_of(names, "r"),
            "first": name_of(key[0]),
            "same": same_key(key, "i", "r"),
            "same_held": same_key(key, "h", "r"),
            "is_not_later": sql.SQL("{} <= {}").format(
                ordered(sql.SQL("r._position")), ordered(sql.Literal(reread.position))
            ),
            "scope": text(reread.scope or "true"),
        }
        self.raw.run(
            sql.SQL(
                "INSERT INTO pg_temp.changes ({names}, _deleted, _is_new)"
                " SELECT {read_values}, false, r.{first} IS NULL OR r._deleted FROM {read} i LEFT "
                "JOIN {raw} r ON {same}"
                " WHERE r.{first} IS NULL OR ({is_not_later}"
                " AND (r._deleted OR ROW({raw_values}) IS DISTINCT FROM ROW({read_values})))"
            ).format(**parts)
        )
        self.raw.run(
            sql.SQL(
                "INSERT INTO pg_temp.changes ({names}, _deleted, _is_new) SELECT {raw_values}, "
                "true, false FROM {raw} r"
                " WHERE NOT r._deleted AND {is_not_later} AND ({scope})"
                " AND NOT EXISTS (SELECT FROM {read} i WHERE {same})"
                # A row that could not be carried when it was read is not gone.
                " AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND {same_held})"
            ).format(**parts)
        )

    def forget_rereads(self, table: CapturedTable) -> None:
        """Drop what was read again of a table that stops: it will be read as a whole."""
        rows = self.connection.execute(
            "UPDATE ingestion.resnapshots SET merged_at = now(), rows_changed = 0"
            " WHERE source = %s AND table_name = %s AND merged_at IS NULL RETURNING relation",
            (self.source.name, table.name),
        ).fetchall()
        for (relation,) in rows:
            self._drop(relation)

    def _drop(self, relation: str) -> None:
        self.raw.run(sql.SQL("DROP TABLE {}").format(text(relation)))
        self.raw.run(sql.SQL("DROP TABLE IF EXISTS {}").format(text(unfit_of(relation))))

    def _finish(self, table: CapturedTable, reread: Reread) -> None:
        """Mark the order as done, and drop its relation."""
        changed = self.connection.execute("SELECT count(*) FROM pg_temp.changes").fetchone()
        self._drop(reread.relation)
        self.connection.execute(
            "UPDATE ingestion.resnapshots SET merged_at = now(), rows_changed = %s WHERE id = %s",
            (changed and changed[0], reread.id),
        )
        # A range does not settle the doubts about the rest of the table.
        if not reread.scope and table.stale_since and table.stale_since <= reread.position:
            self.captured.note_stale(table, None)

    def _changes_found(
        self, raw: RawTable, table: CapturedTable, run: Run, columns: Sequence[Column]
    ) -> Iterator[Changes]:
        """Count the rows of `changes`, and yield them as changes at a position."""
        inserted, updated, deleted = self.connection.execute(
            "SELECT count(*) FILTER (WHERE _is_new), count(*) FILTER (WHERE NOT _is_new AND NOT "
            "_deleted),"
            " count(*) FILTER (WHERE _deleted) FROM pg_temp.changes"
        ).fetchone() or (0, 0, 0)
        self.connection.execute(
            "UPDATE ingestion.captures SET changed_at = %s, rows_inserted = rows_inserted + %s, "
            "rows_updated = rows_updated + %s,"
            " rows_deleted = rows_deleted + %s WHERE source = %s AND table_name = %s",
            (run.position, inserted, updated, deleted, self.source.name, table.name),
        )
        for rows, is_deleted in raw.changed_rows(columns):
            operations = _either(is_deleted, DELETE, UPDATE)
            yield Changes(
                table.name, columns, rows, operations, [], [run._replace(changes=len(rows))]
            )

    def _recorder(self, table: CapturedTable, load_id: str, position: Position) -> Recorder:
        return Recorder(self.connection, self.source.name, table.name, load_id, str(position))


def _either(is_deleted: pa.Array, gone: int, here: int) -> pa.Array:
    return pc.if_else(is_deleted, pa.scalar(gone, pa.int8()), pa.scalar(here, pa.int8()))
