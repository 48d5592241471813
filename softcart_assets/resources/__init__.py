"""Dagster resources: typed, configurable handles on the servers. Each opens its connection only when asked.

Here belong `ConfigurableResource` classes. How they are filled from the environment stands in `defs/resources.py`;
what a connection can do, in `softcart_assets.connections`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class MySQLResource(dg.ConfigurableResource):
    """A source database behind the MySQL protocol."""

    prefix: str = Field(
        description="Prefix of the environment variables that hold these settings, for error texts."
    )
    host: str
    port: str = "3306"
    user: str
    password: str
    database: str

    def connection(self) -> MySQLConnection:
        """The settings as a connection; nothing is opened yet."""
        return MySQLConnection(
            self.prefix, self.host, int(self.port), self.user, self.password, self.database
        )


class MongoResource(dg.ConfigurableResource):
    """A source database in MongoDB."""

    prefix: str = Field(
        description="Prefix of the environment variables that hold these settings, for error texts."
    )
    uri: str
    database: str

    def connection(self) -> MongoConnection:
        """The settings as a connection; nothing is opened yet."""
        return MongoConnection(self.prefix, self.uri, self.database)


class PostgresResource(dg.ConfigurableResource):
    """A warehouse in PostgreSQL."""

    prefix: str = Field(
        description="Prefix of the environment variables that hold these settings, for error texts."
    )
    host: str
    port: str = "5432"
    user: str
    password: str
    database: str

    def connection(self) -> PostgresConnection:
        """The settings as a connection; nothing is opened yet."""
        return PostgresConnection(
            self.prefix, self.host, int(self.port), self.user, self.password, self.database
        )

    @contextmanager
    def raw_tables_locked(
        self, mode: Literal["write", "steady"], log: logging.Logger
    ) -> Iterator[None]:
        """Hold the raw tables for loading (`write`, shared among loads) or keep loads off them (`steady`).

        Without it, models built from one state of the raw tables would be compared with another. Waits, and says so.
        """
        from softcart_assets.ingestion.bookkeeping import RAW_TABLES_LOCK

        suffix = "_shared" if mode == "write" else ""
        with self.connection().connect(autocommit=True) as connection:
            key = f"hashtextextended('{RAW_TABLES_LOCK}', 0)"
            taken = connection.execute(f"SELECT pg_try_advisory_lock{suffix}({key})").fetchone()
            if not (taken and taken[0]):
                log.info("Another run is loading or building from the raw tables; waiting for it.")
                connection.execute(f"SELECT pg_advisory_lock{suffix}({key})")
            yield


class LakeResource(dg.ConfigurableResource):
    """The lake: a root for Parquet files and Hive tables."""

    uri: str = Field(description="Root: file:///…, hdfs://… or s3a://…")


_STARTING = Lock()
"""Held while a session starts, so that threads which ask at once get one and the same."""


class SparkResource(dg.ConfigurableResource):
    """Spark with Hive support: one session per run, started when first asked for and stopped when the run ends."""

    _session: Any = PrivateAttr(default=None)

    @property
    def session(self) -> SparkSession:
        """The run's session; pyspark is imported only here, as it takes a second that other runs need not pay."""
        with _STARTING:
            if self._session is None:
                from spark.session import build_session

                self._session = build_session("softcart")
            return self._session

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop the session, which frees the metastore for other processes."""
        if self._session is not None:
            from spark.session import stop_session

            stop_session(self._session)
            self._session = None


class OutputResource(dg.ConfigurableResource):
    """Where files for people go: extracts and the dashboard."""

    directory: str

    @property
    def path(self) -> Path:
        """The folder, made if missing."""
        path = Path(self.directory)
        path.mkdir(parents=True, exist_ok=True)
        return path
