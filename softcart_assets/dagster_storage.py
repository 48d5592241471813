"""Dagster's storage in PostgreSQL, with a pool of connections. `dagster.yaml` names it.

Dagster's own opens a connection for each event, and a run writes about a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, pg_url_from_config

from softcart_assets.dagster_private import ConfigurableClassData, use_engine


class PooledStorage(DagsterPostgresStorage):
    """Runs, events and schedules over the same few connections."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledStorage:
        """Make the storage from its part of `dagster.yaml`, which is that of `postgres`."""
        url = pg_url_from_config(config_value)
        storage = cls(url, inst_data=inst_data)
        use_engine(
            storage,
            create_pg_engine(
                url,
                isolation_level="AUTOCOMMIT",
                # One connection stays open. More at a time are possible, as before: a limit could
                # make a thread wait for itself.
                pool_size=1,
                max_overflow=-1,
                # The daemon lives longer than a connection to a server that is restarted.
                pool_pre_ping=True,
            ),
        )
        return storage
