"""The aggregates of the fitness application on data whose results can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import available_timezones

import duckdb
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from support.lake import fill

from softcart_assets.inspire_app import people
from softcart_assets.lake import lake_table
from softcart_assets.lines.inspire.groups import AGE_BANDS, OLDEST, hidden
from softcart_assets.lines.inspire.zones import ZONES
from spark.jobs import JOBS, Job
from spark.jobs.inspire import workouts
from spark.months import Input

LOADED = datetime(2026, 3, 10, tzinfo=UTC)
JANUARY, FEBRUARY, UNKNOWN = date(2026, 1, 1), date(2026, 2, 1), date(1900, 1, 1)

LOGS = (
    "_id string, user_id bigint, started_at timestamp, time_zone string, duration_seconds bigint, "
    "distance_m decimal(38,18), _loaded_at timestamp"
)
SCHEMAS = {
    "inspire_docs.activity_logs": LOGS,
    "inspire.users": "id bigint, region string, time_zone string, birth_date date",
    "inspire.user_goals": "id bigint, user_id bigint, goal_id int, started_on date, ended_on date",
    "inspire.goals": "id int, code string",
    "inspire_sessions.sessions": "session_id string, user_id bigint, started_at bigint, "
    "time_zone string, page_views bigint, _version bigint, _place bigint, _deleted boolean, "
    "_loaded_at timestamp",
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def seconds(text: str) -> int:
    return int(at(text).timestamp())


def log(key: str, user: int, started: str, zone: str = "Europe/Riga", metres: str = "0") -> tuple:
    return key, user, at(started), zone, 600, Decimal(metres), LOADED


ROWS: dict[str, Sequence[tuple]] = {
    "inspire_docs.activity_logs": [
        # In Riga both are on the first of February, in UTC they are in two months.
        log("a", 1, "2026-01-31 22:30", metres="1000.5"),
        log("b", 1, "2026-02-01 09:00", metres="0.0004"),
        log("c", 1, "2026-02-01 12:00", "America/New_York"),
        log("d", 1, "2026-01-05 12:00"),
        log("e", 2, "2027-01-01 00:00"),  # after the load
        log("f", 9, "2026-02-03 00:00"),  # of nobody
        # In zones that nobody knows, or that are no place.
        log("g", 8, "2026-02-03 00:00", "Mars/Olympus"),
        log("h", 8, "2026-02-04 00:00", "Factory"),
        log("i", 8, "2026-02-05 00:00", "ROC"),
    ],
    "inspire.users": [(1, "Riga", "Europe/Riga", None), (2, None, "Europe/Riga", None)],
    "inspire.user_goals": [
        (5, 1, 10, date(2026, 1, 1), date(2026, 2, 1)),
        (6, 1, 20, date(2026, 1, 31), None),
        (7, 1, 10, date(2026, 2, 28), None),
    ],
    "inspire.goals": [(10, "run_5k"), (20, "sleep_better")],
    "inspire_sessions.sessions": [
        ("s", 1, seconds("2026-02-10"), "Europe/Riga", 1, 1, 0, False, LOADED),
        # The last version with its figures counts, and the session has expired since.
        ("s", 1, seconds("2026-02-10"), "Europe/Riga", 7, 2, 1, False, LOADED),
        ("s", None, None, None, None, 3, 2, True, LOADED),
        ("t", 2, seconds("2026-01-31 22:00"), "Europe/Riga", 2, 1, 3, False, LOADED),
        ("t", 2, seconds("2026-01-31 22:00"), "Europe/Riga", 3, 1, 4, False, LOADED),
    ],
}


@pytest.fixture(scope="module")
def job() -> Job:
    return JOBS["agg_engagement_by_user_month"]


@pytest.fixture(scope="module")
def inputs(spark: SparkSession) -> list[DataFrame]:
    return [spark.createDataFrame(ROWS[name], schema) for name, schema in SCHEMAS.items()]


@pytest.fixture(scope="module")
def found(job: Job, inputs: list[DataFrame]) -> dict[tuple[int, date], Row]:
    assert [f"{source.name}.{table.name}" for source, table in job.inputs] == list(SCHEMAS)
    return {(row.user_id, row.month): row for row in job.transform(*inputs).collect()}


def test_a_table_whose_items_have_all_expired_counts_nothing(
    spark: SparkSession, job: Job, inputs: list[DataFrame], tmp_path: Path
) -> None:
    """A load of DynamoDB knows the columns of items alone. Without items, only the key is there."""
    source, declared = job.inputs[-1]
    table = lake_table(source, declared, tmp_path.as_uri())
    fill(table, pa.table({"session_id": pa.array([], pa.string())}))
    state = table.state()
    assert state
    sessions = Input(table, declared, state).read_changes(spark)
    rows = job.transform(*inputs[:-1], sessions).collect()
    logs = ROWS["inspire_docs.activity_logs"]
    assert sum(row.workout_count for row in rows) == len(logs)
    assert sum(row.session_count for row in rows) == 0


def test_a_day_is_that_of_the_place_and_counts_once(found: Mapping[tuple, Row]) -> None:
    assert {*found} == {
        (1, JANUARY),
        (1, FEBRUARY),
        (2, UNKNOWN),
        (2, FEBRUARY),
        (9, FEBRUARY),
        (8, UNKNOWN),
    }
    february = found[1, FEBRUARY]
    assert (february.workout_count, february.active_days) == (3, 1)
    assert (february.duration_seconds, february.distance_m) == (1800, Decimal("1000.500"))
    assert february.latest_at == datetime(2026, 2, 10)
    assert (found[2, UNKNOWN].workout_count, found[2, UNKNOWN].active_days) == (1, 1)
    assert found[8, UNKNOWN].workout_count == 3


def test_the_last_version_of_a_session_counts_after_it_expired(
    found: Mapping[tuple, Row],
) -> None:
    assert (found[1, FEBRUARY].session_count, found[1, FEBRUARY].page_views) == (1, 7)
    # Of two versions with one number, the later row is the later one.
    assert (found[2, FEBRUARY].session_count, found[2, FEBRUARY].page_views) == (1, 3)
    assert found[2, FEBRUARY].workout_count == 0


def test_the_goal_is_the_oldest_that_is_open_at_the_end_of_the_month(
    found: Mapping[tuple, Row],
) -> None:
    goals = {key: row.goal_code for key, row in found.items()}
    # The first one ends with January, when its last day is over.
    assert (goals[1, JANUARY], goals[1, FEBRUARY]) == ("run_5k", "sleep_better")
    assert goals[2, FEBRUARY] == goals[9, FEBRUARY] == "none"
    assert [found[key].region for key in ((1, JANUARY), (2, FEBRUARY), (9, FEBRUARY))] == [
        "Riga",
        "Unknown",
        "Unknown",
    ]


def test_totals_are_those_of_the_lake(
    job: Job, inputs: list[DataFrame], found: Mapping[tuple, Row]
) -> None:
    with duckdb.connect() as engine:
        for name, frame in zip(SCHEMAS, inputs, strict=True):
            engine.register(name, frame.toArrow())
        for column, query in job.totals.items():
            [(total,)] = engine.execute(query).fetchall()
            assert sum(row[column] for row in found.values()) == total, column


def test_no_zone_stops_a_job(spark: SparkSession) -> None:
    """Java's list of zones may be older than the application's."""
    odd = ["America/Coyhaique", "Factory", "ROC", "EST", "localtime", "Mars/Olympus", "", None]
    zones = sorted(available_timezones()) + odd
    logs = spark.createDataFrame(
        [log(str(n), n, "2026-01-05 12:30", zone) for n, zone in enumerate(zones)], LOGS
    ).withColumn("_month", F.lit("2026-01"))
    days = {row.user_id: row.local_date for row in workouts.days(logs).collect()}
    assert len(days) == len(zones)
    known = {zones[user] for user, day in days.items() if day != UNKNOWN}
    assert len(ZONES) - 5 < len(known) <= len(ZONES)
    assert known <= ZONES
    # A workout has an hour if it has a day.
    assert {zones[row.user_id] for row in workouts.hours(logs).collect()} == known


def trained(people_of: Mapping[tuple[str, date | None], int]) -> list[DataFrame]:
    """So many people of each zone and day of birth. Each begins once at 18:00 and once at 6:00."""
    logs, users = [], []
    for (zone, birth), count in people_of.items():
        for _ in range(count):
            user = len(users)
            users.append((user, "Riga", zone, birth))
            logs += [
                # In winter, Riga is two hours ahead, and in summer three.
                log(f"{user}a", user, "2026-01-05 16:30"),
                log(f"{user}b", user, "2025-07-05 15:30"),
                log(f"{user}c", user, "2026-01-06 04:30"),
            ]
    return [(LOGS, logs), (SCHEMAS["inspire.users"], users)]


def test_peak_hours_are_local_and_small_groups_are_not_told(spark: SparkSession) -> None:
    job = JOBS["agg_peak_hours_by_zone_age_hour"]
    young, old = date(2000, 1, 5), date(1950, 1, 6)
    frames = [
        spark.createDataFrame(rows, schema)
        for schema, rows in trained(
            {
                ("Europe/Riga", young): 30,
                ("Europe/Paris", young): 9,
                ("Europe/Rome", young): 11,
                ("Europe/Riga", old): 12,
                ("Europe/Riga", None): 10,
            }
        )
    ]
    rows = job.transform(*frames).collect()
    groups = {(row.time_zone, row.age_band): row.people_count for row in rows}
    # Paris has 9. Without Rome, too, the row of all zones would tell them.
    assert groups == {
        ("Europe/Riga", "20s"): 30,
        ("Europe/Riga", "70 and over"): 12,
        ("Europe/Riga", "unknown"): 10,
        ("all", "20s"): 50,
        ("all", "70 and over"): 12,
        ("all", "unknown"): 10,
        ("all", "all"): 72,
    }
    best = {(row.time_zone, row.age_band): row.hour for row in rows if row.is_best}
    assert best == dict.fromkeys(groups, 18)
    by_hour = {
        row.hour: (row.workout_count, row.weekend_workout_count)
        for row in rows
        if row.age_band == "all"
    }
    assert by_hour == {6: (72, 0), 18: (144, 72)}
    assert {*rows[0].asDict()} == {*job.columns} == {*job.lineage}


def test_hours_of_few_people_are_not_told(spark: SparkSession) -> None:
    """Neither is the same hour of the next smallest group."""
    job = JOBS["agg_peak_hours_by_zone_age_hour"]
    young, old, oldest = date(2000, 1, 5), date(1970, 1, 6), date(1950, 1, 6)
    (schema, logs), users = trained(
        {("Europe/Riga", young): 30, ("Europe/Rome", old): 12, ("Europe/Riga", oldest): 25}
    )
    # At 3:00 one of the oldest and all others. At 1:00 one alone, and more often than all at 18:00.
    logs += [log(f"{user}d", user, "2026-01-05 01:13") for user in range(43)]
    logs += [log(f"{n}e", 0, "2026-01-04 23:13") for n in range(100)]
    frames = [spark.createDataFrame(logs, schema), spark.createDataFrame(*reversed(users))]
    found = {
        (row.time_zone, row.age_band, row.hour): row.is_best
        for row in job.transform(*frames).collect()
    }
    assert {hour for *_, hour in found} == {3, 6, 18}
    at_three = {each[:2] for each in found if each[2] == 3}
    assert at_three == {("Europe/Riga", "20s"), ("all", "20s"), ("all", "all")}
    # The best hour of the 20s is that of one person.
    assert {each for each, is_best in found.items() if is_best} == {
        ("Europe/Riga", "70 and over", 18),
        ("all", "70 and over", 18),
        ("Europe/Rome", "50s", 18),
        ("all", "50s", 18),
        ("all", "all", 18),
    }


def test_a_band_that_is_not_told_is_not_the_sum_of_its_zones(spark: SparkSession) -> None:
    job = JOBS["agg_peak_hours_by_zone_age_hour"]
    frames = [
        spark.createDataFrame(rows, schema)
        for schema, rows in trained(
            {
                ("Europe/Riga", date(1950, 1, 1)): 9,
                # The next smallest band.
                ("Europe/Riga", date(1960, 1, 1)): 15,
                ("Europe/Rome", date(1960, 1, 1)): 15,
                ("Europe/Riga", date(1999, 1, 1)): 40,
            }
        )
    ]
    groups = {(row.time_zone, row.age_band) for row in job.transform(*frames).collect()}
    assert groups == {("Europe/Riga", "20s"), ("all", "20s"), ("all", "all")}


def test_the_columns_of_engagement_are_described(job: Job, found: Mapping[tuple, Row]) -> None:
    [*_, row] = found.values()
    assert {*row.asDict()} == {*job.columns} == {*job.lineage}


def test_a_young_application_has_empty_aggregates(spark: SparkSession, job: Job) -> None:
    empty = {name: spark.createDataFrame([], schema) for name, schema in SCHEMAS.items()}
    assert job.transform(*empty.values()).collect() == []
    peaks = JOBS["agg_peak_hours_by_zone_age_hour"]
    assert peaks.transform(*list(empty.values())[:2]).collect() == []


def test_groups_are_those_of_the_application() -> None:
    for years in range(121):
        band = next((name for age, name in AGE_BANDS if years < age), OLDEST)
        assert people.age_band(years) == band


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ({}, set()),
        ({"a": 10, "b": 11}, set()),
        ({"a": 9, "b": 11, "c": 12}, {"a", "b"}),
        # Nine and nothing are still nine.
        ({"a": 9, "b": 0, "c": 12, "d": 13}, {"a", "b", "c"}),
        ({"a": 5, "b": 6, "c": 12}, {"a", "b"}),
        ({"a": 3}, {"a"}),
    ],
)
def test_small_groups_and_the_next_smallest_are_hidden(sizes: dict, left_out: set) -> None:
    assert hidden(sizes) == left_out
