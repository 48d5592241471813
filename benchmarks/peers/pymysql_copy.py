"""A peer: PyMySQL's streaming cursor into PostgreSQL's COPY, one process for each key range."""

import json
import os
import time
from multiprocessing import Pool

import psycopg
import pymysql  # type: ignore[import-untyped, unused-ignore]
import pymysql.cursors  # type: ignore[import-untyped, unused-ignore]

JOB = json.loads(os.environ["JOB"])


def copy(part: tuple[str, str]) -> None:
    """Copy one key range of one table."""
    table, condition = part
    with (
        pymysql.connect(
            **JOB["mysql"], charset="utf8mb4", cursorclass=pymysql.cursors.SSCursor
        ) as source,
        psycopg.connect(**JOB["postgres"]) as target,
        source.cursor() as rows,
        target.cursor().copy(f"COPY {JOB['schema']}.{table} FROM STDIN") as lines,
    ):
        rows.execute(f"SELECT * FROM {table} WHERE {condition}")
        while some := rows.fetchmany(10_000):
            for row in some:
                lines.write_row(row)


started, computed = time.monotonic(), sum(os.times()[:4])
with Pool(JOB["processes"]) as pool:
    pool.map(copy, JOB["parts"], chunksize=1)
    pool.close()
    pool.join()
print(
    json.dumps(
        {"seconds": time.monotonic() - started, "cpu_seconds": sum(os.times()[:4]) - computed}
    )
)
