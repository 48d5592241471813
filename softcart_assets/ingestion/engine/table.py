"""The load of one table: rows, record and position commit in one transaction, or leave no trace.

A load reads the whole table or only what changed. This module decides which, and orders the steps.
"""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import psycopg
import pyarrow as pa

from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.engine.ranges import load_in_ranges
from softcart_assets.ingestion.engine.record import record
from softcart_assets.ingestion.engine.steps import LoadSteps
from softcart_assets.ingestion.errors import IngestionError, MissingTable
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.proof.digest import Checksums, Digest, Segments
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.statements import Statement, typed
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.readers import (
    ChecksumReader,
    CursorReader,
    DigestReader,
    KeyedReader,
    PairReader,
    RangedReader,
    Reader,
    TallyReader,
)
from softcart_assets.ingestion.request import LoadResult
from softcart_assets.ingestion.sinks.failures import cause, explain
from softcart_assets.ingestion.sinks.ods import keeping as ods
from softcart_assets.ingestion.sinks.ods.loads import Merges
from softcart_assets.ingestion.sinks.pairs import Pairs, total
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.types import Column

Stated = tuple[int | None, Checksums | None]
"""What a source says of itself: number of rows, and checksums. None: it cannot be asked."""

Moved = tuple[Sequence[Column], Stated | None, str]
"""The result of bringing raw to the position: the final columns, what the source said of itself on
the way (if it was asked), and the strategy that was used.
"""


