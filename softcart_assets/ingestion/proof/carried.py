"""Sums over a raw table's rows that follow every write, so that a check need not read all rows.

Triggers on the raw table add what a statement brings and take away what it replaces, in the
statement's own transaction. So the sums are those of the rows that PostgreSQL really has, whoever
wrote them. Only a reading of all rows gives the first sums, and is repeated from time to time: a
trigger does not see a broken disk, or a superuser who switches triggers off. Nor does it see that
the table was altered, which can give every row other values. So the sums hold for one file and one
set of columns of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

_MOST_ROWS = 100_000
"""A statement with more rows is not followed. It fills or overtakes a table, and its speed counts.
The next check reads all rows instead.
"""
# With PostgreSQL, each kind of statement needs a trigger of its own to see its rows.
_TRIGGERS = {
    "INSERT": "REFERENCING NEW TABLE AS rows_now",
    "UPDATE": "REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_now",
    "DELETE": "REFERENCING OLD TABLE AS rows_before",
    "TRUNCATE": "",
}
# What changes rows without a trigger leaves another file, as a restore does, or other columns.
_STATE = (
    "(SELECT concat_ws(' ', pg_relation_filenode(attrelid), string_agg(attnum || attname, ' ' ORDER"
    " BY attnum)) FROM pg_attribute WHERE attrelid = to_regclass(%(relation)s) AND attnum > 0 AND"
    " NOT attisdropped GROUP BY attrelid)"
)
# A table that was made anew has no triggers.
_IS_FOLLOWED = (
    "(SELECT count(*) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid ="
    " to_regclass(%(relation)s) AND starts_with(tgname, 'softcart_sums_') AND tgenabled IN"
    f" ('O', 'A') AND prosrc = coalesce(%(body)s, prosrc)) = {len(_TRIGGERS)} AND state = {_STATE}"
)
# `use_column`: a column of the source may have the name of a variable.
_BODY = """
#variable_conflict use_column
DECLARE
  more numeric[] := {zeros};
  less numeric[] := {zeros};
  many bigint := {most} + 1;
BEGIN
  IF TG_OP = 'DELETE' THEN
    many := (SELECT count(*) FROM rows_before);
  ELSIF TG_OP <> 'TRUNCATE' THEN
    many := (SELECT count(*) FROM rows_now);
  END IF;
  IF many = 0 THEN
    RETURN NULL;
  END IF;
  IF many <= {most} AND TG_OP <> 'DELETE' THEN
    SELECT ARRAY[{sums}] INTO more FROM rows_now WHERE NOT _deleted;
  END IF;
  IF many <= {most} AND TG_OP <> 'INSERT' THEN
    SELECT ARRAY[{sums}] INTO less FROM rows_before WHERE NOT _deleted;
  END IF;
  IF many <= {most} THEN
    UPDATE ingestion.raw_sums SET sums = (SELECT array_agg(s + m - l ORDER BY n)
      FROM unnest(sums, more, less) WITH ORDINALITY AS each (s, m, l, n)) WHERE {this};
  ELSE
    UPDATE ingestion.raw_sums SET {nothing} WHERE {this};
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  -- Somebody has changed the table's columns. The write is none the worse for it.
  UPDATE ingestion.raw_sums SET {nothing} WHERE {this};
  RETURN NULL;
