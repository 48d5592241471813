"""Two lines of business for tests and their shared dimension, as small tables in staging.

`left` and `right` each have a fact that refers to the shared dimension of line `conformed`.
"""

from __future__ import annotations

from decimal import Decimal

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import AddsUp, Published
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import PublishedTable, Reference


def _fact(line: str, adds_up: tuple[AddsUp, ...] = ()) -> PublishedTable:
    return PublishedTable(
        Published(f"fct_{line}", indexes=(("member",),), totals=("amount",), adds_up=adds_up),
        "warehouse",
        ("id",),
        line,
        references=(Reference("member", "dim_member", "member", "0", Decimal(1)),),
    )


TABLES = (
    PublishedTable(Published("dim_member"), "warehouse", ("member",), "conformed"),
    _fact("left"),
    _fact("right"),
)
"""What each line publishes."""

SUMS = (*TABLES[:2], _fact("right", (AddsUp("amount", "fct_left", "amount"),)))
"""The same, with a sum of `right` that must be that of `left`."""

AUDITS = audits_of(TABLES)


def create(staging: PostgresConnection, rows: int = 100) -> None:
    """Create the tables. Each fact has `rows` rows of 1.00, which refer to members 1 to 10."""
    with staging.connect() as session:
        session.execute("CREATE SCHEMA warehouse")
        session.execute(
            "CREATE TABLE warehouse.dim_member AS SELECT i AS member FROM generate_series(0, 10) i"
        )
        for name in ("fct_left", "fct_right"):
            session.execute(
                f"CREATE TABLE warehouse.{name} AS SELECT i AS id, 1 + i % 10 AS member, "
                f"1.00::numeric(9, 2) AS amount FROM generate_series(1, {rows}) i".encode()
            )


def change(staging: PostgresConnection, statements: str) -> None:
    """Run SQL with the tables on the search path."""
    with staging.connect() as session:
        session.execute("SET search_path TO warehouse")
        session.execute(statements.encode())
