"""A peer: dlt's `sql_table`, with the backend and settings of the job."""

import json
import os
import sys
import time
from typing import Any
from urllib.parse import quote

import dlt
from dlt.sources.sql_database import sql_table

JOB = json.loads(os.environ["JOB"])


def url(scheme: str, server: dict[str, Any], database: str) -> str:
    """The server as a URL for dlt."""
    return f"{scheme}://{server['user']}:{quote(server['password'])}@{server['host']}:{server['port']}/{database}"


def resources() -> list[Any]:
    """The tables, with the options of the job for reading and writing."""
    source = url("mysql+pymysql", JOB["mysql"], JOB["mysql"]["database"])
    found = []
    for table in JOB["tables"]:
        options = dict(JOB["options"])
        if cursor := table.get("cursor"):
            options |= {
                "incremental": dlt.sources.incremental(cursor),
                "write_disposition": "merge",
            }
            options |= {"primary_key": table["key"]}
        found.append(sql_table(source, table=table["name"], **options))
    return found


started, computed = time.monotonic(), sum(os.times()[:4])
pipeline = dlt.pipeline(
    "bench",
    pipelines_dir=JOB["folder"],
    destination=dlt.destinations.postgres(
        url("postgresql", JOB["postgres"], JOB["postgres"]["dbname"])
    ),
    dataset_name=JOB["schema"],
)
info = pipeline.run(resources(), **JOB["run"])
info.raise_on_failed_jobs()
print(
    json.dumps(
        {"seconds": time.monotonic() - started, "cpu_seconds": sum(os.times()[:4]) - computed}
    )
)
sys.stdout.flush()
