"""Accounts, sessions, workouts and pictures."""

from __future__ import annotations

import secrets
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.inspire import GOOD, NOW, Memory, Plain

from softcart_assets.connections import DynamoConnection, PostgresConnection
from softcart_assets.inspire_app import site
from softcart_assets.inspire_app.accounts import (
    LINK_IS_GOOD_FOR,
    NotAccepted,
    Profile,
    ask_for_link,
    check_password,
    finish,
    opened,
    sign_in,
)
from softcart_assets.inspire_app.api.schemas import WorkoutIn
from softcart_assets.inspire_app.links import Use, kept_form
from softcart_assets.inspire_app.pages import forms
from softcart_assets.inspire_app.pictures import bars, calendar
from softcart_assets.inspire_app.sessions import IDLE, LONGEST, Session, start
from softcart_assets.inspire_app.settings import Settings
from softcart_assets.inspire_app.site import PublishedScores
from softcart_assets.inspire_app.storage.dynamo import Sessions
from softcart_assets.inspire_app.workouts import Set, Workout

ADA = Profile("Ada", "Europe/Berlin", "Berlin", "DE", date(1990, 1, 1))


@pytest.fixture
def store() -> Memory:
    store = Memory()
    store.send("first", "Ada@example.com")
    assert finish(store, Plain(), "first", GOOD, ADA, NOW) == 1
    store.calls.clear()
    return store


def test_known_and_unknown_addresses_are_the_same_work(store: Memory) -> None:
    done = []
    for address in ("ada@example.com", "bob@example.com"):
        store.calls.clear()
        ask_for_link(store, address, NOW)
        done.append([*store.calls])
    assert done[0] == done[1]
    assert [each.address for each in store.messages.values()] == [
        "ada@example.com",
        "bob@example.com",
    ]


def test_asking_again_at_once_sends_one_mail(store: Memory) -> None:
    for _ in range(5):
        ask_for_link(store, "ADA@example.com", NOW)
    ask_for_link(store, "ada@example.com", NOW + timedelta(minutes=6))
    assert len(store.messages) == 2


def test_what_is_no_address_gets_no_link(store: Memory) -> None:
    with pytest.raises(NotAccepted):
        ask_for_link(store, "ada@example.com\nBcc: x@example.com", NOW)
    assert store.messages == {}


def test_a_link_works_once(store: Memory) -> None:
    assert opened(store, "first", NOW) is None
    assert finish(store, Plain(), "first", "another password", ADA, NOW) is None
    assert sign_in(store, Plain(), "ada@example.com", GOOD) == 1


def test_a_link_ends(store: Memory) -> None:
    store.send("second", "ada@example.com", Use.RESET)
    assert opened(store, "second", NOW + LINK_IS_GOOD_FOR - timedelta(seconds=1))
    assert opened(store, "second", NOW + LINK_IS_GOOD_FOR) is None
    assert opened(store, "made up", NOW) is None


def test_a_link_for_something_else_is_of_no_use(store: Memory) -> None:
    store.send("second", "ada@example.com", Use.UNSUBSCRIBE)
    assert opened(store, "second", NOW) is None


def test_a_new_password_replaces_the_old_one(store: Memory) -> None:
    store.send("second", "ADA@example.com", Use.RESET)
    assert finish(store, Plain(), "second", "another password", None, NOW) == 1
    assert "end_tokens" in store.calls
    assert sign_in(store, Plain(), "ada@example.com", GOOD) is None
    assert sign_in(store, Plain(), "ada@example.com", "another password") == 1


def test_a_link_from_before_the_account_does_not_open_it(store: Memory) -> None:
    """To the database both are one address, and to mail servers they are two."""
    store.send("second", "ada@straße.example")
    store.send("third", "ada@strasse.example")
    assert finish(store, Plain(), "third", GOOD, ADA, NOW) == 2
    assert finish(store, Plain(), "second", "another password", ADA, NOW) is None
    assert sign_in(store, Plain(), "ada@strasse.example", GOOD) == 2


