"""Dagster's storage in PostgreSQL, with a pool of connections. `dagster.yaml` names it.

Dagster's own opens a connection for each event, and a run writes about a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, pg_url_from_config
from sqlalchemy import Connection, Engine, inspect, text

from softcart_assets.connections import SettingError
from softcart_assets.dagster_private import STORAGE_TABLES, ConfigurableClassData, use_engine

_LOCK = 7_305_117
_MARK = "All tables of Dagster are there."
_FIRST = {"alembic_version", "runs", "event_logs", "jobs"}
"""What every whole storage has, whatever Dagster's version: the first table of each part."""
_FILLED_AT_ONCE = ("instance_info", "secondary_indexes")
"""The tables into which Dagster writes while it makes the storage."""
_whole: set[str] = set()
"""The databases of which this process knows that."""


class PooledStorage(DagsterPostgresStorage):
    """Runs, events and schedules over the same few connections."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledStorage:
        """Make the storage from its part of `dagster.yaml`, which is that of `postgres`."""
        url = pg_url_from_config(config_value)
        engine = create_pg_engine(
            url,
            isolation_level="AUTOCOMMIT",
            # One connection stays open. More at a time are possible, as before: a limit could
            # make a thread wait for itself.
            pool_size=1,
            max_overflow=-1,
            # The daemon lives longer than a connection to a server that is restarted.
            pool_pre_ping=True,
        )
        storage = cls._opened(url, engine, inst_data)
        use_engine(storage, engine)
        return storage

    @classmethod
    def _opened(
        cls, url: str, engine: Engine, inst_data: ConfigurableClassData | None
    ) -> PooledStorage:
        """Open the storage, whose tables Dagster makes when it is opened first.

        It makes them one by one, and later looks for the first one only. So a process that was
        killed meanwhile would leave a storage without some of them, for ever.
        """
        if url in _whole:
            return cls(url, inst_data=inst_data)
        with engine.connect() as connection:
            # Another process may be making them. The lock ends with the connection of either.
            connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
            try:
                marked = "SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"
                is_whole = connection.scalar(text(marked)) == _MARK
                if not is_whole:
                    _drop_unfinished(connection, str(engine.url.database))
                storage = cls(url, inst_data=inst_data)
                if not is_whole:
                    connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{_MARK}'"))
            finally:
                connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
        _whole.add(url)
        return storage


def _drop_unfinished(connection: Connection, database: str) -> None:
    """Drop the tables that Dagster has made, if nobody has used them.

    A storage in use was whole before there was a mark. Raises `SettingError` if the tables are no
    storage of Dagster's.
    """
    inspector = inspect(connection)
    names = {*inspector.get_table_names()}
    found = sorted(names & STORAGE_TABLES.keys())
    used = [
        name
        for name in found
        if name not in _FILLED_AT_ONCE
        and connection.scalar(text(f'SELECT EXISTS (SELECT FROM "{name}")'))
    ]
    if used and names >= _FIRST:
        return
    others = [
        name
        for name in found
        if {column["name"] for column in inspector.get_columns(name)} != STORAGE_TABLES[name]
    ]
    if used or others:
        raise SettingError(
            f"The database {database!r} has tables with names of Dagster's, but no storage of it: "
            f"{', '.join(sorted({*used, *others}))}. Nothing was changed. Set "
            "SOFTCART_DAGSTER_DATABASE to an empty database, or remove these tables."
        )
    if found:
        connection.execute(text(f"DROP TABLE {', '.join(found)}"))
