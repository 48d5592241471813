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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

import psycopg
from psycopg import IsolationLevel
from psycopg.sql import SQL, Composable, Identifier

from softcart_assets import comments
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.publishing import changes, contents, slots
from softcart_assets.publishing.candidate import LARGEST_DIFFERENCE, naming
from softcart_assets.publishing.changes import Capture
from softcart_assets.publishing.contents import Content, Rows
from softcart_assets.publishing.copying import copy_rows
from softcart_assets.publishing.slots import Columns, PublishError
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.publishing.targets import fields
from softcart_assets.publishing.targets.mysql import (
    NAME,
    Held,
    InUse,
    Relation,
    Server,
    Sums,
    explained,
    quote,
    view_between,
    view_of,
)

APPLICATION = "softcart publish production_mysql"
"""The application name of the connections to PostgreSQL."""

Tell = Callable[[str], None]

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
    target: MySQLConnection,
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
    with ExitStack() as stack:
        server = stack.enter_context(Server.open(target))
        with naming(f"{NAME}: reading production"):
            session = stack.enter_context(_moment(production))
            current = slots.read_current(session)
            if current is None:
                raise PublishError(f"{NAME}: production has no version yet. Publish first.")
            found = _tables(session, current, tables)
        notes = stack.enter_context(staging.connect(application_name=APPLICATION))
        changes.set_up(notes)
        with explained("preparing"):
            run = _Mirror(server, session, notes, found, current.version, reader, tell)
            run.finish()
        if is_new := complete or not run.is_up_to_date():
            run.write(complete=complete)
            with explained("switching"):
                run.switch()
            with explained("after the switch"):
                try:
                    run.finish(complete=complete)
                except InUse as left:
                    # Readers see the version already. The next publication goes on here.
                    tell(f"the rest is left to the next publication: {left}")
        try:
            notes.rollback()
            run.keep_notes(target)
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
def _moment(production: PostgresConnection) -> Iterator[psycopg.Connection]:
    """A session that sees production at one moment, whatever is published meanwhile."""
    with production.connect(application_name=APPLICATION) as session:
        contents.prepare(session)
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        yield session
        session.rollback()


