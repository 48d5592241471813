"""The page over the fitness application's three databases: who trains when and where, and five
insights.

Its rows are of months. The insights follow no filter: each says in a note of which people and days
it is.
"""

from __future__ import annotations

from typing import Final

from softcart_assets.lines.inspire.groups import engagement
from softcart_assets.lines.page import (
    Cards,
    Column,
    Cube,
    Dimension,
    Insight,
    Level,
    Listing,
    Measure,
    Page,
    Ranking,
    Rung,
    Section,
    Trend,
)

_FINDERS: Final = "softcart_assets.lines.inspire.insights"

_UNKNOWN: Final = "1900-01-01"

_CUBE = Cube(
    # Of regions, most would be too small to be told of in a month.
    fact=f"({engagement('goal_code')})",
    joins="",
    # The unknown month would be the first one of everything.
    where=f"f.is_told AND f.month <> '{_UNKNOWN}'",
    day="f.month",
    unit="month",
    moment="f.latest_at",
    event="concat(f.part, ' ', f.month)",
    remarks={
        "Rows of the month 1900-01, whose events have an implausible date": (
            f"f.month = '{_UNKNOWN}'"
        ),
    },
    dimensions=(
        Dimension(
            "goal",
            "Goal",
            "Goals",
            (
                Level(
                    "goal",
                    "f.part",
                    names="SELECT goal_code, name FROM production.dim_fitness_goal",
                ),
            ),
        ),
    ),
    ladder=(Rung(3, says="Every goal by month, for three years at most."),),
)

_MEASURES = (
    Measure(
        "workouts",
        "Workouts",
        "count",
        "Workouts that people logged, imported or sent by another application, in the local month "
        "in which they began.",
        sql="f.workout_count",
    ),
    Measure(
        "active",
        "Active people",
        "count",
        "People with a workout in a month, each month anew: in twelve months, one person may be "
        "twelve.",
        sql="(f.workout_count > 0)::int",
    ),
    Measure(
        "each",
        "Workouts each",
        "decimal",
        "Workouts per active person and month. The newest month is not over, so it is left out.",
        of=("workouts", "active"),
        # All rows of a month are of its first day.
        settles_days=1,
    ),
    Measure(
        "days",
        "Active days",
        "count",
        "Local days with a workout, of each person.",
        sql="f.active_days",
    ),
    Measure(
        "time",
        "Time",
        "duration",
        "How long the workouts lasted, in hours.",
        sql="f.duration_seconds",
    ),
    Measure(
        "visits",
        "Sessions",
        "count",
        "Sessions of the application, those included that have expired.",
        sql="f.session_count",
    ),
    Measure(
        "views",
        "Pages seen",
        "count",
        "Pages that people saw in these sessions.",
        sql="f.page_views",
    ),
)

# The last whole year. The newest month is not over. Without the word, it would be computed for each
# row again.
_SPAN = f"""
span AS MATERIALIZED (
  SELECT max(month) AS ends,
         greatest((max(month) - interval '1 year')::date, min(month)) AS starts
  FROM production.agg_engagement_by_user_month WHERE month <> '{_UNKNOWN}'
)"""

# What `insights.ratio` needs of what each person did (y) in a time (x).
_SUMS = """
count(*) AS people, sum(y) AS y, sum(x) AS x, sum(y * y) AS yy, sum(x * y) AS xy,
sum(x * x) AS xx"""

_REGIONS = f"""
WITH {_SPAN},
done AS (
  SELECT f.user_id, sum(f.workout_count) AS workouts
  FROM production.agg_engagement_by_user_month f
  JOIN span s ON f.month >= s.starts AND f.month < s.ends
  GROUP BY f.user_id
),
each AS (
  SELECT coalesce(c.region, 'Unknown') AS region, coalesce(d.workouts, 0)::float8 AS y,
         -- Months since the registration, as far as they are in the span.
         (extract(epoch FROM s.ends - greatest(s.starts, c.created_at AT TIME ZONE 'UTC'))
           / 86400 / 30.4375)::float8 AS x
  FROM production.dim_customer c CROSS JOIN span s
  LEFT JOIN done d ON d.user_id = c.customer_id
  WHERE c.line_of_business = 'inspire' AND c.is_current AND NOT c.is_deleted
    AND c.created_at AT TIME ZONE 'UTC' < s.ends
)
SELECT region, {_SUMS} FROM each GROUP BY region"""

# Who trains in one month only has just begun or is about to stop. Then only a part of the month
# counts, and nobody knows which. The month after must be over, too.
_KEPT_ON = f"""
WITH {_SPAN},
trained AS (
  SELECT f.user_id, f.month, f.workout_count, f.active_days,
         (f.month + interval '1 month')::date - f.month AS month_days,
         lag(f.month) OVER (PARTITION BY f.user_id ORDER BY f.month) AS month_before,
         lead(f.month) OVER (PARTITION BY f.user_id ORDER BY f.month) AS month_after
  FROM production.agg_engagement_by_user_month f
  WHERE f.workout_count > 0 AND f.month <> '{_UNKNOWN}'
),
kept_on AS (
  SELECT t.user_id, t.month, t.workout_count, t.active_days, t.month_days, s.starts, s.ends
  FROM trained t JOIN span s ON t.month_after < s.ends
  WHERE t.month_before = t.month - interval '1 month'
    AND t.month_after = t.month + interval '1 month'
)"""

