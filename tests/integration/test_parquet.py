"""Tables that are copied from Parquet files, as aggregates are."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.dataset as ds

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.sinks.parquet import replace_table
from tests.support.ingestion import query


class Watched:
    """Rows that run a query for every batch."""

    def __init__(self, postgres: PostgresConnection, rows: pa.Table) -> None:
        self.postgres, self.rows, self.schema = postgres, rows, rows.schema
        self.seen: list[tuple] = []

    def to_batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        for batch in self.rows.to_batches():
            with self.postgres.connect() as reader:
                reader.execute("SET lock_timeout = '1s'")
                self.seen += reader.execute("SELECT * FROM aggregates.t").fetchall()
            yield batch


def test_readers_see_the_old_rows_while_new_ones_are_copied(postgres: PostgresConnection) -> None:
    with postgres.connect() as session:
        replace_table(session, "aggregates", "t", ds.dataset(pa.table({"a": ["old"]})))
    new = Watched(postgres, pa.table({"a": ["new"], "b": [1]}))
    with postgres.connect() as session:
        assert replace_table(session, "aggregates", "t", new) == 1
    assert new.seen == [("old",)]
    assert query(postgres, "SELECT * FROM aggregates.t") == [("new", 1)]
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'aggregates'"
    assert query(postgres, tables) == [("t",)]
