"""Does another home hold the same numbers in production? Digests per table and per column say so.

    python -m benchmarks.same_numbers HOME > numbers.json
    python -m benchmarks.same_numbers OTHER_HOME numbers.json

The servers of the home must run. The second form names every table and column that differs. Two
homes are alike only if both have the same seed, see `softcart seed --until`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from softcart_assets.connections import production
from softcart_assets.publishing import contents
from softcart_assets.stack import Stack

OF_THE_RUN = frozenset({"data_position"})
"""Columns that say how far a run had read the sources. Each source counts its positions anew."""


def digests(session: psycopg.Connection) -> dict[str, str]:
    """What readers find in production: a digest of the rows of each table, and of each column.

    `<table>` has the number of the rows and the digest of all columns but `OF_THE_RUN`.
    `<table>.<column>` has the digest of one column. `session` must be outside a transaction.
    """
    contents.prepare(session)
    found = {}
    tables: dict[str, list[str]] = {}
    for table, column in session.execute(
        "SELECT table_name::text, column_name::text FROM information_schema.columns"
        " WHERE table_schema = 'production' ORDER BY table_name, ordinal_position"
    ):
        tables.setdefault(table, []).append(column)
    for table, columns in tables.items():
        chosen = [[name for name in columns if name not in OF_THE_RUN], *([c] for c in columns)]
        sums = SQL(", ").join(
            SQL("coalesce(sum({}), 0)").format(contents.number_of(each)) for each in chosen
        )
        row = session.execute(
            SQL("SELECT count(*), {} FROM {}").format(sums, Identifier("production", table))
        ).fetchone()
        assert row
        rows, whole, *others = row
        found[table] = f"{rows} rows, {whole}"
        found |= {f"{table}.{c}": f"{each}" for c, each in zip(columns, others, strict=True)}
    return found


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The tables and columns whose digests are not the same, `OF_THE_RUN` aside."""
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name) and name.partition(".")[2] not in OF_THE_RUN
    ]


def main(home: str, noted: str | None = None) -> None:
    """Print the digests of a home, or what differs from those that were noted."""
    os.environ |= Stack(Path(home), ignore_environment=True).env()
    with production().connect() as session:
        found = digests(session)
    if noted is None:
        print(json.dumps(found, indent=2))
        return
    tables = [name for name in found if "." not in name]
    differ = differences(json.loads(Path(noted).read_text()), found)
    print(f"{len(tables)} tables, {len(found) - len(tables)} columns, {len(differ)} differences")
    print(*differ, sep="\n")
    if differ:
        raise SystemExit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
