"""Writes the next version into a slot that nobody reads.

Some lines of business are new in it. Their tables are copied from staging. The others keep their
live tables, which are copied from the current slot. Until the switch, a new line can still become
one that keeps its live tables (`Candidate.keep`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from softcart_assets.publishing import slots
from softcart_assets.publishing.copying import Snapshot, copy_rows
from softcart_assets.publishing.slots import Current, LiveLine, PublishError, Shape, Version
from softcart_assets.publishing.tables import PublishedTable

Tell = Callable[[str], None]


@contextmanager
def naming(step: str) -> Iterator[None]:
    """Give a database's error the name of the step, and say that nothing was published."""
    try:
        yield
    except psycopg.Error as error:
        raise PublishError(f"{step} failed, nothing was published: {str(error).strip()}") from error


@dataclass(frozen=True)
class Live:
    """What readers see now.

    `current`: the version, None before the first. `shape`: its tables with their columns. `lines`:
    the live tables of each declared line.
    """

    current: Current | None
    shape: Shape
    lines: Mapping[str, LiveLine]

    @classmethod
    def read(cls, session: psycopg.Connection, tables: Sequence[PublishedTable]) -> Live:
        """Read it from the production database. `tables`: all declared tables."""
        current = slots.read_current(session)
        if current is None:
            return cls(None, {}, {})
        recorded = slots.read_lines(session)
        # The declarations override the records. A table may have moved to another line, and tables
        # that were published before lines were recorded belong to none.
        owners = {name: line for line, live in recorded.items() for name in live.tables}
        owners |= {table.name: table.line for table in tables}
        lines: dict[str, LiveLine] = {}
        for line in {table.line for table in tables}:
            names = tuple(name for name in current.row_counts if owners.get(name) == line)
            if names:
                known = recorded.get(line)
                lines[line] = LiveLine(known.version if known else current.version, names)
        return cls(current, slots.read_pairs(session)[slots.pair_of(current.slot)], lines)

    @property
    def number(self) -> int:
        """The current version, 0 before the first."""
        return self.current.version if self.current else 0

    def tables(self, line: str) -> tuple[str, ...]:
        """The live tables of a line, empty if it was never published."""
        return self.lines[line].tables if line in self.lines else ()


def _take_slot(
    session: psycopg.Connection, live: Live, shape: Shape, tell: Tell
) -> tuple[int, bool]:
    """The slot to fill, and whether nobody sees its rows. If the columns have changed, it is in a
    new pair, which this makes.
    """
    current = live.current
    # First, so that a new pair does not need space next to an old one that nobody reads.
    slots.drop_other_pairs(session, current)
    if current is None or live.shape != shape:
        # A number above all others, because readers may still see an old pair.
        pair = max(slots.read_pairs(session), default=0) + 1
        slots.create_pair(session, pair, shape)
        return slots.slots_of(pair)[0], True
    (slot,) = set(slots.slots_of(slots.pair_of(current.slot))) - {current.slot}
    # The other slot has the version before the current one. A reader whose snapshot is older than
    # the last switch still sees it.
    readers = slots.wait_for_old_readers(session, current.switch_xid)
    if readers:
        tell(
            f"version {current.version - 1} is still read, so its rows are deleted one by one: "
            f"{', '.join(readers)}"
        )
    return slot, not readers