def test_a_link_stays_good_after_a_password_that_is_too_short(store: Memory) -> None:
    store.send("second", "bob@example.com")
    with pytest.raises(NotAccepted) as caught:
        finish(store, Plain(), "second", "short", ADA, NOW)
    assert caught.value.errors.keys() == {"password"}
    # Python knows Factory, but it is no place, and Java stops at it.
    for zone in ("Mars", "Factory"):
        young = replace(ADA, birth_date=date(2015, 1, 1), country_code="", time_zone=zone)
        with pytest.raises(NotAccepted) as caught:
            finish(store, Plain(), "second", GOOD, young, NOW)
        assert caught.value.errors.keys() == {"country_code", "time_zone"}
    assert finish(store, Plain(), "second", GOOD, ADA, NOW) == 2


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("ada@example.com", GOOD),
        ("ada@example.com", "wrong"),
        ("bob@example.com", GOOD),
        ("no address", GOOD),
        ("ada@example.com", "x" * 10_000),
    ],
)
def test_signing_in_is_the_same_work_whatever_comes_of_it(
    store: Memory, address: str, password: str
) -> None:
    passwords = Plain()
    found = sign_in(store, passwords, address, password)
    assert found == (1 if (address, password) == ("ada@example.com", GOOD) else None)
    assert passwords.verified == 1
    assert store.calls == ["user_id", "password"]


@pytest.mark.parametrize("password", ["", "short", "x" * 129, "a" * 20, "ada.lovelace-1234"])
def test_passwords_that_are_easily_found(password: str) -> None:
    with pytest.raises(NotAccepted):
        check_password(password, "Ada.Lovelace@example.com")


def test_long_passwords_and_all_letters_are_good() -> None:
    check_password("drei Äpfel und ein 🍐 im Korb", "ada@example.com")
    check_password("correct horse battery staple " * 4, "ada@example.com")


def test_every_sign_in_has_a_session_of_its_own() -> None:
    first, second = start(1, NOW), start(1, NOW)
    assert first[0] != second[0]
    assert first[1].id == kept_form(first[0])
    assert first[0] not in repr(first[1])


def test_a_session_that_the_database_still_has_may_be_over() -> None:
    _, session = start(1, NOW)
    assert session.is_valid(NOW + IDLE - timedelta(seconds=1))
    assert not session.is_valid(NOW + IDLE)


@given(st.lists(st.integers(1, 15 * 24 * 60), min_size=1, max_size=60))
def test_no_session_outlasts_its_limits(pauses: list[int]) -> None:
    _, session = start(1, NOW)
    now = NOW
    for pause in pauses:
        now += timedelta(minutes=pause)
        if not session.is_valid(now):
            break
        assert now < NOW + LONGEST
        session = session.seen(now) or session
        assert session.expires_at <= min(NOW + LONGEST, now + IDLE)
        # At most a minute of it is not written.
        assert session.expires_at >= min(NOW + LONGEST, now + IDLE - timedelta(minutes=1))


def test_a_session_is_written_once_a_minute() -> None:
    _, session = start(1, NOW)
    assert session.seen(NOW + timedelta(seconds=59)) is None
    assert isinstance(session.seen(NOW + timedelta(minutes=1)), Session)


def test_counted_pages_take_no_more_memory_with_every_session() -> None:
    # Nothing is sent there: these pages are counted only.
    sessions = Sessions(DynamoConnection("TEST", "eu-west-1", "http://127.0.0.1:1", "a", "b"))
    for number in range(12_000):
        _, session = start(number, NOW)
        sessions.viewed(session, None)
    assert len(sessions._views) == 10_000
    assert session.id in sessions._views


def test_a_page_does_not_wait_for_sessions_as_a_load_does() -> None:
    connection = DynamoConnection("TEST", "eu-west-1", "http://127.0.0.1:1", "a", "b")
    page, load = Sessions(connection)._client.meta.config, connection.client().meta.config
    assert page.connect_timeout + page.read_timeout < 5 < load.read_timeout
    assert page.retries == {"mode": "standard", "total_max_attempts": 2}


