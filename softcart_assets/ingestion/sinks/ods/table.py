"""One running total as SQL: its table, what rows of raw add to it, and the functions to read it.

A total has a row per key and quarter of an hour, in UTC, and one for all time. Days and billing
periods of all time zones begin on a quarter of an hour. So neither another zone, nor daylight
saving, nor another day of the cycle alters a row. They only choose other rows to add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import psycopg

from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.sinks.sql import listed, literal, quote
from softcart_assets.ingestion.types import Column, Kind
from softcart_assets.lines.model import Latest, RunningTotal, Source, Where

_LIFE = "'-infinity'::timestamptz"
_MOMENTS = {
    Kind.INSTANT: "{}",
    Kind.DATETIME: "({} AT TIME ZONE 'UTC')",
    Kind.DATE: "({}::timestamp AT TIME ZONE 'UTC')",
}
_EXACT = (Kind.INTEGER, Kind.DECIMAL, Kind.BOOLEAN)
"""Sums of floating-point numbers depend on the order, and one NaN would stay in them for good."""


@dataclass(frozen=True)
class RawRows:
    """The raw table that totals are made from, and how its rows are found.

    `columns`: those of raw, by name. `identity`: see `RunningTotal`.
    """

    source: Source
    table: str
    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    identity: tuple[str, ...]
    used: tuple[str, ...]
    """The columns that totals read, in a fixed order."""
    absent: tuple[str, ...] = ()
    """Those that raw does not have yet, as no row has brought a value."""

    @classmethod
    def of(cls, connection: psycopg.Connection, source: Source, table: str) -> RawRows:
        """Return the raw table as it is now. Raises `SchemaChanged` if a column is missing."""
        raw = RawTable(connection, source, source.table(table))
        columns = {column.name: column for column in raw.columns()}
        totals = [total for total in source.totals if total.table == table]
        identity = next((total.identity for total in totals), ())
        used = tuple(dict.fromkeys(name for total in totals for name in total.reads))
        last = [each for each in source.latest if each.table == table]
        told = [name for each in last for name in each.reads]
        needed = dict.fromkeys((*used, *identity, *told, *raw.key))
        absent = tuple(name for name in needed if name not in columns)
        if absent and connector(source.kind).has_schema:
            raise SchemaChanged(
                f"{raw.asset}: running totals read the column {absent[0]!r}, which the raw table "
                f"does not have. Correct the totals of source {source.name!r}, or bring the "
                f"column back. Then run `softcart resnapshot {source.name}.{table}`."
            )
        for name in absent:
            columns[name] = Column(name, "", _fitting(name, totals, last))
        # The others are left out: one that is added must not look like a change of the totals.
        read = {name: columns[name] for name in needed}
        return cls(source, table, raw.name, raw.key, read, identity, used, absent)

    @property
    def rows(self) -> str:
        """SQL: the relation with its rows and all columns that are read."""
        if not self.absent:
            return self.name
        nulls = (f"NULL::{self.columns[n].target_type} AS {quote(n)}" for n in self.absent)
        return f"(SELECT *, {', '.join(nulls)} FROM {self.name})"

    @property
    def alike(self) -> str:
        """SQL: the rows `o` and `r` are of one event."""
        first, *others = self.identity
        return " AND ".join(
            [f"o.{quote(first)} = r.{quote(first)}"]
            + [f"o.{quote(name)} IS NOT DISTINCT FROM r.{quote(name)}" for name in others]
        )

    def order(self, names: Iterable[str], alias: str) -> str:
        """SQL: columns to sort by. Those of the key tell which row of an event counts."""
        return ", ".join(
            # Texts by their bytes: the order of letters differs between servers, and takes longer.
            f"{alias}.{quote(name)}"
            + (' COLLATE "C"' if self.columns[name].kind is Kind.TEXT else "")
            for name in names
        )

    def fingerprint(self, made: RunningTotal | Latest) -> str:
        """Changes if a declaration changes, or the type of a column that is read."""
        declared = {k: v for k, v in asdict(made).items() if k not in _TEXTS}
        types = sorted((each.name, each.target_type) for each in self.columns.values())
        # What was made without a column reads NULL in its place.
        text = f"{sorted(declared.items())} {types}{self.absent or ''}"
        return hashlib.sha256(text.encode()).hexdigest()

    def indexes(self) -> Iterator[tuple[str, str]]:
        """Yield name and definition of the indexes of raw that totals and `Latest` need."""
        if self.identity and self.identity[0] not in self.absent:
            yield self._index(quote(self.identity[0]))
        for latest in self.source.latest:
            if latest.table == self.table and not {latest.key, latest.at} & {*self.absent}:
                order = ", ".join(f"{quote(name)} DESC" for name in (latest.at, *self.key))
                yield self._index(f"{quote(latest.key)}, {order}")

    def _index(self, columns: str) -> tuple[str, str]:
        digest = hashlib.sha256(f"{self.name} {columns}".encode()).hexdigest()[:16]
        return f"ods_{digest}", f"ON {self.name} ({columns})"


@dataclass(frozen=True)
class TotalTable:
    """A declared total over a raw table."""

    total: RunningTotal
    raw: RawRows

    def __post_init__(self) -> None:
        """Raise `SchemaChanged` if a column has a type that cannot be added up or put in order."""
        types = {name: column.kind for name, column in self.raw.columns.items()}
        wrong = [
            (name, "an integer or a decimal")
            for name in self.total.measures.values()
            if name != "*" and types[name] not in _EXACT
        ]
        if self.total.at and types[self.total.at] not in _MOMENTS:
            wrong.append((self.total.at, "a time"))
        for name, wanted in wrong:
            raise SchemaChanged(
                f"raw_{self.raw.source.name}/{self.raw.table}: the total {self.total.name!r} "
                f"needs {wanted} in the column {name!r}, which is "
                f"{self.raw.columns[name].target_type}. Correct the total "
                f"({self.total.declared_at}). Then run "
                f"`softcart resnapshot {self.raw.source.name}.{self.raw.table}`."
            )

    @property
    def name(self) -> str:
        """The name of the total."""
        return self.total.name

    @property
    def relation(self) -> str:
        """Its table, quoted."""
        return f"ods.{quote(self.name)}"

    @property
    def later(self) -> str:
        """The table of changes since a build of the total began, quoted."""
        return f"ods.{quote(f'_later_{self.name}')}"

    @property
    def fingerprint(self) -> str:
        """See `RawRows.fingerprint`."""
        return self.raw.fingerprint(self.total)

    @property
    def has_buckets(self) -> bool:
        """Whether it is read over other windows than all time."""
        return set(self.total.windows) != {"life"}

    @property
    def keys(self) -> list[str]:
        """The columns of its table that identify a row."""
        return [self.total.key, "bucket", *self.apart]

    @property
    def apart(self) -> list[str]:
        """The column by whose values its rows stand apart, if there is one."""
        return [self.total.by] if self.total.by else []

    @property
    def sums(self) -> list[str]:
        """The columns of its table that are added up."""
        return ["_rows", *self.total.measures]

    def create(self, relation: str, *, keyed: bool = True) -> str:
        """SQL that creates a table with its columns. `keyed`: a row is unique."""
        types = {self.total.key: self.raw.columns[self.total.key].target_type}
        types |= {"bucket": "timestamptz", **dict.fromkeys(self.apart, "text")}
        types |= dict.fromkeys(self.total.measures, "numeric") | {"_rows": "bigint"}
        columns = [f"{quote(name)} {types[name]} NOT NULL" for name in (*self.keys, *self.sums)]
        if keyed:
            columns.append(f"PRIMARY KEY ({listed(self.keys)})")
        # A row is changed again and again. With room on its page, its index entries stay.
        options = " WITH (fillfactor = 70)" if keyed else ""
        return f"CREATE TABLE {relation} ({', '.join(columns)}){options}"

    def added(self, images: str) -> str:
        """SQL that adds up what images of rows bring, per row of its table.

        `images`: a relation with the columns that are read, and `_sign`: 1 for a row that counts
        now, -1 for a row that does not count any more.
        """
        buckets = f"({_LIFE})"
        if self.has_buckets and self.total.at:
            at = f"i.{quote(self.total.at)}"
            moment = _MOMENTS[self.raw.columns[self.total.at].kind].format(at)
            # Infinity is no time at which something happened. A row with it counts in life only.
            buckets += (
                f", (CASE WHEN isfinite({at}) THEN date_bin('15 minutes', {moment},"
                " '2000-01-01 00:00+00') END)"
            )
        apart = [f"coalesce(i.{quote(name)}::text, '')" for name in self.apart]
        keys = [f"i.{quote(self.total.key)}", "b.bucket", *apart]
        measures = [
            "sum(i._sign)" if column == "*" else f"sum(i._sign * {_number(self.raw, column)})"
            for column in self.total.measures.values()
        ]
        named = zip((*keys, "sum(i._sign)", *measures), (*self.keys, *self.sums), strict=True)
        conditions = [f"i.{quote(self.total.key)} IS NOT NULL", "b.bucket IS NOT NULL"]
        conditions += [_condition("i", each) for each in self.total.where]
        return (
            f"SELECT {', '.join(f'{value} AS {quote(name)}' for value, name in named)}"
            f" FROM {images} i CROSS JOIN LATERAL (VALUES {buckets}) b (bucket)"
            f" WHERE {' AND '.join(conditions)}"
            f" GROUP BY {', '.join(map(str, range(1, len(self.keys) + 1)))}"
        )

    def recount(self) -> str:
        """SQL for all rows that its table has to have, from raw alone."""
        conditions = ["NOT r._deleted"]
        if self.raw.identity:
            conditions.append(
                f"NOT EXISTS (SELECT FROM {self.raw.rows} o WHERE NOT o._deleted AND "
                f"{self.raw.alike} AND ({self.raw.order(self.raw.key, 'o')}) < "
                f"({self.raw.order(self.raw.key, 'r')}))"
            )
        rows = f"{self.raw.rows} r WHERE {' AND '.join(conditions)}"
        return self.added(f"(SELECT 1 AS _sign, {listed(self.total.reads, 'r')} FROM {rows})")

    def apply(self, relation: str, changes: str) -> str:
        """SQL that adds the rows of a query to those of a table."""
        changed = ", ".join(f"{quote(n)} = t.{quote(n)} + EXCLUDED.{quote(n)}" for n in self.sums)
        names = listed((*self.keys, *self.sums))
        is_change = " OR ".join(f"c.{quote(name)} <> 0" for name in self.sums)
        return (
            f"INSERT INTO {relation} AS t ({names}) SELECT {names} FROM ({changes}) c"
            f" WHERE {is_change} ON CONFLICT ({listed(self.keys)}) DO UPDATE SET {changed}"
        )

    def differences(self, recounted: str | None = None) -> str:
        """SQL for the rows whose sums differ from a recount, and by how much.

        `recounted`: a relation with the rows of `recount`, if there is one.
        """
        sums = ", ".join(
            f"coalesce(n.{quote(name)}, 0) - coalesce(o.{quote(name)}, 0) AS {quote(name)}"
            for name in self.sums
        )
        # A row that nothing counts for any more stays, with zeros.
        is_other = " OR ".join(
            f"coalesce(n.{quote(name)}, 0) <> coalesce(o.{quote(name)}, 0)" for name in self.sums
        )
        return (
            f"SELECT {listed(self.keys)}, {sums} FROM {recounted or f'({self.recount()})'} n"
            f" FULL JOIN {self.relation} o USING ({listed(self.keys)}) WHERE {is_other}"
        )

    def overall(self, relation: str) -> str:
        """SQL for the sums of all keys over all time, by `by` if there is one, all as text."""
        apart = listed(self.apart, "t") or "NULL"
        sums = ", ".join(f"sum(t.{quote(name)})::text" for name in self.total.measures)
        return (
            f"SELECT {apart}, {sums} FROM {relation} t WHERE t.bucket = {_LIFE} AND t._rows > 0"
            " GROUP BY 1 ORDER BY 1"
        )

    def functions(self) -> Iterator[str]:
        """SQL that makes the functions to read it. They find the table by its name."""
        key = self.raw.columns[self.total.key].target_type
        own = [*self.apart, *self.total.measures]
        result = ", ".join(f"{quote(n)} {'text' if n in self.apart else 'numeric'}" for n in own)
        sums = ", ".join(
            f"t.{quote(n)}" if n in self.apart else f"sum(t.{quote(n)})::numeric" for n in own
        )
        group = f" GROUP BY {listed(self.apart, 't')}" if self.apart else ""

        def over(starts: str, ends: str, more: str = "") -> str:
            return (
                f"FROM {self.relation} t{more} WHERE t.{quote(self.total.key)} = $1 AND"
                f" t.bucket >= {starts} AND t.bucket < {ends} AND t.bucket > {_LIFE}"
            )

        between, windows = (f"ods.{quote(f'{self.name}_{each}')}" for each in _FUNCTIONS)
        yield from (f"DROP FUNCTION IF EXISTS {name}" for name in (between, windows))
        yield (
            f"CREATE FUNCTION {between}({quote(self.total.key)} {key}, starts_at timestamptz, "
            f"ends_at timestamptz) RETURNS TABLE ({result}) LANGUAGE sql STABLE AS $$ SELECT {sums}"
            f" {over('$2', '$3')}{group} HAVING sum(t._rows) > 0 $$"
        )
        values = ", ".join(f"t.{quote(n)}" + ("" if n in self.apart else "::numeric") for n in own)
        parts = [
            f"SELECT 'life'::text, NULL::timestamptz, NULL::timestamptz, {values} FROM"
            f" {self.relation} t WHERE t.{quote(self.total.key)} = $1 AND t.bucket = {_LIFE}"
            " AND t._rows > 0"
        ]
        calls = {"cycle": "ods.cycle($2, $3, $4)", "day": "ods.local_day($3, $4)"}
        for window, call in calls.items():
            if window in self.total.windows:
                columns = "w.starts_at, w.ends_at"
                by = ", ".join([columns, *(f"t.{quote(name)}" for name in self.apart)])
                parts.append(
                    f"SELECT '{window}', {columns}, {sums} "
                    f"{over('w.starts_at', 'w.ends_at', f' CROSS JOIN {call} w')}"
                    f" GROUP BY {by} HAVING sum(t._rows) > 0"
                )
        wanted = [part for part in parts if "life" in self.total.windows or part is not parts[0]]
        yield (
            f"CREATE FUNCTION {windows}({quote(self.total.key)} {key}, cycle_day integer, zone "
            'text, moment timestamptz) RETURNS TABLE ("window" text, starts_at timestamptz, '
            f"ends_at timestamptz, {result}) LANGUAGE sql STABLE AS $$ "
            f"{' UNION ALL '.join(wanted)} $$"
        )

    def comment(self) -> Iterator[str]:
        """SQL that describes its table."""
        yield f"COMMENT ON TABLE {self.relation} IS {literal(self.total.description)}"
        texts = {
            "bucket": "The quarter of an hour, in UTC, in which the events were. -infinity: the "
            "row of all time.",
            "_rows": "The number of rows that count.",
        }
        for name, text in texts.items():
            yield f"COMMENT ON COLUMN {self.relation}.{name} IS {literal(text)}"


def _fitting(name: str, totals: Sequence[RunningTotal], latest: Sequence[Latest]) -> str:
    """The type of a column that is not there yet: one that everything that reads it can use."""
    if name in {*(each.at for each in totals), *(each.at for each in latest)}:
        return "timestamptz"
    return "bigint" if any(name in each.measures.values() for each in totals) else "text"


_FUNCTIONS = ("between", "windows")
_TEXTS = ("declared_at", "description")
"""What may change without another result."""


def _number(raw: RawRows, column: str) -> str:
    name = f"i.{quote(column)}"
    if raw.columns[column].kind is Kind.BOOLEAN:
        name = f"{name}::integer"
    return f"coalesce({name}::numeric, 0)"


def _condition(alias: str, where: Where) -> str:
    """A condition of a declaration as SQL."""
    column = f"{alias}.{quote(where.column)}"
    if where.operator in ("is null", "is not null"):
        return f"{column} {where.operator.upper()}"
    if isinstance(where.value, tuple):
        return f"{column} {where.operator.upper()} ({', '.join(map(literal, where.value))})"
    return f"{column} {where.operator} {literal(where.value)}"


def latest_function(raw: RawRows, latest: Latest) -> Iterator[str]:
    """SQL that makes the function to read the last row of a key, from raw itself."""
    name = f"ods.{quote(latest.name)}"
    columns = list(dict.fromkeys((latest.at, *latest.columns, *raw.key)))
    result = ", ".join(f"{quote(each)} {raw.columns[each].target_type}" for each in columns)
    order = ", ".join(f"r.{quote(each)} DESC" for each in (latest.at, *raw.key))
    conditions = [
        "NOT r._deleted",
        f"r.{quote(latest.key)} = $1",
        f"r.{quote(latest.at)} IS NOT NULL",
    ]
    conditions += [_condition("r", each) for each in latest.where]
    yield f"DROP FUNCTION IF EXISTS {name}"
    yield (
        f"CREATE FUNCTION {name}({quote('wanted')} {raw.columns[latest.key].target_type}) RETURNS "
        f"TABLE ({result}) LANGUAGE sql STABLE AS $$ SELECT {listed(columns, 'r')} FROM {raw.rows} "
        f"r WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT 1 $$"
    )
    yield f"COMMENT ON FUNCTION {name} IS {literal(latest.description)}"
