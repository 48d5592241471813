"""Dagster resources: typed, configurable handles on the servers.

A resource knows at most the prefix of its settings. It reads the environment when it is used. So a
server without settings fails only the assets that need it. `softcart_assets.connections` has the
connections themselves. The Spark session is in `softcart_assets.resources.spark`, because that
module imports pyspark.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from pydantic import Field, PrivateAttr

from softcart_assets.connections import (
    EXTRACTS,
    Db2Connection,
    MySQLConnection,
    PostgresConnection,
    make_folder,
    setting,
)
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.raw_tables import CapturedName, RawState
from softcart_assets.lines.model import Source
from softcart_assets.stores import lake_uri

PREFIX = Field(description="The start of the names of the environment variables with the settings.")


def settled(resource: dg.ConfigurableResourceFactory[Any]) -> dg.ResourceDefinition:
    """The resource with the configuration that it has, which no run configuration can change.

    Whoever may start a run could otherwise send a connection, its password or a program of Spark's
    to a place of their choice.
    """
    definition: dg.ResourceDefinition = resource.get_resource_definition()
    return definition.configured(resource.model_dump(exclude_none=True), config_schema={})


class SourceResource(dg.ConfigurableResource[None]):
    """The database of a source."""

    kind: str = Field(description="The kind of source system: the name of its connector.")
    prefix: str = PREFIX

    def connection(self) -> Any:
        """The connection of its connector, not yet opened. Raises `SettingError`."""
        return connector(self.kind).connection(self.prefix)


class PostgresResource(dg.ConfigurableResource[None]):
    """A warehouse in PostgreSQL."""

    prefix: str = PREFIX

    def connection(self) -> PostgresConnection:
        """The connection, not yet opened. Raises `SettingError`."""
        return PostgresConnection.from_env(self.prefix)


class MySQLResource(dg.ConfigurableResource[None]):
    """A MySQL server that people read published tables from."""

    prefix: str = PREFIX

    def connection(self) -> MySQLConnection:
        """The connection, not yet opened. Raises `SettingError`."""
        return MySQLConnection.from_env(self.prefix)


class Db2Resource(dg.ConfigurableResource[None]):
    """A Db2 server that people read published tables from."""

    prefix: str = PREFIX

    def connection(self) -> Db2Connection:
        """The connection, not yet opened. Raises `SettingError`."""
        return Db2Connection.from_env(self.prefix)


_BUILDS_FROM_RAW = "softcart/builds_from_raw"
BUILDS_FROM_RAW = {_BUILDS_FROM_RAW: "true", "dagster/priority": "1"}
"""The tags of ops that need one moment of the raw tables. Nothing else of their run may come in
between: a comparison takes the tables for itself.
"""
BUILDS_MODELS = {**BUILDS_FROM_RAW, "dagster/priority": "2"}
"""The tags of ops that need the raw tables for as long as they run. So they come first."""


class RawStateResource(dg.ConfigurableResource[None]):
    """One state of the raw tables for each run, see `RawState`."""

    prefix: str = PREFIX

    _state: RawState | None = PrivateAttr(default=None)
    _begun: set[str] = PrivateAttr(default_factory=set)

    def loading(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> AbstractContextManager[None]:
        """Hold the raw tables for a load."""
        return self._of_run().loading(context.log.info)

    def building(
        self, context: dg.AssetExecutionContext, reads: Collection[CapturedName]
    ) -> AbstractContextManager[None]:
        """Hold the raw tables for the models of this op, and for the ops of the run that follow."""
        return self._of_run().building(reads, context.log.info, is_last=self._is_last(context))

    def moment(
        self, context: dg.AssetExecutionContext, source: Source, tables: Collection[str]
    ) -> AbstractContextManager[psycopg.Connection]:
        """A session that sees these raw tables as the models of this run saw them."""
        is_last = self._is_last(context)
        return self._of_run().moment(source, tables, context.log.info, is_last=is_last)

    def _is_last(self, context: dg.AssetExecutionContext) -> bool:
        """Whether every op of the run that reads raw has begun.

        At its start, an op notes the versions of what it reads. So no load may change them before
        the last op has begun.
        """
        self._begun.add(context.op_def.name)
        ops = {node.name for node in context.job_def.nodes if _BUILDS_FROM_RAW in node.tags}
        return ops <= self._begun

    def _of_run(self) -> RawState:
        if self._state is None:
            self._state = RawState(PostgresConnection.from_env(self.prefix))
        return self._state

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let go of the tables, whatever steps failed."""
        if self._state is not None:
            self._state.close()


class LakeResource(dg.ConfigurableResource[None]):
    """The lake: a root for Parquet files and Hive tables, named by `SOFTCART_LAKE_URI`."""

    @property
    def uri(self) -> str:
        """Root: file:///…, hdfs://… or s3a://…. Raises `SettingError`."""
        return lake_uri()


class OutputResource(dg.ConfigurableResource[None]):
    """The folder for extracts and dashboards, `SOFTCART_EXTRACTS_DIR`."""

    @property
    def path(self) -> Path:
        """The folder, made if missing. Raises `SettingError`."""
        path = Path(setting(EXTRACTS))
        make_folder(path, EXTRACTS)
        return path
