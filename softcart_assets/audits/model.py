"""Defines audits: named SQL queries that decide whether tables may be published.

`softcart_assets.publishing.suite` has the queries. They name tables without a schema. So the same
audit runs on staging (`warehouse`, `aggregates`), on a candidate and on `production`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.sql import Composed

Details = dict[str, Any]
"""Figures by name: integers, texts (also for exact decimals and dates), lists of them, or None."""


@dataclass(frozen=True)
class AuditResult:
    """The result of one audit.

    `details`: its figures, with a sample of the offending keys. `is_open`: nobody can tell now
    whether something is wrong, so it may have passed without a proof.
    """

    name: str
    table: str
    passed: bool
    details: Details
    is_open: bool = False


@dataclass(frozen=True)
class Audit:
    """A query about one set of tables.

    `sql` returns one row with the counts `offending` and `total`, and any other figures. A column
    `sample` lists keys of offending rows. The audit passes if the share of offending rows is at
    most `max_share`. `reads`: the other tables in the query.
    """

    name: str
    table: str
    description: str
    sql: Composed
    max_share: Decimal = Decimal(0)
    reads: tuple[str, ...] = ()

    def run(self, session: psycopg.Connection, *schemas: str) -> AuditResult:
        """Run the query. A table is looked for in these schemas, in their order."""
        figures = _figures(session, self.sql, schemas)
        passed = figures["offending"] <= figures["total"] * self.max_share
        details = _plain(figures)
        if self.max_share:
            details["allowed_share"] = str(self.max_share)
        return AuditResult(self.name, self.table, passed, details)


@dataclass(frozen=True)
class Comparison:
    """One query, run on a candidate and on a reference. `sql` returns one row of figures.

    Against `staging`, all figures must be equal. Against `current`, the published version, numbers
    may be smaller by at most the share `max_drop`. They may be larger without limit.
    """

    name: str
    table: str
    description: str
    sql: Composed
    against: Literal["staging", "current"]
    max_drop: Decimal = Decimal(0)

    def compare(
        self,
        candidate: tuple[psycopg.Connection, tuple[str, ...]],
        reference: tuple[psycopg.Connection, tuple[str, ...]],
    ) -> AuditResult:
        """Run the query on both sides. Each side is a connection and the schemas of its tables."""
        ours = _figures(candidate[0], self.sql, candidate[1])
        theirs = _figures(reference[0], self.sql, reference[1])
        if self.against == "staging":
            passed = ours == theirs
        else:
            passed = all(
                ours[name] >= value * (1 - self.max_drop) for name, value in theirs.items()
            )
        details = _plain(ours) | {
            f"{name}_{self.against}": value for name, value in _plain(theirs).items()
        }
        if self.max_drop:
            details["allowed_drop"] = str(self.max_drop)
        return AuditResult(self.name, self.table, passed, details)


def _figures(session: psycopg.Connection, question: Composed, schemas: tuple[str, ...]) -> Details:
    # A transaction, because SET LOCAL ends with it. The next audit may look in other schemas.
    with session.transaction(), session.cursor(row_factory=dict_row) as cursor:
        path = sql.SQL(", ").join(map(sql.Identifier, schemas))
        cursor.execute(sql.SQL("SET LOCAL search_path TO {}").format(path))
        row = cursor.execute(question).fetchone()
        assert row is not None
        return row


def _plain(figures: Details) -> Details:
    return {n: v if isinstance(v, int | str | list | None) else str(v) for n, v in figures.items()}
