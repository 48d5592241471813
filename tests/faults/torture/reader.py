"""The process that is killed: `python -m tests.faults.torture.reader CONFIG
bounded|unasked|stream|reconcile|repair|resnapshot|refresh [TABLE [FROM TO]]`.

CONFIG is a JSON file (`config`) with the source, both connections and the lake. A bounded run
prints which tables changed and ends with 0; one whose tables failed prints their errors as JSON and
ends with `TABLES_FAILED`. An unasked one is the same without asking the source for checksums. A
reconciliation that finds differences, and a table that is read again and is not what it was
although it did not wait for that, end with `DIFFERENT`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from softcart_assets import connections
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture.resnapshot import resnapshot
from softcart_assets.ingestion.capture.stream import stream
from softcart_assets.ingestion.connectors.mysql import dump
from softcart_assets.ingestion.errors import LoadsFailed
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.lines.model import Source
from tests.faults.torture import documents, workload
from tests.faults.torture.lakes import refresh_all

TABLES_FAILED, DIFFERENT = 3, 4


IMPATIENCE_SECONDS = 6
"""After so long a silence an impatient reader takes a server for lost, instead of a minute."""


def config(
    source: Source,
    strategy: str,
    connection: MySQLConnection | MongoConnection,
    postgres: PostgresConnection,
    lake: str,
    *,
    is_impatient: bool = False,
) -> str:
    """What the process is to be told."""
    return json.dumps(
        {
            "source": source.name,
            "strategy": strategy,
            "connection": asdict(connection),
            "postgres": asdict(postgres),
            "lake": lake,
            "is_impatient": is_impatient,
        }
    )


def main(file: str, mode: str, table: str = "", *key_range: str) -> int:
    """Run once, or until told to end; the exit code."""
    told = json.loads(Path(file).read_text())
    if told["is_impatient"]:
        connections._SILENT_SECONDS = IMPATIENCE_SECONDS
        dump._SILENCE_SECONDS = float(IMPATIENCE_SECONDS)
    postgres = PostgresConnection(**told["postgres"])
    if told["source"] == documents.SOURCE.name:
        mongo = MongoConnection(**told["connection"])
        return _load(LoadRequest(documents.SOURCE, mongo, postgres, told["lake"]))
    source = workload.source(told["strategy"], told["source"])
    mysql = MySQLConnection(**told["connection"])
    if mode == "stream":
        stream(source, mysql, postgres, told["lake"])
        return 0
    if mode == "refresh":
        found = list(
            refresh_all(source, postgres, told["lake"], lambda text: print(text, flush=True))
        )
        print(*found, sep="\n")
        return DIFFERENT if found else 0
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
    ask_after = None if mode == "unasked" else timedelta(0)
    return _load(LoadRequest(source, mysql, postgres, told["lake"], ask_after=ask_after))


def _load(request: LoadRequest) -> int:
    try:
        for result in load(request):
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
