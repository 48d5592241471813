"""The models of the fitness application on a real PostgreSQL, with hand-made rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from support.dbt_builds import Raw, Warehouse

from softcart_assets import warehouse_state
from softcart_assets.assembly import LINES
from softcart_assets.connections import staging
from softcart_assets.identities.build import build
from softcart_assets.paths import REPOSITORY

DATABASE, BUILT = "test_inspire", "test_inspire_built"
FACTS = {
    "fct_activity": "workout_key",
    "fct_app_sessions": "session_key",
    "fct_messages": "message_key",
}
DIMENSIONS = ("dim_customer", "dim_activity", "dim_fitness_goal")
OF_THE_LINE = [f"path:models/staging/{source.name}" for source in LINES.line("inspire").sources]
OF_THE_LINE.append("path:models/warehouse/inspire")
DAY_1 = datetime(2026, 3, 30, 12, tzinfo=UTC)
START = "2026-03-01 00:00"
RIGA, NEW_YORK = "Europe/Riga", "America/New_York"


def at(text: str) -> datetime:
    """A time as MySQL's raw tables hold it: UTC without a zone."""
    return datetime.fromisoformat(text)


def user(number: int, name: str, updated: str = START, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "email": f"{name}@mail.example",
        "email_key": f"{name.lower()}@mail.example",
        "full_name": f"{name} Berzins",
        "region": "Riga",
        "country_code": "LV",
        "time_zone": RIGA,
        "state": "active",
        "created_at": at(START),
        "updated_at": at(updated),
    } | more


def goal(number: int, code: str) -> dict[str, Any]:
    return {"id": number, "code": code, "name": code, "unit": "minutes", "updated_at": at(START)}


def user_goal(
    number: int, of: int, goal_id: int, started: str, ended: str | None = None
) -> dict[str, Any]:
    return {
        "id": number,
        "user_id": of,
        "goal_id": goal_id,
        "amount": Decimal("90.00"),
        "started_on": date.fromisoformat(started),
        "ended_on": date.fromisoformat(ended) if ended else None,
        "updated_at": at(START),
    }


def workout(key: str, of: int, started: str, zone: str = RIGA, **more: Any) -> dict[str, Any]:
    return {
        "_id": key,
        "user_id": of,
        "activity": "run",
        "started_at": {"$date": f"{started.replace(' ', 'T')}:00Z"},
        "time_zone": zone,
        "duration_seconds": 1800,
        "effort": 6,
        "origin": "app",
        "distance_m": {"$numberDecimal": "5000.10"},
    } | more


def lifted(repetitions: int, load_kg: str) -> dict[str, Any]:
    load = {"$numberDecimal": load_kg}
    return {"exercise": "squat", "repetitions": repetitions, "load_kg": load}


def session(key: str, of: int, started: str, removed_by: str | None = None, **more: Any) -> dict:
    start = int(at(started).replace(tzinfo=UTC).timestamp())
    document = {
        "session_id": key,
        "user_id": of,
        "started_at": start,
        "seen_at": start + 600,
        "expires_at": start + 14 * 86400,
        "device": "phone",
        "time_zone": NEW_YORK,
        "page_views": 7,
        "workouts_logged": 1,
        "how": "password",
    }
    return {"session_id": key, "document": Jsonb(document | more), "removed_by": removed_by}


def message(number: int, to: int | None, created: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "message_key": f"key {number}",
        "user_id": to,
        "channel": "email",
        "purpose": "reminder" if to else "account",
        "template": "reminder",
        "parameters": "{}",
        "state": "waiting",
        "attempts": 0,
        "due_at": at(created),
        "expires_at": at(created) + timedelta(days=1),
        "created_at": at(created),
        "updated_at": at(created),
    } | more


def event(number: int, of: int, kind: str) -> dict[str, Any]:
    moment = at("2026-03-05 19:00")
    return {"id": number, "message_id": of, "event": kind, "happened_at": moment} | {
        "updated_at": moment
    }