END
"""


@dataclass(frozen=True)
class Carried:
    """Sums that triggers keep. `read_at`: None as long as they are those of later writes alone."""

    generation: int
    sums: list[Decimal]
    read_at: datetime | None

    def is_whole_since(self, moment: datetime | None) -> bool:
        """Return whether all rows were read after a moment."""
        return self.read_at is not None and (moment is None or moment <= self.read_at)


class CarriedSums:
    """Sums of a raw table, over its current rows.

    `relation`: the table's quoted name. `items`: aggregates of its columns in SQL, the first of
    them the number of rows. `salt`: random numbers in the items.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        table: tuple[str, str],
        relation: str,
        items: Sequence[str],
        salt: Sequence[int] = (),
    ) -> None:
        self.connection, self.key, self.relation = connection, table, relation
        self.items, self.salt = items, list(salt)
        # PostgreSQL cuts long names off, and two tables must not share a function.
        name = hashlib.sha256("/".join(table).encode()).hexdigest()[:32]
        self._function = f"ingestion.sums_{name}"
        source, plain = (sql.Literal(each).as_string() for each in table)
        zeros = f"array_fill(0::numeric, ARRAY[{len(items)}])"
        self._nothing = f"generation = generation + 1, sums = {zeros}, read_at = NULL"
        self._body = _BODY.format(
            zeros=zeros,
            most=_MOST_ROWS,
            sums=", ".join(f"coalesce({item}, 0)::numeric" for item in items),
            this=f"(source, table_name) = ({source}, {plain})",
            nothing=self._nothing,
        )

        self._parameters = {
            **_parameters(table, relation, self._body),
            "salt": self.salt,
        }

    def follow(self) -> None:
        """Have triggers follow the table, if they do not yet. Sums begin at zero then.

        Writers wait until the transaction ends. Readers do not.
        """
        if self.read() is not None:
            return
        # First, because two sessions cannot replace a function at the same time.
        self._run(f"LOCK TABLE {self.relation} IN SHARE ROW EXCLUSIVE MODE")
        if self.read() is not None:
            return
        body = sql.Literal(self._body).as_string()
        self._run(
            f"CREATE OR REPLACE FUNCTION {self._function}() RETURNS trigger LANGUAGE plpgsql "
            # Whoever may write the table need not have rights on the bookkeeping.
            f"SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {body}"
        )
        for event, rows in _TRIGGERS.items():
            self._run(
                # Not dropped before: that would wait for everybody who reads the table.
                f"CREATE OR REPLACE TRIGGER softcart_sums_{event.lower()} AFTER {event} ON "
                f"{self.relation} {rows} FOR EACH STATEMENT EXECUTE FUNCTION {self._function}()"
            )
        zeros = [0] * len(self.items)
        self.connection.execute(
            "INSERT INTO ingestion.raw_sums AS s"
            " (source, table_name, generation, sums, salt, state) VALUES (%(source)s, %(table)s, 0,"
            f" %(zeros)s, %(salt)s, {_STATE}) ON CONFLICT (source, table_name) DO UPDATE SET"
            " generation = s.generation + 1, sums = EXCLUDED.sums, read_at = NULL,"
            " salt = EXCLUDED.salt, state = EXCLUDED.state",
            {**self._parameters, "zeros": zeros},
        )

    def read(self) -> Carried | None:
        """Return what the triggers keep. None if they do not follow the table, or other sums."""
        row = self.connection.execute(
            "SELECT generation, sums, read_at FROM ingestion.raw_sums"
            " WHERE (source, table_name, salt) = (%(source)s, %(table)s, %(salt)s::bigint[])"
            f" AND {_IS_FOLLOWED}",
            self._parameters,
        ).fetchone()
        return Carried(*row) if row else None

    def complete(self, then: Carried, sums: Sequence[Decimal], read_at: datetime) -> None:
        """Keep sums that were computed from all rows, at the moment when the triggers had `then`.

        Writes since have changed the triggers' sums, so only the difference is added.
        """
        self.connection.execute(
            "UPDATE ingestion.raw_sums SET read_at = %s, sums = (SELECT array_agg(s + a - b ORDER "
            "BY n) FROM unnest(sums, %s::numeric[], %s::numeric[]) WITH ORDINALITY AS"
            " each (s, a, b, n)) WHERE (source, table_name, generation) = (%s, %s, %s)",
            (read_at, list(sums), then.sums, *self.key, then.generation),
        )

    def _run(self, statement: str) -> None:
        self.connection.execute(statement.encode())


def known_salt(connection: psycopg.Connection, source: str, table: str) -> list[int]:
    """Return the random numbers in a table's sums. Empty if there are none."""
    row = connection.execute(
        "SELECT salt FROM ingestion.raw_sums WHERE (source, table_name) = (%s, %s)", (source, table)
    ).fetchone()
    return list(row[0]) if row else []


def known_rows(connection: psycopg.Connection, table: tuple[str, str], relation: str) -> int | None:
    """Return the number of a table's current rows, if its sums tell it."""
    row = connection.execute(
        "SELECT sums[1] FROM ingestion.raw_sums WHERE (source, table_name) = (%(source)s,"
        f" %(table)s) AND read_at IS NOT NULL AND {_IS_FOLLOWED}",
        _parameters(table, relation, None),
    ).fetchone()
    return int(row[0]) if row else None


def _parameters(table: tuple[str, str], relation: str, body: str | None) -> dict[str, Any]:
    return {"source": table[0], "table": table[1], "relation": relation, "body": body}
