"""A MySQL or MariaDB server that people read published tables from.

A published table is a view. Its rows are in a table with two slots: the column `_slot` is the first
of the primary key. The single row of `_softcart_current` names the slot that all views show. So the
switch is the update of one row here, too. It is right for every snapshot, and it waits for no
reader and is half done after no crash. MySQL's DDL is none of that: no transaction has it, a
renamed table waits for every reader, and an older snapshot finds the new table empty.

A table whose columns change gets another table for its rows. Until the switch, the view shows the
rows of whichever table has the current slot (`view_between`). Afterwards it shows the new one only.
A transaction from before the switch would find nothing there, so it gets an error (`view_of`).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import psycopg
import pymysql
from psycopg.sql import SQL, Composable, Identifier

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.publishing.contents import Point, Rows
from softcart_assets.publishing.slots import DDL_PATIENCE_SECONDS, Columns, PublishError
from softcart_assets.publishing.targets import fields, target
from softcart_assets.publishing.targets.fields import Field
from softcart_assets.publishing.targets.target import (
    Current,
    Held,
    InUse,
    Row,
    Shown,
    Stream,
    Sums,
    Tell,
)

NAME = "production_mysql"
"""What messages and assets call this target."""

_LOCK_SECONDS = 30
"""How long to wait for another publication: a killed one ends when the server notices."""
_WAIT_SECONDS = 60
"""How long a statement waits for a lock of somebody else's."""

_BATCH_BYTES = 512 * 1024
"""Rows travel in statements of this size. It is far below the servers' limit of a packet."""
_COMMIT_BYTES = 16 * 1024 * 1024
_DELETED_AT_ONCE = 20_000

_LONGEST_COMMENT = {True: 1024, False: 2048}
"""Characters of the comment on a column, or on a table."""

_UNFIT = (1264, 1265, 1292, 1366, 1406, 1067, 3140)
"""The server's errors about a value that does not fit into its column."""
_NOT_NOW = (1205, 1213)
_DENIED = (1044, 1045, 1142, 1143, 1227, 1370, 1410)
_NO_ROLE = 1133
"""MariaDB's error for a role that is missing. MySQL's is in `_DENIED`."""
_NOT_GRANTED = (1141, 1147)

_BEGUN = "begun "
"""Before the note of privileges that may not be given yet."""
_QUOTED = "`(?:[^`]|``)+`"

_SET_UP = {
    "_softcart_current": "(id TINYINT PRIMARY KEY, slot TINYINT NOT NULL,"
    " version BIGINT NOT NULL, production_version BIGINT NOT NULL,"
    " published_at DATETIME(6) NOT NULL) ENGINE=InnoDB"
    " COMMENT='The published version: the slot that all views show.'",
    "_softcart_contents": "(slot TINYINT, table_name VARCHAR(64),"
    " relation VARCHAR(64) NOT NULL, since BIGINT NOT NULL, label TEXT NOT NULL, capture TEXT,"
    " snapshot LONGTEXT, row_count BIGINT NOT NULL, number DECIMAL(65,0) NOT NULL,"
    " digest DECIMAL(65,0) NOT NULL, PRIMARY KEY (slot, table_name)) ENGINE=InnoDB"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    " COMMENT='What each slot holds: where, which rows of production, and sums that prove it.'",
    "_softcart_views": "(name VARCHAR(64) PRIMARY KEY,"
    " definition LONGTEXT NOT NULL, granted LONGTEXT NOT NULL) ENGINE=InnoDB"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    " COMMENT='The views as they were made, and the columns that the reading role may read.'",
}

_CURRENT = "SELECT slot FROM _softcart_current WHERE id = 1"

quote = MYSQL.quote


