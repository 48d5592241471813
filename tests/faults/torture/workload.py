"""The tables of a torture and what is done to them: writers that know what they committed, and a
changer of schemas.

All choices come from the seed. Values that are written are kept in the model as either database
will give them back.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pymysql
import pymysql.cursors

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.lines.model import RunningTotal, Source, Table, Where
from tests.faults.torture.model import Key, Model, Row, Version

Make = Callable[[random.Random], Any]

WORDS = (
    "",
    "a",
    "Straße",
    "tab\tand\nline",
    "back\\slash",
    "quote'\"",
    "日本語",
    "🛒🛒",
    " space ",
    "\\N",
    "x" * 90,
)
SCHEMA_ERRORS = (1054, 1136, 1146, 1264, 1265, 1292, 1364, 1366, 1406, 1412)
"""What a writer is told whose table was altered, swapped or dropped meanwhile."""
RETRY_ERRORS = (1205, 1213, 1020)
"""Deadlocks and waits that were too long; MariaDB's conflict of snapshots."""


def _word(dice: random.Random) -> str:
    return dice.choice(WORDS)


def _moment(dice: random.Random) -> datetime:
    return datetime(2024, 1, 1) + timedelta(microseconds=dice.randrange(60 * 10**12))


def _document(dice: random.Random) -> Any:
    return {
        "n": dice.choice([1, -2.5, None, True, "é🛒"]),
        "list": [dice.randrange(9)] * dice.randrange(4),
    }