def _tables(
    session: psycopg.Connection, current: slots.Current, tables: Sequence[PublishedTable]
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
        its_fields = fields.fields(table.name, shown, table.key, indexes)
        relation = Relation.of(table.name, its_fields, table.key, indexes)
        found[table.name] = _Table(table, shown, content, relation, version or content.label)
    return found


class _Mirror:
    """One publication to the target. `version`: that of the target."""

    def __init__(
        self,
        server: Server,
        session: psycopg.Connection,
        staging: psycopg.Connection,
        tables: Mapping[str, _Table],
        production_version: int,
        reader: str,
        tell: Tell,
    ) -> None:
        self._server, self._session, self._staging = server, session, staging
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
        with explained("reading the tables that are there"):
            there = self._server.tables()
        for number, (name, table) in enumerate(self._tables.items()):
            with naming(f"{NAME}/{name}: reading production"), explained(name):
                if table.relation.name not in there:
                    self._server.run(table.relation.create(self._server.collation))
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
        of_key = [field for name in key for field in relation.fields if field.column.name == name]
        definitions = ", ".join(field.definition for field in of_key)
        names = fields.names(of_key)
        # Outside the transaction, where some servers refuse it.
        server.run("DROP TEMPORARY TABLE IF EXISTS _softcart_keys")
        server.run(
            f"CREATE TEMPORARY TABLE _softcart_keys ({definitions}, PRIMARY KEY ({names}))"
            f" ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE {server.collation}"
        )
        literals = SQL(", ").join(field.literal for field in of_key)
        question = SQL("SELECT array_to_string(ARRAY[{}], ',') FROM {}").format(literals, keys)
        rows = (row for (row,) in self._stream(question))
        server.insert("_softcart_keys", names, "", rows, commits=True)
        join = f"JOIN _softcart_keys USING ({names})"
        joined = SQL("JOIN {} USING ({})").format(keys, SQL(", ").join(map(Identifier, key)))
        with server.transaction():
            gone = server.sums(relation, self._spare, join)
            on = " AND ".join(f"t.{quote(name)} = k.{quote(name)}" for name in key)
            server.run(
                f"DELETE t FROM {quote(relation.name)} t JOIN _softcart_keys k ON {on}"
                f" WHERE t._slot = {self._spare}"
            )
            sent = self._send(table, joined, commits=False)
            come = server.sums(relation, self._spare, join)
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

        def rows() -> Iterator[str]:
            nonlocal count, number, digest
            question = fields.rows_query(table.view, table.columns, table.relation.fields, join)
            for text, its_number, its_digest in self._stream(question):
                count += 1
                number += int(its_number)
                # Null for a value that MySQL is about to refuse.
                digest += int(its_digest or 0)
                yield text

        columns = f"_slot, _number, {fields.names(table.relation.fields)}"
        prefix = f"{self._spare},"
        self._server.insert(table.relation.name, columns, prefix, rows(), commits=commits)
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
                f"{NAME}/{table.name}: it has other rows than production, nothing was switched: "
                f"{come.rows.count:,} rows with the sums {come.rows.number} and {come.digest}, not "
                f"{table.content.rows.count:,} with {table.content.rows.number} and {sent.digest}. "
                f"Look for triggers on {table.relation.name}, and publish again."
            )
        self._store(table, self._goal(table, come))
        self.written[table.name] += come.rows.count
        self.compared[table.name] = "all rows"

    def _differs(self, table: _Table) -> str:
        """Compare all rows with production. Returns what is wrong, or an empty text."""
        question = fields.rows_query(table.view, table.columns, table.relation.fields, SQL(""))
        row = self._session.execute(
            SQL(
                "SELECT count(*), coalesce(sum(b), 0), coalesce(sum(c), 0) FROM ({}) t(a, b, c)"
            ).format(question)
        ).fetchone()
        assert row
        theirs = Sums(Rows(row[0], row[1]), row[2])
        ours = self._server.sums(table.relation, self._spare)
        return "" if ours == theirs else _CHANGED

    def switch(self) -> None:
        """Let readers see the spare slot.

        A table that is not published any more disappears just before, a new one appears just
        after. In between it is an error to read it, and never an empty table.
        """
        views = self._server.views()
        for name in views.keys() - self._tables.keys():
            self._server.hide(name)
        for name, live in self.live().items():
            new = self._held[self._spare].get(name)
            if new is None or name not in views:
                continue
            relation, columns = self._tables[name].relation, self._server.columns(live.relation)
            definition = view_of(live.relation, columns, live.since)
            if live.relation != relation.name:
                definition = view_between(live.relation, columns, self._slot, relation)
            if views[name] != definition:
                self._server.show(name, definition)
        # A column that has become personal must not be read in the new version.
        self._grant(views)
        with self._server.transaction():
            self._server.switch(self._spare, self.version + 1, self._production_version)
        self._slot, self.version = self._spare, self.version + 1
        self._tell(f"version {self.version} published")

    def finish(self, *, complete: bool = False) -> None:
        """Do what is left after a switch: views of one table each, and rows for the next version.

        It does nothing where nothing is left, whatever ended the publication before.
        """
        if not self._slot:
            return
        live, views = self.live(), self._server.views()
        for name in views.keys() - live.keys():
            self._server.hide(name)
        for name, held in live.items():
            definition = view_of(held.relation, self._server.columns(held.relation), held.since)
            if views.get(name) != definition:
                self._server.show(name, definition)
        # If production has another shape by now, the next version gets another table anyway.
        same = {
            name: table.relation
            for name, table in self._tables.items()
            if name in live and live[name].relation == table.relation.name
        }
        self._grant(same)
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
        columns = f"_number, {fields.names(relation.fields)}"
        live = self.live()[name]
        with server.transaction():
            server.run(
                f"INSERT INTO {quote(relation.name)} (_slot, {columns}) SELECT {self._spare},"
                f" {columns} FROM {quote(relation.name)} WHERE _slot = {self._slot}"
            )
            if server.sums(relation, self._spare) != live.sums:
                raise PublishError(
                    f"{NAME}/{name}: its live rows are not those that were published. Readers see "
                    "them. Materialise the asset with `complete` to mend it."
                )
            server.store(self._spare, name, live)
        self._held[self._spare][name] = live

    def _comment(self, name: str, relation: Relation) -> None:
        texts = comments.read(self._session, "production", [name])
        self._server.comment(relation, {column: text for (_, column), text in texts.items()})

    def _grant(self, views: Collection[str]) -> None:
        wanted: dict[str, Sequence[str]] = {
            name: [
                field.column.name
                for field in table.relation.fields
                if field.column.name not in table.declared.pii
            ]
            for name, table in self._tables.items()
            if name in views
        }
        self._server.grant(self._reader, wanted, self._tell)

    def keep_notes(self, target: MySQLConnection) -> None:
        """Have staging keep the notes that the next publication needs."""
        name = f"mysql://{target.host}:{target.port}/{target.database}"
        held = self.live() | self._held[self._spare]
        points = {table: each.point for table, each in held.items() if each.point}
        changes.keep_notes(self._staging, name, points)
        self._staging.commit()