@dataclass(frozen=True)
class Relation:
    """A table with the rows of a published table, in two slots."""

    name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]

    @property
    def columns(self) -> list[str]:
        """See `target.Relation`."""
        return [field.column.name for field in self.fields]

    @classmethod
    def of(
        cls,
        table: str,
        found: tuple[Field, ...],
        key: tuple[str, ...],
        indexes: tuple[tuple[str, ...], ...],
    ) -> Relation:
        """The relation of a table of that shape. Another shape has another name."""
        shape = repr(([field.definition for field in found], key, indexes, table))
        digest = hashlib.sha256(shape.encode()).hexdigest()[:8]
        # MySQL's names have up to 64 characters.
        return cls(f"_{digest}_{table}"[:64], found, key, indexes)

    def create(self, collation: str) -> str:
        """The statement that makes it."""
        columns = [f"  {field.definition}" for field in self.fields]
        by = {columns: ", ".join(map(quote, columns)) for columns in (self.key, *self.indexes)}
        keys = [f"PRIMARY KEY (_slot, {by[self.key]})"]
        keys += [f"KEY (_slot, {by[columns]})" for columns in self.indexes if columns != self.key]
        body = ", ".join(["_slot TINYINT NOT NULL", *columns, "_number BIGINT NOT NULL", *keys])
        return (
            f"CREATE TABLE {quote(self.name)} ({body}) ENGINE=InnoDB"
            f" CHARACTER SET utf8mb4 COLLATE {collation}"
        )


def view_of(relation: str, columns: Sequence[str], since: int) -> str:
    """The SELECT of a view, for every version from `since` on."""
    # Two rows where one belongs are an error: this snapshot is older than the table.
    slot = f"({_CURRENT} UNION ALL {_CURRENT} AND version < {since})"
    return f"SELECT {', '.join(map(quote, columns))} FROM {quote(relation)} WHERE _slot = {slot}"


def view_between(old: str, old_columns: Sequence[str], old_slot: int, new: target.Relation) -> str:
    """The SELECT of a view while its columns change: the old rows before the switch, the new ones
    after it. What one of the two lacks is null.
    """
    theirs = [*new.columns]
    columns = [*theirs, *(name for name in old_columns if name not in theirs)]

    def part(relation: str, there: Collection[str], slot: int) -> str:
        listed = ", ".join(
            quote(name) if name in there else f"NULL AS {quote(name)}" for name in columns
        )
        return (
            f"SELECT {listed} FROM {quote(relation)} WHERE _slot = {slot} AND {slot} = ({_CURRENT})"
        )

    return f"{part(old, old_columns, old_slot)} UNION ALL {part(new.name, theirs, 3 - old_slot)}"


