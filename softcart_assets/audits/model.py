"""Defines audits: named SQL queries that decide whether tables may be published.

`softcart_assets.publishing.suite` has the queries. They name tables without a schema. So the same
audit runs on staging (`warehouse`, `aggregates`), on a candidate and on `production`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.sql import Composed

from softcart_assets.lines.model import Limit

Details = dict[str, Any]
"""Figures by name: integers, texts (also for exact decimals and dates), lists of them, or None."""


@dataclass(frozen=True)
class AuditResult:
    """The result of one audit.

    `details`: its figures, with a sample of the offending keys. `is_open`: nobody can tell now
    whether something is wrong, so it may have passed without a proof. `limit`: the limit that the
    audit compares `share` with, if it has one. `what`: what `share` is a share of.
    """

    name: str
    table: str
    passed: bool
    details: Details
    is_open: bool = False
    limit: Limit | None = None
    share: Decimal | None = None
    what: str = ""

    @property
    def message(self) -> str:
        """The result for people: of a limit, its figure, the limit and where to change it."""
        if self.limit is None or self.share is None:
            return f"{self.name}: {self.details}"
        return (
            f"{self.name}: {self.share:,.2%} {self.what}. The limit is {self.limit.value:,.2%}: "
            f"{self.limit.reason} It is declared at {self.limit.declared_at}."
        )


@dataclass(frozen=True)
class Audit:
    """A query about one set of tables.

    `sql` returns one row with the counts `offending` and `total`, and any other figures. A column
    `sample` lists keys of offending rows. The audit passes if no row is offending, or if their
    share is within the limit. `what`: what an offending row is, for the message of a limit.
    `reads`: the other tables in the query.

    `added`: the same query about added rows only. It suffices if the other rows passed, and the
    columns in `refers_to`, each a table and a column, have lost no value since. None: nothing less
    than the whole table suffices.
    """

    name: str
    table: str
    description: str
    sql: Composed
    limit: Limit | None = None
    what: str = ""
    reads: tuple[str, ...] = ()
    added: Composed | None = None
    refers_to: tuple[tuple[str, str], ...] = ()

    def run(self, session: psycopg.Connection, *schemas: str) -> AuditResult:
        """Run the query. A table is looked for in these schemas, in their order."""
        figures = _figures(session, self.sql, schemas)
        details = _plain(figures)
        if self.limit is None:
            return AuditResult(self.name, self.table, not figures["offending"], details)
        share = Decimal(figures["offending"]) / max(figures["total"], 1)
        return _limited(self, share, self.limit, details)


@dataclass(frozen=True)
class Part:
    """Figures that add up over the rows of a table: those of all rows are those of some and of the
    others. `sql` returns one row of numbers. Null counts as 0.
    """

    table: str
    sql: Composed


@dataclass(frozen=True)
class Measured:
    """An audit of figures that add up. They are carried forward when some rows change.

    With a limit, `parts` has one part with the counts `offending` and `total`, as of an `Audit`.
    Without one, all figures of all parts must be equal.
    """

    name: str
    table: str
    description: str
    parts: tuple[Part, ...]
    limit: Limit | None = None
    what: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables of the figures beside its own."""
        return tuple(part.table for part in self.parts if part.table != self.table)

    def run(self, session: psycopg.Connection, *schemas: str) -> AuditResult:
        """Add the figures up over whole tables and judge them."""
        figures = [figures_of(session, part.sql, schemas) for part in self.parts]
        return self.judge({name: value for each in figures for name, value in each.items()})

    def judge(self, figures: Mapping[str, Decimal]) -> AuditResult:
        """The result for these figures."""
        details: Details = {
            # Counts are integers, and sums keep their digits.
            name: int(value) if value.as_tuple().exponent == 0 else str(value)
            for name, value in figures.items()
        }
        if self.limit is None:
            return AuditResult(self.name, self.table, len(set(figures.values())) == 1, details)
        share = figures["offending"] / max(figures["total"], Decimal(1))
        return _limited(self, share, self.limit, details)


@dataclass(frozen=True)
class Comparison:
    """One query, run on a candidate and on staging. `sql` returns one row of figures, and all of
    them must be equal.
    """

    name: str
    table: str
    description: str
    sql: Composed

    def compare(
        self,
        candidate: tuple[psycopg.Connection, tuple[str, ...]],
        staging: tuple[psycopg.Connection, tuple[str, ...]],
    ) -> AuditResult:
        """Run the query on both sides. Each side is a connection and the schemas of its tables."""
        ours = _figures(candidate[0], self.sql, candidate[1])
        theirs = _figures(staging[0], self.sql, staging[1])
        details = _plain(ours) | {f"{n}_staging": value for n, value in _plain(theirs).items()}
        return AuditResult(self.name, self.table, ours == theirs, details)


@dataclass(frozen=True)
class Equality:
    """The rows of a candidate are those of staging. A publication compares them itself: it adds up
    whole tables, or the changes on both sides.
    """

    name: str
    table: str
    description: str


@dataclass(frozen=True)
class Volume:
    """The number of rows of a table, compared with the versions before: how many are gone.

    The audit passes if the table has not lost more rows of the version before than the limit
    allows. One version with too many rows would make its own correction a loss. So a table may also
    go back to its usual number of rows. That it still has more than the usual number is no excuse:
    a table that has grown would lose most of its rows.
    """

    name: str
    table: str
    description: str
    limit: Limit
    what: str = ""

    def compare(self, rows: int, live: int, usual: int) -> AuditResult:
        """The result for a number of rows. `live`: that of the version before. `usual`: the median
        of several.
        """
        share, what = self._share(rows, live, usual)
        details = {"row_count": rows, "row_count_current": live, "row_count_usual": usual}
        return _limited(replace(self, what=what), share, self.limit, details)

    def _share(self, rows: int, live: int, usual: int) -> tuple[Decimal, str]:
        """What the limit is compared with, and what it is a share of."""
        is_usual = rows <= usual * (1 + self.limit.value)
        before = min(live, usual) if is_usual else live
        share = max(Decimal(before - rows) / max(before, 1), Decimal(0))
        return share, f"of the rows of {self.table} are gone: {rows:,} instead of {before:,}"


class Growth(Volume):
    """The same of a table that grows: its rows as a multiple of those before.

    A table that gets its usual number of rows again has not grown. One that was empty may get any
    number: nothing says yet how many are plausible.
    """

    def _share(self, rows: int, live: int, usual: int) -> tuple[Decimal, str]:
        before = max(live, usual)
        share = Decimal(rows) / before if before else Decimal(0)
        return share, f"of the rows that {self.table} had: {rows:,} instead of {before:,}"


AnyAudit = Audit | Measured | Comparison | Equality | Volume
"""What a publication asks of a candidate."""


def _limited(
    audit: Audit | Measured | Volume, share: Decimal, limit: Limit, details: Details
) -> AuditResult:
    """The result of an audit that compares a share with a limit."""
    declared = {
        "limit": str(limit.value),
        "reason of the limit": limit.reason,
        "limit declared at": limit.declared_at,
    }
    return AuditResult(
        audit.name,
        audit.table,
        share <= limit.value,
        details | declared,
        limit=limit,
        share=share,
        what=audit.what,
    )


def figures_of(
    session: psycopg.Connection, question: Composed, schemas: tuple[str, ...]
) -> dict[str, Decimal]:
    """Run a query of numbers, with its tables looked for in these schemas."""
    figures = _figures(session, question, schemas)
    return {name: Decimal(value or 0) for name, value in figures.items()}


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
