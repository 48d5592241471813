"""Cuts a big table into ranges of its key, so that several readers can share it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.types import Column, Kind
from softcart_assets.lines.model import Table

_RANGE_ROWS = 100_000, 1_000_000
"""Rows of a key range, at least and at most.

A range costs some milliseconds, and is what a kill may cost.
"""
_CUT_BY_WALKING = {
    "char",
    "varchar",
    "binary",
    "varbinary",
    "decimal",
    "date",
    "datetime",
    "timestamp",
}


def conditions(
    session: Session, table: Table, columns: Sequence[Column], rows: int, workers: int
) -> list[str | None]:
    """Return conditions that cut a table of about `rows` rows into key ranges of about equal size,
    several for each of `workers` readers.

    A single one (None: all rows) is returned if ranges would not pay or no index serves, as for a
    small table or one without a key. Whole numbers are cut by the server's estimates of the rows in
    a range, so gaps and clusters do no harm. Other keys are cut by walking along the index. A type
    is not cut if its order in the index is not that of its comparison.
    """
    # Four for each reader: they finish at different times, and the last range should not be long.
    size = min(max(rows // (4 * workers), _RANGE_ROWS[0]), _RANGE_ROWS[1])
    leading = next((c for c in columns if table.key and c.name == table.key[0]), None)
    if rows < 2 * size or leading is None or not is_indexed(session, table, leading.name):
        return [None]
    type_ = re.split(r"[ (]", leading.source_type)[0]
    if type_.endswith("int"):
        return list(_cut_numbers(session, table, leading, size, rows))
    if type_ in _CUT_BY_WALKING:
        return list(_cut_by_walking(session, table, leading, size))
    return [None]


def is_indexed(session: Session, table: Table, column: str) -> bool:
    """Return whether an index serves ranges of a column's values."""
    literal = session.literal
    return bool(
        session.query(
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND "
            "seq_in_index = 1"
            f" AND index_type = 'BTREE' AND table_name = {literal(table.at_source)} AND "
            f"column_name = {literal(column)} LIMIT 1"
        )
    )


def _cut_numbers(
    session: Session, table: Table, key: Column, size: int, rows_in_all: int
) -> Iterator[str]:
    """Yield conditions on a whole number.

    The first and the last have no outer limit. So together they hold for every row.
    """
    name, relation = MYSQL.quote(key.name), MYSQL.quote(table.at_source)
    lowest, highest = session.query(f"SELECT MIN({name}), MAX({name}) FROM {relation}")[0]
    if lowest is None or highest is None:
        yield "TRUE"
        return
    # MySQL's default format is a setting of the server, and only this one has a column of rows.
    explain = "EXPLAIN" if session.is_mariadb else "EXPLAIN FORMAT=TRADITIONAL"

    def pieces(low: int, high: int) -> Iterator[tuple[int, int]]:
        """(highest key, about how many rows) of pieces that have no more than `size` rows."""
        plan = session.query(
            f"{explain} SELECT 1 FROM {relation} WHERE {name} BETWEEN {low} AND {high}"
        )[0]
        rows = int(plan[8 if session.is_mariadb else 9] or 0)
        if rows <= size or low == high:
            yield high, rows
            return
        # Halved by numbers until the server expects few enough rows: it has no figures by rank.
        middle = (low + high) // 2
        yield from pieces(low, middle)
        yield from pieces(middle + 1, high)

    found = list(pieces(int(lowest), int(highest)))
    # Of wide ranges the server thinks there are about twice the rows that there are.
    total = sum(rows for _, rows in found)
    share = min((rows_in_all or total) / total, 1) if total else 1
    ends: list[int] = []
    filled, last = 0.0, int(lowest)
    for end, estimate in found:
        rows = estimate * share
        if filled and filled + rows > size:
            ends.append(last)
            filled = 0
        filled, last = filled + rows, end
    yield from _between(name, [str(end) for end in ends], is_nullable=key.nullable)


def _cut_by_walking(session: Session, table: Table, key: Column, size: int) -> Iterator[str]:
    name, relation = MYSQL.quote(key.name), MYSQL.quote(table.at_source)
    selected = f"HEX({name})" if key.kind is Kind.BYTES else name
    ends: list[str] = []
    while True:
        after = f" WHERE {name} > {ends[-1]}" if ends else ""
        found = session.query(
            f"SELECT {selected} FROM {relation}{after} ORDER BY {name} LIMIT 1 OFFSET {size}"
        )
        if not found or found[0][0] is None:
            break
        ends.append(f"x'{found[0][0]}'" if key.kind is Kind.BYTES else session.literal(found[0][0]))
    yield from _between(name, ends, is_nullable=key.nullable)


def _between(name: str, ends: Sequence[str], *, is_nullable: bool) -> Iterator[str]:
    """Yield conditions for the ranges up to each end, and for what lies behind the last."""
    if not ends:
        yield "TRUE"
        return
    # NULL is in no comparison, so it needs a condition of its own.
    yield f"({name} <= {ends[0]}{f' OR {name} IS NULL' if is_nullable else ''})"
    for low, high in pairwise(ends):
        yield f"{name} > {low} AND {name} <= {high}"
    yield f"{name} > {ends[-1]}"
