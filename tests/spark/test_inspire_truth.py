"""The insights find what is true of the people whom the generator makes up: regions, seasons, goals
of shoppers, ages, and hours. Their intervals hold the truth.

The people are fewer than in the seed, and spread evenly. Their habits, hours and goals are those of
the generator.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from psycopg.rows import dict_row
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support.databases import database

from seed_data.common.dice import Dice, draws
from seed_data.common.parameters import Parameters
from seed_data.inspire import truth
from seed_data.inspire.generator import sizes_of
from seed_data.inspire.habits import Habits
from seed_data.inspire.people import Users
from seed_data.inspire.workouts import Workouts
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.inspire import insights
from softcart_assets.lines.inspire.pages import INSPIRE_PAGE
from softcart_assets.lines.page import Finding
from softcart_assets.pages.kit import cube
from softcart_assets.publishing import slots
from spark.jobs import JOBS

UNTIL = datetime(2026, 3, 20, 15, 30, tzinfo=UTC)
SIZES = sizes_of(Parameters(1, 42, UNTIL))
NEWEST = date(2026, 3, 1)
COUNT = 4_800
ZONES = {
    "Hamburg": "Europe/Berlin",
    "Berlin": "Europe/Berlin",
    "Bayern": "Europe/Berlin",
    "Île-de-France": "Europe/Paris",
    "Bretagne": "Europe/Paris",
    "Comunidad de Madrid": "Europe/Madrid",
    "Catalunya": "Europe/Madrid",
    "Wien": "Europe/Vienna",
}
DEPARTMENTS = {"Sports": 0.3, "Books": 0.5, "Home": 0.4}
EPOCH = date(1970, 1, 1)

_PRODUCTION = """
INSERT INTO production_meta.current SELECT true, 1, 0, pg_current_xact_id(), now(), '{}';
CREATE TABLE production.dim_customer (line_of_business text, customer_id bigint, person_id text,
  region text, birth_date date, created_at timestamptz, is_deleted boolean, is_current boolean);
CREATE TABLE production.dim_time_of_day AS
  SELECT n AS time_of_day_key, n / 60 AS hour FROM generate_series(0, 1439) n;
CREATE TABLE production.dim_fitness_goal (goal_code text, name text);
CREATE TABLE production.fct_activity (customer_id bigint, activity_date date,
  time_of_day_key integer);
CREATE TABLE production.agg_engagement_by_user_month (user_id bigint, month date, region text,
  goal_code text, workout_count bigint, active_days bigint, duration_seconds bigint,
  distance_m numeric, session_count bigint, page_views bigint, latest_at timestamptz);
CREATE TABLE production.agg_peak_hours_by_zone_age_hour (time_zone text, age_band text,
  hour integer, workout_count bigint, weekend_workout_count bigint, people_count bigint,
  is_best boolean);
CREATE TABLE production.dim_product (product_id text, department_name text, is_current boolean);
CREATE TABLE production.fct_order_lines (customer_id bigint, product_id text,
  is_cancelled boolean);
