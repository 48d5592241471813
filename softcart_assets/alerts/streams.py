"""Finds what is wrong with streams, in the bookkeeping of the staging warehouse."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from softcart_assets.alerts.problem import Problem, one_line
from softcart_assets.assembly import Lines
from softcart_assets.connections import PostgresConnection, SettingError
from softcart_assets.ingestion.load import is_followed
from softcart_assets.lines.model import Source

SETTING = "SOFTCART_ALERTS_STREAMS"
LAG = timedelta(minutes=5)
"""A stream brings changes within a second. It waits for loads and builds."""


def expected(lines: Lines) -> list[Source]:
    """The sources that the settings say are followed always. Raises `SettingError`."""
    names = [each.strip() for each in os.environ.get(SETTING, "").split(",") if each.strip()]
    known = {
        source.name: source
        for source in lines.sources
        if any(table.strategy == "cdc" for table in source.tables)
    }
    if unknown := [each for each in names if each not in known]:
        raise SettingError(
            f"{SETTING} names {', '.join(unknown)}. Streams can follow {', '.join(known)}."
        )
    return [known[name] for name in names]


def stream_problems(
    sources: Collection[Source], staging: PostgresConnection, now: datetime | None = None
) -> list[Problem]:
    """Streams that do not run, that lag, and tables that have stopped.

    `sources`: those that a stream has to follow. Tables of any source may have stopped.
    """
    now = now or datetime.now(UTC)
    followed = [source.name for source in sources if is_followed(source, staging)]
    found = [
        Problem(
            f"stream:{source.name}",
            f"nobody follows {source.name}, which {SETTING} names. Run `softcart stream "
            f"{source.name}`.",
        )
        for source in sources
        if source.name not in followed
    ]
    with staging.connect() as connection:
        behind = connection.execute(
            "SELECT source, min(complete_at) FROM ingestion.table_states "
            "WHERE source = ANY(%s) AND state = 'live' GROUP BY 1 ORDER BY 1",
            [followed],
        ).fetchall()
        stopped = connection.execute(
            "SELECT source, table_name, reason FROM ingestion.captures WHERE state = 'stopped' "
            "ORDER BY 1, 2"
        ).fetchall()
    for name, at in behind:
        if at is not None and now - at > LAG:
            found.append(
                Problem(
                    f"stream:{name}:lag",
                    f"the stream of {name} lags: raw has what was committed until "
                    f"{at:%Y-%m-%d %H:%M} UTC",
                )
            )
    for source, table, reason in stopped:
        found.append(
            Problem(
                f"stream:{source}.{table}", f"{source}.{table} stopped: {one_line(reason or '')}"
            )
        )
    return found