class Server(target.Server):
    """A session of the publishing user, which holds the lock of publications."""

    def __init__(self, connection: MySQLConnection, session: pymysql.Connection[Any]) -> None:
        self._connection, self._session = connection, session
        version = str(self.ask("SELECT VERSION()")[0][0])
        # Keys that differ in a space at the end only are two keys in PostgreSQL.
        self.collation = "utf8mb4_nopad_bin" if "MariaDB" in version else "utf8mb4_0900_bin"

    @classmethod
    @contextmanager
    def open(cls, connection: MySQLConnection) -> Iterator[Server]:
        """The only publication to this database. Raises `PublishError` or `ServerUnreachable`."""
        session = connection.connect(autocommit=True)
        try:
            with explained("setting up"):
                server = cls(connection, session)
                server.run(
                    # Strict, so that nothing is cut off or rounded without an error.
                    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
                    "NO_ENGINE_SUBSTITUTION', net_write_timeout = 3600, wait_timeout = 86400,"
                    f" lock_wait_timeout = {_WAIT_SECONDS}, innodb_lock_wait_timeout ="
                    f" {_WAIT_SECONDS}"
                )
                name = f"softcart {connection.database}"[:64]
                if server.ask(f"SELECT GET_LOCK({server.literal(name)}, {_LOCK_SECONDS})") != [
                    (1,)
                ]:
                    raise PublishError(
                        f"{NAME}: another publication to {connection.database!r} is under way. "
                        "Publish again when it is done."
                    )
                there = server.tables()
                for name, body in _SET_UP.items():
                    if name not in there:
                        server.run(f"CREATE TABLE {name} {body}")
            yield server
        finally:
            with suppress(pymysql.MySQLError):
                session.close()

    def run(self, statement: str) -> int:
        """Run a statement. Returns how many rows it wrote."""
        return int(self._session.query(statement))

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._session.cursor() as cursor:
            cursor.execute(question)
            return list(cursor.fetchall())

    def literal(self, value: object) -> str:
        """A value as SQL."""
        return str(self._session.escape(value))

    def change(self, statement: str, what: str) -> None:
        """Run DDL. Whoever reads the table holds it up, and later readers wait behind it. So it
        waits for a second, lets them pass, and tries again.

        Raises `InUse` after `DDL_PATIENCE_SECONDS`.
        """
        until = time.monotonic() + DDL_PATIENCE_SECONDS
        self.run("SET SESSION lock_wait_timeout = 1")
        try:
            while True:
                try:
                    self.run(statement)
                    return
                except pymysql.MySQLError as error:
                    if error.args[0] not in _NOT_NOW:
                        raise
                    if time.monotonic() > until:
                        raise InUse(
                            f"{NAME}/{what}: for {DDL_PATIENCE_SECONDS:.0f} s, open transactions "
                            "kept using it, so it could not get other columns. SHOW PROCESSLIST "
                            "tells who is connected, and performance_schema.metadata_locks who "
                            "holds it. End them with KILL, and publish again."
                        ) from None
                time.sleep(0.5)
        finally:
            self.run(f"SET SESSION lock_wait_timeout = {_WAIT_SECONDS}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction, which an error in the block takes back."""
        self.run("START TRANSACTION")
        try:
            yield
        except BaseException:
            # A lost connection has taken it back already.
            with suppress(pymysql.MySQLError):
                self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    def current(self) -> Current | None:
        """The version that readers see, None before the first."""
        found = self.ask("SELECT slot, version, production_version FROM _softcart_current")
        return Current(*found[0]) if found else None

    def contents(self) -> dict[int, dict[str, Held]]:
        """Slot → what it holds of each table."""
        found: dict[int, dict[str, Held]] = {1: {}, 2: {}}
        for slot, table, relation, since, label, capture, snapshot, *sums in self.ask(
            "SELECT slot, table_name, relation, since, label, capture, snapshot, row_count, number,"
            " digest FROM _softcart_contents"
        ):
            point = Point(capture, snapshot) if capture else None
            found[slot][table] = Held(relation, since, label, point, _sums(sums))
        return found

    def store(self, slot: int, table: str, held: Held) -> None:
        """Record what a slot holds, in the transaction that writes it."""
        point = held.point
        values = (
            *(slot, table, held.relation, held.since, held.label),
            *((point.capture, point.snapshot) if point else (None, None)),
            *(held.sums.rows.count, held.sums.rows.number, held.sums.digest),
        )
        self.run(f"REPLACE INTO _softcart_contents VALUES ({', '.join(map(self.literal, values))})")

    def forget(self, slot: int, table: str) -> None:
        """Record that nobody knows what a slot holds. It comes before its rows are touched."""
        self.run(
            f"DELETE FROM _softcart_contents WHERE slot = {slot}"
            f" AND table_name = {self.literal(table)}"
        )

    def relation(
        self,
        table: str,
        columns: Columns,
        key: tuple[str, ...],
        indexes: tuple[tuple[str, ...], ...],
    ) -> Relation:
        """See `target.Server`."""
        return Relation.of(table, fields.fields(table, columns, key, indexes), key, indexes)

    def make(self, relation: Relation) -> None:
        """See `target.Server`."""
        if relation.name not in self.tables():
            self.run(relation.create(self.collation))

    def read(
        self,
        stream: Stream,
        view: Composable,
        columns: Columns,
        relation: Relation,
        join: Composable,
    ) -> Iterator[Row]:
        """Each row as text of an INSERT, see `target.Server`."""
        for text, number, digest in stream(fields.rows_query(view, columns, relation.fields, join)):
            # Null for a value that MySQL is about to refuse.
            yield text, int(number), int(digest or 0)

    def sums_of_production(
        self, session: psycopg.Connection, view: Composable, columns: Columns, relation: Relation
    ) -> Sums:
        """See `target.Server`. PostgreSQL adds them up."""
        question = fields.rows_query(view, columns, relation.fields, SQL(""))
        row = session.execute(
            SQL(
                "SELECT count(*), coalesce(sum(b), 0), coalesce(sum(c), 0) FROM ({}) t(a, b, c)"
            ).format(question)
        ).fetchone()
        assert row
        return _sums(row)

    def hold_keys(
        self, relation: Relation, key: Sequence[str], stream: Stream, keys: Identifier
    ) -> None:
        """See `target.Server`. They are in a temporary table."""
        of_key = [field for name in key for field in relation.fields if field.column.name == name]
        definitions = ", ".join(field.definition for field in of_key)
        names = fields.names(of_key)
        # Outside the transaction, where some servers refuse it.
        self.run("DROP TEMPORARY TABLE IF EXISTS _softcart_keys")
        self.run(
            f"CREATE TEMPORARY TABLE _softcart_keys ({definitions}, PRIMARY KEY ({names}))"
            f" ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE {self.collation}"
        )
        literals = SQL(", ").join(field.literal for field in of_key)
        question = SQL("SELECT array_to_string(ARRAY[{}], ',') FROM {}").format(literals, keys)
        self._insert(
            "_softcart_keys", names, "", (row for (row,) in stream(question)), commits=True
        )

    def delete(self, relation: Relation, slot: int, key: Sequence[str]) -> None:
        """See `target.Server`."""
        on = " AND ".join(f"t.{quote(name)} = k.{quote(name)}" for name in key)
        self.run(
            f"DELETE t FROM {quote(relation.name)} t JOIN _softcart_keys k ON {on}"
            f" WHERE t._slot = {slot}"
        )

    def copy(self, relation: Relation, slot: int, to: int) -> None:
        """See `target.Server`."""
        columns = f"_number, {fields.names(relation.fields)}"
        self.run(
            f"INSERT INTO {quote(relation.name)} (_slot, {columns}) SELECT {to},"
            f" {columns} FROM {quote(relation.name)} WHERE _slot = {slot}"
        )

    def insert(self, relation: Relation, slot: int, rows: Iterator[Any], *, commits: bool) -> None:
        """See `target.Server`."""
        columns = f"_slot, _number, {fields.names(relation.fields)}"
        self._insert(relation.name, columns, f"{slot},", rows, commits=commits)

    def empty(self, relation: Relation, slot: int) -> None:
        """Delete all rows of a slot, a part at a time. Older snapshots still see them."""
        statement = (
            f"DELETE FROM {quote(relation.name)} WHERE _slot = {slot} LIMIT {_DELETED_AT_ONCE}"
        )
        while self.run(statement):
            pass

    def _insert(
        self, relation: str, columns: str, prefix: str, rows: Iterator[str], *, commits: bool
    ) -> None:
        """Insert rows that are texts of SQL, each after the same prefix.

        `commits`: outside a transaction of the caller's, in parts. So the server need not be able
        to take all of it back.
        """
        head = f"INSERT INTO {quote(relation)} ({columns}) VALUES "
        values: list[str] = []
        size = written = 0
        if commits:
            self.run("START TRANSACTION")
        for row in rows:
            values.append(f"({prefix}{row})")
            size += len(row)
            if size >= _BATCH_BYTES:
                self.run(head + ",".join(values))
                written += size
                values.clear()
                size = 0
                if commits and written >= _COMMIT_BYTES:
                    self.run("COMMIT")
                    self.run("START TRANSACTION")
                    written = 0
        if values:
            self.run(head + ",".join(values))
        if commits:
            self.run("COMMIT")

    def sums(self, relation: Relation, slot: int, key: Sequence[str] = ()) -> Sums:
        """See `target.Server`."""
        join = f"JOIN _softcart_keys USING ({', '.join(map(quote, key))})" if key else ""
        digest = fields.mysql_digest(relation.fields)
        ((*found,),) = self.ask(
            f"SELECT COUNT(*), COALESCE(SUM(_number), 0), COALESCE(SUM({digest}), 0)"
            f" FROM {quote(relation.name)} {join} WHERE _slot = {slot}"
        )
        return _sums(found)

    def tables(self) -> set[str]:
        """The tables of the database. MySQL's IF NOT EXISTS would wait for their readers."""
        found = self.ask(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
            " AND table_type = 'BASE TABLE'"
        )
        return {name for (name,) in found}

    def columns(self, relation: str) -> list[str]:
        """The columns of a table that a view shows of it."""
        return [
            name
            for (name,) in self.ask(
                "SELECT column_name FROM information_schema.columns WHERE table_schema ="
                f" DATABASE() AND table_name = {self.literal(relation)} ORDER BY ordinal_position"
            )
            if name not in ("_slot", "_number")
        ]

    def views(self) -> dict[str, str]:
        """The views that exist, by name, as they were made."""
        rows = self.ask(
            "SELECT v.name, v.definition FROM _softcart_views v"
            " JOIN information_schema.views i ON i.table_schema = DATABASE()"
            " AND CAST(i.table_name AS BINARY) = CAST(v.name AS BINARY)"
        )
        return dict(rows)

    def show(self, name: str, definition: str) -> None:
        """Make a view, or give it another definition."""
        # Unknown until it is made. A killed publication must leave no wrong record.
        known = f"UPDATE _softcart_views SET definition = {{}} WHERE name = {self.literal(name)}"
        self.run(f"INSERT IGNORE INTO _softcart_views VALUES ({self.literal(name)}, '', '')")
        self.run(known.format("''"))
        self.change(
            f"CREATE OR REPLACE SQL SECURITY DEFINER VIEW {quote(name)} AS {definition}", name
        )
        self.run(known.format(self.literal(definition)))

    def hide(self, name: str) -> None:
        """Drop a view. Its privileges would wait for the next of this name."""
        for (granted,) in self.ask(
            f"SELECT granted FROM _softcart_views WHERE name = {self.literal(name)}"
        ):
            self.revoke(name, granted)
        self.change(f"DROP VIEW IF EXISTS {quote(name)}", name)
        self.run(f"DELETE FROM _softcart_views WHERE name = {self.literal(name)}")

    def switch(
        self,
        slot: int,
        version: int,
        production_version: int,
        before: Shown,
        after: Shown,
        tell: Tell,
    ) -> None:
        """See `target.Server`.

        A table that is not published any more disappears just before, a new one appears just
        after. In between it is an error to read it, and never an empty table.
        """
        views = self.views()
        for name in views.keys() - after.relations.keys():
            self.hide(name)
        for name, live in before.held.items():
            if name not in after.held or name not in views:
                continue
            relation, columns = after.relations[name], self.columns(live.relation)
            definition = view_of(live.relation, columns, live.since)
            if live.relation != relation.name:
                definition = view_between(live.relation, columns, 3 - slot, relation)
            if views[name] != definition:
                self.show(name, definition)
        # A column that has become personal must not be read in the new version.
        self._grant(after, views, tell)
        with self.transaction():
            self.run(
                "REPLACE INTO _softcart_current VALUES"
                f" (1, {slot}, {version}, {production_version}, UTC_TIMESTAMP(6))"
            )

    def settle(self, shown: Shown, tell: Tell) -> None:
        """See `target.Server`. Each view shows one table, for every later version."""
        views = self.views()
        for name in views.keys() - shown.held.keys():
            self.hide(name)
        for name, held in shown.held.items():
            definition = view_of(held.relation, self.columns(held.relation), held.since)
            if views.get(name) != definition:
                self.show(name, definition)
        same = {
            name
            for name, held in shown.held.items()
            if name in shown.relations and shown.relations[name].name == held.relation
        }
        self._grant(shown, same, tell)

    def _grant(self, shown: Shown, views: Collection[str], tell: Tell) -> None:
        wanted = {name: columns for name, columns in shown.readable.items() if name in views}
        self.grant(shown.reader, wanted, tell)

    def drop_others(self, kept: Collection[str]) -> None:
        """Drop the tables of rows that no view shows any more."""
        for name in self.tables():
            if re.fullmatch(r"_[0-9a-f]{8}_.*", name) and name not in kept:
                self.change(f"DROP TABLE IF EXISTS {quote(name)}", name)

    def comment(self, relation: Relation, texts: dict[str, str]) -> None:
        """Write the comments on a table and its columns that are not there yet.

        `texts`: by column. That of the table has an empty name.
        """
        there = dict(
            self.ask(
                "SELECT column_name, column_comment FROM information_schema.columns WHERE"
                f" table_schema = DATABASE() AND table_name = {self.literal(relation.name)}"
                " UNION ALL SELECT '', table_comment FROM information_schema.tables WHERE"
                f" table_schema = DATABASE() AND table_name = {self.literal(relation.name)}"
            )
        )
        changes = []
        for name, definition in [
            ("", ""),
            *((f.column.name, f.definition) for f in relation.fields),
        ]:
            text = texts.get(name, "")[: _LONGEST_COMMENT[bool(name)]]
            if text and there.get(name) != text:
                said = f"COMMENT {self.literal(text)}"
                changes.append(f"MODIFY COLUMN {definition} {said}" if name else said)
        if changes:
            self.change(f"ALTER TABLE {quote(relation.name)} {', '.join(changes)}", relation.name)

    def grant(
        self, reader: str, wanted: dict[str, Sequence[str]], tell: Callable[[str], None]
    ) -> None:
        """Let a role read these columns of these views, and no others of ours.

        `reader`: empty if nobody may. What another one could read is taken back. Raises
        `PublishError` if that does not work. What cannot be given is told.
        """
        granted = dict(self.ask("SELECT name, granted FROM _softcart_views"))
        texts = {
            view: f"{reader}: {', '.join(map(quote, columns))}"
            for view, columns in wanted.items()
            if reader and view in granted
        }
        for view, before in granted.items():
            is_other = _reader_of(before) != reader
            if before and (is_other or texts.get(view, before) != before):
                kept = () if is_other else wanted[view]
                granted[view] = self.revoke(view, before, kept)
        missing = {view: text for view, text in texts.items() if granted[view] != text}
        try:
            if missing:
                self._create_role(reader)
            for view, text in missing.items():
                self._give(view, wanted[view], text, granted[view])
                tell(f"{view}: {reader} may read {len(wanted[view])} column(s)")
        except pymysql.MySQLError as error:
            if error.args[0] not in (*_DENIED, _NO_ROLE):
                raise
            tell(
                f"the role {reader} may not read all that it should: {error.args[-1]}. "
                f"An administrator creates the role once (CREATE ROLE {reader}), and gives "
                "the publishing user GRANT OPTION on the database"
            )
        self._refuse_more(reader, wanted)

    def _create_role(self, reader: str) -> None:
        try:
            self.run(f"CREATE ROLE IF NOT EXISTS {quote(reader)}")
        except pymysql.MySQLError as error:
            # An administrator may have made it. If not, GRANT fails, too.
            if error.args[0] not in _DENIED:
                raise

    def _give(self, view: str, columns: Sequence[str], text: str, before: str) -> None:
        # Before it is given: a publication that is killed in between must not forget it.
        self._note_grant(view, _BEGUN + text)
        reader = _reader_of(text)
        try:
            if columns:
                names = ", ".join(map(quote, columns))
                self.run(f"GRANT SELECT ({names}) ON {quote(view)} TO {quote(reader)}")
        except pymysql.MySQLError as error:
            if error.args[0] in (*_DENIED, _NO_ROLE):
                self._note_grant(view, before)
            raise
        self._note_grant(view, text)

    def _refuse_more(self, reader: str, wanted: dict[str, Sequence[str]]) -> None:
        """Raise `PublishError` if others let the role read more than it should, as far as the
        publishing user may see that.
        """
        try:
            found = self.ask(f"SHOW GRANTS FOR {quote(reader)}") if reader else []
        except pymysql.MySQLError:
            return  # Most publishing users may not ask, or there is no such role.
        hidden = {
            view: [name for name in self.columns(view) if name not in columns]
            for view, columns in wanted.items()
            if found
        }
        for (grant,) in found:
            for view, columns in hidden.items():
                if readable := self._readable(grant, view, columns):
                    raise PublishError(
                        f"{NAME}/{view}: {reader} may read {', '.join(readable)}, which it should "
                        f"not read, because somebody ran: {grant}. Take it back with REVOKE as an "
                        "administrator, and publish again."
                    )

    def _readable(self, grant: str, view: str, columns: Sequence[str]) -> list[str]:
        """Those of a view's columns that a line of SHOW GRANTS lets somebody read."""
        found = re.match(rf"GRANT (.+?) ON (\*|{_QUOTED})\.(\*|{_QUOTED}) TO ", grant)
        if not found or found[3] not in ("*", quote(view)):
            return []
        database = self.literal(found[2][1:-1].replace("``", "`"))
        # The name may have wildcards.
        if found[2] != "*" and self.ask(f"SELECT DATABASE() LIKE {database}") != [(1,)]:
            return []
        # A list of columns leaves its brackets.
        if re.search(r"\b(ALL PRIVILEGES|SELECT)\b(?! \()", re.sub(_QUOTED, "", found[1])):
            return [*columns]
        listed = re.search(rf"\bSELECT \(({_QUOTED}(?:, {_QUOTED})*)\)", found[1])
        return [name for name in columns if listed and quote(name) in listed[1]]

    def revoke(self, view: str, granted: str, kept: Collection[str] = ()) -> str:
        """Take back what `grant` has given to a view's readers, but for the columns `kept`.

        Returns what is left of it. Raises `PublishError` if the server refuses.
        """
        before = granted.removeprefix(_BEGUN)
        reader, _, columns = before.partition(": ")
        given, stays = re.findall(_QUOTED, columns), {*map(quote, kept)}
        # One by one: if a person has taken one of them back, the server refuses them together.
        for column in given:
            if column in stays:
                continue
            statement = f"REVOKE SELECT ({column}) ON {quote(view)} FROM {quote(reader)}"
            try:
                self.run(statement)
            except pymysql.MySQLError as error:
                # A person may have taken it back, or dropped the role.
                if error.args[0] in _NOT_GRANTED:
                    continue
                raise PublishError(
                    f"{NAME}/{view}: {reader} may still read the column {column}, which it should "
                    f"not read any more: the server refuses to take it back ({error.args[-1]}). "
                    f"As an administrator run {statement}; or give the publishing user GRANT "
                    "OPTION on the database. Then publish again."
                ) from None
        left = [column for column in given if column in stays]
        begun = _BEGUN if before != granted else ""
        note = f"{begun}{reader}: {', '.join(left)}" if left else ""
        self._note_grant(view, note)
        return note

    def _note_grant(self, view: str, granted: str) -> None:
        self.run(
            f"UPDATE _softcart_views SET granted = {self.literal(granted)}"
            f" WHERE name = {self.literal(view)}"
        )


def _reader_of(granted: str) -> str:
    return granted.removeprefix(_BEGUN).partition(": ")[0]


def _sums(found: Sequence[Any]) -> Sums:
    count, number, digest = found
    return Sums(Rows(int(count), Decimal(number)), Decimal(digest))


@dataclass(frozen=True)
class MySQLTarget:
    """A MySQL server that the settings name, see `target.Target`."""

    connection: MySQLConnection
    name: ClassVar[str] = NAME

    @property
    def address(self) -> str:
        """See `target.Target`."""
        where = self.connection
        return f"mysql://{where.host}:{where.port}/{where.database}"

    def open(self) -> AbstractContextManager[Server]:
        """See `target.Target`."""
        return Server.open(self.connection)

    def explained(self, step: str) -> AbstractContextManager[None]:
        """See `target.Target`."""
        return explained(step)


@contextmanager
def explained(step: str) -> Iterator[None]:
    """Give a server's error the name of the step, and say what to do."""
    try:
        yield
    except pymysql.MySQLError as error:
        code, text = (*error.args, "", "")[:2]
        raise PublishError(f"{NAME}/{step}: {_explanation(code, str(text))}") from None


def _explanation(code: Any, text: str) -> str:
    if code in _UNFIT:
        # The rest of the text has the value, which may be personal.
        found = re.search(r"column (\S+)", text)
        column = found[1].rpartition(".")[2].strip("'`") if found else "?"
        return (
            f"a value of the column {column} does not fit into its type in MySQL (error {code}). "
            "Nothing was switched. Correct the value in its model, or cast the column to another "
            "type."
        )
    if code == 1062:
        return "the key is not unique there. Nothing was switched. Look for rows of others."
    if code in _DENIED:
        return (
            f"the publishing user lacks a privilege: {text}. Nothing was switched. GRANT ALL ON "
            "the database TO it, and for a reading role WITH GRANT OPTION and CREATE ROLE."
        )
    if code in _NOT_NOW:
        return (
            f"others hold locks on rows for longer than {_WAIT_SECONDS} s ({text}). Nothing was "
            "switched. SHOW ENGINE INNODB STATUS tells who. End them with KILL and publish again."
        )
    return f"the server failed ({code}: {text}). Publish again."
