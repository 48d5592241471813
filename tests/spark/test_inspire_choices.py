"""What was proposed and done, by person, item and month, on rows that can be counted by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import SparkSession

from spark.jobs import JOBS

JOB = JOBS["agg_choices_by_user_item_month"]
LOADED = datetime(2026, 6, 10, 12, tzinfo=UTC)
OWN = "_version long, _position string, _loaded_at timestamp"
HISTORY = f"{OWN}, _deleted boolean, _operation string, _committed_at timestamp, _place long"
COLUMNS = {
    "choices": "id long, user_id long, local_date date, kind string, item string,"
    f" shown_at timestamp, done_at timestamp, {OWN}",
    "user_goals": "id long, user_id long, goal_id long, started_on date, ended_on date, " + OWN,
    "goals": f"id long, code string, {OWN}",
    "quotes": f"id long, topic string, mood string, {OWN}",
    "preferences": f"_id string, mood string, {HISTORY}",
}


def choice(number: int, on: date, item: str, done: float | None = None, **other: object) -> tuple:
    """`done`: after so many hours."""
    shown = datetime(on.year, on.month, on.day, 8, tzinfo=UTC)
    row = {
        "id": number,
        "user": 1,
        "day": on,
        "kind": "quote" if item.isdigit() else "workout",
        "item": item,
        "shown": shown,
        "done": None if done is None else shown + timedelta(hours=done),
        "own": (1, "bin:1", LOADED),
    } | other
    own = row.pop("own")
    return (*row.values(), *own)


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[tuple, dict]:
    april, may, june = date(2026, 4, 7), date(2026, 5, 7), date(2026, 6, 7)
    own, later = (1, "bin:1", LOADED), datetime(2026, 5, 20, tzinfo=UTC)
    rows = {
        "choices": [
            choice(1, april, "yoga_20", 2),
            choice(2, april + timedelta(days=1), "yoga_20"),
            choice(3, april, "yoga_20", 25),  # a day too late
            choice(4, april, "7", 1),
            choice(5, may, "gone", 1),
            choice(6, may, "99"),
            choice(7, june, "7", own=(5, "bin:5", LOADED)),
            choice(8, june, "7", shown=None),
            choice(9, date(2099, 1, 1), "7"),
            choice(10, april, "yoga_20", day=date(2026, 3, 30)),
            choice(11, june, "yoga_20", user=2),
        ],
        "user_goals": [
            (4, 1, 10, date(2026, 1, 1), date(2026, 4, 5), *own),
            (5, 1, 20, date(2026, 3, 1), None, *own),
            (6, 1, 10, date(2026, 4, 20), None, *own),
        ],
        "goals": [(10, "run_5k", *own), (20, "move_daily", 9, "bin:9", LOADED)],
        "quotes": [(7, "joy", "calm", *own)],
        "preferences": [
            ("1", "calm", *own, False, None, None, 0),
            ("somebody", "firm", *own, False, None, None, 1),
            ("1", "firm", 2, "token:2", LOADED, False, "update", later, 0),
        ],
    }
    frames = [
        spark.createDataFrame(rows[table.name], COLUMNS[table.name]) for _, table in JOB.inputs
    ]
    of = [row.asDict() for row in JOB.transform(*frames).collect()]
    return {(row["user_id"], row["item"], row["month"].month): row for row in of}


def test_what_was_seen_and_done_within_a_day_counts(found: dict[tuple, dict]) -> None:
    assert found.keys() == {
        (1, "yoga_20", 4),
        (1, "7", 4),
        (1, "gone", 5),
        (1, "99", 5),
        (1, "7", 6),
        (2, "yoga_20", 6),
    }
    assert (found[1, "yoga_20", 4]["shown_count"], found[1, "yoga_20", 4]["taken_count"]) == (3, 1)
    assert (found[1, "7", 6]["shown_count"], found[1, "7", 6]["taken_count"]) == (1, 0)


def test_goal_and_mood_are_of_the_beginning_and_in_the_last_month_of_now(
    found: dict[tuple, dict],
) -> None:
    told = {
        month: (row["goal"], row["mood"]) for (user, _, month), row in found.items() if user == 1
    }
    assert told == {4: ("run_5k", "calm"), 5: ("move_daily", "calm"), 6: ("move_daily", "firm")}
    nobody = found[2, "yoga_20", 6]
    assert (nobody["goal"], nobody["mood"]) == ("none", "none")


def test_traits_are_those_of_the_catalogue_and_of_the_quotes(found: dict[tuple, dict]) -> None:
    traits = {
        item: (row["activity_or_topic"], row["effort_or_mood"])
        for (_, item, _), row in found.items()
    }
    assert traits == {
        "yoga_20": ("yoga", "light"),
        "7": ("joy", "calm"),
        "gone": ("unknown", "unknown"),
        "99": ("unknown", "unknown"),
    }
    assert {row["data_position"] for row in found.values()} == {
        "inspire bin:9, inspire_docs token:2"
    }
