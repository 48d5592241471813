"""Dagster resources: typed, configurable handles on the servers. Each opens its connection only
when asked.

Here belong `ConfigurableResource` classes. They know at most the prefix of their settings and read
the environment when they are used: a server that is not configured fails what needs it, and
nothing else. What a connection can do stands in `softcart_assets.connections`. The Spark session
is in `softcart_assets.resources.spark`, because it imports pyspark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from softcart_assets.connections import PostgresConnection, lake_uri, setting
from softcart_assets.ingestion.connectors import connector

PREFIX = Field(description="How the names of the environment variables with the settings begin.")


class SourceResource(dg.ConfigurableResource[None]):
    """The database of a source."""

    kind: str = Field(description="The kind of source system: the name of its connector.")
    prefix: str = PREFIX

    def connection(self) -> Any:
        """The settings as its connector's connection; nothing is opened yet. Raises
        `SettingError`.
        """
        return connector(self.kind).connection(self.prefix)


class PostgresResource(dg.ConfigurableResource[None]):
    """A warehouse in PostgreSQL."""

    prefix: str = PREFIX

    def connection(self) -> PostgresConnection:
        """The settings as a connection; nothing is opened yet. Raises `SettingError`."""
        return PostgresConnection.from_env(self.prefix)


class LakeResource(dg.ConfigurableResource[None]):
    """The lake: a root for Parquet files and Hive tables, named by `SOFTCART_LAKE_URI`."""

    @property
    def uri(self) -> str:
        """Root: file:///…, hdfs://… or s3a://…. Raises `SettingError`."""
        return lake_uri()


class OutputResource(dg.ConfigurableResource[None]):
    """Where files for people go, extracts and dashboards: the folder `SOFTCART_EXTRACTS_DIR`."""

    @property
    def path(self) -> Path:
        """The folder, made if missing. Raises `SettingError`."""
        path = Path(setting("SOFTCART_EXTRACTS_DIR"))
        path.mkdir(parents=True, exist_ok=True)
        return path
