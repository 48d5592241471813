"""The groups of people that figures are told of, and those that are too small to be told of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

FEWEST: Final = 10
"""A figure of fewer people might tell something of one of them."""

AGE_BANDS: Final = (
    (20, "under 20"),
    *((age, f"{age - 10}s") for age in range(30, 80, 10)),
)
"""The first age that is above a band, and its name. The last band has none."""
OLDEST: Final = "70 and over"

_Group = TypeVar("_Group", bound=Hashable)


def hidden(people: Mapping[_Group, int]) -> set[_Group]:
    """The groups to leave out, by how many people are in each.

    If any has fewer than `FEWEST`, the next smallest are left out, too, until at least two groups
    and `FEWEST` people are. Otherwise the sum of all, less those that are told, would tell it.
    """
    found: set[_Group] = set()
    if all(count >= FEWEST for count in people.values()):
        return found
    before = 0
    for place, group in enumerate(sorted(people, key=lambda each: (people[each], str(each)))):
        if place >= 2 and people[group] >= FEWEST and before >= FEWEST:
            break
        found.add(group)
        before += people[group]
    return found


OTHERS: Final = "Other"
"""The groups of a month that are too small to be told apart."""


def engagement(part: str) -> str:
    """A query: what people did by month, and to which group of the column `part` they belong.

    Columns: month, part, workout_count, active_days, duration_seconds, distance_m, session_count,
    page_views, latest_at, is_told. Workouts and visits are rows by themselves, because those with
    visits may be fewer. Groups that `hidden` would leave out are `OTHERS` in that month. Months
    that it would leave out are not told at all.
    """
    return f"""
      WITH halves AS (
        SELECT 'workouts' AS half, month, {part} AS part, workout_count, active_days,
               duration_seconds, distance_m, 0::bigint AS session_count, 0::bigint AS page_views,
               latest_at
        FROM production.agg_engagement_by_user_month WHERE workout_count > 0
        UNION ALL
        SELECT 'visits' AS half, month, {part} AS part, 0 AS workout_count, 0 AS active_days,
               0 AS duration_seconds, 0 AS distance_m, session_count, page_views, latest_at
        FROM production.agg_engagement_by_user_month WHERE session_count > 0
      ),
      parts AS (
        SELECT half, month, part, count(*) AS people FROM halves GROUP BY half, month, part
      ),
      months AS (
        SELECT half, month, sum(people) AS people FROM parts GROUP BY half, month
      ),
      told_parts AS (
        SELECT half, month, part, {_is_told("half, month", "part")} AS is_told FROM parts
      ),
      told_months AS (
        SELECT half, month, {_is_told("half, month = '1900-01-01'", "month")} AS is_told FROM months
      )
      SELECT h.month, CASE WHEN p.is_told THEN h.part ELSE '{OTHERS}' END AS part, h.workout_count,
             h.active_days, h.duration_seconds, h.distance_m, h.session_count, h.page_views,
             h.latest_at, m.is_told
      FROM halves h
      JOIN told_parts p ON p.half = h.half AND p.month = h.month AND p.part = h.part
      JOIN told_months m ON m.half = h.half AND m.month = h.month"""


def _is_told(among: str, name: str) -> str:
    """SQL: what `hidden` says of a row with `people`, among the rows that have `among` alike."""
    before = (
        f"OVER (PARTITION BY {among} ORDER BY people, {name} "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    )
    return (
        f"(min(people) OVER (PARTITION BY {among}) >= {FEWEST} OR (people >= {FEWEST} "
        f"AND count(*) {before} >= 2 AND coalesce(sum(people) {before}, 0) >= {FEWEST}))"
    )
