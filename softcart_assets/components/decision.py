"""The decision of a change sensor, as pure functions without Dagster and servers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from softcart_assets.ingestion.position import latest

RETRY_AFTER = timedelta(minutes=5)
"""How long to wait after a failed load before requesting the same tables again."""


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
    behind: Collection[str], in_flight: bool, last_failure: datetime | None, now: datetime
) -> Decision:
    """Which tables to request.

    `behind`: the tables that changed since their last load, or whose last load Dagster does not
    know. Empty means that the source was read and nothing is behind. (If it cannot be read, the
    caller must raise.) `in_flight`: a load of this source is queued or runs. `last_failure`: when
    the last load of this source failed, None if it succeeded or there was none.
    """
    if not behind:
        return Decision(
            frozenset(),
            caught_up=True,
            reason="Every table is loaded up to the source's last change.",
        )
    names = ", ".join(sorted(behind))
    if in_flight:
        return Decision(
            frozenset(), caught_up=False, reason=f"A load is under way. Behind: {names}."
        )
    if last_failure is not None and now - last_failure < RETRY_AFTER:
        wait = RETRY_AFTER - (now - last_failure)
        return Decision(
            frozenset(),
            caught_up=False,
            reason=(
                f"The last load failed. {names} will be requested again in "
                f"{wait.total_seconds():.0f} s."
            ),
        )
    return Decision(frozenset(behind), caught_up=False, reason=f"Behind: {names}.")