@dataclass(frozen=True)
class Shape:
    """A table whose every change the model knows. `make_key` gives one of a writer's own keys,
    `columns` the other values.
    """

    name: str
    key: tuple[str, ...]
    definition: str
    make_key: Callable[[random.Random, int], Key]
    columns: dict[str, Make]
    can_truncate: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns in their order."""
        return (*self.key, *self.columns, "tick", "updated_at")


def _integer_key(dice: random.Random, writer: int) -> Key:
    return (writer + 10 * dice.randrange(60),)


SHAPES = (
    Shape(
        "ints",
        ("id",),
        "id INT NOT NULL PRIMARY KEY, n INT, s VARCHAR(100)",
        _integer_key,
        {
            "n": lambda dice: dice.choice([None, 0, -(2**31), 2**31 - 1, dice.randrange(1000)]),
            "s": _word,
        },
    ),
    Shape(
        "pairs",
        ("region", "nr"),
        "region VARCHAR(8) NOT NULL, nr BIGINT NOT NULL, amount DECIMAL(12,2), PRIMARY KEY "
        "(region, nr)",
        lambda dice, writer: (
            dice.choice(["de", "fr", "éß", ""]),
            writer + 10 * dice.randrange(12),
        ),
        {
            "amount": lambda dice: dice.choice(
                [None, Decimal(dice.randrange(-(10**11), 10**11)).scaleb(-2)]
            )
        },
        can_truncate=True,
    ),
    # Keys that only differ in case are one to the source and two to the target.
    Shape(
        "codes",
        ("code",),
        "code VARCHAR(40) COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY, s TEXT",
        lambda dice, writer: (
            f"{writer}-{dice.choice(['ab', 'aB', 'AB', 'ö', 'Ö'])}{dice.randrange(12)}",
        ),
        {"s": lambda dice: dice.choice([None, _word(dice), _word(dice) * 50])},
    ),
    Shape(
        "everything",
        ("id",),
        "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, bits BIT(12), exact DECIMAL(30,10), single "
        "FLOAT, twice DOUBLE,"
        " day DATE, moment DATETIME(6), instant TIMESTAMP(6) NULL, span TIME(6), y YEAR, fixed "
        "BINARY(8), raw VARBINARY(300),"
        " picture BLOB, body MEDIUMTEXT, document JSON, size ENUM('s','m','','ü'), tags "
        "SET('a','b','c'), tiny TINYINT UNSIGNED",
        lambda dice, writer: (dice.choice([0, 2**64 - 1000]) + writer + 10 * dice.randrange(20),),
        {
            "bits": lambda dice: dice.choice([None, 0, 4095, dice.randrange(4096)]),
            "exact": lambda dice: dice.choice(
                [None, Decimal(dice.randrange(-(10**30) + 1, 10**30)).scaleb(-10)]
            ),
            "single": lambda dice: dice.choice([None, 0.0, dice.randrange(-9999, 9999) / 8]),
            "twice": lambda dice: dice.choice(
                [None, dice.uniform(-1e9, 1e9), 1e-300, -1.7976931348623157e308]
            ),
            "day": lambda dice: dice.choice(
                [None, date(1000, 1, 1), date(9999, 12, 31), _moment(dice).date()]
            ),
            "moment": lambda dice: dice.choice([None, datetime(1000, 1, 1), _moment(dice)]),
            "instant": lambda dice: dice.choice(
                [None, datetime(1970, 1, 1, 0, 0, 1), _moment(dice)]
            ),
            "span": lambda dice: dice.choice(
                [
                    None,
                    timedelta(microseconds=dice.randrange(-3 * 10**12, 3 * 10**12)),
                    -timedelta(hours=838, minutes=59),
                ]
            ),
            "y": lambda dice: dice.choice([None, 1901, 2155, 2024]),
            "fixed": lambda dice: dice.choice(
                [None, dice.randbytes(4) + bytes(4), dice.randbytes(8)]
            ),
            "raw": lambda dice: dice.choice([None, b"", dice.randbytes(dice.randrange(300))]),
            "picture": lambda dice: dice.choice(
                [None, b"\0\n\\", dice.randbytes(dice.randrange(2000))]
            ),
            "body": lambda dice: dice.choice([None, "", _word(dice) * dice.randrange(200)]),
            "document": lambda dice: dice.choice([None, _document(dice)]),
            "size": lambda dice: dice.choice([None, "s", "", "ü"]),
            "tags": lambda dice: dice.choice([None, "", "a", "a,c", "a,b,c"]),
            "tiny": lambda dice: dice.choice([None, 0, 255]),
        },
    ),
)
COMMITS = Shape(
    "commits",
    ("writer",),
    "writer INT NOT NULL PRIMARY KEY, seq INT NOT NULL",
    lambda dice, writer: (writer,),
    {"seq": lambda dice: 0},
)
"""What each writer committed last: tells it after a lost connection whether its commit was done."""
LEDGERS = tuple(
    Shape(
        name,
        ("id",),
        "id INT NOT NULL PRIMARY KEY, amount BIGINT NOT NULL",
        _integer_key,
        {"amount": lambda dice: 0},
    )
    for name in ("ledger_left", "ledger_right")
)
"""Two tables between which every transaction moves as much as it takes: their sum is zero at each
moment.
"""
SHARED = Shape(
    "shared",
    ("id",),
    "id INT NOT NULL PRIMARY KEY, s VARCHAR(100), n INT",
    lambda dice, writer: (dice.randrange(30),),
    {"s": _word, "n": lambda dice: dice.randrange(1000)},
)
"""A table whose rows all writers write. Only the source knows in what order they committed."""
TRAIL = "trail"
"""What was done to `shared`, in the same transactions. A row's lock lasts until the commit, so the
rows of a key have here the order of its commits.
"""
KNOWN = (*SHAPES, COMMITS, *LEDGERS, SHARED)
ALTERED, SWAPPED, REMADE, KEYLESS, BULK = "altered", "swapped", "remade", "keyless", "bulk"
LOOSE = (ALTERED, SWAPPED, REMADE, KEYLESS, BULK)
"""Tables of which the source itself says in the end what they must hold, and whose shape
changes.
"""
TWICE = ("ints", "codes", COMMITS.name, *(ledger.name for ledger in LEDGERS), SHARED.name, TRAIL)
"""The tables that a second source declares as well."""
TRUNCATED = "pairs"
"""The one of the known tables that is truncated."""

_OWN = (
    ", tick BIGINT NOT NULL, updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON "
    "UPDATE CURRENT_TIMESTAMP(6)"
)
_LOOSE_DEFINITION = f"id INT NOT NULL PRIMARY KEY, s VARCHAR(100), n INT{_OWN}"
UNFIT = {
    "day": ("0000-00-00", "2024-02-00"),
    "moment": ("0000-00-00 00:00:00",),
    "body": ("nul \0 in it",),
}
"""Values that PostgreSQL cannot hold; rows with them belong in quarantine."""


def totals(source: str) -> tuple[RunningTotal, ...]:
    """Running totals over tables that are written, altered, emptied and swapped."""

    def total(
        table: str, key: str, column: str, identity: tuple[str, ...] = (), **more: Any
    ) -> RunningTotal:
        measures = {"counted": "*", "summed": column}
        name = f"{source}_{table}"
        return RunningTotal(name, "", table, key, measures, identity=identity, **more)

    windows: Any = ("life", "cycle", "day")
    return (
        total("ints", "s", "n", at="updated_at", windows=windows),
        total("pairs", "region", "amount", where=(Where("nr", ">", 40),), by="nr"),
        # Rows of the same word are one event: its row with the smallest number counts.
        total("shared", "n", "tick", identity=("s",), at="updated_at", windows=windows),
        total("everything", "size", "exact", identity=("tiny", "day"), at="moment"),
        total(ALTERED, "id", "tick"),
        total(SWAPPED, "s", "tick", identity=("n",)),
        total(REMADE, "s", "tick"),
        total(BULK, "s", "tick"),
    )


def source(strategy: str, name: str = "t") -> Source:
    """The declaration of a source of the torture, all tables with one strategy as far as they can
    be carried by it. Any other than `t` has those of `TWICE`, of the same database.
    """

    def table(table: str, key: tuple[str, ...], history: bool) -> Table:
        if strategy == "incremental" and key:
            return Table(table, "", key, "incremental", (), cursor="updated_at", history=history)
        whole: Literal["cdc", "snapshot"] = "cdc" if strategy == "cdc" else "snapshot"
        return Table(table, "", key, whole, (), history=history)

    tables = [table(shape.name, shape.key, True) for shape in KNOWN]
    tables += [
        table(each, () if each == KEYLESS else ("id",), each not in (KEYLESS, BULK))
        for each in LOOSE
    ]
    tables.append(table(TRAIL, ("seq",), False))
    if name != "t":
        tables = [each for each in tables if each.name in TWICE]
    declared = {each.name for each in tables}
    return Source(
        name,
        "mysql",
        "",
        tuple(tables),
        owner="team:test",
        prefix="SOFTCART_TORTURE",
        totals=tuple(each for each in totals(name) if each.table in declared),
    )


def create(connection: MySQLConnection) -> None:
    """Create the tables, empty."""
    with closing(connection.connect()) as session:
        for shape in KNOWN:
            session.query(f"CREATE TABLE {shape.name} ({shape.definition}{_OWN})")
        session.query(
            f"CREATE TABLE {TRAIL} (seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, id INT NOT "
            f"NULL, s VARCHAR(100), n INT, gone INT NOT NULL, began DOUBLE NOT NULL{_OWN})"
        )
        for name in LOOSE:
            definition = (
                _LOOSE_DEFINITION.replace(" PRIMARY KEY", ", KEY (id)")
                if name == KEYLESS
                else _LOOSE_DEFINITION
            )
            session.query(f"CREATE TABLE {name} ({definition})")


class World:
    """What all that write have in common: transactions share it, a TRUNCATE has it alone; a DDL
    keeps the source alive.
    """

    def __init__(
        self,
        connect: Callable[[], MySQLConnection],
        model: Model,
        note: Callable[[str], None],
        clocks: Callable[[], int] = lambda: 0,
    ) -> None:
        self.connect, self.model, self.note, self.clocks = connect, model, note, clocks
        self.stopping = threading.Event()
        self.no_kill = threading.Lock()
        """Held while a DDL runs and while the source is killed: nobody knows whether a TRUNCATE cut
        short was logged.
        """
        self._condition = threading.Condition()
        self._sharing = 0
        self._wanted = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """One of many."""
        with self._condition:
            self._condition.wait_for(lambda: not self._wanted)
            self._sharing += 1
        try:
            yield
        finally:
            with self._condition:
                self._sharing -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No transaction is open."""
        with self._condition:
            self._wanted += 1
            self._condition.wait_for(lambda: not self._sharing)
        try:
            yield
        finally:
            with self._condition:
                self._wanted -= 1
                self._condition.notify_all()

    def session(self) -> pymysql.Connection[Any]:
        """A connection to the source, as soon as it answers."""
        while True:
            try:
                session = self.connect().connect()
                # Zero dates and what else an old application may write; no locks on rows that are
                # not met.
                session.query(
                    "SET SESSION sql_mode = '', innodb_lock_wait_timeout = 3, lock_wait_timeout = 5"
                )
                session.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                if shift := self.clocks():  # the log gets this session's times
                    session.query(f"SET SESSION timestamp = {time.time() + shift:.6f}")
                return session
            except (ServerUnreachable, pymysql.MySQLError):
                time.sleep(0.05)