CREATE TABLE production.agg_rfm_by_customer (customer_id bigint, segment text);
"""

_SESSIONS = (
    "session_id string, user_id bigint, started_at bigint, time_zone string, page_views bigint, "
    "_version bigint, _place bigint, _deleted boolean, _loaded_at timestamp"
)


def _people() -> pd.DataFrame:
    dice = np.random.default_rng(14)
    users = np.arange(1, COUNT + 1)
    ages = dice.uniform(16, 84, COUNT)
    first = SIZES.first_day
    return pd.DataFrame(
        {
            "user_id": users,
            "region": [list(ZONES)[user % len(ZONES)] for user in users],
            "zone": [list(ZONES.values())[user % len(ZONES)] for user in users],
            "born_day": (SIZES.last_day - ages * 365.25).astype(np.int32),
            "created_day": dice.integers(first - 365, SIZES.last_day - 60, COUNT).astype(np.int32),
            "trains": dice.random(COUNT) >= truth.NEVER,
            **{name: dice.random(COUNT) < share for name, share in DEPARTMENTS.items()},
        }
    )


PEOPLE = _people()


def _days(seed: int) -> pd.DataFrame:
    """The days on which these people train, by another throw of the dice for each seed."""
    trains = PEOPLE[PEOPLE.trains]
    batch = pa.RecordBatch.from_pandas(
        trains[["user_id", "created_day", "born_day", "region"]], preserve_index=False
    )
    [found] = _habits(seed).days(iter([batch]))
    return found.to_pandas()


def _habits(seed: int) -> Habits:
    return Habits(Dice(seed), SIZES.first_day - 365, SIZES.first_day, SIZES.last_day)


def _date(day: int) -> date:
    return EPOCH + timedelta(days=int(day))


def _fill(session: Any, table: str, rows: Sequence[Sequence[object]]) -> None:
    with session.cursor().copy(f"COPY production.{table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@pytest.fixture(scope="module")
def production(stack, spark: SparkSession) -> Iterator[PostgresConnection]:
    """Production as the jobs and the warehouse make it."""
    dice = Dice(SIZES.seed)
    goal = Users(SIZES, dice, None)._goal()  # type: ignore[arg-type]
    base = (
        spark.createDataFrame(PEOPLE.drop(columns="trains"))
        .withColumn("bought_sports", F.when(F.col("Sports"), True))
        .withColumn("goal", goal)
        .persist()
    )
    started = Workouts(SIZES, dice)._started(base, spark.createDataFrame(_days(SIZES.seed)))
    logs = started.select(
        F.col("key").cast("string").alias("_id"),
        "user_id",
        F.timestamp_micros("started").alias("started_at"),
        F.col("zone_there").alias("time_zone"),
        F.lit(1800).alias("duration_seconds"),
        F.lit(0).alias("distance_m"),
        F.lit(UNTIL).alias("_loaded_at"),
        F.date_from_unix_date("day").alias("activity_date"),
        F.col("minute").cast("int"),
    ).persist()
    users = base.select(
        F.col("user_id").alias("id"),
        "region",
        F.col("zone").alias("time_zone"),
        F.date_from_unix_date("born_day").alias("birth_date"),
    )
    codes = list(truth.GOALS)
    goals = spark.createDataFrame(list(enumerate(codes)), "id int, code string")
    periods = base.where("goal IS NOT NULL").select(
        F.col("user_id").alias("id"),
        "user_id",
        (F.array_position(F.array(*map(F.lit, codes)), F.col("goal")) - 1).alias("goal_id"),
        F.lit(EPOCH).alias("started_on"),
        F.lit(None).cast("date").alias("ended_on"),
    )
    engagement = JOBS["agg_engagement_by_user_month"].transform(
        logs, users, periods, goals, spark.createDataFrame([], _SESSIONS)
    )
    peaks = JOBS["agg_peak_hours_by_zone_age_hour"].transform(logs, users)
    with database() as connection:
        with connection.connect() as session:
            slots.set_up(session)
            session.execute(_PRODUCTION)
            people = [
                (row.user_id, row.region, _date(row.born_day), _date(row.created_day))
                for row in PEOPLE.itertuples()
            ]
            for line in ("inspire", "shop"):
                rows = [(line, user, str(user), *rest, False, True) for user, *rest in people]
                _fill(session, "dim_customer", rows)
            _fill(
                session,
                "dim_fitness_goal",
                [(code, code.replace("_", " ")) for code in ("none", *codes)],
            )
            begun = logs.select("user_id", "activity_date", "minute")
            for table, frame in {
                "fct_activity": begun,
                "agg_engagement_by_user_month": engagement,
                "agg_peak_hours_by_zone_age_hour": peaks,
            }.items():
                _fill(session, table, list(frame.toPandas().itertuples(index=False)))
            _fill(session, "dim_product", [(name, name, True) for name in DEPARTMENTS])
            bought = [
                (user, name, False) for name in DEPARTMENTS for user in PEOPLE.user_id[PEOPLE[name]]
            ]
            _fill(session, "fct_order_lines", bought)
            session.execute("ANALYZE")  # as a publication does
        base.unpersist()
        logs.unpersist()
        yield connection


@pytest.fixture(scope="module")
def found(production: PostgresConnection) -> dict[str, Finding]:
    return dict(cube.read(production, INSPIRE_PAGE).findings)


def rows(production: PostgresConnection, query: str) -> list[dict[str, Any]]:
    with production.connect(row_factory=dict_row) as session:
        return session.execute(query.encode()).fetchall()


def test_the_right_regions_are_above_and_below_the_mean(found: dict[str, Finding]) -> None:
    where = found["where"]
    names = [point.name for point in where.points]
    assert set(names[:3]) == {region for region, factor in truth.REGIONS.items() if factor > 1}
    assert names[-1] == "Berlin"
    # The others are a little below the mean, because some are far above it.
    above, _, below = where.advice.partition(" clearly above")
    assert set(re.findall("|".join(ZONES), above)) <= set(names[:3])
    assert "Berlin" in below
    assert re.match(f"({'|'.join(names[:3])})", where.sentence)
    # Who trains less stops more often. So the truth is what the generator makes of more people.
    done: dict[str, float] = defaultdict(float)
    region = dict(zip(PEOPLE.user_id, PEOPLE.region, strict=True))
    begin, end = ((day - EPOCH).days for day in (date(2025, 3, 1), NEWEST))
    for seed in range(3):
        days = _days(seed)
        for user in days.user_id[(days.day >= begin) & (days.day < end)]:
            done[region[user]] += 1.07 / 3
    months: dict[str, float] = defaultdict(float)
    for row in PEOPLE.itertuples():
        months[row.region] += max(0, end - max(begin, row.created_day)) / 30.4375
    held = sum(
        point.low <= 1000 * done[point.name] / months[point.name] <= point.high
        for point in where.points
    )
    assert len(where.points) == len(ZONES)
    assert held >= len(ZONES) - 1


def test_seasons_are_those_of_the_generator(found: dict[str, Finding]) -> None:
    seasons = found["seasons"]
    effects = np.array(truth.MONTHS) / np.exp(np.log(truth.MONTHS).mean()) - 1
    assert seasons.sentence.startswith("January is ")
    assert "December" in seasons.sentence
    assert seasons.low <= effects[0] <= seasons.high
    drawn = {(point.of, point.name): point.value for point in seasons.points}
    for month, name in enumerate(insights.MONTHS):
        assert drawn["2025", name] == pytest.approx(effects[month], abs=0.05), name
    for name in ("January", "May", "June"):
        assert name in seasons.advice


def test_shoppers_of_sports_want_to_build_strength(found: dict[str, Finding]) -> None:
    lift = found["lift"]
    assert lift.points[0].name == "build strength: Sports"
    assert lift.low <= truth.STRENGTH_ODDS <= lift.high


def test_ages_are_those_of_the_generator(
    found: dict[str, Finding], production: PostgresConnection
) -> None:
    ages = found["ages"]
    order = sorted(ages.points, key=lambda point: point.value)
    assert (order[0].name, order[-1].name) == ("20s", "60s")
    # What these people would do in these months on average: nobody but the generator knows it.
    people = PEOPLE.set_index("user_id")
    dice, habits = Dice(SIZES.seed), _habits(SIZES.seed)
    pace = 0.5 + draws(dice.salt("inspire.pace"), np.arange(COUNT + 1))
    trained = {
        (row["user_id"], row["month"])
        for row in rows(production, "SELECT * FROM production.agg_engagement_by_user_month")
    }
    starts = [date(2025 + (2 + n) // 12, (2 + n) % 12 + 1, 1) for n in range(-1, 13)]
    did, weeks = defaultdict(float), defaultdict(float)
    rates = {month: habits._rates(month, people.born_day.to_numpy()) for month in starts}
    for before, month, after in zip(starts, starts[1:], starts[2:], strict=False):
        if after >= NEWEST:
            break
        for user in (user for user, at in trained if at == month):
            if (user, before) in trained and (user, after) in trained:
                row = people.loc[user]
                band = truth.age_band(int((NEWEST - _date(row.born_day)).days / 365.25))
                rate = rates[month][user - 1] * pace[user] * truth.REGIONS.get(row.region, 1)
                did[band] += min(rate, 6.3) * (after - month).days / 7
                weeks[band] += (after - month).days / 7
    held = {
        point.name: point.low <= did[point.name] / weeks[point.name] <= point.high
        for point in ages.points
    }
    assert len(held) == len(truth.ACTIVE_DAYS)
    assert all(held.values()), {
        point.name: (point, did[point.name] / weeks[point.name]) for point in ages.points
    }


def test_each_zone_and_age_has_its_hour(
    found: dict[str, Finding], production: PostgresConnection
) -> None:
    best = rows(
        production,
        "SELECT time_zone, age_band, hour FROM production.agg_peak_hours_by_zone_age_hour "
        "WHERE is_best AND time_zone <> 'all'",
    )
    assert len(best) > 20
    for row in best:
        later = row["time_zone"] in truth.LATE_ZONES
        assert row["hour"] == truth.PEAK_HOURS[row["age_band"]] + later, row
    assert re.search(r"60s(, | and )70 and over at 8:00", found["peaks"].sentence)
