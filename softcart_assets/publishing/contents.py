"""What the tables of the slots hold: which rows of staging, and numbers that prove it.

Each row has a number, a hash of its text. Their sum and the count of the rows tell whether two
tables have the same rows. When some rows change, the sum moves by the numbers of these rows only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg
from psycopg import sql
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""The settings that the text of a value depends on."""


@dataclass(frozen=True)
class Point:
    """A state of a table in staging. `capture`: the notes of its changes. `snapshot`: what it saw
    of them, as a `pg_snapshot`.
    """

    capture: str
    snapshot: str


@dataclass(frozen=True)
class Rows:
    """The number of rows of a table and the sum of the numbers of its rows."""

    count: int
    number: Decimal

    def plus(self, other: Rows) -> Rows:
        """Both added up."""
        return Rows(self.count + other.count, self.number + other.number)

    def minus(self, other: Rows) -> Rows:
        """These rows without the others."""
        return Rows(self.count - other.count, self.number - other.number)


@dataclass(frozen=True)
class Content:
    """What a table of a slot holds.

    `point`: the state of staging that it equals, None if it is unknown. `version`: the publication
    that first showed these rows, None if none did. `stale`: rows written since VACUUM. `figures`:
    the figures of audits, by the text of their query.
    """

    point: Point | None
    rows: Rows
    version: int | None = None
    stale: int = 0
    figures: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The version of the rows as a text. The count and the sum tell it from the same version of
        a production database that was made anew.
        """
        return f"{self.version}/{self.rows.count}/{self.rows.number}"


def number_of(columns: Iterable[str]) -> sql.Composed:
    """The number of a row with those columns, as SQL.

    It is a bigint. Their sum is a numeric, so it does not overflow.
    """
    return SQL("hashtextextended(ROW({})::text, 0)").format(
        SQL(", ").join(map(Identifier, columns))
    )


def count(session: psycopg.Connection, table: sql.Composable, columns: Iterable[str]) -> Rows:
    """Add up a whole table."""
    question = SQL("SELECT count(*), coalesce(sum({}), 0) FROM {}")
    row = session.execute(question.format(number_of(columns), table)).fetchone()
    assert row
    return Rows(*row)


def prepare(session: psycopg.Connection) -> None:
    """Give a session the settings that numbers depend on. It must be outside a transaction."""
    for name, value in SETTINGS.items():
        session.execute("SELECT set_config(%s, %s, false)", [name, value])
    session.commit()


def version_of(session: psycopg.Connection, table: str) -> str:
    """The version of the rows that readers see in a table: the publication that first showed them.

    Of a release that did not record it, the version of the whole is taken.
    """
    # After an upgrade, somebody may read before the next publication makes the table.
    if session.execute("SELECT to_regclass('production_meta.contents')").fetchone() == (None,):
        row = session.execute("SELECT version::text FROM production_meta.current").fetchone()
        return row[0] if row else ""
    row = session.execute(
        """
        SELECT concat_ws('/', coalesce(t.version, c.version), t.row_count, t.number)
        FROM production_meta.current c
        LEFT JOIN production_meta.contents t ON t.slot = c.slot AND t.table_name = %s
        """,
        [table],
    ).fetchone()
    return row[0] if row else ""


def read(session: psycopg.Connection) -> dict[int, dict[str, Content]]:
    """Slot → its tables whose rows are known."""
    found: dict[int, dict[str, Content]] = {}
    for slot, name, capture, snapshot, rows, number, version, stale, figures in session.execute(
        "SELECT slot, table_name, capture, snapshot, row_count, number, version, stale_rows,"
        " figures FROM production_meta.contents"
    ):
        found.setdefault(slot, {})[name] = Content(
            Point(capture, snapshot) if capture else None,
            Rows(rows, number),
            version,
            stale,
            {
                question: {figure: Decimal(value) for figure, value in values.items()}
                for question, values in figures.items()
            },
        )
    return found


def store(session: psycopg.Connection, slot: int, contents: Mapping[str, Content]) -> None:
    """Record what tables of a slot hold, in the transaction that writes it or shows it."""
    with session.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO production_meta.contents VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (slot, table_name) DO UPDATE SET
              capture = excluded.capture, snapshot = excluded.snapshot,
              row_count = excluded.row_count, number = excluded.number,
              version = excluded.version, stale_rows = excluded.stale_rows,
              figures = excluded.figures
            """,
            [
                (
                    slot,
                    name,
                    content.point and content.point.capture,
                    content.point and content.point.snapshot,
                    content.rows.count,
                    content.rows.number,
                    content.version,
                    content.stale,
                    Jsonb(
                        {
                            question: {figure: str(value) for figure, value in values.items()}
                            for question, values in content.figures.items()
                        }
                    ),
                )
                for name, content in contents.items()
            ],
        )


def forget(session: psycopg.Connection, slots: Iterable[int], name: str | None = None) -> None:
    """Record that nobody knows what these slots hold, in one table or in all.

    It comes before the rows are touched, so that a killed publication leaves no wrong record.
    """
    session.execute(
        "DELETE FROM production_meta.contents"
        " WHERE slot = ANY(%s) AND table_name = coalesce(%s, table_name)",
        [list(slots), name],
    )