def test_the_servers_secret_is_whole_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    monkeypatch.delenv("SOFTCART_INSPIRE_APP_SECRET", raising=False)
    made: list[bytes] = []

    def while_another_begins(size: int) -> str:
        monkeypatch.undo()
        monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
        made.append(Settings.from_env().secret)
        return "x" * 64

    monkeypatch.setattr(secrets, "token_urlsafe", while_another_begins)
    assert [Settings.from_env().secret, Settings.from_env().secret] == made * 2
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_production_that_does_not_answer_is_not_asked_by_every_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, asked = PublishedScores(), 0
    away = PostgresConnection("TEST", "127.0.0.1", 1, "a", "b", "c")
    connect = PostgresConnection.connect

    def counted(self: PostgresConnection, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        assert options["connect_timeout"] <= 2
        return connect(self, **options)

    monkeypatch.setattr(PostgresConnection, "connect", counted)
    monkeypatch.setattr(site, "production", lambda: away)
    assert [scores(1), scores(2), asked] == [{}, {}, 1]


RUN = Workout(
    "run",
    datetime(2026, 6, 14, 22, 30, 40, tzinfo=UTC),
    "Europe/Berlin",
    timedelta(minutes=30),
    details={"distance_m": Decimal(5000)},
)


def test_a_workout_belongs_to_the_day_of_its_place() -> None:
    assert RUN.local_date == date(2026, 6, 15)
    assert replace(RUN, time_zone="America/New_York").local_date == date(2026, 6, 14)


def test_two_devices_tell_of_one_workout() -> None:
    other = replace(RUN, started_at=RUN.started_at - timedelta(seconds=30), details={})
    assert other.fingerprint == RUN.fingerprint
    assert replace(RUN, activity="walk").fingerprint != RUN.fingerprint


def test_a_workout_that_can_be_kept() -> None:
    assert RUN.problems(NOW) == {}
    sets = [Set("squat", 10, Decimal("62.5"))]
    lift = replace(RUN, activity="strength", details={"sets": sets})
    assert lift.problems(NOW) == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"activity": "chess"}, "activity"),
        ({"time_zone": "Mars"}, "time_zone"),
        ({"started_at": NOW + timedelta(hours=1)}, "started_at"),
        ({"duration": timedelta()}, "duration"),
        ({"effort": 11}, "effort"),
        ({"note": "x" * 2001}, "note"),
        ({"details": {"distance_m": Decimal(-1)}}, "distance_m"),
        ({"details": {"distance_m": Decimal("NaN")}}, "distance_m"),
        ({"details": {"sets": []}}, "sets"),
    ],
)
def test_a_workout_that_cannot_be_kept(change: dict[str, Any], field: str) -> None:
    assert field in replace(RUN, **change).problems(NOW)


def test_pictures_are_svg_and_say_what_they_show() -> None:
    picture = ET.fromstring(bars("Weeks <1>", [("KW 1", 3.0), ("<b>", 0.0)], "workouts"))
    assert picture.attrib["aria-label"] == "Weeks <1>: workouts – KW 1 3; <b> 0"
    assert [each.text for each in picture.iter("title")] == ["KW 1: 3 workouts", "<b>: 0 workouts"]
    assert bars("Nothing", [], "workouts") == ""


def test_the_calendar_has_a_square_per_day_until_today() -> None:
    today = date(2026, 11, 27)
    shown = ET.fromstring(calendar("Your days", {today: 45.0}, today))
    squares = [*shown.iter("rect")]
    assert len(squares) == 12 * 7 + 5
    assert squares[-1].attrib["class"] == "day level2"
    assert shown.attrib["aria-label"] == "Your days: 1 active days in 13 weeks"
    # Above the weeks of 7 September, 5 October and 2 November.
    months = {each.text: int(each.attrib["x"]) // 24 for each in shown.iter("text")}
    assert months == {"Sep": 1, "Oct": 5, "Nov": 9}


@pytest.mark.parametrize(
    ("activity", "metres", "told"),
    [
        ("run", "5250", ("Pace", "5:43 min per km")),
        # A second less than six minutes is no "5:60".
        ("walk", "5000.01", ("Pace", "6:00 min per km")),
        ("swim", "1500", ("Pace", "2:00 min per 100 m")),
        ("ride", "12500", ("Speed", "25.0 km/h")),
        ("run", "0", None),
    ],
)
def test_how_fast_somebody_was(activity: str, metres: str, told: tuple[str, str] | None) -> None:
    done = replace(RUN, activity=activity, details={"distance_m": Decimal(metres)})
    assert forms.pace(done) == told


def test_amounts_are_kept_as_exactly_as_the_warehouse_has_them() -> None:
    sets = [{"exercise": "squat", "repetitions": 1, "load_kg": "62.50049"}]
    told = {"activity": "run", "started_at": NOW.isoformat(), "duration_seconds": 60, "sets": sets}
    read = WorkoutIn().load(told | {"distance_m": "1000.005"})
    assert (read["distance_m"], read["sets"][0]["load_kg"]) == (Decimal("1000.01"), Decimal("62.5"))
    form = {"started_at": "2026-06-14T07:00", "minutes": "30", "distance_km": "5.1234567"}
    run, _ = forms.read("run", form, ZoneInfo("Europe/Berlin"), NOW)
    assert run
    assert run.details == {"distance_m": Decimal("5123.46")}
    form |= {"exercise0": "squat", "repetitions0": "5", "load0": "62.50049"}
    lift, _ = forms.read("strength", form, ZoneInfo("Europe/Berlin"), NOW)
    assert lift
    assert lift.details == {"sets": [Set("squat", 5, Decimal("62.5"))]}
    for enormous in ("1e99", "-1e999999"):
        _, wrong = forms.read("strength", form | {"load0": enormous}, ZoneInfo("UTC"), NOW)
        assert "sets" in wrong
