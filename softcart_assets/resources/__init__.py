"""Dagster resources: typed, configurable handles on the servers.

A resource knows at most the prefix of its settings. It reads the environment when it is used. So a
server without settings fails only the assets that need it. `softcart_assets.connections` has the
connections themselves. The Spark session is in `softcart_assets.resources.spark`, because that
module imports pyspark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from softcart_assets.connections import PostgresConnection, lake_uri, setting
from softcart_assets.ingestion.connectors import connector

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
        path = Path(setting("SOFTCART_EXTRACTS_DIR"))
        path.mkdir(parents=True, exist_ok=True)
        return path
