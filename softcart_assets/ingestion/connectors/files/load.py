"""The load of a table of files: reads new files, and removes what they replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import pyarrow as pa

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.connectors.files.content import (
    Content,
    Text,
    Unfinished,
    Unreadable,
)
from softcart_assets.ingestion.connectors.files.counting import ARRIVED, Counting
from softcart_assets.ingestion.connectors.files.folder import FILE, FilesReader, Found, Vanished
from softcart_assets.ingestion.connectors.files.lines import Lines
from softcart_assets.ingestion.connectors.files.names import format_of
from softcart_assets.ingestion.connectors.files.records import Facts, FileRecords, Known
from softcart_assets.ingestion.connectors.files.rows import Header, Rows
from softcart_assets.ingestion.engine.table import Moved, Stated, TableLoad
from softcart_assets.ingestion.proof.digest import combined
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.proof.tally import Accumulator
from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.types import Batch, Column, Rejected
from softcart_assets.lines.model import Table

_NAMED = 5
"""So many files are named in a warning."""


class _Repeated(Exception):
    """The content of a file counts already. What was staged of it is taken back."""

    def __init__(self, content: str, number: int) -> None:
        super().__init__(content)
        self.content, self.number = content, number


class _Other(Exception):
    """A file has other content than when it was read, and the same size and time."""


class FilesLoad(TableLoad):
    """The load of the files of one table."""

    reader: FilesReader

    def __init__(self, call: Call, table: Table) -> None:
        super().__init__(call, table)
        self._columns: list[Column] = []
        self._sequences: set[str] = set()
        self._again: list[int] = []
        """The numbers of files that were known and are read again."""
        self._freed: list[int] = []
        """The numbers of broken files that are not broken any more."""
        self._waiting: list[str] = []
        self._broken: list[str] = []

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        self.was_empty = self.raw.is_empty()
        self._columns = list(columns)
        self.records = FileRecords(
            self.raw.connection, self.source.name, self.table.name, self.load_id
        )
        self.counting = Counting(self.raw)
        self.counting.begin(columns)
        if self.is_new:
            # Without a row: it makes the key. Each file finds its rows by its number.
            list(self.raw.fill(columns, [], self.position))
            self.raw.connection.execute(f"CREATE INDEX ON {self.raw.name} (_file)".encode())
        elif last is None:
            self.records.draw_above(self.raw.name)
        look = self.reader.look(self.table)
        for found, reason in look.waiting:
            self._wait(found, reason)
        # The latest version first, so that earlier ones need not be taken.
        files = sorted(
            self._to_read(look.ready),
            key=lambda each: (each[0].sequence.version, each[0].modified_at, each[0].name),
            reverse=True,
        )
        self.records.reserve(sum(1 for _, known in files if not known))
        for found, known in files:
            self._take_file(found, known)
        self.records.forget_waiting()
        self._count()
        if self.is_new and not self.counts.inserted:
            # Of an empty table the lake gets a file with its columns, so that its readers find it.
            schema = pa.schema([(column.name, column.arrow_type) for column in self._columns])
            empty = pa.RecordBatch.from_pylist([], schema=schema)
            self._lake_files().write(self._columns, empty)
        self._warn()
        return self._columns, None, "incremental"

    def _to_read(self, ready: Sequence[Found]) -> Iterator[tuple[Found, Known | None]]:
        """Yield the files to read: new ones, and perhaps known ones again."""
        forms = self.records.forms(ready)
        in_force = self.records.in_force()
        request = self.call.request
        # Somebody may have emptied or dropped the raw table.
        wanted = in_force if request.full or self.was_empty else set()
        released = self.records.released(request.released)
        wanted = wanted | (in_force & released)
        for found in ready:
            known = forms.get(found.name)
            if found.name not in forms:
                yield found, None
            elif known is None and (request.full or released):
                yield found, None  # a broken file, perhaps by a mistake of the declaration
            elif known and known.number in wanted:
                wanted.remove(known.number)  # one of its names is enough
                yield found, known
        if wanted:
            names = sorted(self.records.names(wanted).values())
            self.warnings.append(
                f"{_some(names)}: to be read again, but not in the folder any more. Put it back, "
                "then load again"
            )

    # One file.

    def _take_file(self, found: Found, known: Known | None) -> None:
        """Read a file. If it cannot be read whole, nothing of it stays, and the others go on."""
        try:
            with self._may_be_taken_back():
                self._read(found, known)
        except Vanished:
            return
        except Unfinished as reason:
            self._wait(found, str(reason))
            return
        except Unreadable as reason:
            self._break(found, str(reason))
            return
        except _Other:
            self._take_file(found, None)
            return
        except _Repeated as repeated:
            self.records.write(found, repeated.content, repeated.number, "repeated")
        self._sequences.add(found.sequence.name)
        self._freed += self.records.forget_broken(found.name)

    @contextmanager
    def _may_be_taken_back(self) -> Iterator[None]:
        """A part of the load that leaves nothing if an exception ends it, and the load goes on."""
        before = {name: getattr(self, name) for name in ("rows_read", "bytes_read", "_columns")}
        recorded = self.quarantine.new
        try:
            with self.raw.connection.transaction():
                yield
        except BaseException:
            vars(self).update(before)
            self.quarantine.new = recorded
            raise

    def _read(self, found: Found, known: Known | None) -> None:
        number = known.number if known else self.records.draw()
        is_superseded = not known and self.records.is_superseded(found)
        facts: Facts | None = None
        with self.reader.content(found) as content:
            if not is_superseded:
                facts = self._stage(found, content, number)
        if known and known.content != content.digest:
            raise _Other
        earlier, counts = self.records.number_of(content.digest)
        if is_superseded:
            number = earlier or number
        elif counts and not known:
            assert earlier
            raise _Repeated(content.digest, earlier)
        state: Literal["loaded", "replaced"] = "replaced" if is_superseded else "loaded"
        is_known = earlier is not None
        self.records.write(found, content.digest, number, state, facts, is_known=is_known)
        if known:
            self._again.append(number)

    def _stage(self, found: Found, content: Content, number: int) -> Facts:
        """Bring the records of a file to PostgreSQL, and those that cannot be carried to
        quarantine.
        """
        lines = Lines(Text(content, format_of(self.table).encoding), format_of(self.table))
        header = Header.of(lines, self.table, self._columns)
        if header.added and self.table.contract == "evolve":
            added = [Column(name, "text", "text") for name in header.added]
            # A new list: the old one comes back if the file is taken back.
            wanted = [*self._columns, *added]
            self._columns, _ = self.raw.prepare(wanted, self.raw.columns())
            for column in added:
                self.counting.add_column(column)
        if header.missing:
            names = ", ".join(header.missing)
            self.warnings.append(f"{found.name}: its header has no column {names}: taken as NULL")
        rows = Rows(self.table, self._columns, header, found.name, number)
        sums = Accumulator(self.raw.key)

        def summed() -> Iterator[Batch]:
            for batch in rows.batches(lines):
                if len(batch.rows):
                    sums.add(self._columns, batch.rows)
                yield batch

        self.take(self.raw.copy(ARRIVED, self._columns, summed()), self._columns)
        types = {column.name: column.target_type for column in self._columns}
        _, checksums = sums.result(self._columns)
        of_columns = {name: (types[name], each) for name, each in checksums.items()}
        return Facts(rows.records, rows.rejected, of_columns)

    def _wait(self, found: Found, reason: str) -> None:
        self._freed += self.records.forget_broken(found.name)
        self.records.unread(found, "waiting", reason)
        self._waiting.append(f"{found.name} ({reason})")

    def _break(self, found: Found, reason: str) -> None:
        """Record a file that cannot be read, and an entry of the quarantine that stands for it."""
        # The same number again, so that the entry stays the same.
        number = next(iter(self.records.forget_broken(found.name)), None) or self.records.draw()
        self.records.unread(found, "broken", reason, number)
        self._broken.append(found.name)
        row: dict[str, str | None] = {FILE.name: str(number), "file": found.name}
        why = f"{found.name}: {reason}. Nothing of the file was loaded"
        self.quarantine.record([Rejected(None, None, "file", why, row)])

    # All files together.

    def _count(self) -> None:
        """Bring what the files say together into raw, and settle their quarantine entries."""
        gone = self.records.settle(self._sequences) if self._sequences else []
        if self._sequences:
            found = self.counting.find(self._columns, gone, self._again)
            if undecided := self.counting.undecided(self._columns):
                self._warn_undecided(*undecided)
            self.merge(self._columns, found)
        self._close(self.records.entries(gone, only_earlier=False), "deleted")
        settled = [*self._again, *self._freed]
        self._close(self.records.entries(settled, only_earlier=True), "mended")

    def _warn_undecided(self, records: int, number: int, line: int) -> None:
        name = self.records.names([number]).get(number, "")
        self.warnings.append(
            f"{records:,} records share key and {self.table.cursor} with another one and have "
            f"other values, such as {name}, line {line}. Which one counts does not follow from "
            "them. Declare a cursor that tells"
        )

    def _warn(self) -> None:
        if self._waiting:
            self.warnings.append(f"left alone, as not complete: {_some(self._waiting)}")
        if self._broken:
            self.warnings.append(
                f"cannot be read: {_some(self._broken)}. `softcart quarantine list` has the reasons"
            )

    def _statement(
        self,
        columns: Sequence[Column],
        told: Stated | None,
        doubts: Sequence[str],
        *,
        is_changed: bool,
    ) -> Statement:
        """Return what the files that count had, less the records that do not count.

        It was computed while they were read, so it shows a row that is lost on its way or later.
        """
        rows, types, sums = self.records.totals()
        stated = [c for c in columns if types.get(c.name) == c.target_type]
        answer = combined(
            (rows, {column.name: sums[column.name] for column in stated}),
            self.counting.duplicates(stated),
            -1,
        )
        return Statement.answered(answer, stated, self.position, self.loaded_at)


def _some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
