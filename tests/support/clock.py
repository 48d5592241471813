"""A warehouse whose clock a test can set: with the schema `clock` in front, `now()` is its own."""

from __future__ import annotations

from softcart_assets.connections import PostgresConnection

_CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.shift AS SELECT interval '0' AS of_transactions, interval '0' AS of_statements;
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql
  AS 'SELECT pg_catalog.now() + of_transactions FROM clock.shift';
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql
  AS 'SELECT pg_catalog.clock_timestamp() + of_statements FROM clock.shift';
"""


def give_clock(postgres: PostgresConnection) -> None:
    """Give a database a clock of its own, for the sessions that begin from now on."""
    with postgres.connect(autocommit=True) as session:
        session.execute(_CLOCK)
        session.execute(
            f"ALTER DATABASE {postgres.database} "
            "SET search_path = clock, pg_catalog, public".encode()
        )


def set_clock(postgres: PostgresConnection, transactions: str, statements: str) -> None:
    """Shift the readings of `now()` and of `clock_timestamp()` by these intervals."""
    with postgres.connect() as session:
        session.execute(
            "UPDATE clock.shift SET (of_transactions, of_statements) = ROW (%s, %s)",
            [transactions, statements],
        )
