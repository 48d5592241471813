"""Writes the next version into a slot that nobody reads.

Some lines of business are new in it. Their tables come from staging. The others keep their live
tables, which come from the current slot. Until the switch, a new line can still become one that
keeps its live tables (`Candidate.keep`).

The slot has the rows of an earlier version. Of a table whose changes since then are known, only
these are written. A table that was replaced by the same rows stays as it is. Any other table is
copied whole. Both slots of a new pair get their rows at once, so that the next publication has
something to write a difference to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

import psycopg
from psycopg import sql

from softcart_assets.audits.model import Part, figures_of
from softcart_assets.ingestion.proof.digest import EXACT
from softcart_assets.publishing import changes, contents, differences, slots
from softcart_assets.publishing.changes import Capture, Difference
from softcart_assets.publishing.contents import Content, Point, Rows
from softcart_assets.publishing.copying import Snapshot, copy_rows
from softcart_assets.publishing.slots import Current, LiveLine, PublishError, Shape, Version
from softcart_assets.publishing.tables import PublishedTable

Tell = Callable[[str], None]

LARGEST_DIFFERENCE = 5
"""A table of which more than one in five rows changed is copied whole, which is faster then."""

STALE_SHARE = 10
"""A table is vacuumed and analysed when one in ten of its rows was written since."""


@contextmanager
def naming(step: str) -> Iterator[None]:
    """Give a database's error the name of the step, and say that nothing was published."""
    try:
        yield
    except psycopg.IntegrityError as error:
        # Its detail has values of the row, which may be personal. So has its traceback.
        message = error.diag.message_primary
        raise PublishError(f"{step} failed, nothing was published: {message}") from None
    except psycopg.Error as error:
        raise PublishError(f"{step} failed, nothing was published: {str(error).strip()}") from error


@dataclass(frozen=True)
class Live:
    """What readers see now.

    `current`: the version, None before the first. `shape`: its tables with their columns. `lines`:
    the live tables of each declared line. `usual`: the rows that each table usually has.
    `contents`: what the tables of each slot hold.
    """

    current: Current | None
    shape: Shape
    lines: Mapping[str, LiveLine]
    usual: Mapping[str, int]
    contents: Mapping[int, Mapping[str, Content]]

    @classmethod
    def read(cls, session: psycopg.Connection, tables: Sequence[PublishedTable]) -> Live:
        """Read it from the production database. `tables`: all declared tables."""
        current = slots.read_current(session)
        if current is None:
            return cls(None, {}, {}, {}, {})
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
        shape = slots.read_pairs(session)[slots.pair_of(current.slot)]
        return cls(current, shape, lines, slots.read_usual(session), contents.read(session))

    @property
    def number(self) -> int:
        """The current version, 0 before the first."""
        return self.current.version if self.current else 0

    def content(self, table: str) -> Content | None:
        """What a live table holds, None if nobody recorded it."""
        return self.contents.get(self.current.slot, {}).get(table) if self.current else None

    def tables(self, line: str) -> tuple[str, ...]:
        """The live tables of a line, empty if it was never published."""
        return self.lines[line].tables if line in self.lines else ()


def _take_slot(session: psycopg.Connection, live: Live, shape: Shape) -> int:
    """The slot to fill. If the columns have changed, it is in a new pair, which this makes."""
    current = live.current
    # First, so that a new pair does not need space next to an old one that nobody reads.
    slots.drop_other_pairs(session, current)
    if current is None or live.shape != shape:
        # A number above all others, because readers may still see an old pair.
        pair = max(slots.read_pairs(session), default=0) + 1
        slots.create_pair(session, pair, shape)
        return slots.slots_of(pair)[0]
    (slot,) = set(slots.slots_of(slots.pair_of(current.slot))) - {current.slot}
    return slot


@dataclass(frozen=True)
class _Change:
    """A table of the slot that becomes right by writing a difference to it.

    `base`: what it holds. `goal`: what it shall hold. `found`: what differs, None if the table was
    replaced and `goal` supposes that it has the same rows.
    """

    name: str
    base: Content
    goal: Content
    found: Difference | None