_AGES = f"""
{_KEPT_ON},
by_person AS (
  SELECT user_id, ends, sum(active_days)::float8 AS y, sum(month_days)::float8 / 7 AS x
  FROM kept_on WHERE month >= starts GROUP BY user_id, ends
),
each AS (
  SELECT k.x, k.y,
         CASE WHEN c.birth_date IS NULL THEN 'unknown'
              WHEN c.birth_date > k.ends - interval '20 years' THEN 'under 20'
              WHEN c.birth_date > k.ends - interval '30 years' THEN '20s'
              WHEN c.birth_date > k.ends - interval '40 years' THEN '30s'
              WHEN c.birth_date > k.ends - interval '50 years' THEN '40s'
              WHEN c.birth_date > k.ends - interval '60 years' THEN '50s'
              WHEN c.birth_date > k.ends - interval '70 years' THEN '60s'
              ELSE '70 and over' END AS age_band
  FROM by_person k JOIN production.dim_customer c
    ON c.customer_id = k.user_id AND c.line_of_business = 'inspire' AND c.is_current
)
SELECT age_band, {_SUMS} FROM each GROUP BY age_band"""

_MONTHS = f"""
{_KEPT_ON}
SELECT month, sum(workout_count) AS workouts, sum(month_days) AS people_days
FROM kept_on GROUP BY month ORDER BY month"""

# Customers of both lines, their goal in the newest month, and what they bought.
_BOTH = f"""
WITH goals AS (
  SELECT DISTINCT ON (f.user_id) f.user_id,
         CASE f.goal_code WHEN 'none' THEN 'none' ELSE g.name END AS goal_name
  FROM production.agg_engagement_by_user_month f
  JOIN production.dim_fitness_goal g ON g.goal_code = f.goal_code
  WHERE f.month <> '{_UNKNOWN}'
  ORDER BY f.user_id, f.month DESC
),
both_lines AS (
  SELECT DISTINCT ON (s.customer_id) s.customer_id, i.customer_id AS user_id, g.goal_name
  FROM production.dim_customer i
  JOIN production.dim_customer s ON s.person_id = i.person_id AND s.line_of_business = 'shop'
    AND s.is_current
  JOIN goals g ON g.user_id = i.customer_id
  WHERE i.line_of_business = 'inspire' AND i.is_current AND NOT i.is_deleted
  ORDER BY s.customer_id, i.customer_id
),
bought AS (
  SELECT DISTINCT b.user_id, b.goal_name, p.department_name
  FROM both_lines b
  JOIN production.fct_order_lines f ON f.customer_id = b.customer_id AND NOT f.is_cancelled
  JOIN production.dim_product p ON p.product_id = f.product_id AND p.is_current
  WHERE p.department_name IS NOT NULL
)"""

_CELLS = f"""
{_BOTH}
SELECT goal_name, department_name, count(DISTINCT user_id) AS people
FROM bought GROUP BY CUBE (goal_name, department_name)"""

_SEGMENTS = f"""
{_BOTH},
lifts AS (
  SELECT goal_name, department_name,
         count(*)::numeric / sum(count(*)) OVER (PARTITION BY goal_name)
           / (sum(count(*)) OVER (PARTITION BY department_name) / sum(count(*)) OVER ()) AS lift,
         count(*) AS people
  FROM bought GROUP BY goal_name, department_name
),
greatest_lift AS (
  SELECT DISTINCT ON (goal_name) goal_name, department_name, lift
  FROM lifts WHERE people >= 10 AND goal_name <> 'none'
  ORDER BY goal_name, lift DESC, department_name
)
SELECT concat(r.segment, ' ', b.goal_name) AS key, r.segment,
       CASE b.goal_name WHEN 'none' THEN 'No goal' ELSE b.goal_name END AS goal,
       count(DISTINCT b.user_id) AS people, g.department_name AS category,
       round(g.lift, 1)::float8 AS lift
FROM both_lines b
JOIN production.agg_rfm_by_customer r ON r.customer_id = b.customer_id
LEFT JOIN greatest_lift g ON g.goal_name = b.goal_name
GROUP BY r.segment, b.goal_name, g.department_name, g.lift
HAVING count(DISTINCT b.user_id) >= 10
ORDER BY people DESC, key"""

_TRAINED = f"""
SELECT f.customer_id AS user_id, extract(isodow FROM f.activity_date)::int AS weekday, t.hour
FROM production.fct_activity f
JOIN production.dim_time_of_day t ON t.time_of_day_key = f.time_of_day_key
WHERE t.hour IS NOT NULL AND f.activity_date <> '{_UNKNOWN}'"""

_WEEK = f"""
WITH trained AS ({_TRAINED})
SELECT weekday, hour, count(*) AS workouts, count(DISTINCT user_id) AS people
FROM trained GROUP BY weekday, hour"""

