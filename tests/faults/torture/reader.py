"""The process that is killed: `python -m tests.faults.torture.reader CONFIG
bounded|stream|reconcile|repair|resnapshot [TABLE [FROM TO]]`.

CONFIG is a JSON file (`config`) with the strategy, both connections and the lake. A bounded run
prints which tables changed and ends with 0; one whose tables failed prints their errors as JSON and
ends with `TABLES_FAILED`. A reconciliation that finds differences, and a table that is read again
and is not what it was although it did not wait for that, end with `DIFFERENT`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture.resnapshot import resnapshot
from softcart_assets.ingestion.capture.stream import stream
from softcart_assets.ingestion.errors import LoadsFailed
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.ingestion.proof.reconcile import reconcile
from tests.faults.torture import workload

TABLES_FAILED, DIFFERENT = 3, 4


def config(strategy: str, mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> str:
    """What the process is to be told."""
    return json.dumps(
        {"strategy": strategy, "mysql": asdict(mysql), "postgres": asdict(postgres), "lake": lake}
    )


def main(file: str, mode: str, table: str = "", *key_range: str) -> int:
    """Run once, or until told to end; the exit code."""
    told = json.loads(Path(file).read_text())
    source = workload.source(told["strategy"])
    mysql, postgres = MySQLConnection(**told["mysql"]), PostgresConnection(**told["postgres"])
    if mode == "stream":
        stream(source, mysql, postgres, told["lake"])
        return 0
    if mode in ("reconcile", "repair"):
        found = reconcile(
            LoadRequest(source, mysql, postgres, told["lake"]), table, repair=mode == "repair"
        )
        print(found)
        print(found.sample, found.before_load, found.warnings)
        return DIFFERENT if found.differences or found.before_load else 0
    if mode == "resnapshot":
        # A renewal of everything that died has left rows behind on purpose, until they are read
        # again as here. Only a later renewal could do so meanwhile, and the auditor runs one
        # process at a time.
        is_awaited = not table or _is_stale(postgres, source.name, table)
        again = resnapshot(source, mysql, postgres, told["lake"], table or None, key_range or None)  # type: ignore[arg-type]
        print(again)
        return DIFFERENT if not is_awaited and any(each.rows_changed for each in again) else 0
    try:
        for result in load(LoadRequest(source, mysql, postgres, told["lake"])):
            print(
                result.table,
                "changed" if result.is_changed else "same",
                result.position,
                flush=True,
            )
    except LoadsFailed as failed:
        print(
            json.dumps(
                {
                    table: f"{type(error).__name__}: {error}"
                    for table, error in failed.failures.items()
                }
            )
        )
        return TABLES_FAILED
    return 0


def _is_stale(postgres: PostgresConnection, source: str, table: str) -> bool:
    """Whether a table's rows are known not to be what the log says, and wait to be read again."""
    with postgres.connect() as connection:
        row = connection.execute(
            "SELECT stale_since IS NOT NULL FROM ingestion.captures WHERE source = %s AND "
            "table_name = %s",
            (source, table),
        ).fetchone()
    return bool(row and row[0])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