def parameter(value: Any) -> Any:
    """A value of the model as a parameter of a statement."""
    match value:
        case datetime():
            return value.isoformat(" ", "microseconds")
        case timedelta():
            microseconds = value // timedelta(microseconds=1)
            seconds, rest = divmod(abs(microseconds), 10**6)
            sign = "-" if microseconds < 0 else ""
            minutes, seconds = divmod(seconds, 60)
            return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{rest:06d}"
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return value


@dataclass
class _Transaction:
    """What a transaction has done so far, not committed."""

    rows: dict[tuple[str, Key], Row | None] = field(default_factory=dict)
    versions: list[tuple[str, Key, Version]] = field(default_factory=list)

    def copy(self) -> _Transaction:
        return _Transaction(dict(self.rows), list(self.versions))


class Writer(threading.Thread):
    """One writer: transactions over all tables on keys of its own, until the world stops or `limit`
    are done.
    """

    def __init__(
        self,
        world: World,
        seed: str,
        number: int,
        *,
        pause: float,
        limit: int | None = None,
        shares: bool = False,
    ) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self.world, self.number, self.pause, self.limit = world, number, pause, limit
        self.shares = shares
        self.dice = random.Random(f"{seed} writer {number}")
        self.session: pymysql.Connection[Any] | None = None
        self.done = 0
        self.tick = self._clock = 0
        self.failure: BaseException | None = None
        self._now = _Transaction()
        self._began = 0.0

    def run(self) -> None:
        """Write until told to stop."""
        try:
            while not self.world.stopping.is_set() and (
                self.limit is None or self.done < self.limit
            ):
                with self.world.shared():
                    self._transact()
                time.sleep(self.dice.expovariate(1 / self.pause) if self.pause else 0)
        except BaseException as error:
            self.failure = error
        finally:
            with suppress(pymysql.MySQLError):
                if self.session:
                    self.session.close()

    def _transact(self) -> None:
        """One transaction, and what became of it."""
        self._now = _Transaction()
        self._began = began = time.time()
        is_committing = False
        while self.session is None:
            self.session = self.world.session()
        try:
            self.session.query("BEGIN")
            for _ in range(self.dice.choice([1, 1, 2, 3, 6])):
                self._step()
            self._count()
            if self.dice.random() < 0.08:
                self.session.rollback()
                return
            is_committing = True
            self.session.commit()
        except pymysql.MySQLError as error:
            if error.args[0] in (*RETRY_ERRORS, *SCHEMA_ERRORS):
                with suppress(pymysql.MySQLError):
                    self.session.rollback()
                return
            if not isinstance(error, pymysql.OperationalError | pymysql.InterfaceError):
                raise
            if not self._was_committed(is_committing):
                return
        self.done += 1
        ended = time.time()
        for table, key, version in self._now.versions:
            self.world.model.versions[table][key].append(
                replace(version, began_at=began, ended_at=ended)
            )

    def _was_committed(self, is_committing: bool) -> bool:
        """Whether the transaction whose connection was lost had been committed."""
        with suppress(pymysql.MySQLError):
            if self.session:
                self.session.close()
        self.session = None
        while is_committing:
            with (
                suppress(pymysql.MySQLError),
                closing(self.world.session()) as session,
                session.cursor() as cursor,
            ):
                cursor.execute("SELECT seq FROM commits WHERE writer = %s", (self.number,))
                row = cursor.fetchone()
                return bool(row) and row[0] == self.done + 1
        return False

    def _count(self) -> None:
        """Write down in the transaction which one it is."""
        key: Key = (self.number,)
        self._upsert(COMMITS, {key: {"seq": self.done + 1}})

    def _step(self) -> None:
        """One statement, or a part with a savepoint."""
        if self.dice.random() < 0.06:
            assert self.session
            savepoint = f"at_{self.tick}"
            self.session.query(f"SAVEPOINT {savepoint}")
            before = self._now.copy()
            self._stamp()
            self._step()
            self._step()
            if self.dice.random() < 0.6:
                self.session.query(f"ROLLBACK TO SAVEPOINT {savepoint}")
                self._now = before
            else:
                self.session.query(f"RELEASE SAVEPOINT {savepoint}")
            return
        kind = self.dice.random()
        if kind < 0.2:
            self._loose()
        elif kind < 0.3:
            self._move()
        elif kind < 0.315:
            self._bulk()
        elif kind < 0.45 and self.shares:
            self._share()
        else:
            shape = self.dice.choice(SHAPES)
            act = self.dice.choices(
                [
                    self._insert,
                    self._upsert_some,
                    self._replace,
                    self._update,
                    self._rekey,
                    self._shift,
                    self._drop_rows,
                ],
                [5, 3, 3, 6, 2, 1, 3],
            )[0]
            act(shape)

    # What a transaction sees

    def _row(self, shape: Shape, key: Key) -> Row | None:
        """The row of that key, as this transaction sees it."""
        if (shape.name, key) in self._now.rows:
            return self._now.rows[shape.name, key]
        versions = self.world.model.versions[shape.name].get(key)
        return versions[-1].row if versions and not versions[-1].is_deleted else None

    def _mine(self, shape: Shape) -> list[Key]:
        """The keys of this writer's rows."""
        known = self.world.model.versions[shape.name]
        keys = dict.fromkeys(
            [*list(known), *(key for table, key in self._now.rows if table == shape.name)]
        )
        return [key for key in keys if self._owns(shape, key) and self._row(shape, key) is not None]

    def _owns(self, shape: Shape, key: Key) -> bool:
        last = key[-1]
        return (
            last.startswith(f"{self.number}-")
            if isinstance(last, str)
            else _owner(last) == self.number
        )

    def _some(self, shape: Shape, most: int) -> list[Key]:
        mine = self._mine(shape)
        return self.dice.sample(mine, min(len(mine), self.dice.randrange(1, most + 1)))

    def _set(self, shape: Shape, key: Key, row: Row, *, is_unfit: bool) -> None:
        self._now.rows[shape.name, key] = row
        self._now.versions.append((shape.name, key, Version(row, is_unfit=is_unfit)))

    def _remove(self, shape: Shape, key: Key, *, is_optional: bool = False) -> None:
        row = self._row(shape, key)
        assert row is not None
        self._now.rows[shape.name, key] = None
        fit = {
            name: None if name in UNFIT and value in UNFIT[name] else value
            for name, value in row.items()
        }
        self._now.versions.append(
            (shape.name, key, Version(fit, is_deleted=True, is_optional=is_optional))
        )

    def _values(self, shape: Shape) -> Row:
        """New values of all columns but the key's, now and then one that cannot be carried."""
        row = {name: make(self.dice) for name, make in shape.columns.items()}
        if shape.name == "everything" and self.dice.random() < 0.05:
            name = self.dice.choice(list(UNFIT))
            row[name] = self.dice.choice(UNFIT[name])
        return row | self._stamp()

    def _stamp(self) -> Row:
        """What makes each version of a row different from all others."""
        self.tick += 1
        self._clock = max(self._clock + 1, time.time_ns() // 1000)
        return {
            "tick": self.number * 10**12 + self.tick,
            "updated_at": datetime(1970, 1, 1) + timedelta(microseconds=self._clock),
        }

    # What a transaction does

    def _execute(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        assert self.session
        with self.session.cursor() as cursor:
            return cursor.execute(statement, [parameter(value) for value in parameters] or None)

    def _write(self, shape: Shape, verb: str, rows: dict[Key, Row], tail: str = "") -> None:
        """INSERT or REPLACE all rows in one statement."""
        names = shape.names
        slots = ", ".join([f"({', '.join(['%s'] * len(names))})"] * len(rows))
        full = {key: dict(zip(shape.key, key, strict=True)) | row for key, row in rows.items()}
        values = [row[name] for row in full.values() for name in names]
        self._execute(f"{verb} INTO {shape.name} ({', '.join(names)}) VALUES {slots}{tail}", values)
        for key, row in full.items():
            if verb == "REPLACE":
                for old in [old for old in self._mine(shape) if _folded(old) == _folded(key)]:
                    self._remove(shape, old, is_optional=old == key)
            self._set(shape, key, row, is_unfit=is_unfit(row))

    def _keys(self, shape: Shape, most: int) -> list[Key]:
        """Own keys, taken or not; of keys that are the same to the source only the one that exists,
        or the first.
        """
        keys: dict[Any, Key] = {}
        taken = {_folded(key): key for key in self._mine(shape)}
        for _ in range(self.dice.randrange(1, most + 1)):
            key = shape.make_key(self.dice, self.number)
            keys.setdefault(_folded(key), taken.get(_folded(key), key))
        return list(keys.values())

    def _insert(self, shape: Shape) -> None:
        new = [
            key
            for key in self._keys(shape, self.dice.choice([1, 4, 40]))
            if self._row(shape, key) is None
        ]
        if new:
            self._write(shape, "INSERT", {key: self._values(shape) for key in new})

    def _replace(self, shape: Shape) -> None:
        keys = self._keys(shape, 4)
        if shape.name == "codes":  # the same key to the source, another one to the target
            keys = [(self.dice.choice([str.upper, str.lower])(key[0]),) for key in keys]
        self._write(shape, "REPLACE", {key: self._values(shape) for key in keys})

    def _upsert_some(self, shape: Shape) -> None:
        self._upsert(shape, {key: self._values(shape) for key in self._keys(shape, 4)})

    def _upsert(self, shape: Shape, rows: dict[Key, Row]) -> None:
        sets = ", ".join(
            f"{name} = VALUES({name})" for name in (*shape.columns, "tick", "updated_at")
        )
        rows = {key: self._stamp() | row for key, row in rows.items()}
        self._write(shape, "INSERT", rows, f" ON DUPLICATE KEY UPDATE {sets}")

    def _update(self, shape: Shape) -> None:
        if keys := self._some(shape, self.dice.choice([1, 1, 10])):
            # Some columns only: the others keep what they have.
            values = self._values(shape)
            chosen = self.dice.sample(
                list(shape.columns), self.dice.randrange(1, len(shape.columns) + 1)
            )
            sets = {name: values[name] for name in (*chosen, "tick", "updated_at")}
            self._execute(
                f"UPDATE {shape.name} SET {', '.join(f'{name} = %s' for name in sets)} WHERE "
                f"{_where(shape, keys)}",
                [*sets.values(), *(value for key in keys for value in key)],
            )
            for key in keys:
                row = (self._row(shape, key) or {}) | sets
                self._set(shape, key, row, is_unfit=is_unfit(row))

    def _rekey(self, shape: Shape) -> None:
        """Give a row another key; in `codes` perhaps one that is the same to the source."""
        old, new = self._some(shape, 1), shape.make_key(self.dice, self.number)
        if (
            not old
            or new == old[0]
            or any(_folded(new) == _folded(key) for key in self._mine(shape) if key != old[0])
        ):
            return
        stamp = self._stamp()
        row = (self._row(shape, old[0]) or {}) | dict(zip(shape.key, new, strict=True)) | stamp
        sets = ", ".join(f"{name} = %s" for name in (*shape.key, *stamp))
        self._execute(
            f"UPDATE {shape.name} SET {sets} WHERE {_where(shape, old)}",
            [*new, *stamp.values(), *old[0]],
        )
        self._remove(shape, old[0])
        self._set(shape, new, row, is_unfit=is_unfit(row))

    def _shift(self, shape: Shape) -> None:
        """One statement in which rows take the keys that others of it have just left."""
        if shape.name != "ints" or not (keys := sorted(self._mine(shape), reverse=True)):
            return
        if keys[0][0] > 5000:
            return
        stamp = self._stamp()
        self._execute(
            f"UPDATE ints SET id = id + 10, tick = %s, updated_at = %s WHERE {_where(shape, keys)} "
            "ORDER BY id DESC",
            [*stamp.values(), *(value for key in keys for value in key)],
        )
        for key in keys:
            row = (self._row(shape, key) or {}) | {"id": key[0] + 10} | stamp
            self._remove(shape, key)
            self._set(shape, (key[0] + 10,), row, is_unfit=False)

    def _drop_rows(self, shape: Shape) -> None:
        if keys := self._some(shape, self.dice.choice([1, 8])):
            self._execute(
                f"DELETE FROM {shape.name} WHERE {_where(shape, keys)}",
                [value for key in keys for value in key],
            )
            for key in keys:
                self._remove(shape, key)

    def _move(self) -> None:
        """An amount from one ledger to the other."""
        amount = self.dice.randrange(1, 10**6)
        for ledger, change in zip(LEDGERS, (amount, -amount), strict=True):
            key = ledger.make_key(self.dice, self.number)
            held = self._row(ledger, key)
            self._upsert(ledger, {key: {"amount": (held["amount"] if held else 0) + change}})

    def _bulk(self) -> None:
        """Thousands of rows in one go; the source says in the end what became of them."""
        base = self.number * 100_000 + self.dice.randrange(5) * 2_000
        own = f"id BETWEEN {base} AND {base + 1_999}"
        tick = self._stamp()["tick"]
        match self.dice.randrange(4):
            case 0 | 1:
                numbers = (
                    "SELECT d1.d + 10 * d2.d + 100 * d3.d AS x FROM {0} d1, {0} d2, {0} d3"
                ).format(
                    "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION "
                    "SELECT 5 UNION SELECT 6"
                    " UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
                )
                self._execute(
                    f"INSERT IGNORE INTO {BULK} (id, s, n, tick) SELECT {base} + x, REPEAT('bulk "
                    f"', x % 15), x, {tick}"
                    f" FROM ({numbers}) numbers"
                )
            case 2:
                self._execute(f"UPDATE {BULK} SET n = n + 1, tick = {tick} WHERE {own}")
            case _:
                self._execute(
                    f"DELETE FROM {BULK} WHERE {own} AND id % 3 = {self.dice.randrange(3)}"
                )

    def _share(self) -> None:
        """Something on rows that all writers write, and in the trail what it was."""
        ids = list(dict.fromkeys(SHARED.make_key(self.dice, 0)[0] for _ in range(4)))
        marks = ", ".join(map(str, ids))
        tick = self._stamp()["tick"]
        match self.dice.randrange(5):
            case 0 | 1:
                rows = ", ".join(["(%s, %s, %s)"] * len(ids))
                self._execute(
                    f"INSERT INTO shared (id, s, tick) VALUES {rows} ON DUPLICATE KEY UPDATE "
                    "s = VALUES(s), n = COALESCE(n, 0) + 1, tick = VALUES(tick)",
                    [value for each in ids for value in (each, _word(self.dice), tick)],
                )
            case 2:
                self._execute(
                    f"UPDATE shared SET n = COALESCE(n, 0) + 1, tick = %s WHERE id IN ({marks})",
                    (tick,),
                )
            case 3:
                old = self._locked(f"id = {ids[0]}")
                # Somebody may have the other key. Then nothing happens.
                if old and self._execute(
                    "UPDATE IGNORE shared SET id = %s, tick = %s WHERE id = %s",
                    (ids[-1], tick, ids[0]),
                ):
                    self._bury(old if len(ids) > 1 else ())
            case _:
                old = self._locked(f"id IN ({marks})")
                if old:
                    found = ", ".join(str(row[0]) for row in old)
                    self._execute(f"DELETE FROM shared WHERE id IN ({found})")
                    self._bury(old)
        # No other statement has this tick, so these are the rows that this one has written.
        self._execute(
            f"INSERT INTO {TRAIL} (id, s, n, gone, began, tick, updated_at) "
            "SELECT id, s, n, 0, %s, tick, updated_at FROM shared WHERE tick = %s",
            (self._began, tick),
        )

    def _locked(self, where: str) -> Sequence[Sequence[Any]]:
        """Shared rows as they are, which nobody else can change until the end of this
        transaction.
        """
        assert self.session
        with self.session.cursor() as cursor:
            cursor.execute(
                f"SELECT id, s, n, tick, updated_at FROM shared WHERE {where} FOR UPDATE"
            )
            return list(cursor.fetchall())

    def _bury(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write into the trail that the keys of these shared rows are gone."""
        for key, s, n, tick, updated_at in rows:
            self._execute(
                f"INSERT INTO {TRAIL} (id, s, n, gone, began, tick, updated_at) "
                "VALUES (%s, %s, %s, 1, %s, %s, %s)",
                (key, s, n, self._began, tick, updated_at),
            )

    def _loose(self) -> None:
        """Something on a table whose shape others change, or which has no key."""
        name = self.dice.choice([ALTERED, ALTERED, SWAPPED, REMADE, KEYLESS])
        stamp = self._stamp()
        ids = [self.number + 10 * self.dice.randrange(40) for _ in range(self.dice.randrange(1, 6))]
        marks = ", ".join(map(str, ids))
        rows = ", ".join(["(%s, %s, %s)"] * len(ids))
        values = [v for each in ids for v in (each, _word(self.dice), stamp["tick"])]
        match self.dice.randrange(6):
            case 0 | 1 | 2 if name == KEYLESS:
                # Rows that are alike in every column, too.
                self._execute(
                    f"INSERT INTO {KEYLESS} (id, s, tick, updated_at) VALUES (%s, 'same', 1, "
                    "'2026-01-01'),"
                    " (%s, 'same', 1, '2026-01-01'), (%s, %s, %s, '2026-01-02')",
                    [ids[0], ids[0], ids[-1], _word(self.dice), stamp["tick"]],
                )
            case 0 | 1:
                self._execute(f"INSERT IGNORE INTO {name} (id, s, tick) VALUES {rows}", values)
            case 2:
                self._execute(f"REPLACE INTO {name} (id, s, tick) VALUES {rows}", values)
            case 3:
                self._execute(
                    f"UPDATE {name} SET s = %s, tick = %s WHERE id IN ({marks})",
                    (_word(self.dice), stamp["tick"]),
                )
            case 4:
                self._execute(
                    f"UPDATE {name} SET n = COALESCE(n, 0) + 1, tick = %s WHERE id IN ({marks})",
                    (stamp["tick"],),
                )
            case _:
                limit = " LIMIT 1" if name == KEYLESS else ""
                self._execute(f"DELETE FROM {name} WHERE id IN ({marks}){limit}")


def _owner(number: int) -> int:
    """The writer that a number belongs to; the large ones count from 2**64 - 1000."""
    return (number - (2**64 - 1000) if number > 2**63 else number) % 10


def _folded(key: Key) -> Any:
    """What the source's collation makes of a key."""
    return tuple(
        part.upper().replace("Ö", "O").replace("É", "E") if isinstance(part, str) else part
        for part in key
    )


def _where(shape: Shape, keys: Sequence[Key]) -> str:
    one = f"({' AND '.join(f'{name} = %s' for name in shape.key)})"
    return " OR ".join([one] * len(keys))


def is_unfit(row: Row) -> bool:
    """Whether PostgreSQL cannot hold the row."""
    return any(row.get(name) in values for name, values in UNFIT.items())


class SchemaChanger(threading.Thread):
    """Changes tables at random moments: columns, names, whole tables; empties some, rotates the
    log.
    """

    def __init__(self, world: World, seed: str, strategy: str, *, pause: float) -> None:
        super().__init__(name="schemas", daemon=True)
        self.world, self.strategy, self.pause = world, strategy, pause
        self.dice = random.Random(f"{seed} schemas")
        self.changes: dict[str, int] = defaultdict(int)
        self.failure: BaseException | None = None
        self._added = 0

    def run(self) -> None:
        """Change until told to stop."""
        try:
            while not self.world.stopping.wait(self.dice.expovariate(1 / self.pause)):
                self._change()
        except BaseException as error:
            self.failure = error

    def _change(self) -> None:
        actions: list[Callable[[], Sequence[str]]] = [
            self._rotate,
            self._add,
            self._swap,
            self._remake,
            self._empty,
        ]
        if self.strategy == "cdc":
            actions += [self._drop, self._rename, self._modify, self._modify]
        action = self.dice.choices([*actions, self._truncate], [*([2] * len(actions)), 1])[0]
        if action == self._truncate:
            with self.world.alone(), self.world.no_kill:
                self._run([f"TRUNCATE TABLE {TRUNCATED}"])
                now = time.time()
                for versions in self.world.model.versions[TRUNCATED].values():
                    if versions and not versions[-1].is_deleted:
                        versions.append(
                            Version(versions[-1].row, is_deleted=True, began_at=now, ended_at=now)
                        )
            return
        with self.world.no_kill:
            self._run(action())

    def _run(self, statements: Sequence[str]) -> None:
        with closing(self.world.session()) as session:
            session.autocommit(True)
            for statement in statements:
                while True:
                    self.world.note(statement)
                    try:
                        session.query(statement)
                    except pymysql.MySQLError as error:
                        if error.args[0] not in RETRY_ERRORS:
                            raise
                    else:
                        break
        if statements:
            self.changes[statements[0].split(" ")[0]] += 1

    def _columns(self) -> dict[str, str]:
        """The columns of `altered` that may change, and their types."""
        with closing(self.world.session()) as session, session.cursor() as cursor:
            cursor.execute(
                "SELECT column_name, column_type FROM information_schema.columns WHERE "
                "table_schema = DATABASE()"
                " AND table_name = %s AND column_name LIKE 'c\\_%%' ORDER BY ordinal_position",
                (ALTERED,),
            )
            return dict(cursor.fetchall())

    def _truncate(self) -> Sequence[str]:
        return ()

    def _rotate(self) -> Sequence[str]:
        return ["FLUSH BINARY LOGS"]

    def _empty(self) -> Sequence[str]:
        return [f"TRUNCATE TABLE {self.dice.choice([KEYLESS, SWAPPED, REMADE, BULK])}"]

    def _add(self) -> Sequence[str]:
        if len(self._columns()) > 8:
            return self._drop() if self.strategy == "cdc" else ()
        self._added += 1
        definition = self.dice.choice(
            [
                "INT NOT NULL DEFAULT 7",
                "VARCHAR(20) NOT NULL DEFAULT 'new'",
                "DECIMAL(8,2)",
                "INT UNSIGNED",
                "DATETIME(3)",
            ]
        )
        where = self.dice.choice(["", " FIRST", " AFTER id"])
        return [f"ALTER TABLE {ALTERED} ADD COLUMN c_{self._added} {definition}{where}"]

    def _drop(self) -> Sequence[str]:
        columns = self._columns()
        return (
            [f"ALTER TABLE {ALTERED} DROP COLUMN {self.dice.choice(list(columns))}"]
            if columns
            else ()
        )

    def _rename(self) -> Sequence[str]:
        columns = self._columns()
        self._added += 1
        old = self.dice.choice(list(columns)) if columns else ""
        return [f"ALTER TABLE {ALTERED} RENAME COLUMN {old} TO c_{self._added}"] if columns else ()

    def _modify(self) -> Sequence[str]:
        columns = self._columns()
        if not columns:
            return ()
        name = self.dice.choice(list(columns))
        new = {
            "int(11)": ["BIGINT", "VARCHAR(30)", "DECIMAL(14,3)"],
            "int": ["BIGINT", "VARCHAR(30)", "DECIMAL(14,3)"],
            "int(10) unsigned": ["BIGINT UNSIGNED", "BIGINT"],
            "int unsigned": ["BIGINT UNSIGNED", "BIGINT"],
            "varchar(20)": ["VARCHAR(200)", "MEDIUMTEXT"],
            "varchar(30)": ["VARCHAR(20)", "INT"],
            "decimal(8,2)": ["DECIMAL(14,4)", "DOUBLE"],
            "bigint(20)": ["INT", "VARCHAR(30)"],
            "bigint": ["INT", "VARCHAR(30)"],
            "datetime(3)": ["DATETIME(6)", "VARCHAR(40)"],
        }.get(columns[name], ["VARCHAR(60)"])
        return [f"ALTER TABLE {ALTERED} MODIFY COLUMN {name} {self.dice.choice(new)}"]

    def _swap(self) -> Sequence[str]:
        return [
            "DROP TABLE IF EXISTS swapped_new, swapped_old",
            "CREATE TABLE swapped_new LIKE swapped",
            "INSERT INTO swapped_new SELECT * FROM swapped WHERE id % 3 <> 0",
            "UPDATE swapped_new SET s = 'swapped in', tick = tick + 1",
            "RENAME TABLE swapped TO swapped_old, swapped_new TO swapped",
        ]

    def _remake(self) -> Sequence[str]:
        return [
            f"DROP TABLE {REMADE}",
            f"CREATE TABLE {REMADE} ({_LOOSE_DEFINITION})",
            *self._refill(),
        ]

    def _refill(self) -> Sequence[str]:
        rows = ", ".join(
            f"({9 + 10 * n}, 'remade', {n})" for n in range(self.dice.randrange(1, 20))
        )
        return [f"INSERT INTO {REMADE} (id, s, tick) VALUES {rows}"]