def load_first_day(raw: Raw) -> None:
    """Two users. A third one's workout is there before the account."""
    raw.put("users", user(1, "Anna", birth_date=date(1996, 3, 29)))
    raw.put("users", user(2, "Bob", region="New York", time_zone=NEW_YORK))
    raw.put("goals", goal(1, "run_5k"), goal(2, "lose_weight"))
    raw.put(
        "user_goals",
        user_goal(1, 1, 1, "2026-03-01", "2026-03-10"),
        # Two at a time: the one that was chosen first is the main one.
        user_goal(2, 1, 2, "2026-03-05"),
    )
    raw.put_documents(
        "activity_logs",
        # The same instant in two places, on two days.
        workout("home", 1, "2026-03-05 22:30"),
        workout("away", 1, "2026-03-05 22:30", NEW_YORK),
        # Clocks go from 3 to 4 at 1 o'clock UTC.
        workout("before", 1, "2026-03-29 00:59"),
        workout("after", 1, "2026-03-29 01:00"),
        # The birthday begins at home, not at midnight UTC.
        workout("birthday", 1, "2026-03-28 22:30"),
        workout("eve", 1, "2026-03-28 21:30"),
        workout(
            "lifts",
            2,
            "2026-03-06 10:00",
            NEW_YORK,
            activity="strength",
            sets=[lifted(10, "60.55"), lifted(3, "0.1"), {"exercise": "odd", "repetitions": "x"}],
            distance_m=None,
        ),
        workout("mars", 2, "2026-03-07 10:00", "Mars/Olympus", activity="chess"),
        workout("early", 9, "2026-03-06 10:00"),
        workout("wrong", 2, "2026-03-08 10:00"),
    )
    raw.put("sessions", *(session(f"s{number}", 1, "2026-03-05 03:00") for number in range(1, 6)))
    raw.put(
        "messages",
        message(1, 2, "2026-03-05 18:00"),
        message(2, None, "2026-03-05 18:00", address="new@mail.example"),
        message(3, 1, "2026-03-05 18:00", channel="sms"),
    )


def load_second_day(raw: Raw) -> None:
    """Moves, corrections, deletions, and what is known late."""
    raw.loaded_at = DAY_1 + timedelta(days=1)
    raw.put(
        "users",
        user(1, "Anna", "2026-03-07 00:00", birth_date=date(1996, 3, 29), region="Liepaja"),
        user(2, "Bob", birth_date=date(2000, 1, 1), region="New York", time_zone=NEW_YORK),
        user(9, "Cid"),
    )
    raw.put("user_goals", user_goal(1, 1, 1, "2026-03-01", "2026-03-29"))
    raw.put_documents(
        "activity_logs",
        workout("home", 1, "2026-03-05 21:30", distance_m={"$numberDecimal": "5000.15"}),
    )
    raw.put_documents("activity_logs", workout("wrong", 2, "2026-03-08 10:00"), deleted=True)
    out = int(datetime(2026, 3, 5, 5, tzinfo=UTC).timestamp())
    raw.put(
        "sessions",
        session("s1", 1, "2026-03-05 03:00", "request", signed_out_at=out),
        session("s2", 1, "2026-03-05 03:00", "expiry"),
        session("s3", 1, "2026-03-05 03:00", "request"),
        # A scan found it gone.
        session("s4", 1, "2026-03-05 03:00"),
        deleted=True,
    )
    sent = {"state": "sent", "attempts": 1, "sent_at": at("2026-03-06 02:00")}
    raw.put("messages", message(1, 2, "2026-03-05 18:00", **sent))
    raw.put(
        "message_events", event(1, 1, "delivered"), event(2, 1, "clicked"), event(3, 3, "stopped")
    )


