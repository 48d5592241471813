"""Asks the staging warehouse about people, and notes each look-up.

An answer is one statement: it sees one moment of all sources, since raw, totals and positions
commit together. The note in `serving.look_ups` is a part of the same statement. So there is no
answer without it, and it costs no second way to the server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import psycopg
import psycopg_pool

from softcart_assets.connections import PostgresConnection
from softcart_assets.serving.desk import Desk
from softcart_assets.serving.tokens import Token, prepare
from softcart_assets.web.live import Unavailable

_WAIT_SECONDS = 1.0
"""So long a request waits for a connection. A caller is on the line."""

_SETTINGS = {
    # The plan of so large a statement takes longer to make than to run.
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": "5s",
    "lock_timeout": "2s",
}

_NOTE = """
noted AS (
  INSERT INTO serving.look_ups (token_id, token_name, resource, purpose, subjects)
  SELECT %(token_id)s, %(token_name)s, %(resource)s, %(purpose)s, coalesce(array_agg(id), '{}')
  FROM person
),
"""

# -infinity: nobody knows. A source whose tables stand at different places has no position.
_STANDS = """
stands AS MATERIALIZED (
  SELECT source,
    CASE WHEN min(position) = max(position) AND count(position) = count(*) THEN min(position) END
      AS position,
    min(coalesce(complete_at, '-infinity')) AS complete_at,
    (array_agg(state ORDER BY array_position(
      '{{stopped,missing,stale,read,live}}'::text[], state)))[1] AS state
  FROM (
    SELECT t.source, s.position, s.complete_at, coalesce(s.state, 'missing') AS state
    FROM (VALUES {tables}) AS t (source, table_name)
    LEFT JOIN ingestion.table_states AS s USING (source, table_name)
  ) AS tables
  GROUP BY source
)
"""

# Clocks may be set back. Nothing is younger than now.
_AGE = "greatest(floor(extract(epoch FROM clock_timestamp() - {}) * 1000)::bigint, 0)"
_KNOWN = "CASE WHEN isfinite({0}) THEN {0} END"

_ALL = f"""
SELECT person.id, a.as_of, a.age_ms, json_build_object(
  'as_of', a.as_of, 'age_ms', a.age_ms, 'sources', a.sources, 'caller', told.answer)::text
