"""Where the platform keeps things, by its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from softcart_assets.connections import (
    EXTRACTS,
    KAFKA,
    PRODUCTION_DB2,
    PRODUCTION_MYSQL,
    PostgresConnection,
    kafka,
    production,
    setting,
    staging,
)
from softcart_assets.stores import lake_uri


@dataclass(frozen=True)
class Places:
    """Where the platform keeps things. `targets`: the names of other servers that get what
    production holds. `topics`: what the names of the topics begin with that streams write to, if
    there is a Kafka.
    """

    staging: PostgresConnection
    lake_uri: str
    production: PostgresConnection
    extracts: Path
    dagster: PostgresConnection
    targets: tuple[str, ...] = ()
    topics: str | None = None


def places() -> Places:
    """What the settings name. Raises `SettingError`."""
    targets = {PRODUCTION_MYSQL: "production_mysql", PRODUCTION_DB2: "production_db2"}
    return Places(
        staging(),
        lake_uri(),
        production(),
        Path(setting(EXTRACTS)),
        PostgresConnection.from_env("SOFTCART_DAGSTER"),
        tuple(name for prefix, name in targets.items() if setting(f"{prefix}_HOST", "")),
        kafka().topic_prefix if setting(f"{KAFKA}_BOOTSTRAP_SERVERS", "") else None,
    )
