"""The lake's tables of a round, which are made from the change files, and which Spark reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from pyspark.sql import SparkSession

from softcart_assets.audits.lake import content_of_raw, equals_raw
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.raw_tables import RawState
from softcart_assets.lake import (
    LakeError,
    LakeTable,
    committed_files,
    from_json,
    lake_table,
    refresh,
)
from softcart_assets.lake.hive import connected, publish
from softcart_assets.lake.schema import current_schema
from softcart_assets.lines.model import Source
from spark.lake import read
from spark.session import build_session, stop_session
from tests.faults.torture.model import Row
from tests.faults.torture.workload import ALTERED
from tests.support.hive import folders_in_hive


def refresh_all(
    source: Source, postgres: PostgresConnection, lake_uri: str, tell: Callable[[str], None]
) -> Iterator[str]:
    """Bring the lake's tables up to one moment, and tell Hive of them. Yields which of them is then
    not what raw was. `tell` is called when others are waited for.
    """
    names = [table.name for table in source.tables]
    with closing(RawState(postgres)) as raw, raw.moment(source, names, tell) as moment:
        committed = committed_files(moment, source.name)
        contents = {table.name: content_of_raw(moment, source, table) for table in source.tables}
    for declared in source.tables:
        if files := committed.get(declared.name):
            table = lake_table(source, declared, lake_uri)
            try:
                refresh(postgres, source, table, files)
            except LakeError:
                # As documented: no type holds what a column held before and after some changes.
                if declared.name == ALTERED:
                    continue
                raise
            publish(table, tell)
            result = equals_raw(table, contents[declared.name])
            if not result.passed:
                yield f"{table.full_name} is not what raw is: {result.details}"


class Lakes:
    """One session of Spark for all rounds. It starts when the first of them needs it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._session: SparkSession | None = None

    def session(self) -> SparkSession:
        """The session."""
        if self._session is None:
            self._session = build_session(
                "torture",
                master="local[2]",
                warehouse_uri=(self.home / "warehouse").as_uri(),
                hive=False,
                settings={"spark.driver.memory": "1g"},
            )
        return self._session

    def close(self) -> None:
        """Stop the session."""
        if self._session is not None:
            stop_session(self._session)

    def rows(self, source: Source, table: str, lake_uri: str) -> list[Row]:
        """The rows of a lake table as Spark gives them."""
        found = read(self.session(), lake_table(source, source.table(table), lake_uri))
        # A table that never had a row has none in the lake, either.
        return found.toArrow().to_pylist() if found else []


def unlike_hive(source: Source, lake_uri: str, metastore: str) -> Iterator[str]:
    """The lake's tables of which Hive has other folders than their states, or other columns."""
    with connected(metastore) as client:
        for declared in source.tables:
            table = lake_table(source, declared, lake_uri)
            if state := table.state():
                wanted = sorted(partition.folder for partition in state.partitions.values())
                if (found := folders_in_hive(client, table)) != wanted:
                    yield f"{table.full_name}: Hive has {found}, not {wanted}"
                columns = [column.name for column in client.get_table(*_name(table)).sd.cols]
                named = [field.name.lower() for field in current_schema(from_json(state.schema))]
                if columns != named:
                    yield f"{table.full_name}: Hive has the columns {columns}, not {named}"


def _name(table: LakeTable) -> tuple[str, str]:
    return table.database, table.name