class TableLoad(LoadSteps):
    """The load of one table."""

    def run(self, reader: Reader) -> LoadResult:
        """Load and commit the table. Any exception of the load is raised again, PostgreSQL's as
        `TargetFailed`.

        After a failure nothing is left, except finished ranges of a table that capture will follow.
        """
        self.reader = reader
        self.files.remove_orphans({file.path for file in self.part.listed_files()})
        try:
            with self.call.request.staging.connect(
                application_name=f"softcart load {self.asset}"
            ) as connection:
                return self._run(connection)
        except BaseException as error:
            # If the answer to the commit was lost, it may have happened, and then the files count.
            # The next load sees in the bookkeeping whether it did.
            if not self.is_committing:
                with suppress(Exception):  # what cannot be removed now, the next load removes
                    # Before that, the part table is one of a killed load. It can still be resumed.
                    if self.part.is_begun and not self.is_resumable:
                        self.part.discard()
                    self.files.discard({file.path for file in self.part.listed_files()})
            if isinstance(error, psycopg.Error):
                raise explain(error, self.asset, self.table.key) from cause(error)
            raise

    def _run(self, connection: psycopg.Connection) -> LoadResult:
        started = time.monotonic()
        # The merge's hash joins fit into memory. Compiling its queries takes longer than running.
        connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
        self.raw = RawTable(connection, self.source, self.table)
        self.loaded_at = self.raw.now()
        # The totals of a captured table follow its log, in a sink.
        has_sink = self.connector.has_log and self.table.strategy == "cdc"
        if not has_sink and any(each.table == self.table.name for each in self.source.totals):
            self.totals = Merges(connection, self.source, self.table.name)
        last = bookkeeping.last_load(connection, self.source.name, self.table.name)
        self.cursor_value = last.cursor_value if last else None

        # What raw really has, not what the record says: somebody may have altered or dropped the
        # table.
        known = self.raw.columns(last.columns if last else ())
        self.is_new = not known
        columns: Sequence[Column]
        columns, self.is_widened = self._prepare(known)
        # Stated before the first row is read: what changes from now on is for the next load to see.
        self.position = self.reader.position(self.table)
        self.quarantine = Recorder(
            connection, self.source.name, self.table.name, self.load_id, self.position
        )
        self._check_declared(columns)
        if self.table.key:
            self._hold(columns)
        columns, told, strategy = self._move(columns, last)
        if self.call.request.restate:
            self.restate()
        # Only now: what is to be known of documents is found while they are read.
        doubts = self.reader.warnings(self.table)
        self.warnings += doubts
        self._warn_unclassified(columns)

        described = [self._described(column) for column in columns]
        is_same = last is not None and last.columns == described
        is_changed = bool(
            self.counts
            or self.quarantine.new
            or self.closed
            or not is_same
            or self.call.request.restate
        )
        statement = self._statement(columns, told, doubts, is_changed=is_changed)
        result = LoadResult(
            table=self.table.name,
            strategy=strategy,
            load_id=self.load_id,
            position=self.position,
            inserted=self.counts.inserted,
            updated=self.counts.updated,
            deleted=self.counts.deleted,
            quarantined=self.quarantine.open_entries(),
            total=self._total(last),
            rows_read=self.rows_read,
            bytes_read=self.bytes_read,
            seconds=time.monotonic() - started,
            columns=described,
            is_changed=is_changed,
            asked_at=statement.asked_at,
            asked_position=statement.asked_position,
            warnings=self.warnings,
        )
        # Rows, files, record and position become valid together, by the one commit.
        files = self.files.close()
        record(connection, self.source, result, files, statement, self.cursor_value, last)
        self.files.forget(connection)
        if not has_sink:
            self._bring_totals(is_changed=is_changed, is_first=last is None)
        # In the same transaction: a captured table is copied and followed, or neither.
        if self.call.on_commit:
            self.call.on_commit(connection, self.table.name, self.position)
        # From here on, a lost connection does not tell whether the commit happened.
        self.is_committing = True
        connection.commit()
        if self.was_empty:
            # Only now: nobody has to wait for the rows until their statistics are there.
            with suppress(psycopg.Error, IngestionError):  # the rows are committed
                self.raw.analyze()
                self._carry(columns)
        return result

    def _bring_totals(self, *, is_changed: bool, is_first: bool) -> None:
        """Bring the running totals to what raw has."""
        request = self.call.request
        # Merges tell what they have changed, and not what somebody else did to raw before them.
        is_doubtful = is_first or self.is_new or self.was_empty or self.must_count
        is_doubtful |= request.full or request.restate
        ods.restate(
            self.raw.connection,
            self.source,
            self.table.name,
            is_changed=is_changed,
            bring=self.totals.bring if self.totals and not is_doubtful else None,
        )

    def _total(self, last: LastLoad | None) -> int:
        """Return the number of raw's current rows.

        Counting reads the whole table, so it is left out where the changes tell the number.
        """
        if self.must_count or not (last or self.was_empty):
            return self.raw.rows()
        before = last.rows_total if last and not self.was_empty else 0
        return before + self.counts.inserted - self.counts.deleted

    def _prepare(self, known: Sequence[Column]) -> tuple[list[Column], bool]:
        """Make raw fit the source. Returns its columns, and whether any was added."""
        return self.raw.prepare(self.reader.columns(self.table, known), known)

    # How raw is brought to the position.

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        """Bring raw to the position: by what changed if the last load allows that, else by reading
        every row.
        """
        is_incremental = (
            self.table.strategy == "incremental"
            and last is not None
            # A new column has values in old rows, too, whose cursors need not have moved.
            and not (self.call.request.full or self.is_widened or self.raw.is_empty())
            and any(column.name == self.table.cursor for column in columns)
        )
        if is_incremental and last:
            if isinstance(self.reader, PairReader) and isinstance(self.reader, KeyedReader):
                return *self._incremental(columns, last.rows_total), "incremental"
            self.warnings.append(
                f"{self.connector.title} cannot be asked for keys and cursors: all rows were read"
            )
        return self._full(columns), None, "snapshot"

    def _full(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Read every row. An empty raw table takes them as they are. Otherwise all rows are
        compared.
        """
        self.was_empty = self.raw.is_empty()
        # Comparing tells what a load changed, and not what somebody else did to raw before it.
        self.must_count = not self.was_empty
        known = self.raw.columns()
        # One range gains nothing from a part table, and would need another pass over the rows.
        if len(conditions := self._ranges(columns)) > 1:
            columns, _ = self.raw.prepare(columns, known)
            loaded = load_in_ranges(self, columns, conditions)
            self._after_full(loaded, columns)
            if loaded == self.part.name:
                self.raw.connection.execute(f"DROP TABLE {loaded}".encode())
            return columns
        # Where columns are found in the rows, reading may change them. So raw is prepared
        # afterwards.
        columns, batches = self.reader.all_rows(self.table, columns)
        columns, _ = self.raw.prepare(columns, known)
        if self.was_empty:
            self.take(self.raw.fill(columns, batches, self.position), columns, to_lake=True)
            if self.is_new and not self.counts.inserted:
                # Of an empty table the lake gets a file with its columns and no rows, so that what
                # reads it finds it.
                schema = pa.schema([(column.name, column.arrow_type) for column in columns])
                self._lake_files().write(columns, pa.RecordBatch.from_pylist([], schema=schema))
            loaded = self.raw.name
        else:
            self.raw.stage(columns)
            self.take(self.raw.copy("pg_temp.incoming", columns, batches), columns)
            self.merge(columns, self.raw.find_changes(columns, missing_is_deleted=True))
            loaded = "pg_temp.incoming"
        return self._after_full(loaded, columns)

    def _ranges(self, columns: Sequence[Column]) -> Sequence[str | None]:
        if not isinstance(self.reader, RangedReader):
            return [None]
        return self.reader.ranges(self.table, columns, self.call.pool.size)

    def _after_full(self, loaded: str, columns: Sequence[Column]) -> Sequence[Column]:
        """Note the cursor, and close the quarantine entries that reading every row has settled.

        Raises `SchemaChanged` if rows share a key.
        """
        # A table that took the rows as they are has the key itself.
        if self.table.key and loaded != self.raw.name:
            self.raw.refuse_shared_keys(loaded, is_all=True)
        self._note_cursor(loaded, columns)
        self.close_held_in(loaded)
        self._close(self.quarantine.unseen(), "deleted" if self.table.key else "mended")
        return columns

    def _incremental(
        self, columns: Sequence[Column], rows: int
    ) -> tuple[Sequence[Column], Stated | None]:
        """Read the rows past the last cursor, then compare keys and cursors for everything else.

        The second step finds deletions. It also finds rows that were committed late with an earlier
        cursor.
        """
        raw, reader, table = self.raw, self.reader, self.table
        assert isinstance(reader, PairReader)
        assert isinstance(reader, KeyedReader)
        if self.cursor_value is not None and isinstance(reader, CursorReader):
            self._take_changes(columns, reader.rows_past(table, columns, self.cursor_value))
        # After the first step: rows that it has merged no longer differ, so their segments are not
        # read.
        pairs, differing = self._differing(columns, rows)
        if not differing:
            return columns, None
        pairs.stage()
        batches = reader.pairs(table, pairs.segments, differing)
        for batch in raw.copy("pg_temp.at_source", pairs.columns, batches):
            # A row whose cursor is bad is still at the source. Its key keeps it from being taken
            # for deleted.
            for rejected in batch.rejected:
                if rejected.key is not None:
                    pairs.add_without_cursor(rejected.key)
            # Only key and cursor of these rows are known, so what is known of open entries stays.
            self.quarantine.record([r for r in batch.rejected if r.key is None], only_new=True)
        for keys in pairs.keys_to_fetch():
            found, batches = reader.rows_of(table, columns, keys)
            columns, _ = raw.prepare(found, raw.columns())
            self._take_changes(columns, batches)
        # Deletions last: `keys_to_fetch` has brought `at_source` up to date by then.
        raw.stage(columns)
        self.merge(columns, pairs.find_deleted(columns, differing))
        self._close(pairs.held_not_at_source(differing), "deleted")
        # A source without snapshots cannot be asked again. What its pairs said can be compared.
        can_be_asked = isinstance(reader, ChecksumReader)
        return columns, None if can_be_asked else pairs.checksums()

    def _differing(self, columns: Sequence[Column], rows: int) -> tuple[Pairs, list[int]]:
        """Return the division of the table, and its segments whose keys or cursors differ from
        raw's.

        A source without digests has a single segment. Nothing is known of it, so all its pairs are
        read.
        """
        if not isinstance(self.reader, DigestReader):
            by_name = {column.name: column for column in columns}
            key = tuple(by_name[name] for name in self.raw.key)
            return Pairs(self.raw, Segments(key, by_name[self.table.cursor or ""], 1)), [0]
        pairs = Pairs(self.raw, self.reader.segments(self.table, columns, rows))
        # What raw has may be known: then only the source has to compute.
        known = pairs.carried(self.loaded_at)
        parts = pairs.segments.parts()
        # Raw may have rows beyond the source's bounds, so it is asked for all its parts.
        of_raw = dict if known else pairs.carry
        at_source, in_raw = self._digests(of_raw, parts, parts, parts.numbers())
        if known:
            if known == total(at_source):
                return pairs, []
            in_raw = pairs.digests(parts, "true")
        if not (differing := _unequal(at_source, in_raw)):
            return pairs, []
        segments, where = pairs.segments, parts.where(POSTGRES, differing)
        at_source, in_some = self._digests(
            lambda: pairs.digests(segments, where), segments, parts, differing
        )
        return pairs, _unequal(at_source, in_some)

    def _digests(
        self,
        of_raw: Callable[[], dict[int, Digest]],
        segments: Segments,
        parts: Segments,
        numbers: Sequence[int],
    ) -> tuple[dict[int, Digest], dict[int, Digest]]:
        """Return the source's digests of the segments in some parts, and what `of_raw` returns.

        Both servers compute at the same time, and the source over all readers.
        """

        def ask(number: int) -> Callable[[Reader], dict[int, Digest]]:
            return lambda reader: cast(DigestReader, reader).digests(
                self.table, segments, parts, number
            )

        with ThreadPoolExecutor(1) as executor:
            asked = executor.submit(of_raw)
            answers = self.call.pool.share(self.reader, [ask(number) for number in numbers])
            return dict(ChainMap(*answers)), asked.result()

    def _carry(self, columns: Sequence[Column]) -> None:
        """Let the digest of what raw has follow its writes, so that the next load need not read
        raw.
        """
        if self.table.strategy == "incremental" and isinstance(self.reader, DigestReader):
            self._hold(columns)
            Pairs(self.raw, self.reader.segments(self.table, columns, 0)).carry()

    # What the record says of the table.

    def _check_declared(self, columns: Sequence[Column]) -> None:
        names = {column.name for column in columns}
        # Where columns are found in the rows, the cursor may turn up later.
        cursor = [self.table.cursor] if self.table.cursor and self.connector.has_schema else []
        if missing := [name for name in (*self.table.key, *cursor) if name not in names]:
            raise MissingTable(
                f"{self.asset}: column {', '.join(map(repr, missing))}, declared as key or cursor "
                f"of table {self.table.name!r} in "
                f"source {self.source.name!r}, does not exist at the source. Correct the "
                "declaration."
            )

    def _warn_unclassified(self, columns: Sequence[Column]) -> None:
        self.warnings += [
            f"column {c.name!r} is not classified: declare it with its privacy class"
            for c in columns
            if self.connector.privacy(self.table, c.name) is None
        ]

    def _described(self, column: Column) -> dict[str, Any]:
        return {
            "name": column.name,
            "source_type": column.source_type,
            "target_type": column.target_type,
            "nullable": column.nullable,
            "privacy": self.connector.privacy(self.table, column.name),
        }

    def _statement(
        self,
        columns: Sequence[Column],
        told: Stated | None,
        doubts: Sequence[str],
        *,
        is_changed: bool,
    ) -> Statement:
        """Return what the source states of itself at the position.

        `told`: what it has said during the load, if it cannot be asked for more. `doubts`: why it
        may have changed unnoticed.
        """
        known = statements.read(self.raw.connection, self.source.name, self.table.name)
        if told and told[0] is not None:
            is_same = known.columns is not None and not is_changed
            named = known.columns if is_same else typed(columns, told[1] or {})
            known = replace(known, rows=told[0], columns=named, lost_because=None)
        else:
            known = self._known(known, is_changed=is_changed)
        can_be_asked = told is None or told[1] is None
        if can_be_asked and self._is_to_be_asked(known, columns, doubts):
            rows, checksums = self._source_checksums(columns)
            if rows is not None and checksums is not None:
                answer = rows, checksums
                return Statement.answered(answer, columns, self.position, self.loaded_at)
        return known

    def _known(self, known: Statement, *, is_changed: bool) -> Statement:
        """Return what is known of the source's statement at the position without asking."""
        if is_changed and known.rows is not None:
            return known.lost("the table changed, and the source was not asked again")
        return known

    def _is_to_be_asked(
        self, known: Statement, columns: Sequence[Column], doubts: Sequence[str]
    ) -> bool:
        """Return whether the source has to compute its checksums now."""
        request = self.call.request
        if request.ask_after is None:
            return False
        # A table that can change unnoticed, as by cascades that are not logged, is asked each time,
        # if it can be asked.
        may_differ = bool(doubts) and isinstance(self.reader, ChecksumReader)
        is_recent = known.was_asked_within(request.ask_after, self.loaded_at)
        if request.full or may_differ or known.rows is None or not is_recent:
            return True
        return not all(map(known.states, columns)) and not self.quarantine.any_without_key()

    def _source_checksums(self, columns: Sequence[Column]) -> Stated:
        """Return what the source says of the rows that are not in quarantine."""
        if isinstance(self.reader, TallyReader):
            return self.reader.tally(self.table, columns)
        if not isinstance(self.reader, ChecksumReader):
            return None, None
        return statements.ask(self.reader, self.table, columns, self.quarantine, self.call.pool)


def _unequal(one: Mapping[int, Digest], other: Mapping[int, Digest]) -> list[int]:
    """Return the segments whose digests differ."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))