FROM person
CROSS JOIN (
  SELECT {_KNOWN.format("min(complete_at)")} AS as_of,
    CASE WHEN isfinite(min(complete_at)) THEN {_AGE.format("min(complete_at)")} END AS age_ms,
    json_agg(json_build_object('source', source, 'state', state, 'position', position,
      'complete_at', {_KNOWN.format("complete_at")}) ORDER BY source) AS sources
  FROM stands
) AS a
CROSS JOIN told
"""


def statement(desk: Desk, by: str, *, noted: bool) -> str:
    """The SQL of an answer. `by`: see `Desk.people`. `noted`: with the note of the look-up."""
    tables = ", ".join(f"('{source}', '{table}')" for source, table in desk.tables)
    return (
        f"WITH person AS MATERIALIZED ({desk.people[by]}),{_NOTE if noted else ''}"
        f"{_STANDS.format(tables=tables)}, told AS ({desk.answer}) {_ALL}"
    )


@dataclass(frozen=True)
class Answer:
    """What is known about a person, at one moment of all sources.

    `text`: the whole answer as JSON. `age_ms`: how old it is. `as_of`: everything that was
    committed at the sources until then is in it. None: nobody knows.
    """

    id: int
    as_of: datetime | None
    age_ms: int | None
    text: str

    def content(self) -> dict[str, Any]:
        """The answer as objects. Decimals stay decimals."""
        found: dict[str, Any] = json.loads(self.text, parse_float=Decimal)
        return found


class Asking:
    """The way of a process to the staging warehouse. `size`: the most connections at a time."""

    def __init__(self, staging: PostgresConnection, desk: Desk, size: int = 8) -> None:
        self.desk = desk
        self._noted = {by: statement(desk, by, noted=True) for by in desk.people}
        self._again = statement(desk, "key", noted=False)
        self._pool = _pool(staging, size)
        # Pages that stay open ask often. They must not keep others waiting.
        self._of_pages = _pool(staging, 2)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._of_pages.close()

    def about(self, by: str, wanted: str, token: Token, resource: str) -> Answer | None:
        """Look a person up, and note that. None: there is nobody. Raises `Unavailable`."""
        rows = self._rows(self._noted[by], {"wanted": wanted} | _who(token, resource))
        return Answer(*rows[0]) if rows else None

    def again(self, id: int) -> Answer | None:
        """The answer about a person whose look-up goes on. Raises `Unavailable`."""
        rows = self._rows(self._again, {"wanted": str(id)}, self._of_pages)
        return Answer(*rows[0]) if rows else None

    def named(self, part: str, token: Token, resource: str) -> list[tuple[Any, ...]]:
        """Up to twenty people whose name has words with these beginnings. Raises `Unavailable`."""
        statement = (
            f"WITH person AS MATERIALIZED ({self.desk.names} LIMIT 20),{_NOTE.rstrip().rstrip(',')}"
            " SELECT * FROM person"
        )
        return self._rows(statement, {"wanted": part} | _who(token, resource))

    def positions(self) -> object:
        """Something that is another thing as soon as an answer may be. Raises `Unavailable`."""
        sources = sorted({source for source, _ in self.desk.tables})
        return self._rows(
            "SELECT source, position, updated_at FROM ingestion.streams WHERE source = ANY("
            "%(sources)s) UNION ALL SELECT source, position, loaded_at FROM ingestion.positions"
            " WHERE source = ANY(%(sources)s) ORDER BY 1, 2, 3",
            {"sources": sources},
            self._of_pages,
        )

    def tokens(self) -> list[Token]:
        """The tokens that were not revoked. Raises `Unavailable`."""
        rows = self._rows(
            "SELECT id, digest, name, scopes, purpose, per_minute, created_at, expires_at,"
            " revoked_at FROM serving.tokens WHERE revoked_at IS NULL",
            {},
        )
        return [Token(*row) for row in rows]

    def _rows(
        self,
        statement: str,
        values: Mapping[str, Any],
        pool: psycopg_pool.ConnectionPool | None = None,
    ) -> list[tuple[Any, ...]]:
        with _told(), (pool or self._pool).connection() as connection:
            text, names = _numbered(statement)
            return connection.execute(text, [values[name] for name in names]).fetchall()


@lru_cache(maxsize=64)
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with a number in the place of each parameter's name, and their names in order.

    psycopg would read so long a statement anew for each request, to do the same.
    """
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    text = re.sub(r"%\((\w+)\)s", number, statement)
    return text.encode(), tuple(numbers)


def _pool(staging: PostgresConnection, size: int) -> psycopg_pool.ConnectionPool:
    return psycopg_pool.ConnectionPool(
        kwargs={
            **staging.parameters(),
            "autocommit": True,
            "prepare_threshold": 0,
            "cursor_factory": psycopg.RawCursor,
        },
        min_size=min(size, 2),
        max_size=size,
        timeout=_WAIT_SECONDS,
        configure=_configure,
        open=True,
    )


def _who(token: Token, resource: str) -> dict[str, str]:
    return {
        "token_id": token.id,
        "token_name": token.name,
        "resource": resource,
        "purpose": token.purpose,
    }


def _configure(connection: psycopg.Connection) -> None:
    for name, value in _SETTINGS.items():
        connection.execute("SELECT set_config($1, $2, false)", (name, value))


_MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


@contextmanager
def _told() -> Iterator[None]:
    """Turn errors of the database into `Unavailable`, without values of the statement."""
    try:
        yield
    except _MISSING as error:
        # It names a relation, a function or a column, and no value.
        problem = f"{error.diag.message_primary}. Load the sources first: `softcart load`."
    except psycopg_pool.PoolTimeout:
        problem = "All connections to the warehouse are in use, or it does not answer."
    except psycopg.Error as error:
        # Its text may repeat what was asked for.
        problem = f"The warehouse cannot answer ({error.sqlstate or type(error).__name__})."
    else:
        return
    raise Unavailable(problem) from None


def ready(staging: PostgresConnection, desk: Desk) -> None:
    """Make the tables that look-ups and tokens need, and the desk's functions and indexes.

    Raises `ServerUnreachable`.
    """
    with staging.connect() as connection:
        prepare(connection)
        connection.execute(desk.functions.encode())