_HOURS = f"""
WITH trained AS ({_TRAINED}),
by_hour AS (SELECT user_id, hour, count(*)::float8 AS y FROM trained GROUP BY user_id, hour),
by_person AS (SELECT user_id, sum(y) AS x FROM by_hour GROUP BY user_id),
whole AS (SELECT count(*) AS people, sum(x) AS x, sum(x * x) AS xx FROM by_person)
SELECT h.hour, count(*) AS people_in_hour, w.people, sum(h.y) AS y, w.x, sum(h.y * h.y) AS yy,
       sum(h.y * p.x) AS xy, w.xx
FROM by_hour h JOIN by_person p ON p.user_id = h.user_id CROSS JOIN whole w
GROUP BY h.hour, w.people, w.x, w.xx"""

_BANDS = """
SELECT age_band, hour FROM production.agg_peak_hours_by_zone_age_hour
WHERE time_zone = 'all' AND age_band <> 'all' AND is_best"""

INSPIRE_PAGE = Page(
    "inspire",
    "Inspire",
    _CUBE,
    _MEASURES,
    (
        Section(
            "overview",
            "Training and visits",
            (
                Cards(("workouts", "active", "each", "time", "visits"), has_headline=True),
                Trend("workouts", 180),
                Trend("visits", 180),
                Ranking("goal", ("workouts", "active", "each", "days", "views")),
            ),
            "Goals with fewer than 10 people in a month are put together as Other, and with them "
            "the next smallest, so that no sum tells them. So are those with fewer than 10 "
            "visitors, for sessions. Months with fewer than 10 people are left out likewise.",
        ),
        Section(
            "regions",
            "Regions",
            (
                Insight(
                    "where",
                    "Workouts per 1,000 registered people and month",
                    {"regions": _REGIONS},
                    f"{_FINDERS}:regions",
                    "bars",
                    "count",
                    "Of the last whole year and the people who are registered today, by where they "
                    "live today. The interval counts people as independent, not workouts. Clearly "
                    "above or below: at most 5% of these are expected to be chance, of all regions "
                    "that are compared (Benjamini and Hochberg). Regions with fewer than 10 people "
                    "are left out, and with them the next smallest.",
                ),
            ),
        ),
        Section(
            "seasons",
            "Seasons",
            (
                Insight(
                    "seasons",
                    "Workouts per active person, against the trend",
                    {"months": _MONTHS},
                    f"{_FINDERS}:seasons",
                    "lines",
                    "rate",
                    "Workouts a day of people who keep on: they trained in the months before and "
                    "after, too. Classical decomposition by regression: the logarithm of a month "
                    "is a quadratic trend, plus the effect of its calendar month, plus a rest. "
                    "The interval is Student's, from the rests. Clearly above or below: at most "
                    "5% of these are expected to be chance, of twelve months.",
                ),
            ),
        ),
        Section(
            "segments",
            "Segments",
            (
                Insight(
                    "lift",
                    "Category of the greatest lift for each goal",
                    {"cells": _CELLS},
                    f"{_FINDERS}:segments",
                    "bars",
                    "decimal",
                    "Of customers of the shop who use the application and bought anything. Lift is "
                    "the odds ratio of a goal with and without purchases of a category. The one "
                    "shown has the greatest lower end of its interval. The intervals are so wide "
                    "that all of them together hold with 95% (Bonferroni), however many pairs are "
                    "compared.",
                ),
                Listing(
                    "segments",
                    "Customers by shopping and goal",
                    _SEGMENTS,
                    (
                        Column("segment", "Shopping"),
                        Column("goal", "Goal"),
                        Column("people", "People", "count", has_bar=True),
                        Column("category", "Buys most above average"),
                        Column("lift", "Lift", "decimal", is_wide=True),
                    ),
                    "people",
                    "The shopping segment is that of recency, frequency and amount. Lift is the "
                    "share of a category in what people of the goal bought, by its share in all. "
                    "Segments of fewer than 10 people are left out.",
                    12,
                ),
            ),
        ),
        Section(
            "ages",
            "Ages",
            (
                Insight(
                    "ages",
                    "Active days a week, by age",
                    {"ages": _AGES},
                    f"{_FINDERS}:ages",
                    "bars",
                    "decimal",
                    "Local days with a workout in the last whole year, of people who keep on: "
                    "they trained in the months before and after, too. Bands with fewer than 10 "
                    "people are left out, and with them the next smallest, so that no sum tells "
                    "them.",
                ),
            ),
        ),
        Section(
            "hours",
            "Peak hours",
            (
                Insight(
                    "peaks",
                    "When workouts begin, by weekday and local hour",
                    {"cells": _WEEK, "hours": _HOURS, "bands": _BANDS},
                    f"{_FINDERS}:peaks",
                    "shades",
                    "rate",
                    "Share of all workouts, on the clock of the place where they were done. Hours "
                    "of fewer than 10 people are left out, and with them the next smallest.",
                ),
            ),
        ),
    ),
    period="12m",
    compare="year",
)