class Candidate:
    """The next version while it is written: `new` lines come from staging, others keep theirs.

    `shape`: its tables with their columns. `slot`: where they are written. `equality`: for each
    table from staging, its rows here and there. `written`: how many rows were written to each
    table. `prepare` makes one.
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
        captures: Mapping[str, Capture],
    ) -> None:
        self.live = live
        self.new = set(new)
        self.shape = shape
        self.slot = slot
        self.equality: dict[str, tuple[Rows, Rows]] = {}
        self.written: dict[str, int] = {}
        self._session, self._snapshot, self._tell = session, snapshot, tell
        self._tables = {table.name: table for table in tables if table.line in new}
        self._lines = list(dict.fromkeys(table.line for table in tables))
        self._captures = captures
        self._contents = dict(live.contents.get(slot, {}))
        self._figures: dict[str, dict[str, Mapping[str, Decimal]]] = {}
        self._changes: dict[str, _Change] = {}
        self._copied: set[str] = set()
        self._there: dict[str, Rows] = {}

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
        if the columns have changed.
        """
        fresh = [table for table in tables if table.line in new]
        staging = slots.read_shapes(snapshot.session, "|".join({table.schema for table in fresh}))
        shape = {table.name: staging[table.schema][table.name] for table in fresh}
        for line in {table.line for table in tables} - set(new):
            shape |= {name: live.shape[name] for name in live.tables(line)}
        with naming("production: preparing a slot"):
            slot = _take_slot(session, live, shape)
        captures = changes.read_captures(snapshot.session, tables)
        return cls(
            session,
            snapshot,
            live,
            tables,
            new,
            tell,
            shape=shape,
            slot=slot,
            captures=captures,
        )

    @property
    def _filled(self) -> tuple[int, ...]:
        """The slots that get the rows of this version, first the one to switch to.

        Nobody has read a new pair. So its other slot can be filled at once, out of the first. That
        is cheaper than a second copy out of staging, which the next publication would need.
        """
        if self._is_in_current_pair:
            return (self.slot,)
        return slots.slots_of(slots.pair_of(self.slot))

    @property
    def _is_in_current_pair(self) -> bool:
        """Whether the slot is next to the one that readers see. Otherwise its pair is new."""
        current = self.live.current
        return current is not None and slots.pair_of(self.slot) == slots.pair_of(current.slot)

    def is_new(self, table: str) -> bool:
        """Whether a table comes from staging."""
        return table in self._tables

    def write(self, *, complete: bool) -> None:
        """Fill the tables of the slot. `complete`: compare every row with staging, too.

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
        if complete:
            self._repair([name for name in names if name not in self._copied])
            # Now nothing is known of these rows, and all audits read them.
            self._changes.clear()
            self._figures = {name: {} for name in self.shape}

    def keep(self, lines: Collection[str]) -> None:
        """Replace the new tables of these lines in the slot by the live ones."""
        self.new -= set(lines)
        new_tables = {name for name, table in self._tables.items() if table.line in lines}
        live_tables = {name for line in lines for name in self.live.tables(line)}
        with naming("production: keeping what is live"):
            # In the current pair, every table has the live columns already.
            if not self._is_in_current_pair:
                for name in new_tables | live_tables:
                    columns = self.live.shape[name] if name in live_tables else None
                    slots.replace_table(self._session, slots.pair_of(self.slot), name, columns)
                    self._contents.pop(name, None)
        for name in new_tables:
            del self._tables[name], self.shape[name], self.equality[name]
            self._copied.discard(name)
        self.shape |= {name: self.live.shape[name] for name in live_tables}
        self._fill(sorted(live_tables))

    def _fill(self, names: Sequence[str]) -> None:
        """Make the rows of these tables those of staging, or the live ones."""
        with naming("production: reading the indexes of the slot"):
            indexes = _by_table(slots.read_indexes(self._session, self.slot))
            live = self.live.current
            kept = _by_table(slots.read_indexes(self._session, live.slot)) if live else {}
        ways = {name: self._way(name, indexes.get(name), kept.get(name)) for name in names}
        known = [way for way in ways.values() if isinstance(way, _Change)]
        reasons = {name: way for name, way in ways.items() if isinstance(way, str)}
        for change, refusal in zip(known, self._snapshot.map(self._change, known), strict=True):
            if refusal:
                reasons[change.name] = refusal
        self._copy(reasons)

    def _way(
        self, name: str, indexes: set[Index] | None, live_indexes: set[Index] | None
    ) -> _Change | str:
        """The difference that makes a table right, or why it has to be copied whole."""
        base, capture = self._contents.get(name), self._captures.get(name)
        table = self._tables.get(name)
        if base is None or base.point is None:
            return "the slot does not have its rows yet"
        goal = self._point(name) if table else self._live_point(name)
        # Without its unique index, the rows of the slot were never published.
        if indexes != (_indexes(table) if table else live_indexes):
            return "its indexes have changed"
        if capture is None or goal is None or {base.point.capture, goal.capture} != {capture.id}:
            return _Change(name, base, Content(goal, base.rows), None)
        found = changes.difference(
            self._snapshot.session, name, capture, base.point.snapshot, goal.snapshot
        )
        if found is None:
            return "its changes since the last but one publication are not known"
        if found.noted * LARGEST_DIFFERENCE > base.rows.count:
            return f"{found.noted:,} of its rows were written"
        live = self.live.content(name)
        rows = live.rows if live and not table else base.rows.plus(found.rows)
        return _Change(name, base, Content(goal, rows), found)

    def _change(
        self, staging: psycopg.Connection, target: psycopg.Connection, change: _Change
    ) -> str:
        """Write a difference. Returns why it cannot be, or an empty text."""
        name, base, goal = change.name, change.base, change.goal
        table = self._tables.get(name)
        written = 0
        if change.found is None:
            # dbt makes each dimension anew in each run, and most of them have the same rows.
            live = self.live.content(name)
            if base.rows != (self._count_there(staging, name) if table else live and live.rows):
                return "the table was replaced in staging"
        elif change.found.noted or base.rows != goal.rows:
            source = self._source(name)
            ours = slots.slot_table(self.slot, name)
            try:
                with naming(f"production/{name}: writing its changes"), target.transaction():
                    written = differences.apply(
                        staging,
                        target,
                        name,
                        self._columns(name),
                        change.found,
                        (source, ours),
                        (base.rows, goal.rows),
                        is_in_staging=table is not None,
                    )
                    goal = replace(goal, stale=base.stale + written)
                    contents.store(target, self.slot, {name: goal})
            except differences.DoesNotFit as refusal:
                return str(refusal)
        if table:
            self.equality[name] = (goal.rows, goal.rows)
        self.written[name] = self.written.get(name, 0) + written
        self._copied.discard(name)
        self._contents[name] = replace(goal, stale=base.stale + written)
        self._changes[name] = change
        self._figures[name] = self._figures_of_live(name) or dict({} if written else base.figures)
        self._tell(f"{name}: {written:,} rows {'written' if table else 'written to keep it'}")
        return ""

    def _copy(self, reasons: Mapping[str, str]) -> None:
        """Copy these tables whole, each for its reason."""
        if not reasons:
            return
        patient = self._patience()

        def copy(source: psycopg.Connection, target: psycopg.Connection, name: str) -> Content:
            columns = self._columns(name)
            into = slots.slot_table(self.slot, name)
            table = self._tables.get(name)
            with naming(f"production/{name}: copying"):
                contents.forget(target, [self.slot], name)
                slots.empty_table(target, self.slot, name, patient)
                with target.transaction():
                    if table:
                        there = self._source(name)
                        query = sql.SQL("SELECT {} FROM {}").format(
                            sql.SQL(", ").join(map(sql.Identifier, columns)), there
                        )
                        copy_rows(source, query, target, into, columns)
                        rows = contents.count(target, into, columns)
                        self.equality[name] = (rows, self._count_there(source, name))
                        content = Content(self._point(name), rows)
                    else:
                        assert self.live.current is not None
                        rows = slots.copy_slot(
                            target, self.live.current.slot, self.slot, name, columns
                        )
                        content = Content(self._live_point(name), rows)
                    if not table or rows == self.equality[name][1]:
                        contents.store(target, self.slot, {name: content})
            what = "copied" if table else "kept"
            self._tell(f"{name}: {rows.count:,} rows {what}, because {reasons[name]}")
            return content

        for name, content in zip(reasons, self._snapshot.map(copy, reasons), strict=True):
            self._contents[name] = content
            self._copied.add(name)
            self._changes.pop(name, None)
            self._figures[name] = self._figures_of_live(name)
            self.written[name] = self.written.get(name, 0) + content.rows.count

    def _repair(self, names: Sequence[str]) -> None:
        """Compare every row of these tables with staging, and copy those that differ."""

        def compare(
            source: psycopg.Connection, target: psycopg.Connection, name: str
        ) -> tuple[Rows, Rows]:
            with naming(f"production/{name}: comparing it with staging"):
                return (
                    contents.count(target, slots.slot_table(self.slot, name), self._columns(name)),
                    contents.count(source, self._source(name), self._columns(name)),
                )

        names = [name for name in names if name in self._tables]
        found = dict(zip(names, self._snapshot.map(compare, names), strict=True))
        wrong = {
            name: f"it has {ours.count:,} rows with the sum {ours.number}, and staging has"
            f" {theirs.count:,} with {theirs.number}, although its changes were written"
            for name, (ours, theirs) in found.items()
            if ours != theirs
        }
        if wrong and self.live.current:
            # What is live was made of the same changes. Nobody may take it for a base.
            known = {name: self.live.content(name) for name in wrong}
            contents.store(
                self._session,
                self.live.current.slot,
                {name: replace(content, point=None) for name, content in known.items() if content},
            )
        self._copy(wrong)

    def _patience(self) -> float | None:
        """The monotonic time until which to try TRUNCATE, None if somebody may see the rows.

        There is one for all tables, so that their waits do not add up.
        """
        current = self.live.current
        if current and self._is_in_current_pair:
            # The other slot has the version before the current one. A reader whose snapshot is
            # older than the last switch still sees it.
            with naming("production: looking for readers of the slot"):
                readers = slots.wait_for_old_readers(self._session, current.switch_xid)
            if readers:
                self._tell(
                    f"version {current.version - 1} is still read, so its rows are deleted one by "
                    f"one: {', '.join(readers)}"
                )
                return None
        return time.monotonic() + slots.PATIENCE_SECONDS

    def _figures_of_live(self, name: str) -> dict[str, Mapping[str, Decimal]]:
        """The figures of a table's live rows, if it has the same rows."""
        live = self.live.content(name)
        return dict(live.figures) if live and self.is_as_live(name) else {}

    def _live_point(self, name: str) -> Point | None:
        live = self.live.content(name)
        return live.point if live else None

    def _columns(self, name: str) -> list[str]:
        return [column for column, _ in self.shape[name]]

    def _point(self, name: str) -> Point | None:
        capture = self._captures.get(name)
        return Point(capture.id, self._snapshot.seen) if capture else None

    def _count_there(self, staging: psycopg.Connection, name: str) -> Rows:
        """Add up a table of staging, once, because its snapshot stays the same."""
        if name not in self._there:
            there = contents.count(staging, self._source(name), self._columns(name))
            self._there[name] = there
        return self._there[name]

    def _source(self, name: str) -> sql.Identifier:
        """The table that a table of the slot comes from."""
        if table := self._tables.get(name):
            return sql.Identifier(table.schema, table.name)
        assert self.live.current is not None
        return slots.slot_table(self.live.current.slot, name)

    def rows(self, table: str) -> int:
        """How many rows a table has."""
        return self._contents[table].rows.count

    def is_as_live(self, table: str) -> bool:
        """Whether a table has the live rows."""
        live = self.live.content(table)
        return (
            live is not None
            and table in self.shape
            and self.live.shape.get(table) == self.shape[table]
            and live.rows == self._contents[table].rows
        )

    def is_difference(self, table: str) -> bool:
        """Whether a table got its rows by a difference that adds up."""
        return table in self._changes

    def has_added(self, table: str) -> bool:
        """Whether `differences.ADDED` has all rows of a table that are not live.

        It has them if the difference was written to rows that were live once. What a refused
        publication left in the slot was never live.
        """
        change = self._changes.get(table)
        return bool(change and change.base.version and self.written[table])

    def passed(self, table: str, question: str) -> None:
        """Note that the rows of a table passed an audit."""
        self._figures[table][question] = {"offending": Decimal(0)}

    def live_passed(self, table: str, question: str) -> bool:
        """Whether the live rows of a table have passed an audit."""
        live = self.live.content(table)
        return live is not None and question in live.figures

    def has_lost(self, session: psycopg.Connection, table: str, column: str) -> bool:
        """Whether a live table has values in a column that are gone."""
        if self.is_as_live(table):
            return False
        # A key that changed its type has none of its old values.
        if self.live.current is None or self.live.shape.get(table) != self.shape[table]:
            return True
        row = session.execute(
            sql.SQL("SELECT EXISTS (SELECT {0} FROM {1} EXCEPT SELECT {0} FROM {2})").format(
                sql.Identifier(column),
                slots.slot_table(self.live.current.slot, table),
                slots.slot_table(self.slot, table),
            )
        ).fetchone()
        assert row
        return bool(row[0])

    def measure(self, session: psycopg.Connection, part: Part) -> dict[str, Decimal]:
        """The figures of a table. They are carried forward if the table changed in some rows."""
        question = part.sql.as_string()
        if question in self._figures[part.table]:
            return dict(self._figures[part.table][question])
        change = self._changes.get(part.table)
        before = change.base.figures.get(question) if change else None
        if before:
            come = figures_of(session, part.sql, (differences.ADDED,))
            gone = figures_of(session, part.sql, (differences.REMOVED,))
            found = {
                # Python's own sums keep 28 digits only, and PostgreSQL's all.
                name: EXACT.subtract(EXACT.add(value, come[name]), gone[name])
                for name, value in before.items()
            }
        if not before or not all(value.is_finite() for value in found.values()):
            found = figures_of(session, part.sql, (slots.slot_schema(self.slot),))
        self._figures[part.table][question] = found
        return dict(found)

    def prepare_for_readers(self) -> None:
        """Build the indexes of the slot and the statistics for PostgreSQL's planner.

        In a new pair, the other slot gets the same rows, indexes and statistics.
        """

        def copy(_: psycopg.Connection, target: psycopg.Connection, name: str) -> None:
            with naming(f"production/{name}: copying to the other slot"):
                first, other = filled
                known = self._contents[name].rows
                slots.copy_slot(target, first, other, name, self._columns(name), known)

        def build(
            _: psycopg.Connection,
            target: psycopg.Connection,
            place: tuple[int, tuple[str, str, tuple[str, ...], bool]],
        ) -> None:
            slot, index = place
            with naming(f"production/{index[0]}: building index {index[1]}"):
                slots.create_index(target, slot, *index)

        def analyze(_: psycopg.Connection, target: psycopg.Connection, name: str) -> None:
            with naming(f"production/{name}: VACUUM and ANALYZE"):
                if name not in self._copied:
                    slots.vacuum(target, self.slot, name)
                slots.analyze(target, filled, name)

        filled = self._filled
        if len(filled) > 1:
            self._snapshot.map(copy, [name for name in self.shape if name in self._copied])
        copied = [table for name, table in self._tables.items() if name in self._copied]
        indexes = [(table.name, f"{table.name}_key", table.key, True) for table in copied]
        indexes += [
            (table.name, f"{table.name}_{'_'.join(columns)}", columns, False)
            for table in copied
            for columns in table.declared.indexes
        ]
        if self.live.current:
            # A table that keeps its live columns keeps its live indexes. The declared indexes may
            # name columns that it does not have.
            kept = self._copied - self._tables.keys()
            with naming("production: reading the live indexes"):
                there = slots.read_indexes(self._session, self.live.current.slot)
            indexes += [index for index in there if index[0] in kept]
        self._snapshot.map(build, [(slot, index) for index in indexes for slot in filled])
        stale = [
            name
            for name in self.shape
            if name not in self._copied
            and self._contents[name].stale * STALE_SHARE > self._contents[name].rows.count
        ]
        self._snapshot.map(analyze, [*self._copied, *stale])
        for name in stale:
            self._contents[name] = replace(self._contents[name], stale=0)

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
        found: dict[str, Content] = {}
        for name in self.shape:
            live = self.live.content(name)
            same = live.version if live and self.is_as_live(name) else None
            found[name] = replace(
                self._contents[name], version=same or number, figures=self._figures[name]
            )
        return Version(number, self._filled, self.shape, found, lines)

    def drop_notes(self, staging: psycopg.Connection, version: Version) -> None:
        """Delete the notes of changes that the next publication does not need.

        It needs those since the state that is live now, because it writes to that slot.
        """
        is_old = self._is_in_current_pair
        known = {name: self.live.content(name) for name in version.contents} if is_old else {}
        older = {name: known.get(name) or content for name, content in version.contents.items()}
        points = {name: content.point for name, content in older.items() if content.point}
        changes.drop_notes(staging, self._captures, points)


Index = tuple[tuple[str, ...], bool]
"""The columns of an index, and whether it is unique."""


def _indexes(table: PublishedTable) -> set[Index]:
    return {(table.key, True), *((columns, False) for columns in table.declared.indexes)}


def _by_table(indexes: Sequence[tuple[str, str, tuple[str, ...], bool]]) -> dict[str, set[Index]]:
    found: dict[str, set[Index]] = {}
    for table, _, columns, unique in indexes:
        found.setdefault(table, set()).add((columns, unique))
    return found
