"""A Db2 database that people read published tables from.

Db2 has no snapshots: a reader sees what is committed when it comes along. So no table that readers
see ever changes. A table that changes gets another place, which is a table with all of its rows.
Those that did not change are copied there by Db2 itself, and only the others travel. Db2's DDL is
in transactions, so one transaction gives all views their new places, with the new version.

A statement may look two views up while this transaction commits in between. So each view asks
`SC_VIEWS` for its place. If it is another one by now, the statement gets an error instead of
rows of two versions. It also locks this row for transactions that read repeatably, so that the
switch waits for them.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar, Protocol

import psycopg
from psycopg.sql import SQL, Composable, Identifier

from softcart_assets.publishing import contents
from softcart_assets.publishing.contents import Point, Rows
from softcart_assets.publishing.slots import DDL_PATIENCE_SECONDS, Columns, PublishError
from softcart_assets.publishing.targets import db2_fields, target
from softcart_assets.publishing.targets.db2_fields import Field, Unfit, quote
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

NAME = "production_db2"
"""What messages and assets call this target."""

_SENT_AT_ONCE = 1_000
_COMMITTED_AT_ONCE = 20_000

_UNKNOWN = ("42704", "42X05")
"""The states of an error about a name that does not exist. The second one is Apache Derby's."""
_WAITED = ("57033", "40001", "40XL1", "40XL2", "X0X02")
"""Those of a lock that others hold for too long. The last three are Derby's."""
_DENIED = ("42501", "42502", "42508")

_LONGEST_COMMENT = 254
"""Bytes of a comment."""

_NUMBER = '"SC_NUMBER"'
"""The column with the number of a row, see `contents`."""

_SET_UP = {
    "SC_LOCK": "(ID SMALLINT NOT NULL)",
    "SC_CURRENT": "(ID SMALLINT NOT NULL PRIMARY KEY, SLOT SMALLINT NOT NULL,"
    ' "VERSION" BIGINT NOT NULL, PRODUCTION_VERSION BIGINT NOT NULL,'
    " PUBLISHED_AT TIMESTAMP NOT NULL)",
    "SC_CONTENTS": "(SLOT SMALLINT NOT NULL, TABLE_NAME VARCHAR(128) NOT NULL,"
    " RELATION VARCHAR(128) NOT NULL, PLACE VARCHAR(128) NOT NULL, SINCE BIGINT NOT NULL,"
    ' "LABEL" VARCHAR(200) NOT NULL, "CAPTURE" VARCHAR(200), SNAPSHOT CLOB(10M),'
    " ROW_COUNT BIGINT NOT NULL, ROW_NUMBERS VARCHAR(80) NOT NULL, DIGEST VARCHAR(80) NOT NULL,"
    " PRIMARY KEY (SLOT, TABLE_NAME))",
    "SC_VIEWS": "(NAME VARCHAR(128) NOT NULL PRIMARY KEY, PLACE VARCHAR(128) NOT NULL,"
    " SHOWN CLOB(1M) NOT NULL)",
    "SC_PLACES": "(PLACE VARCHAR(128) NOT NULL PRIMARY KEY)",
}
"""Our own tables, in the order in which they are made: the last one tells that all are there.
Words that Db2 reserves are in quotation marks.
"""
_CONTENTS = (
    'TABLE_NAME, RELATION, PLACE, SINCE, "LABEL", "CAPTURE", SNAPSHOT, ROW_COUNT, ROW_NUMBERS,'
    " DIGEST"
)
"""The columns of SC_CONTENTS that follow the first."""


class Refused(Exception):
    """An error of the server. `state`: its SQLSTATE."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state


class Session(Protocol):
    """A session with Db2, in which nothing commits by itself. All methods may raise `Refused`."""

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement. Each `?` stands for a value: a text, bytes or None."""

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of these rows of values."""

    def ask(self, question: str, *values: Any) -> Iterator[Sequence[Any]]:
        """The rows of a query."""

    def commit(self) -> None:
        """Commit."""

    def rollback(self) -> None:
        """Take back what was not committed."""

    def close(self) -> None:
        """End the session, and take back what was not committed."""


class Connection(Protocol):
    """The way to a schema of a database."""

    @property
    def schema(self) -> str:
        """The schema's name."""

    @property
    def address(self) -> str:
        """A text that tells it from all others."""

    def open(self) -> Session:
        """Open a session. Raises `ServerUnreachable`."""


