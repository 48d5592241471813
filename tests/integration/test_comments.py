"""Descriptions of columns are comments in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.databases import database
from support.ingestion import query

from softcart_assets import comments
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.described import comment
from softcart_assets.lines.model import NONE, Column, Source, Table

GUESTS = Table(
    "guests",
    "One row per guest.",
    key=("id",),
    strategy="cdc",
    history=True,
    columns=(Column("id", NONE, "It's the key."), Column("not_there", NONE, "Of another time.")),
)
SOURCE = Source("inn", "mysql", "The inn.", tables=(GUESTS,))


@pytest.fixture
def staging(stack: object) -> Iterator[PostgresConnection]:
    with database() as connection:
        with connection.connect() as session:
            session.execute(
                "CREATE SCHEMA raw_inn;"
                "CREATE TABLE raw_inn.guests (id int, odd int, _version bigint);"
                "CREATE TABLE raw_inn.guests_history (id int, odd int, _version bigint);"
                "COMMENT ON COLUMN raw_inn.guests.odd IS 'Ours.'"
            )
        yield connection


def told(staging: PostgresConnection) -> dict[tuple[str, str], str]:
    with staging.connect() as session:
        return comments.read(session, "raw_inn", ["guests", "guests_history", "no_table"])


def test_raw_columns_and_those_of_histories(staging: PostgresConnection) -> None:
    comment(staging, SOURCE, [GUESTS])
    found = told(staging)
    assert found["guests", "id"] == found["guests_history", "id"] == "It's the key."
    assert found["guests", "odd"] == "Ours."
    assert found["guests", "_version"] != found["guests_history", "_version"] != ""
    assert {table for table, _ in found} == {"guests", "guests_history"}


def test_nothing_is_written_twice(staging: PostgresConnection) -> None:
    comment(staging, SOURCE, [GUESTS])
    written = "SELECT sum(xmin::text::bigint) FROM pg_description WHERE objoid = %s::regclass"
    before = query(staging, written.replace("%s", "'raw_inn.guests'"))
    comment(staging, SOURCE, [GUESTS])
    assert query(staging, written.replace("%s", "'raw_inn.guests'")) == before


def test_a_locked_table_stops_no_load(staging: PostgresConnection) -> None:
    with staging.connect() as other:
        other.execute("LOCK TABLE raw_inn.guests IN ACCESS EXCLUSIVE MODE")
        comment(staging, SOURCE, [GUESTS])
        other.rollback()
    comment(staging, SOURCE, [GUESTS])
    assert told(staging)["guests", "id"] == "It's the key."