class Candidate:
    """The next version while it is written: `new` lines come from staging, others keep theirs.

    `shape`: its tables with their columns. `slot`: where they are written. `prepare` makes one.
    """

    def __init__(
        self,
        session: psycopg.Connection,
        snapshot: Snapshot,
        live: Live,
        tables: Sequence[PublishedTable],
        new: Collection[str],
        tell: Tell,
        *,
        shape: Shape,
        slot: int,
        nobody_sees_it: bool,
    ) -> None:
        self.live = live
        self.new = set(new)
        self.shape = shape
        self.slot = slot
        self._session, self._snapshot, self._tell = session, snapshot, tell
        self._tables = {table.name: table for table in tables if table.line in new}
        self._lines = list(dict.fromkeys(table.line for table in tables))
        self._row_counts: dict[str, int] = {}
        self._nobody_sees_it = nobody_sees_it

    @classmethod
    def prepare(
        cls,
        session: psycopg.Connection,
        snapshot: Snapshot,
        live: Live,
        tables: Sequence[PublishedTable],
        new: Collection[str],
        tell: Tell,
    ) -> Candidate:
        """A candidate with a slot to fill. `tables`: all declared tables.

        This changes the production database. It drops pairs that nobody reads and makes a new one
        if the columns have changed. It may wait for readers.
        """
        fresh = [table for table in tables if table.line in new]
        staging = slots.read_shapes(snapshot.session, "|".join({table.schema for table in fresh}))
        shape = {table.name: staging[table.schema][table.name] for table in fresh}
        for line in {table.line for table in tables} - set(new):
            shape |= {name: live.shape[name] for name in live.tables(line)}
        with naming("production: preparing a slot"):
            slot, nobody_sees_it = _take_slot(session, live, shape, tell)
        return cls(
            session,
            snapshot,
            live,
            tables,
            new,
            tell,
            shape=shape,
            slot=slot,
            nobody_sees_it=nobody_sees_it,
        )

    def is_new(self, table: str) -> bool:
        """Whether a table comes from staging."""
        return table in self._tables

    def write(self) -> None:
        """Fill the tables of the slot.

        The largest comes first. If it came last, one thread would copy it while the others wait.
        """
        schemas = {table.schema for table in self._tables.values()}
        sizes = slots.read_sizes(self._snapshot.session, schemas)
        if self.live.current:
            with naming("production: reading the tables' sizes"):
                kept = slots.read_sizes(self._session, [slots.slot_schema(self.live.current.slot)])
            sizes |= {name: size for name, size in kept.items() if name not in self._tables}
        names = sorted(self.shape, key=lambda name: sizes.get(name, 0), reverse=True)
        self._fill(names)

    def keep(self, lines: Collection[str]) -> None:
        """Replace the new tables of these lines in the slot by copies of the live ones."""
        self.new -= set(lines)
        new_tables = {name for name, table in self._tables.items() if table.line in lines}
        live_tables = {name for line in lines for name in self.live.tables(line)}
        current = self.live.current
        with naming("production: keeping what is live"):
            # In the current pair, every table has the live columns already.
            if current is None or slots.pair_of(self.slot) != slots.pair_of(current.slot):
                for name in new_tables | live_tables:
                    columns = self.live.shape[name] if name in live_tables else None
                    slots.replace_table(self._session, slots.pair_of(self.slot), name, columns)
        for name in new_tables:
            del self._tables[name], self.shape[name], self._row_counts[name]
        self.shape |= {name: self.live.shape[name] for name in live_tables}
        self._fill(sorted(live_tables))

    def _fill(self, names: Sequence[str]) -> None:
        """Replace the rows of these tables by those of staging, or by the live ones."""
        # One deadline for all tables, so that their waits do not add up.
        patient = time.monotonic() + slots.PATIENCE_SECONDS if self._nobody_sees_it else None

        def fill(source: psycopg.Connection, target: psycopg.Connection, name: str) -> int:
            columns = [column for column, _ in self.shape[name]]
            table = self._tables.get(name)
            with naming(f"production/{name}: copying"):
                slots.empty_table(target, self.slot, name, patient)
                if table:
                    there = sql.Identifier(table.schema, name)
                    into = slots.slot_table(self.slot, name)
                    rows = copy_rows(source, there, target, into, columns)
                else:
                    assert self.live.current is not None
                    rows = slots.copy_slot(target, self.live.current.slot, self.slot, name, columns)
            self._tell(f"{name}: {rows:,} rows {'copied' if table else 'kept'}")
            return rows

        self._row_counts |= dict(zip(names, self._snapshot.map(fill, names), strict=True))

    def prepare_for_readers(self) -> None:
        """Build the indexes of the slot and the statistics for PostgreSQL's planner."""

        def build(
            _: psycopg.Connection,
            target: psycopg.Connection,
            index: tuple[str, str, tuple[str, ...], bool],
        ) -> None:
            with naming(f"production/{index[0]}: building index {index[1]}"):
                slots.create_index(target, self.slot, *index)

        def analyze(_: psycopg.Connection, target: psycopg.Connection, name: str) -> None:
            with naming(f"production/{name}: ANALYZE"):
                slots.analyze(target, self.slot, name)

        indexes = [(name, f"{name}_key", table.key, True) for name, table in self._tables.items()]
        indexes += [
            (name, f"{name}_{'_'.join(columns)}", columns, False)
            for name, table in self._tables.items()
            for columns in table.declared.indexes
        ]
        if self.live.current:
            # A table that keeps its live columns keeps its live indexes. The declared indexes may
            # name columns that it does not have.
            kept = self.shape.keys() - self._tables.keys()
            with naming("production: reading the live indexes"):
                there = slots.read_indexes(self._session, self.live.current.slot)
            indexes += [index for index in there if index[0] in kept]
        self._snapshot.map(build, indexes)
        self._snapshot.map(analyze, list(self.shape))

    def version(self) -> Version:
        """The version that readers see after the switch."""
        number = self.live.number + 1
        lines: dict[str, LiveLine] = {}
        for line in self._lines:
            if line in self.new:
                names = tuple(n for n, table in self._tables.items() if table.line == line)
                lines[line] = LiveLine(number, names)
            elif line in self.live.lines:
                lines[line] = self.live.lines[line]
        return Version(number, self.slot, self.shape, self._row_counts, lines)