@dataclass(frozen=True)
class Relation:
    """A published table of some shape. `table`: its name in production."""

    name: str
    table: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]

    @property
    def columns(self) -> list[str]:
        """See `target.Relation`."""
        return [field.name for field in self.fields]

    def create(self, place: str) -> list[str]:
        """The statements that make a place for its rows."""
        columns = ", ".join(field.definition for field in self.fields)
        number = f"{_NUMBER} BIGINT NOT NULL"
        key = ", ".join(map(quote, self.key))
        made = [f"CREATE TABLE {quote(place)} ({columns}, {number}, PRIMARY KEY ({key}))"]
        indexes = [each for each in self.indexes if each != self.key]
        for number_of_index, each in enumerate(indexes):
            listed = ", ".join(map(quote, each))
            name = quote(f"{place[:100]}_{number_of_index}")
            made.append(f"CREATE INDEX {name} ON {quote(place)} ({listed})")
        return made


@dataclass(frozen=True)
class Db2Target:
    """A Db2 database that the settings name, see `target.Target`."""

    connection: Connection
    name: ClassVar[str] = NAME

    @property
    def address(self) -> str:
        """See `target.Target`."""
        return self.connection.address

    def open(self) -> AbstractContextManager[Server]:
        """See `target.Target`."""
        return Server.open(self.connection)

    def explained(self, step: str) -> AbstractContextManager[None]:
        """See `target.Target`."""
        return explained(step)


