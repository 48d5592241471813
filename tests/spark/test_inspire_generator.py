"""What the data of the fitness application promise: the truth that is in them can be found again,
people are those of other lines, and each document is one that the application would have written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson import json_util

from seed_data.common.dice import Dice
from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.inspire import generator, shares, truth
from seed_data.inspire.choices import AGAIN_AFTER, WORKOUTS, Proposals, chances
from seed_data.inspire.generator import World, generate, sizes_of
from seed_data.inspire.habits import Habits, in_pieces, odds_of, shares_of
from seed_data.inspire.texts import QUOTES
from softcart_assets.assembly import LINES
from softcart_assets.inspire_app.people import email_key
from softcart_assets.inspire_app.workouts import Origin, Set, Workout

UNTIL = datetime(2026, 3, 20, 15, 30, 12, 345678, tzinfo=UTC)
PARAMETERS = Parameters(0.2, 5, UNTIL)
TABLES = [f"{source.name}.{table.name}" for source, table in LINES.line("inspire").tables()]
LAST = (UNTIL.date() - date(1970, 1, 1)).days
FIRST = LAST - 4 * 365


def _generate(spark, parameters: Parameters, directory: Path) -> None:
    generate(parameters, Output(directory, TABLES, lambda: spark, lambda table, path: None))


@pytest.fixture(scope="module")
def seeded(spark, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("inspire")
    _generate(spark, PARAMETERS, directory)
    return directory


@pytest.fixture(scope="module")
def read(seeded: Path):
    def table(name: str) -> pd.DataFrame:
        return pq.read_table(seeded / name).to_pandas()

    return table


@pytest.fixture(scope="module")
def workouts(read) -> pd.DataFrame:
    """The documents, as MongoDB gives them."""
    return pd.DataFrame(_documents(read("inspire_docs.activity_logs")))


def _documents(table: pd.DataFrame) -> list[dict[str, Any]]:
    options = json_util.JSONOptions(tz_aware=True, tzinfo=UTC)
    return [json_util.loads(text, json_options=options) for text in table.document]


def _digest(directory: Path, name: str) -> str:
    table = pq.read_table(directory / name)
    rows = sorted(repr(row) for row in table.to_pylist())
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def test_the_same_parameters_make_the_same_rows_in_any_partitioning(
    spark, seeded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "USERS_PER_PARTITION", 130)
    _generate(spark, PARAMETERS, tmp_path)
    for name in TABLES:
        assert _digest(seeded, name) == _digest(tmp_path, name), name


def _days(ages: np.ndarray, regions: list[str], count: int) -> pd.DataFrame:
    """Four years of people who were there all the time."""
    batch = pa.record_batch(
        {
            "user_id": np.arange(1, count + 1),
            "created_day": np.full(count, FIRST - 500, np.int32),
            "born_day": (LAST - ages * 365.25).astype(np.int32),
            "region": regions,
        }
    )
    [found] = Habits(Dice(3), FIRST - 60, FIRST, LAST).days(iter([batch]))
    return found.to_pandas()


def test_days_are_the_same_however_few_people_are_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seed_data.inspire.habits.PEOPLE_AT_ONCE", 3)
    people = pa.record_batch(
        {
            "user_id": np.arange(1, 9),
            "created_day": np.full(8, 50, np.int32),
            "born_day": np.full(8, -9_000, np.int32),
            "region": ["Berlin", "Hamburg"] * 4,
        }
    )
    habits = Habits(Dice(3), 50, 100, 160)
    whole, pieces = (
        [row for found in habits.days(batches) for row in found.to_pylist()]
        for batches in (iter([people]), in_pieces(iter([people[:0], people])))
    )
    assert [piece.num_rows for piece in in_pieces(iter([people]))] == [3, 3, 2]
    assert whole
    assert sorted(map(repr, pieces)) == sorted(map(repr, whole))


def test_odds_lead_to_the_share_of_days_that_they_are_made_for() -> None:
    wanted = np.array([0.05, 0.24, 0.41, 0.8])
    assert np.abs(shares_of(odds_of(wanted)) - wanted).max() < 0.001


def test_age_season_and_region_say_how_often_people_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "LAPSE", 0.0)
    count = 4_200
    # In the middle two years, nobody changes to another band.
    at_the_end = dict(zip(truth.ACTIVE_DAYS, (19, 27, 37, 47, 57, 67, 77), strict=True))
    bands = [list(at_the_end)[number % len(at_the_end)] for number in range(count)]
    regions = ["Hamburg" if number % 2 else "Bayern" for number in range(count)]
    ages = np.array([at_the_end[band] + 0.4 for band in bands])
    days = _days(ages, regions, count)
    days["region"] = days.user_id.map(lambda user: regions[user - 1])
    days["band"] = days.user_id.map(lambda user: bands[user - 1])
    middle = days[(days.day - (FIRST + LAST) / 2).abs() <= 365]
    plain = middle[middle.region == "Bayern"]
    per_week = plain.groupby("band").size() / (count / 2 / len(at_the_end)) / 731 * 7
    for band in at_the_end:
        assert per_week[band] == pytest.approx(truth.ACTIVE_DAYS[band], rel=0.05), band
    by_region = middle.groupby("region").size()
    assert by_region["Hamburg"] / by_region["Bayern"] == pytest.approx(1.3, rel=0.04)

    moments = pd.to_datetime(days.day, unit="D")
    trend = truth.MONTHLY_TREND ** ((days.day - (FIRST + LAST) / 2) / 30.44)
    in_month = (1 / trend).groupby(moments.dt.month).sum()
    calendar = pd.date_range(pd.Timestamp(FIRST, unit="D"), pd.Timestamp(LAST, unit="D"))
    found = in_month / calendar.to_series().groupby(calendar.month).size()
    found /= found.mean()
    expected = np.array(truth.MONTHS) / np.mean(truth.MONTHS)
    assert np.abs(found.to_numpy() - expected).max() < 0.04
    assert set(found.nlargest(3).index) == {1, 5, 6}


def test_a_streak_goes_on_and_idle_people_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "RETURN", 0.0)
    monkeypatch.setattr(truth, "RETURN_IN_JANUARY", 0.0)
    count = 4_000
    days = _days(np.full(count, 45.0), ["Bayern"] * count, count)
    done = np.zeros((count, LAST - FIRST + 1), bool)
    done[days.user_id - 1, days.day - FIRST] = True
    gaps = stopped = 0
    for row in done:
        at = np.flatnonzero(row)
        between = np.diff(np.append(at, len(row) + 99)) - 1
        # The last gap has to be long enough to know that it was one.
        between = between[at < len(row) - 60]
        gaps += int((between >= truth.IDLE_DAYS).sum())
        stopped += int((between >= 60).sum())
    # Of those who did not stop, hardly anybody waits for so long.
    assert stopped / gaps == pytest.approx(truth.LAPSE, abs=0.025)

    # A person is compared with himself in a month, so that habits and seasons do not matter.
    streak = np.zeros(done.shape, int)
    for day in range(1, done.shape[1]):
        streak[:, day] = (streak[:, day - 1] + 1) * done[:, day - 1]
    above = below = 0.0
    for start in range(0, done.shape[1] - 90, 90):
        piece, runs = done[:, start : start + 90], streak[:, start : start + 90]
        long, none = (runs >= 3) & (runs <= 5), runs == 0
        a, b = (piece & long).sum(1), (~piece & long).sum(1)
        c, d = (piece & none).sum(1), (~piece & none).sum(1)
        above += (a * d / 90).sum()
        below += (b * c / 90).sum()
    assert above / below == pytest.approx(1 + truth.STREAK_BONUS * 3.8, rel=0.07)


def test_workouts_are_those_that_the_application_would_have_written(
    workouts: pd.DataFrame, read
) -> None:
    assert len(workouts) > 8_000
    assert workouts._id.is_unique
    assert not workouts.duplicated(["user_id", "fingerprint"]).any()
    deleted = set(read("inspire.users").query("state == 'deleted'").id)
    assert not deleted & set(workouts.user_id)
    for row in workouts.sample(1_500, random_state=1).to_dict("records"):
        details = {
            name: value.to_decimal()
            for name in ("distance_m", "ascent_m", "average_watts", "pool_m")
            if not isinstance(value := row[name], float)
        }
        details |= {name: row[name] for name in ("stroke", "style") if isinstance(row[name], str)}
        if isinstance(row["sets"], list):
            details["sets"] = [
                Set(each["exercise"], each["repetitions"], each["load_kg"].to_decimal())
                for each in row["sets"]
            ]
        workout = Workout(
            row["activity"],
            row["started_at"],
            row["time_zone"],
            timedelta(seconds=row["duration_seconds"]),
            Origin(row["origin"]),
            None if pd.isna(row["effort"]) else int(row["effort"]),
            details=details,
        )
        assert workout.problems(UNTIL) == {}
        assert workout.fingerprint == row["fingerprint"]
        assert f"{workout.local_date}" == row["local_date"]
        assert workout.started_at + workout.duration <= row["created_at"] <= row["updated_at"]
        assert row["updated_at"] <= UNTIL


def test_hours_are_those_of_age_and_zone(spark, workouts: pd.DataFrame, read, seeded: Path) -> None:
    people = pq.read_table(seeded / "people").to_pandas().set_index("user_id")
    frame = workouts[workouts.time_zone.isin(["Europe/Berlin", "Europe/Vienna", "Europe/Paris"])]
    local = [
        each.astimezone(ZoneInfo(zone))
        for each, zone in zip(frame.started_at, frame.time_zone, strict=True)
    ]
    born = frame.user_id.map(people.born_day).to_numpy()
    ages = [(each.date() - date(1970, 1, 1)).days for each in local] - born
    found: dict[tuple[str, bool], Counter[int]] = {}
    for moment, age in zip(local, ages, strict=True):
        band = truth.age_band(int(age / 365.25))
        found.setdefault((band, moment.weekday() > 4), Counter())[moment.hour] += 1
    for (band, is_weekend), hours in found.items():
        if hours.total() < 300:
            continue
        [(hour, _)] = hours.most_common(1)
        is_late = is_weekend and truth.PEAK_HOURS[band] > 12
        assert hour == truth.PEAK_HOURS[band] + truth.WEEKEND_LATER * is_late, band
        if band in truth.EARLY_BANDS and not is_weekend:
            early = sum(count for at, count in hours.items() if at < 12) / hours.total()
            assert early == pytest.approx(truth.EARLY_SHARE, abs=0.05)
    assert len(found) > 9
    late = workouts[workouts.time_zone.isin(truth.LATE_ZONES)]
    assert len(late) > 1_000


def test_a_proposal_is_done_as_goal_and_taste_say() -> None:
    count, days = 3_000, 60
    goals = np.arange(count, dtype=np.int32) % (len(truth.GOALS) + 1)
    tastes = (np.arange(count, dtype=np.int32) // 7) % truth.TASTES
    batch = pa.record_batch(
        {
            "user_id": np.arange(count),
            "created_day": np.zeros(count, np.int32),
            "goal_number": goals,
            "taste": tastes,
        }
    )
    [rows] = Proposals(Dice(3), 100, 100 + days).proposed(iter([batch]))
    found = rows.to_pandas()
    quotes = found[found.kind == "quote"].assign(number=lambda each: each["item"].astype(int) - 1)
    shown = quotes.sort_values("day").groupby(["user_id", "number"]).day.diff()
    assert shown.min() >= AGAIN_AFTER
    assert quotes.propensity.between(1 / len(QUOTES), 1 / (len(QUOTES) - AGAIN_AFTER)).all()
    exercise = found[found.kind == "workout"]
    assert exercise.propensity.unique() == pytest.approx([1 / len(WORKOUTS)])
    codes = {each.code: number for number, each in enumerate(WORKOUTS)}
    for table, rows_of, number in zip(
        chances(),
        (exercise, quotes),
        (exercise["item"].map(codes), quotes.number),
        strict=True,
    ):
        expected = table[goals[rows_of.user_id], tastes[rows_of.user_id], number]
        # In ten groups by the true chance.
        group = np.digitize(expected, np.quantile(expected, np.linspace(0.1, 0.9, 9)))
        for each in np.unique(group):
            mine = group == each
            spread = 4 * np.sqrt((expected[mine] * (1 - expected[mine])).sum())
            assert abs(rows_of.is_done[mine].sum() - expected[mine].sum()) < spread


def test_buyers_of_sports_more_often_want_strength(spark) -> None:
    """The odds ratio over the customers whom both lines know, with its interval of 99.9%."""
    parameters = Parameters(1, 5, UNTIL)
    base = World(sizes_of(parameters), spark).base()
    counts = (
        base.where(f"person <= {parameters.people} AND goal IS NOT NULL")
        .selectExpr("coalesce(bought_sports, false) AS bought", "goal = 'build_strength' AS strong")
        .groupBy("bought", "strong")
        .count()
        .toPandas()
        .set_index(["bought", "strong"])["count"]
    )
    assert counts.sum() == pytest.approx(
        2_000 * shares.KNOWN_PERSON * (1 - truth.NO_GOAL), rel=0.12
    )
    ratio = counts[True, True] * counts[False, False] / counts[True, False] / counts[False, True]
    error = np.sqrt((1 / counts).sum())
    assert abs(np.log(ratio) - np.log(truth.STRENGTH_ODDS)) < 3.3 * error
    assert np.log(ratio) > 2 * error


def test_people_are_those_of_other_lines(read, seeded: Path) -> None:
    users = read("inspire.users").set_index("id")
    people = pq.read_table(seeded / "people").to_pandas().set_index("user_id")
    assert users.email_key.is_unique
    assert all(email_key(row.email) == row.email_key for row in users.itertuples())
    known = people[(people.person <= PARAMETERS.people) & ~people.is_deleted]
    assert (known.person == known.index * 5).all()
    assert abs(len(known) - len(users) * shares.KNOWN_PERSON) < 45
    # The address of a person ends with the person's number.
    same = known.email_key.str.contains(r"\d@") & ~known.email_key.str.contains("fit.example")
    assert same.mean() == pytest.approx(1 - shares.EMAIL_OTHER, abs=0.11)
    gone = users[users.state == "deleted"]
    assert (gone.full_name == "").all()
    assert gone[["phone", "birth_date"]].isna().all().all()


def test_goals_and_messages_keep_the_rules_of_the_application(read) -> None:
    goals = read("inspire.user_goals")
    still = goals[goals.ended_on.isna()]
    assert not still.duplicated(["user_id", "goal_id"]).any()
    strong = list(truth.GOALS).index("build_strength") + 1
    main = still.sort_values("id").groupby("user_id").id.first()
    assert set(goals[goals.goal_id == strong].id) <= set(main)

    messages, events = read("inspire.messages"), read("inspire.message_events")
    consents, users = read("inspire.consents"), read("inspire.users").set_index("id")
    assert set(events.message_id) == set(messages.id)
    assert not events.duplicated(["message_id", "event"]).any()
    others = messages[messages.purpose != "account"]
    allowed = others.merge(consents, on=["user_id", "channel", "purpose"])
    in_force = (allowed.given_at < allowed.created_at) & ~(allowed.withdrawn_at < allowed.due_at)
    assert set(allowed[in_force].id_x) == set(others.id)
    for row in others.sample(300, random_state=1).itertuples():
        zone = ZoneInfo(users.time_zone[row.user_id])
        assert 8 <= row.sent_at.astimezone(zone).hour < 21
    assert (read("inspire.suppressions").address_digest.str.len() == 64).all()


def test_sessions_and_preferences_belong_to_people(read) -> None:
    users = read("inspire.users")
    there = set(users[users.state == "active"].id)
    items = [json.loads(text) for text in read("inspire_sessions.sessions").item]
    assert {int(item["user_id"]["N"]) for item in items} <= there
    now = int(UNTIL.timestamp())
    for item in items:
        started, seen, expires = (
            int(item[name]["N"]) for name in ("started_at", "seen_at", "expires_at")
        )
        assert started <= seen <= now
        assert expires == seen + 14 * 86_400
    documents = _documents(read("inspire_docs.preferences"))
    assert {each["_id"] for each in documents} == there
    metadata = _documents(read("inspire_docs.product_metadata"))
    assert metadata
    assert all(set(each["goals"]) <= set(truth.GOALS) for each in metadata)
    amounts = read("inspire.challenges").amount
    assert (amounts > Decimal(0)).all()
