"""The lake's tables of a round, which Spark makes from the change files and reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from softcart_assets.audits.lake import content_of_raw, equals_raw
from softcart_assets.connections import PostgresConnection
from softcart_assets.lake import committed_files, lake_table, one_moment, refresh
from softcart_assets.lines.model import Source
from spark.lake import LakeError
from spark.session import build_session, stop_session
from tests.faults.torture.model import Row
from tests.faults.torture.workload import ALTERED


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
                home=self.home,
                warehouse_uri=(self.home / "warehouse").as_uri(),
                settings={"spark.driver.memory": "1g"},
            )
        return self._session

    def close(self) -> None:
        """Stop the session."""
        if self._session is not None:
            stop_session(self._session)

    def refresh(
        self,
        source: Source,
        postgres: PostgresConnection,
        lake_uri: str,
        tell: Callable[[str], None],
    ) -> Iterator[str]:
        """Bring the lake's tables up to one moment; which of them is then not what raw was. `tell`
        is called when others are waited for.
        """
        names = [table.name for table in source.tables]
        with one_moment(postgres, source, names, tell) as moment:
            committed = committed_files(moment, source)
            contents = {
                table.name: content_of_raw(moment, source, table) for table in source.tables
            }
        for declared in source.tables:
            if files := committed.get(declared.name):
                table = lake_table(source, declared, lake_uri)
                try:
                    refresh(postgres, self.session, source, table, files)
                except LakeError:
                    # As documented: no type holds what a column held before and after some changes.
                    if declared.name == ALTERED:
                        continue
                    raise
                result = equals_raw(table, contents[declared.name])
                if not result.passed:
                    yield f"{table.full_name} is not what raw is: {result.details}"

    def rows(self, source: Source, table: str) -> list[Row]:
        """The rows of a lake table as Spark gives them."""
        name, session = f"{source.lake}.{table}", self.session()
        # A table that never had a row has none in the lake, either.
        return (
            session.table(name).toArrow().to_pylist() if session.catalog.tableExists(name) else []
        )

    def forget(self, source: Source) -> None:
        """Drop a source's lake tables."""
        if self._session is not None:
            self._session.sql(f"DROP DATABASE IF EXISTS {source.lake} CASCADE")