class Server(target.Server):
    """See `target.Server`. Both slots show the same places between two publications."""

    def __init__(self, session: Session, schema: str) -> None:
        self._session, self._schema = session, schema
        self._is_in_transaction = False
        self._places: dict[tuple[int, str], str] = {}
        """Slot and name of a published table → the table with its rows."""

    @classmethod
    @contextmanager
    def open(cls, connection: Connection) -> Iterator[Server]:
        """See `target.Target`."""
        session, guard = connection.open(), connection.open()
        try:
            with explained("setting up"):
                server = cls(session, connection.schema)
                server._set_up()
                try:
                    # Held by a transaction, so it ends with its session, however this ends.
                    guard.run("LOCK TABLE SC_LOCK IN EXCLUSIVE MODE")
                except Refused as error:
                    if error.state not in _WAITED:
                        raise
                    raise PublishError(
                        f"{NAME}: another publication to {connection.schema} is under way. Publish "
                        "again when it is done."
                    ) from None
            yield server
        finally:
            for each in (session, guard):
                with suppress(Refused):
                    each.close()

    def _set_up(self) -> None:
        try:
            self._ask("SELECT COUNT(*) FROM SC_PLACES")
        except Refused as error:
            if error.state not in _UNKNOWN:
                raise
            self._session.rollback()
            for name, body in _SET_UP.items():
                self._session.run(f"CREATE TABLE {name} {body}")
        self._session.commit()

    def _ask(self, question: str, *values: Any) -> list[Sequence[Any]]:
        return list(self._session.ask(question, *values))

    def _run(self, statement: str, *values: Any) -> None:
        self._session.run(statement, *values)

    def _done(self) -> None:
        """Commit, if this is in no transaction of the caller's."""
        if not self._is_in_transaction:
            self._session.commit()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `target.Server`."""
        before = dict(self._places)
        self._session.commit()
        self._is_in_transaction = True
        try:
            yield
            self._session.commit()
        except BaseException:
            self._places = before
            # A lost connection has taken it back already.
            with suppress(Refused):
                self._session.rollback()
            raise
        finally:
            self._is_in_transaction = False

    def relation(
        self,
        table: str,
        columns: Columns,
        key: tuple[str, ...],
        indexes: tuple[tuple[str, ...], ...],
    ) -> Relation:
        """See `target.Server`."""
        found = db2_fields.fields(table, columns, key, indexes)
        shape = repr(([field.definition for field in found], key, indexes, table))
        name = f"{hashlib.sha256(shape.encode()).hexdigest()[:8]}_{table}"
        return Relation(name, table, found, key, indexes)

    def current(self) -> Current | None:
        """See `target.Server`."""
        found = self._ask('SELECT SLOT, "VERSION", PRODUCTION_VERSION FROM SC_CURRENT')
        return Current(*map(int, found[0])) if found else None

    def contents(self) -> dict[int, dict[str, Held]]:
        """See `target.Server`."""
        found: dict[int, dict[str, Held]] = {1: {}, 2: {}}
        self._places.clear()
        for slot, table, relation, place, since, label, capture, snapshot, *sums in self._ask(
            f"SELECT SLOT, {_CONTENTS} FROM SC_CONTENTS"
        ):
            count, number, digest = sums
            rows = Sums(Rows(int(count), Decimal(number)), Decimal(digest))
            point = Point(capture, snapshot) if capture else None
            found[int(slot)][table] = Held(relation, int(since), label, point, rows)
            self._places[int(slot), table] = place
        self._done()
        return found

    def store(self, slot: int, table: str, held: Held) -> None:
        """See `target.Server`."""
        place, point, sums = self._places[slot, table], held.point, held.sums
        if self._is_in_transaction and self._rows(place) != sums.rows:
            raise PublishError(
                f"{NAME}/{table}: the rows that Db2 copied are not those of the version before. "
                "Nothing was switched. Look for triggers"
                ", and materialise the asset with `complete`."
            )
        self._forget(slot, table)
        known = (point.capture, point.snapshot) if point else (None, None)
        numbers = (str(sums.rows.count), str(sums.rows.number), str(sums.digest))
        self._run(
            "INSERT INTO SC_CONTENTS VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(str(slot), table, held.relation, place, str(held.since), held.label),
            *(*known, *numbers),
        )
        self._done()

    def forget(self, slot: int, table: str) -> None:
        """See `target.Server`."""
        self._forget(slot, table)
        self._done()

    def _forget(self, slot: int, table: str) -> None:
        where = "SLOT = ? AND TABLE_NAME = ?"
        self._run(f"DELETE FROM SC_CONTENTS WHERE {where}", str(slot), table)

    def make(self, relation: Relation) -> None:
        """See `target.Server`. Whatever writes rows makes a place for them."""

    def read(
        self,
        stream: Stream,
        view: Composable,
        columns: Columns,
        relation: Relation,
        join: Composable,
    ) -> Iterator[Row]:
        """See `target.Server`. A row is the values and their number."""
        question = SQL("SELECT {number}, {values} FROM {view} _row {join}").format(
            number=contents.number_of([name for name, _ in columns]),
            values=SQL(", ").join(
                SQL("{} AS {}").format(field.read, Identifier(f"_{place}"))
                for place, field in enumerate(relation.fields)
            ),
            view=view,
            join=join,
        )
        for number, *values in stream(question):
            try:
                sent = [f.sent(value) for f, value in zip(relation.fields, values, strict=True)]
            except Unfit as column:
                raise PublishError(
                    f"{NAME}/{relation.table}: a value of the column {column} does not fit into "
                    f"its type in Db2. Nothing was switched. Correct the value in its model, or "
                    "cast the column to another type."
                ) from None
            yield (*sent, str(number)), int(number), db2_fields.digest(relation.fields, sent)

    def sums_of_production(
        self, session: psycopg.Connection, view: Composable, columns: Columns, relation: Relation
    ) -> Sums:
        """See `target.Server`."""

        def stream(question: Composable) -> Iterator[tuple[Any, ...]]:
            with session.cursor("softcart_rows") as cursor:
                cursor.execute(question)  # type: ignore[arg-type]
                yield from cursor

        found = self.read(stream, view, columns, relation, SQL(""))
        return _added_up((number, digest) for _, number, digest in found)

    def hold_keys(
        self, relation: Relation, key: Sequence[str], stream: Stream, keys: Identifier
    ) -> None:
        """See `target.Server`. They are in a table: temporary ones need a table space."""
        of_key = [field for name in key for field in relation.fields if field.name == name]
        with suppress(Refused):  # it is rarely there
            self._run("DROP TABLE SC_KEYS")
        self._session.commit()
        definitions = ", ".join(field.definition for field in of_key)
        names = ", ".join(map(quote, key))
        self._run(f"CREATE TABLE SC_KEYS ({definitions}, PRIMARY KEY ({names}))")
        read = SQL(", ").join(field.read for field in of_key)
        statement = f"INSERT INTO SC_KEYS VALUES ({_marks(len(of_key))})"
        for rows in _parts(stream(SQL("SELECT {} FROM {}").format(read, keys))):
            self._session.many(statement, rows)
        self._session.commit()

    def _held_keys(self, key: Sequence[str]) -> str:
        same = " AND ".join(f"K.{quote(name)} = T.{quote(name)}" for name in key)
        return f"EXISTS (SELECT 1 FROM SC_KEYS K WHERE {same})"

    def _rows(self, place: str) -> Rows:
        ((count, number),) = self._ask(
            f"SELECT COUNT(*), SUM(CAST({_NUMBER} AS DECIMAL(31,0))) FROM {quote(place)}"
        )
        return Rows(int(count), Decimal(number or 0))

    def sums(self, relation: Relation, slot: int, key: Sequence[str] = ()) -> Sums:
        """See `target.Server`. The rows come back, and are compared as Db2 has them."""
        place = self._places[slot, relation.table]
        names = ", ".join(quote(field.name) for field in relation.fields)
        where = f" WHERE {self._held_keys(key)}" if key else ""
        rows = self._session.ask(f"SELECT {_NUMBER}, {names} FROM {quote(place)} T{where}")
        found = _added_up(
            (int(number), db2_fields.digest(relation.fields, values)) for number, *values in rows
        )
        self._done()
        return found

    def _new_place(self, relation: Relation, slot: int) -> str:
        place = f"ROWS_{secrets.token_hex(4)}_{relation.table}".upper()[:120]
        self._run("INSERT INTO SC_PLACES VALUES (?)", place)
        for statement in relation.create(place):
            self._run(statement)
        self._places[slot, relation.table] = place
        return place

    def _copy(self, relation: Relation, place: str, to: str, where: str = "") -> None:
        names = ", ".join([*(quote(field.name) for field in relation.fields), _NUMBER])
        self._run(f"INSERT INTO {quote(to)} ({names}) SELECT {names} FROM {quote(place)} T {where}")

    def delete(self, relation: Relation, slot: int, key: Sequence[str]) -> None:
        """See `target.Server`. Nobody sees rows go: the others are copied to another place."""
        before = self._places[slot, relation.table]
        place = self._new_place(relation, slot)
        self._copy(relation, before, place, f"WHERE NOT {self._held_keys(key)}")

    def empty(self, relation: Relation, slot: int) -> None:
        """See `target.Server`."""
        self._new_place(relation, slot)
        self._done()

    def insert(self, relation: Relation, slot: int, rows: Iterator[Any], *, commits: bool) -> None:
        """See `target.Server`."""
        names = ", ".join([*(quote(field.name) for field in relation.fields), _NUMBER])
        place = self._places[slot, relation.table]
        marks = _marks(len(relation.fields) + 1)
        statement = f"INSERT INTO {quote(place)} ({names}) VALUES ({marks})"
        written = 0
        for some in _parts(rows):
            self._session.many(statement, some)
            written += len(some)
            if commits and written >= _COMMITTED_AT_ONCE:
                self._session.commit()
                written = 0
        self._done()

    def copy(self, relation: Relation, slot: int, to: int) -> None:
        """See `target.Server`."""
        self._copy(relation, self._places[slot, relation.table], self._places[to, relation.table])

    def switch(
        self,
        slot: int,
        version: int,
        production_version: int,
        before: Shown,
        after: Shown,
        tell: Tell,
    ) -> None:
        """See `target.Server`. All of it is one transaction."""
        until = time.monotonic() + DDL_PATIENCE_SECONDS
        while True:
            try:
                with self.transaction():
                    self._show(after, slot)
                    self._run("DELETE FROM SC_CURRENT")
                    self._run(
                        "INSERT INTO SC_CURRENT VALUES (1, ?, ?, ?, CURRENT_TIMESTAMP)",
                        *(str(slot), str(version), str(production_version)),
                    )
                    # The other slot starts from these places, too.
                    self._run("DELETE FROM SC_CONTENTS WHERE SLOT = ?", str(3 - slot))
                    self._run(
                        f"INSERT INTO SC_CONTENTS SELECT CAST({3 - slot} AS SMALLINT), {_CONTENTS}"
                        f" FROM SC_CONTENTS WHERE SLOT = {slot}"
                    )
                return
            except Refused as error:
                if error.state not in _WAITED:
                    raise
                if time.monotonic() > until:
                    raise InUse(
                        f"{NAME}: for {DDL_PATIENCE_SECONDS:.0f} s, open transactions kept reading "
                        "the version before. Nothing was switched. MON_GET_LOCKS tells who. End "
                        "them with FORCE APPLICATION, and publish again."
                    ) from None
            time.sleep(0.5)

    def settle(self, shown: Shown, tell: Tell) -> None:
        """See `target.Server`. Only the reading role may have changed since the switch."""
        current = self.current()
        with self.transaction():
            self._show(shown, current.slot if current else 0)

    def _show(self, shown: Shown, slot: int) -> None:
        """Make the views that are not as they should be."""
        known = dict(map(tuple, self._ask("SELECT NAME, SHOWN FROM SC_VIEWS")))
        # A row stays, so that whoever still uses its view gets an error.
        for name in [name for name, text in known.items() if text and name not in shown.held]:
            self._hide(name)
            self._run("UPDATE SC_VIEWS SET PLACE = '', SHOWN = '' WHERE NAME = ?", name)
        for name, held in shown.held.items():
            place, relation = self._places[slot, name], shown.relations.get(name)
            if relation is None or relation.name != held.relation:
                continue  # production has another shape by now, and the next version will have it
            columns, readable = relation.columns, shown.readable[name]
            text = f"{place}: {', '.join(columns)}; {shown.reader}: {', '.join(readable)}"
            if known.get(name) == text:
                continue
            if known.get(name):
                self._hide(name)
            self._run("DELETE FROM SC_VIEWS WHERE NAME = ?", name)
            self._run("INSERT INTO SC_VIEWS VALUES (?, ?, ?)", name, place, text)
            self._create(self._view(name), name, place, columns)
            if readable and shown.reader:
                view = self._view(name, for_readers=True)
                self._create(view, name, place, readable)
                self._run(f"GRANT SELECT ON {view} TO {quote(shown.reader)}")

    def _view(self, name: str, *, for_readers: bool = False) -> str:
        """A view. Db2 has no privileges on columns, so the role has views of its own."""
        return f"{quote(self._schema + ('_READERS' if for_readers else ''))}.{quote(name)}"

    def _create(self, view: str, name: str, place: str, columns: Sequence[str]) -> None:
        ours = quote(self._schema)
        row = f"SELECT 1 FROM {ours}.SC_VIEWS WHERE NAME = '{name}'"
        # Two rows where one belongs are an error. The first SELECT finds the row that is locked.
        self._run(
            f"CREATE VIEW {view} AS SELECT {', '.join(map(quote, columns))}"
            f" FROM {ours}.{quote(place)} WHERE 1 = ({row} UNION ALL {row} AND PLACE <> '{place}')"
        )

    def _hide(self, name: str) -> None:
        """Drop the views of a table, and with them all privileges on them."""
        self._run(f"DROP VIEW {self._view(name)}")
        text = next(iter(self._ask("SELECT SHOWN FROM SC_VIEWS WHERE NAME = ?", name)))[0]
        reader, _, readable = text.partition("; ")[2].partition(": ")
        if reader and readable:
            self._run(f"DROP VIEW {self._view(name, for_readers=True)}")

    def drop_others(self, kept: Collection[str]) -> None:
        """See `target.Server`."""
        self.contents()
        stays = {*self._places.values()}
        for (place,) in self._ask("SELECT PLACE FROM SC_PLACES"):
            if place in stays:
                continue
            try:
                with self.transaction():
                    self._run(f"DROP TABLE {quote(place)}")
                    self._run("DELETE FROM SC_PLACES WHERE PLACE = ?", place)
            except Refused as error:
                if error.state not in _WAITED:
                    raise
                raise InUse(f"{NAME}: somebody is still reading {place}") from None

    def comment(self, relation: Relation, texts: dict[str, str]) -> None:
        """See `target.Server`. The views have them, and lose them with each new place."""
        wanted = {name.upper(): _cut(text) for name, text in texts.items() if text}
        view = relation.table.upper()
        views = (view, self._schema, f"{self._schema}_READERS")
        where = "V.TABNAME = ? AND V.TABSCHEMA IN (?, ?)"
        try:
            there = self._ask(
                f"SELECT V.TABSCHEMA, V.COLNAME, V.REMARKS FROM SYSCAT.COLUMNS V WHERE {where}"
                f" UNION ALL SELECT V.TABSCHEMA, '', V.REMARKS FROM SYSCAT.TABLES V WHERE {where}",
                *views,
                *views,
            )
            for schema, column, text in there:
                if column not in wanted or wanted[column] == text:
                    continue
                name = f"{quote(schema)}.{quote(view)}"
                named = f"COLUMN {name}.{quote(column)}" if column else f"TABLE {name}"
                escaped = wanted[column].replace("'", "''")
                self._run(f"COMMENT ON {named} IS '{escaped}'")
        except Refused as error:
            # Somebody reads the catalog. The next publication writes what is missing.
            if error.state not in _WAITED:
                raise
            self._session.rollback()
        self._done()


def _cut(text: str) -> str:
    return text.encode()[:_LONGEST_COMMENT].decode(errors="ignore")


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _parts(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while some := list(islice(rows, _SENT_AT_ONCE)):
        yield some


def _added_up(rows: Iterator[tuple[int, int]]) -> Sums:
    count = numbers = digests = 0
    for number, digest in rows:
        count += 1
        numbers += number
        digests += digest
    return Sums(Rows(count, Decimal(numbers)), Decimal(digests))


@contextmanager
def explained(step: str) -> Iterator[None]:
    """Give a server's error the name of the step, and say what to do."""
    try:
        yield
    except Refused as error:
        raise PublishError(f"{NAME}/{step}: {_explanation(error)}") from None


def _explanation(error: Refused) -> str:
    if error.state == "23505":
        return (
            "two keys are equal there. Nothing was switched. Db2 takes texts for equal that differ "
            "in spaces at the end."
        )
    if error.state in _DENIED:
        return (
            f"the publishing user lacks a privilege: {error}. Nothing was switched. Give it the "
            "authorities that docs/db2.md lists."
        )
    if error.state in _WAITED:
        return (
            f"others hold locks for too long ({error}). Nothing was switched. MON_GET_LOCKS tells "
            "who. End them with FORCE APPLICATION, and publish again."
        )
    if error.state == "57011":
        return (
            f"the transaction log is full ({error}). Nothing was switched. Make LOGSECOND larger, "
            "and publish again."
        )
    # Other texts could have values, which may be personal.
    text = str(error) if error.state[:2] in ("08", "42", "57", "58") else ""
    return f"the server failed (SQLSTATE {error.state}{text and ': '}{text}). Publish again."
