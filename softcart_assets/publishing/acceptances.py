"""Limits that hold a line of business, and people who accept such a deviation once.

A publication records the limits that were exceeded (`record`). A person accepts one of them with a
reason (`accept`). The next publication of the line goes live with it and uses the acceptance up
(`use`). The reason stays in `production_meta.acceptances`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import psycopg
from psycopg.rows import class_row

from softcart_assets.audits.model import AuditResult
from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing.slots import set_up

SLACK = Decimal("0.01")
"""How far a deviation may grow after it was accepted. Data change between the two."""


class NothingToAccept(RuntimeError):
    """The named audit holds no line. The message lists those that do."""


@dataclass(frozen=True)
class Deviation:
    """A limit that holds a line. `share`: the figure above the limit. `message`: for people."""

    audit: str
    line: str
    share: Decimal
    message: str
    failed_at: datetime


@dataclass(frozen=True)
class Acceptance:
    """A deviation that a person accepted for the next publication of its line."""

    id: int
    audit: str
    line: str
    share: Decimal
    reason: str
    accepted_by: str
    accepted_at: datetime

    def covers(self, result: AuditResult) -> bool:
        """Whether this is the deviation that the person saw, and not a larger one."""
        return result.share is not None and result.share <= self.share + SLACK

    def __str__(self) -> str:
        return f"{self.reason} ({self.accepted_by}, {self.accepted_at:%Y-%m-%d %H:%M} UTC)"


def deviations(production: PostgresConnection) -> list[Deviation]:
    """The limits that hold lines since their last publication."""
    with production.connect() as session:
        set_up(session)
        return _deviations(session)


def accept(production: PostgresConnection, audit: str, reason: str, by: str) -> Deviation:
    """Let the next publication pass a deviation. Returns it.

    An earlier acceptance of the same audit that was not used is replaced. Raises `NothingToAccept`
    if no limit of that name is exceeded.
    """
    with production.connect() as session:
        set_up(session)
        held = _deviations(session)
        found = [each for each in held if each.audit == audit]
        if not found:
            listed = "".join(f"\n  {each.message}" for each in held)
            raise NothingToAccept(
                f"{audit!r} is no limit that held a line in its last publication. "
                + (f"These are:{listed}" if held else "No line is held by a limit.")
                + "\nOther audits cannot be accepted. Correct the tables in staging instead."
            )
        session.execute(
            "DELETE FROM production_meta.acceptances WHERE audit = %s AND used_by IS NULL", [audit]
        )
        session.execute(
            "INSERT INTO production_meta.acceptances"
            " (audit, line, share, message, reason, accepted_by)"
            " SELECT audit, line, share, message, %s, %s FROM production_meta.deviations"
            " WHERE audit = %s",
            [reason, by, audit],
        )
    return found[0]


def read_open(session: psycopg.Connection) -> dict[str, Acceptance]:
    """The acceptances that no publication has used, by audit."""
    with session.cursor(row_factory=class_row(Acceptance)) as cursor:
        rows = cursor.execute(
            "SELECT id, audit, line, share, reason, accepted_by, accepted_at AT TIME ZONE 'UTC'"
            " AS accepted_at FROM production_meta.acceptances WHERE used_by IS NULL"
        ).fetchall()
    return {row.audit: row for row in rows}


def use(session: psycopg.Connection, used: Iterable[Acceptance], version: int) -> None:
    """Use acceptances up, in the transaction that switches to the version."""
    session.execute(
        "UPDATE production_meta.acceptances SET used_by = %s WHERE id = ANY(%s)",
        [version, [each.id for each in used]],
    )


def record(
    session: psycopg.Connection, lines: Collection[str], held: Mapping[str, Sequence[AuditResult]]
) -> None:
    """Record the limits that hold these lines, in place of those of their last publication.

    `held`: held line → its failed audits.
    """
    rows = [
        (result.name, line, result.share, result.message)
        for line, results in held.items()
        for result in results
        if result.limit
    ]
    with session.transaction(), session.cursor() as cursor:
        cursor.execute("DELETE FROM production_meta.deviations WHERE line = ANY(%s)", [list(lines)])
        cursor.executemany(
            "INSERT INTO production_meta.deviations (audit, line, share, message)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (audit) DO NOTHING",
            rows,
        )


def _deviations(session: psycopg.Connection) -> list[Deviation]:
    with session.cursor(row_factory=class_row(Deviation)) as cursor:
        return cursor.execute(
            "SELECT audit, line, share, message, failed_at FROM production_meta.deviations"
            " ORDER BY audit"
        ).fetchall()
