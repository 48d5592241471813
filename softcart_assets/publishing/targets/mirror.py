"""Brings what production holds into another database, as one version of one moment.

Only audited rows are in production, so the target needs no audits of its own. It has two slots, as
production has. The one that nobody reads gets the rows that differ from what it holds: the notes in
staging tell their keys (`changes`). Before the switch, the numbers of its rows must add up to those
of production, and the values of the rows that travelled must give the same digest on both sides.

Each step can be killed. What a slot holds is recorded in the transaction that writes it, or
forgotten before the first row is touched. `_Mirror.finish` does what is left after a switch, and
each publication begins with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.sql import SQL, Composable, Identifier

from softcart_assets import comments
from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing import changes, contents, slots
from softcart_assets.publishing.candidate import LARGEST_DIFFERENCE, naming
from softcart_assets.publishing.changes import Capture
from softcart_assets.publishing.contents import Content, Rows
from softcart_assets.publishing.copying import copy_rows
from softcart_assets.publishing.slots import Columns, PublishError
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.publishing.targets.target import (
    Held,
    InUse,
    Relation,
    Server,
    Shown,
    Sums,
    Target,
    Tell,
)

_CHANGED = "its rows are not those of production any more"


@dataclass(frozen=True)
class Mirrored:
    """The result. `version`: the target's own number. `production_version`: whose rows it has.

    `is_new`: whether readers were switched. `row_counts`, `digests`: of each table, with the sum of
    the numbers that both servers computed. `written`: rows deleted and inserted. `versions`: what
    the rows of each table are known by in production. `columns`: how each table looks in
    production, without sensitive columns. `compared`: by what each table was found equal.
    `mended`: the tables in which somebody had changed rows, with what was wrong.
    """

    version: int
    production_version: int
    is_new: bool
    row_counts: dict[str, int]
    digests: dict[str, Decimal]
    written: dict[str, int]
    versions: dict[str, str]
    columns: dict[str, Columns]
    compared: dict[str, str]
    mended: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class _Table:
    """A table of production without its sensitive columns.

    `content`: its rows by numbers that are made of these columns. `version`: what its rows are
    known by in production.
    """

    declared: PublishedTable
    columns: Columns
    content: Content
    relation: Relation
    version: str

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def view(self) -> Identifier:
        return Identifier("production", self.name)


class _DoesNotFit(Exception):
    """The changed rows do not lead to the table that they should. The message says why."""


def mirror(
    staging: PostgresConnection,
    production: PostgresConnection,
    target: Target,
    tables: Sequence[PublishedTable],
    *,
    reader: str = "",
    complete: bool = False,
    on_progress: Tell | None = None,
) -> Mirrored:
    """Bring the live ones of these tables into the target, all at one moment.

    Others of ours disappear from it. `reader`: a role that may read all columns that are not
    personal. `complete`: compare the values of every row, and copy the tables that differ. Tables
    with a sensitive column in their key stay behind.

    Raises `PublishError`, after which readers see the version that they had, or the new one whole.
    """
    started = time.monotonic()
    tell = on_progress or (lambda line: None)
    application = f"softcart publish {target.name}"
    with ExitStack() as stack:
        server = stack.enter_context(target.open())
        with naming(f"{target.name}: reading production"):
            session = stack.enter_context(_moment(production, application))
            current = slots.read_current(session)
            if current is None:
                raise PublishError(f"{target.name}: production has no version yet. Publish first.")
            found = _tables(server, session, current, tables)
        notes = stack.enter_context(staging.connect(application_name=application))
        changes.set_up(notes)
        with target.explained("preparing"):
            run = _Mirror(target, server, session, notes, found, current.version, reader, tell)
            run.finish()
        if is_new := complete or not run.is_up_to_date():
            run.write(complete=complete)
            with target.explained("switching"):
                run.switch()
            with target.explained("after the switch"):
                try:
                    run.finish(complete=complete)
                except InUse as left:
                    # Readers see the version already. The next publication goes on here.
                    tell(f"the rest is left to the next publication: {left}")
        try:
            notes.rollback()
            run.keep_notes()
        except psycopg.Error as error:
            # Without them, the next publication copies tables whole.
            tell(f"the notes of changes in staging may be gone by the next publication: {error}")
        held = run.live()
    return Mirrored(
        run.version,
        current.version,
        is_new,
        {name: each.sums.rows.count for name, each in held.items()},
        {name: each.sums.digest for name, each in held.items()},
        run.written,
        {name: table.version for name, table in found.items()},
        {name: table.columns for name, table in found.items()},
        run.compared,
        run.mended,
        time.monotonic() - started,
    )


def may_leave(table: PublishedTable) -> bool:
    """Whether another server may have this table: without a part of its key it has no rows."""
    return not {*table.key} & {*table.sensitive}


@contextmanager
def _moment(production: PostgresConnection, application: str) -> Iterator[psycopg.Connection]:
    """A session that sees production at one moment, whatever is published meanwhile."""
    with production.connect(application_name=application) as session:
        contents.prepare(session)
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        yield session
        session.rollback()


def _tables(
    server: Server,
    session: psycopg.Connection,
    current: slots.Current,
    tables: Sequence[PublishedTable],
) -> dict[str, _Table]:
    shapes = slots.read_shapes(session, "production").get("production", {})
    known = contents.read(session).get(current.slot, {})
    found = {}
    for table in tables:
        # Its line may never have been published.
        if table.name not in current.row_counts or not may_leave(table):
            continue
        columns = shapes[table.name]
        # What is sensitive leaves the warehouse to no other server.
        shown = tuple((name, kind) for name, kind in columns if name not in table.sensitive)
        content = known.get(table.name)
        version = content.label if content else ""
        if content is None or shown != columns:  # of an old release, or with other numbers
            names = [column for column, _ in shown]
            rows = contents.count(session, Identifier("production", table.name), names)
            # Who knows the rest of a row could try which sensitive value leads to its number.
            content = replace(content or Content(None, rows, current.version), rows=rows)
        indexes = tuple(
            each for each in table.declared.indexes if not set(each) & set(table.sensitive)
        )
        relation = server.relation(table.name, shown, table.key, indexes)
        found[table.name] = _Table(table, shown, content, relation, version or content.label)
    return found


class _Mirror:
    """One publication to the target. `version`: that of the target."""

    def __init__(
        self,
        target: Target,
        server: Server,
        session: psycopg.Connection,
        staging: psycopg.Connection,
        tables: Mapping[str, _Table],
        production_version: int,
        reader: str,
        tell: Tell,
    ) -> None:
        self._target, self._server = target, server
        self._session, self._staging = session, staging
        self._tables, self._tell, self._reader = tables, tell, reader
        self._production_version = production_version
        current = server.current()
        self._slot = current.slot if current else 0
        self.version = current.version if current else 0
        self._held = server.contents()
        self.written = dict.fromkeys(tables, 0)
        self.compared = dict.fromkeys(tables, "unchanged rows")
        self.mended: dict[str, str] = {}

    @property
    def _spare(self) -> int:
        """The slot that nobody reads."""
        return 2 if self._slot == 1 else 1

    def live(self) -> dict[str, Held]:
        """What readers see of each table."""
        return self._held[self._slot] if self._slot else {}

    def is_up_to_date(self) -> bool:
        """Whether readers see these very tables and rows."""
        return {name: (held.label, held.relation) for name, held in self.live().items()} == {
            name: (table.content.label, table.relation.name) for name, table in self._tables.items()
        }

    def write(self, *, complete: bool) -> None:
        """Make the spare slot what production is."""
        for name in self._held[self._spare].keys() - self._tables.keys():
            self._server.forget(self._spare, name)
            del self._held[self._spare][name]
        captures = changes.read_captures(
            self._staging, [table.declared for table in self._tables.values()]
        )
        for number, (name, table) in enumerate(self._tables.items()):
            with (
                naming(f"{self._target.name}/{name}: reading production"),
                self._target.explained(name),
            ):
                self._server.make(table.relation)
                why = self._write_changes(table, captures.get(name), number)
                if not why and complete:
                    why = self._differs(table)
                    self.mended |= {name: why} if why else {}
                if why:
                    self._copy(table, why)
            if complete:
                self.compared[name] = "all rows"
            if self.written[name]:
                self._tell(f"{name}: {self.written[name]:,} rows written")
        self._tell("all tables are those of production")

    def _goal(self, table: _Table, sums: Sums) -> Held:
        """What the spare slot holds afterwards."""
        live = self.live().get(table.name)
        is_same = live and live.relation == table.relation.name
        since = live.since if live and is_same else self.version + 1
        content = table.content
        return Held(table.relation.name, since, content.label, content.point, sums)

    def _store(self, table: _Table, held: Held) -> None:
        self._server.store(self._spare, table.name, held)
        self._held[self._spare][table.name] = held

    def _write_changes(self, table: _Table, capture: Capture | None, number: int) -> str:
        """Write what differs. Returns why the table has to be copied whole, or an empty text."""
        base, content = self._held[self._spare].get(table.name), table.content
        if base is None or base.relation != table.relation.name:
            return "this slot does not have its rows yet"
        if base.sums.rows == content.rows:
            self._store(table, self._goal(table, base.sums))
            return ""
        if capture is None or base.point is None or content.point is None:
            return "its changes are not noted"
        if {base.point.capture, content.point.capture} != {capture.id}:
            return "the table was replaced in staging"
        found = changes.difference(
            self._staging, table.name, capture, base.point.snapshot, content.point.snapshot
        )
        if found is None:
            return "its changes since the last but one publication are not known"
        if found.noted * LARGEST_DIFFERENCE > base.sums.rows.count:
            return f"{found.noted:,} of its rows were written"
        keys = Identifier(f"_keys_{number}")
        key = SQL(", ").join(map(Identifier, found.key))
        self._session.execute(
            SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                keys, key, table.view
            )
        )
        noted = SQL("SELECT DISTINCT * FROM ({}) noted").format(found.keys)
        copy_rows(self._staging, noted, self._session, keys, found.key)
        self._session.execute(SQL("ANALYZE {}").format(keys))
        try:
            self._apply(table, base, keys, found.key)
        except _DoesNotFit as refusal:
            return str(refusal)
        return ""

    def _apply(self, table: _Table, base: Held, keys: Identifier, key: Sequence[str]) -> None:
        """Replace the rows with these keys, in one transaction with the record of it."""
        server, relation = self._server, table.relation
        server.hold_keys(relation, key, self._stream, keys)
        joined = SQL("JOIN {} USING ({})").format(keys, SQL(", ").join(map(Identifier, key)))
        with server.transaction():
            gone = server.sums(relation, self._spare, key)
            server.delete(relation, self._spare, key)
            sent = self._send(table, joined, commits=False)
            come = server.sums(relation, self._spare, key)
            if come != sent:
                raise _DoesNotFit("the rows that arrived are not those that were sent")
            reached = base.sums.minus(gone).plus(come)
            if reached.rows != table.content.rows:
                raise _DoesNotFit(
                    f"its changed rows lead to {reached.rows.count:,} rows with the sum "
                    f"{reached.rows.number}, not to {table.content.rows.count:,} rows with the sum "
                    f"{table.content.rows.number}"
                )
            self._store(table, self._goal(table, reached))
        self.written[table.name] += gone.rows.count + come.rows.count
        self.compared[table.name] = "changed rows"

    def _stream(self, question: Composable) -> Iterator[tuple[str, ...]]:
        """The rows of a query to production, a part at a time."""
        with self._session.cursor("softcart_rows") as cursor:
            cursor.itersize = 5_000
            cursor.execute(question)  # type: ignore[arg-type]
            yield from cursor

    def _send(self, table: _Table, join: Composable, *, commits: bool) -> Sums:
        """Insert the rows of production that the join leaves. Returns what was sent."""
        count = number = digest = 0

        def rows() -> Iterator[Any]:
            nonlocal count, number, digest
            for row, its_number, its_digest in self._server.read(
                self._stream, table.view, table.columns, table.relation, join
            ):
                count += 1
                number += its_number
                digest += its_digest
                yield row

        self._server.insert(table.relation, self._spare, rows(), commits=commits)
        return Sums(Rows(count, Decimal(number)), Decimal(digest))

    def _copy(self, table: _Table, why: str) -> None:
        """Copy a table whole."""
        self._tell(f"{table.name} is copied whole: {why}")
        self._server.forget(self._spare, table.name)
        self._held[self._spare].pop(table.name, None)
        self._server.empty(table.relation, self._spare)
        sent = self._send(table, SQL(""), commits=True)
        come = self._server.sums(table.relation, self._spare)
        if come != sent or sent.rows != table.content.rows:
            raise PublishError(
                f"{self._target.name}/{table.name}: it has other rows than production, nothing was "
                f"switched: {come.rows.count:,} rows with the sums {come.rows.number} and "
                f"{come.digest}, not {table.content.rows.count:,} with "
                f"{table.content.rows.number} and {sent.digest}. Look for triggers on "
                f"{table.relation.name}, and publish again."
            )
        self._store(table, self._goal(table, come))
        self.written[table.name] += come.rows.count
        self.compared[table.name] = "all rows"

    def _differs(self, table: _Table) -> str:
        """Compare all rows with production. Returns what is wrong, or an empty text."""
        theirs = self._server.sums_of_production(
            self._session, table.view, table.columns, table.relation
        )
        ours = self._server.sums(table.relation, self._spare)
        return "" if ours == theirs else _CHANGED

    def switch(self) -> None:
        """Let readers see the spare slot."""
        self._server.switch(
            self._spare,
            self.version + 1,
            self._production_version,
            self._shown(self.live()),
            self._shown(self._held[self._spare]),
            self._tell,
        )
        self._slot, self.version = self._spare, self.version + 1
        self._held = self._server.contents()
        self._tell(f"version {self.version} published")

    def _shown(self, held: Mapping[str, Held]) -> Shown:
        relations = {name: table.relation for name, table in self._tables.items()}
        readable = {
            name: [column for column in table.relation.columns if column not in table.declared.pii]
            for name, table in self._tables.items()
        }
        return Shown(held, relations, readable, self._reader)

    def finish(self, *, complete: bool = False) -> None:
        """Do what is left after a switch: what readers see, and rows for the next version.

        It does nothing where nothing is left, whatever ended the publication before.
        """
        if not self._slot:
            return
        live = self.live()
        self._server.settle(self._shown(live), self._tell)
        # If production has another shape by now, the next version gets another table anyway.
        same = {
            name: table.relation
            for name, table in self._tables.items()
            if name in live and live[name].relation == table.relation.name
        }
        kept = {held.relation for held in live.values()}
        for name, held in list(self._held[self._spare].items()):
            if held.relation not in kept:
                self._server.forget(self._spare, name)
                del self._held[self._spare][name]
        self._server.drop_others(kept)
        for name, relation in same.items():
            self._comment(name, relation)
            self._fill_spare(name, relation, complete=complete)

    def _fill_spare(self, name: str, relation: Relation, *, complete: bool) -> None:
        """Give the spare slot rows to write the next difference to, out of the live ones.

        Nothing travels. `complete`: also if it does not have the rows that it should.
        """
        server, there = self._server, self._held[self._spare].get(name)
        if there and not complete:
            return
        if there and server.sums(relation, self._spare) == there.sums:
            return
        if there:
            self.mended[name] = _CHANGED
        server.forget(self._spare, name)
        server.empty(relation, self._spare)
        live = self.live()[name]
        with server.transaction():
            server.copy(relation, self._slot, self._spare)
            if server.sums(relation, self._spare) != live.sums:
                raise PublishError(
                    f"{self._target.name}/{name}: its live rows are not those that were published. "
                    "Readers see them. Materialise the asset with `complete` to mend it."
                )
            server.store(self._spare, name, live)
        self._held[self._spare][name] = live

    def _comment(self, name: str, relation: Relation) -> None:
        texts = comments.read(self._session, "production", [name])
        self._server.comment(relation, {column: text for (_, column), text in texts.items()})

    def keep_notes(self) -> None:
        """Have staging keep the notes that the next publication needs."""
        held = self.live() | self._held[self._spare]
        points = {table: each.point for table, each in held.items() if each.point}
        changes.keep_notes(self._staging, self._target.address, points)
        self._staging.commit()
