"""The decision of a change sensor, as pure functions without Dagster and servers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from softcart_assets.ingestion.position import latest

RETRY_AFTER = timedelta(minutes=5)
"""How long to wait after a failed load of a table before requesting it again."""


@dataclass(frozen=True)
class Decision:
    """What the sensor does.

    `request`: the tables to load now. `caught_up`: nothing is behind, so the cursor may advance.
    """

    request: frozenset[str]
    caught_up: bool
    reason: str


def look_from(loaded: Mapping[str, str], cursor: str | None) -> dict[str, str]:
    """For each table, the position to look for changes from.

    `loaded`: table → position of its last load, without tables that were never loaded. `cursor`: a
    position at which no table was behind. A table that seldom changes need not be looked up from
    its old position each time.
    """
    return {
        table: latest(position, *([cursor] if cursor else [])) for table, position in loaded.items()
    }


def decide(
    behind: Collection[str], in_flight: bool, failed: Mapping[str, datetime], now: datetime
) -> Decision:
    """Which tables to request.

    `behind`: the tables that changed since their last load, or whose last load Dagster does not
    know. Empty means that the source was read and nothing is behind. (If it cannot be read, the
    caller must raise.) `in_flight`: a load of this source is queued or runs. `failed`: the tables
    whose last load failed, and when. They wait, and no other table waits for them.
    """
    if not behind:
        return Decision(
            frozenset(),
            caught_up=True,
            reason="Every table is loaded up to the source's last change.",
        )
    if in_flight:
        names = ", ".join(sorted(behind))
        return Decision(
            frozenset(), caught_up=False, reason=f"A load is under way. Behind: {names}."
        )
    waiting = {
        table: left
        for table in sorted(behind)
        if table in failed and (left := RETRY_AFTER - (now - failed[table])) > timedelta()
    }
    request = frozenset(behind) - waiting.keys()
    told = [f"Behind: {', '.join(sorted(request))}."] if request else []
    if waiting:
        told.append(
            f"The last load of {', '.join(waiting)} failed. The next request is in "
            f"{min(waiting.values()).total_seconds():.0f} s."
        )
    return Decision(request, caught_up=False, reason=" ".join(told))
