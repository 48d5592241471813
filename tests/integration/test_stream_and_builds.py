"""A stream and the building of models: while models are built, raw stands still and the lake has
all of it.
"""

from __future__ import annotations

import time

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.raw_tables import raw_tables_held
from tests.integration.test_capture import cdc, in_lake, latest_in_lake, streaming, until
from tests.support.ingestion import load_all, query, run, source_of


def test_a_stream_stands_still_while_models_are_built(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
) -> None:
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    source = source_of(cdc("t", "id"))
    load_all(source, mysql, postgres, lake)
    with streaming(source, mysql, postgres, lake):
        run(mysql, "UPDATE t SET v = 20 WHERE id = 2")
        until(lambda: query(postgres, "SELECT v FROM raw_t.t WHERE id = 2") == [(20,)])
        with raw_tables_held(postgres, exclusive=True, tell=print):
            run(mysql, "INSERT INTO t VALUES (3, 3)")
            time.sleep(2)
            assert query(postgres, "SELECT id, v FROM raw_t.t ORDER BY id") == [(1, 1), (2, 20)]
            latest = latest_in_lake(in_lake(postgres, lake, "t"), "id")
            assert {key: row["v"] for key, row in latest.items()} == {(1,): 1, (2,): 20}
        until(lambda: query(postgres, "SELECT count(*) FROM raw_t.t") == [(3,)])
