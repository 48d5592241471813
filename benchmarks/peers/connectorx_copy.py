"""A peer: ConnectorX streams Arrow batches into ADBC, by key range, with one thread per core."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import adbc_driver_postgresql.dbapi as adbc
import connectorx
import pyarrow as pa

JOB = json.loads(os.environ["JOB"])


def url(scheme: str, server: dict[str, Any], database: str) -> str:
    """The server as a URL for both libraries."""
    return f"{scheme}://{server['user']}:{quote(server['password'])}@{server['host']}:{server['port']}/{database}"


SOURCE = url("mysql", JOB["mysql"], JOB["mysql"]["database"])
TARGET = url("postgresql", JOB["postgres"], JOB["postgres"]["dbname"])


def read(table: str, condition: str) -> pa.RecordBatchReader:
    """The rows of a key range."""
    query = f"SELECT * FROM {table} WHERE {condition}"
    return connectorx.read_sql(SOURCE, query, return_type="arrow_stream", batch_size=50_000)


def ingest(rows: pa.RecordBatchReader, table: str, mode: str) -> None:
    """Load rows into a table."""
    with adbc.connect(TARGET) as target, target.cursor() as cursor:
        cursor.adbc_ingest(table, rows, mode=mode, db_schema_name=JOB["schema"])
        target.commit()


started, computed = time.monotonic(), sum(os.times()[:4])
# ADBC cannot convert values. So it creates the tables itself, with the types of its choice.
for name in {table for table, _ in JOB["parts"]}:
    schema = read(name, "1 = 0").schema
    ingest(pa.RecordBatchReader.from_batches(schema, []), name, "create")
with ThreadPoolExecutor(JOB["processes"]) as pool:
    list(pool.map(lambda part: ingest(read(*part), part[0], "append"), JOB["parts"]))
print(
    json.dumps(
        {"seconds": time.monotonic() - started, "cpu_seconds": sum(os.times()[:4]) - computed}
    )
)