@pytest.fixture(scope="module")
def warehouse(stack, tmp_path_factory) -> Iterator[Warehouse]:
    """Built on two days; `incremental` and `refreshed` hold the facts after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCART_STAGING_DATABASE", DATABASE)
        folder = tmp_path_factory.mktemp("inspire")
        it = Warehouse(staging(), folder, REPOSITORY / "dbt_project", FACTS)
        it.create(DATABASE, "template0")
        with it.server.connect(autocommit=True) as session:
            raw = Raw(session, LINES.line("inspire"), DAY_1)
            for line in LINES:
                Raw(session, line, DAY_1).create()
            load_first_day(raw)
            warehouse_state.prepare(session, "dbt_state")
            warehouse_state.prepare(session, "identities")
            built = it.dbt("run", "--select", "+path:models/warehouse/inspire")
            assert {name: r.message for name, r in built.items() if r.status == "error"} == {}
            it.note_facts()
            load_second_day(raw)
            it.dbt("run", "--select", "dim_customer")
            it.build("--select", *OF_THE_LINE, "--exclude-resource-type", "unit_test")
            again = it.dbt("run", "--select", *FACTS)
            it.written_again = [again[fact].adapter_response["rows_affected"] for fact in FACTS]
            it.note_facts()
        it.create(BUILT, DATABASE)
        yield it
        with replace(it.server, database="postgres").connect(autocommit=True) as admin:
            for name in (DATABASE, BUILT):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def raw(warehouse: Warehouse) -> Iterator[Raw]:
    """The database after both days, to be changed."""
    warehouse.create(DATABASE, BUILT)
    with warehouse.server.connect(autocommit=True) as session:
        yield Raw(session, LINES.line("inspire"), DAY_1 + timedelta(days=2))


def found(warehouse: Warehouse, fact: str, key: str, *columns: str) -> list[dict[Any, tuple]]:
    """These columns of a fact by its key, after each of the two days."""
    return [
        {row[key]: tuple(row[column] for column in columns) for row in facts[fact]}
        for facts in warehouse.incremental
    ]


def test_incremental_runs_make_the_same_facts_as_a_full_refresh(warehouse: Warehouse) -> None:
    assert warehouse.incremental == warehouse.refreshed
    assert all(warehouse.incremental[0][fact] != warehouse.incremental[1][fact] for fact in FACTS)
    assert warehouse.written_again == [0, 0, 0]


def test_a_workout_has_the_day_and_the_minute_of_its_place(warehouse: Warehouse) -> None:
    first, second = found(
        warehouse, "fct_activity", "workout_id", "activity_date", "time_of_day_key"
    )
    sixth, fifth, sunday = date(2026, 3, 6), date(2026, 3, 5), date(2026, 3, 29)
    assert first["home"] == (sixth, 30)
    # The time was corrected later.
    assert second["home"] == (fifth, 23 * 60 + 30)
    assert second["away"] == (fifth, 17 * 60 + 30)
    assert second["before"] == (sunday, 2 * 60 + 59)
    assert second["after"] == (sunday, 4 * 60)
    assert second["mars"] == (date(1900, 1, 1), -1)


def test_a_workout_meets_the_user_as_of_its_time(warehouse: Warehouse) -> None:
    first, second = found(warehouse, "fct_activity", "workout_id", "region", "age_years", "goal_id")
    assert first["birthday"] == ("Riga", 30, 2)
    # Goals of both kinds on that day, by today's knowledge. The move came in between.
    assert second["home"] == ("Riga", 29, 1)
    assert second["eve"] == ("Liepaja", 29, 1)
    assert second["birthday"] == ("Liepaja", 30, 2)
    # Who tells the date of birth late had an age before.
    assert (first["lifts"], second["lifts"]) == (
        ("New York", None, None),
        ("New York", 26, None),
    )
    assert (first["early"][0], second["early"][0]) == ("Unknown", "Riga")
    warehouse.create(DATABASE, BUILT)
    assert warehouse.query("""
        SELECT workout_id, kind.activity, goal.goal_code, customer.full_name, customer.region
        FROM warehouse.fct_activity
        JOIN warehouse.dim_activity AS kind USING (activity_key)
        JOIN warehouse.dim_fitness_goal AS goal USING (fitness_goal_key)
        JOIN warehouse.dim_customer AS customer USING (customer_key)
        WHERE workout_id IN ('away', 'after', 'lifts', 'mars') ORDER BY 1
    """) == [
        ("after", "run", "lose_weight", "Anna Berzins", "Liepaja"),
        ("away", "run", "run_5k", "Anna Berzins", "Riga"),
        ("lifts", "strength", "none", "Bob Berzins", "New York"),
        ("mars", "unknown", "none", "Bob Berzins", "New York"),
    ]


def test_loads_and_distances_are_exact_and_deleted_workouts_are_gone(warehouse: Warehouse) -> None:
    first, second = found(warehouse, "fct_activity", "workout_id", "load_kg", "distance_m")
    assert second["lifts"] == (Decimal("605.800"), None)
    assert (first["home"], second["home"]) == (
        (None, Decimal("5000.10")),
        (None, Decimal("5000.15")),
    )
    assert first.keys() - second.keys() == {"wrong"}


def test_sessions_that_are_over_stay_and_tell_how_they_ended(warehouse: Warehouse) -> None:
    first, second = found(
        warehouse, "fct_app_sessions", "session_id", "ended_by", "ended_at", "session_date"
    )
    # It was the evening before in New York.
    day = date(2026, 3, 4)
    assert set(first.values()) == {("open", None, day)}
    assert second == {
        "s1": ("signed out", datetime(2026, 3, 5, 5, tzinfo=UTC), day),
        "s2": ("expired", datetime(2026, 3, 19, 3, tzinfo=UTC), day),
        "s3": ("replaced", datetime(2026, 3, 5, 3, 10, tzinfo=UTC), day),
        "s4": ("expired", datetime(2026, 3, 19, 3, tzinfo=UTC), day),
        "s5": ("open", None, day),
    }


def test_a_message_is_local_to_its_receiver_and_has_its_events(warehouse: Warehouse) -> None:
    first, second = found(
        warehouse,
        *("fct_messages", "message_id", "message_date", "time_of_day_key", "message_state"),
        *("is_delivered", "is_opened", "is_clicked", "is_unsubscribed"),
    )
    fifth, none = date(2026, 3, 5), (False, False, False, False)
    assert first[1] == (fifth, 13 * 60, "waiting", *none)
    # It was sent at night, UTC.
    assert second[1] == (fifth, 21 * 60, "sent", True, False, True, False)
    assert second[2] == (fifth, 18 * 60, "waiting", *none)
    assert second[3] == (fifth, 20 * 60, "waiting", False, False, False, True)


def test_a_customer_of_three_lines_is_one_person(warehouse: Warehouse, raw: Raw) -> None:
    shop = Raw(raw.session, LINES.line("shop"), DAY_1)
    telecom = Raw(raw.session, LINES.line("telecom"), DAY_1)
    times = {"created_at": at(START), "updated_at": at(START)}
    row = {"id": 71, "marketing_consent": 0, **times}
    # One has the address of the first line, the other one the number of the second.
    shop.put(
        "customers",
        row
        | {"full_name": "A. Berzins", "email": "ANNA@mail.example"}
        | {"phone": "+371 2000 0001"},
    )
    [crm] = [source for source in telecom.line.sources if source.name == "crm"]
    telecom._write(
        crm,
        "customers",
        ("id",),
        [row | {"full_name": "BERZINS Anna", "phone": "0037120000001", "kind": "private"}],
        False,
    )
    warehouse.dbt("run", "--select", "+dim_customer", "--exclude", "dim_customer")
    build(warehouse.server, ["inspire", "shop", "telecom"])
    warehouse.dbt("run", "--select", "dim_customer")
    people = warehouse.query("""
        SELECT count(DISTINCT person_id), array_agg(DISTINCT line_of_business), count(*)
        FROM warehouse.dim_customer WHERE full_name ILIKE '%berzins%' AND full_name ~* '^a|anna'
    """)
    # The user has two versions.
    assert people == [(1, ["inspire", "shop", "telecom"], 4)]


def change(raw: Raw, chance: Random) -> None:
    """Load, change or delete a row of any table that a fact follows."""
    number, other = chance.randint(1, 4), chance.randint(1, 3)
    day = f"2026-03-{chance.choice((5, 9, 28, 29)):02}"
    moment = f"{day} {chance.randint(0, 23):02}:30"
    rows = {
        "users": user(
            other,
            "Anna",
            moment,
            region=chance.choice(("Riga", "Cesis")),
            time_zone=chance.choice((RIGA, NEW_YORK, "odd")),
            birth_date=chance.choice((None, date(1990, 3, 28))),
            state=chance.choice(("active", "active", "deleted")),
        ),
        "goals": goal(other, "run_5k"),
        "user_goals": user_goal(
            number, 1 + number % 3, other, day, chance.choice((None, "2026-03-28"))
        ),
        "messages": message(number, other, moment, sent_at=chance.choice((None, at(moment)))),
        "message_events": event(number, other, chance.choice(("opened", "clicked"))),
        "sessions": session(f"s{number}", other, moment, chance.choice((None, "expiry"))),
        "activity_logs": workout(
            chance.choice(("home", "away", "new")), other, moment, chance.choice((RIGA, "odd"))
        ),
    }
    raw.loaded_at += timedelta(hours=chance.randint(-5, 20))
    table = chance.choice(sorted(rows))
    put = raw.put_documents if table == "activity_logs" else raw.put
    put(table, rows[table], deleted=chance.random() < 0.25)


def test_any_order_of_partial_builds_makes_the_facts_of_a_full_refresh(
    warehouse: Warehouse, raw: Raw
) -> None:
    chance = Random(11)
    for _ in range(4):
        for _ in range(chance.randint(4, 9)):
            change(raw, chance)
        models = chance.sample((*DIMENSIONS, *FACTS), chance.randint(1, 4))
        results = warehouse.dbt("run", "--select", *models)
        assert {result.status for result in results.values()} == {"success"}
    warehouse.dbt("run", "--select", *DIMENSIONS, *FACTS)
    grown = warehouse.facts()
    warehouse.dbt("run", "--full-refresh", "--select", *FACTS)
    assert grown == warehouse.facts()
    results = warehouse.dbt("test", "--select", *(f"{fact}_match_source" for fact in FACTS))
    assert [result.status for result in results.values()] == ["pass"] * len(FACTS)


BREAKS = {
    "fct_activity_match_source": "UPDATE warehouse.fct_activity SET load_kg = load_kg + 0.001",
    "fct_app_sessions_match_source": "UPDATE warehouse.fct_app_sessions SET ended_by = 'open'",
    "fct_messages_match_source": "DELETE FROM raw_inspire.message_events WHERE event = 'stopped'",
    "dim_customer_matches_users": "UPDATE raw_inspire.users SET state = 'deleted' WHERE id = 1",
}


def test_broken_data_fails_its_test(warehouse: Warehouse, raw: Raw) -> None:
    told = warehouse.dbt("test", "--select", *BREAKS)
    assert {test: told[test].status for test in BREAKS} == dict.fromkeys(BREAKS, "pass")
    for statement in BREAKS.values():
        raw.session.execute(statement)
    told = warehouse.dbt("test", "--select", *BREAKS)
    assert {test: told[test].status for test in BREAKS} == dict.fromkeys(BREAKS, "fail")
