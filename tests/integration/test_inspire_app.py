"""The fitness application on real databases: what people do with it, from plan to deletion."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.fitness import PASSWORD, QUOTES, Fitness, Visitor, fitness, wait_until_locked_out

from seed_data.common.mysql import statements
from seed_data.common.packages import folder_of
from seed_data.inspire.traffic import InspireTraffic
from softcart_assets.assembly import LINES
from softcart_assets.connections import TablesMissing
from softcart_assets.inspire_app import commands, demo, server
from softcart_assets.inspire_app.preferences import Preferences
from softcart_assets.inspire_app.sender import Work, run
from softcart_assets.inspire_app.site import check_tables
from softcart_assets.inspire_app.storage import rows
from softcart_assets.inspire_app.storage.mysql import Tables
from softcart_assets.inspire_app.storage.tokens import Tokens
from softcart_assets.inspire_app.today import _last_heavy, todays_choice
from softcart_assets.inspire_app.workouts import Workout
from softcart_assets.lines.inspire.catalogue import CATALOGUE
from softcart_assets.lines.inspire.sources import INSPIRE_TABLES
from softcart_assets.stack import Stack

GPX = """<?xml version="1.0"?><gpx version="1.1" creator="watch"
xmlns="http://www.topografix.com/GPX/1/1"><trk><type>running</type><trkseg>
<trkpt lat="52.50" lon="13.40"><time>{0}</time></trkpt>
<trkpt lat="52.51" lon="13.40"><time>{1}</time></trkpt>
<trkpt lat="52.52" lon="13.40"><time>{2}</time></trkpt>
</trkseg></trk></gpx>"""


def a_run(began: datetime) -> bytes:
    """A file with a run of 20 minutes."""
    times = [f"{began + timedelta(minutes=10 * n):%Y-%m-%dT%H:%M:%SZ}" for n in range(3)]
    return GPX.format(*times).encode()


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[Fitness]:
    with fitness() as made:
        yield made


def test_every_page_answers(app: Fitness) -> None:
    person, stranger = app.person(), app.visitor()
    pages = [
        *("/log", "/log/run", "/log/ride", "/log/swim", "/log/strength", "/log/yoga", "/import"),
        *("/history", "/history/2026-01", "/goals", "/clubs", "/settings", "/password", "/phone"),
        *("/sessions", "/delete", "/apps", "/second-factor"),
    ]
    for path in ("/", *pages):
        assert person.get(path).status_code == 200, path
    for path in ("/", "/start", "/sign-in"):
        assert stranger.get(path).status_code == 200, path
    for path in pages:
        assert stranger.get(path).headers["Location"] == "/sign-in"
    for path in (
        "/nothing",
        "/log/chess",
        "/history/2026-13",
        "/history/0001-01",
        "/workouts/none",
    ):
        assert person.get(path).status_code == 404, path
    assert stranger.get("/finish/none").status_code == 410
    assert stranger.get("/sign-in/code").headers["Location"] == "/sign-in"


def test_a_database_of_an_older_release_is_told_before_anybody_comes(
    app: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = LINES.line("inspire")
    # There are users, so the simulator looks further.
    person = app.person()
    monkeypatch.setattr(server, "now", app.clock)
    begin: list[Callable[[], object]] = [
        lambda: check_tables(app.mysql),
        lambda: run(Work.from_env(), once=True),
        lambda: InspireTraffic({each.name: each for each in line.sources}),
        lambda: commands.sign_out(person.email),
    ]
    app.rows("RENAME TABLE sign_ins TO other")
    try:
        for each in begin:
            with pytest.raises(TablesMissing, match=r"lacks sign_ins\. .*/inspire\.sql"):
                each()
    finally:
        app.rows("RENAME TABLE other TO sign_ins")
    check_tables(app.mysql)
    # None is forgotten.
    assert {*INSPIRE_TABLES} == statements(folder_of(line) / "inspire.sql").keys()


def test_a_workout_is_logged_and_shown(app: Fitness) -> None:
    person = app.person()
    assert "Nothing here yet." in person.get("/history").text
    assert person.log("run", 45, distance_km="7,5", effort=6, note="by the lake").status_code == 303
    assert "7.5 km" in person.get("/").text
    assert "1</span> day in a row" in person.get("/").text
    assert "45 min, 7.5 km" in person.get("/history").text
    [workout] = person.export()["workouts"]
    assert (workout["distance_m"], workout["origin"]) == (7500, "app")
    twice = person.log("run", 45)
    assert (twice.status_code, "already" in twice.text) == (422, True)
    assert person.log("run", 45, sure="yes").status_code == 303
    assert len(person.export()["workouts"]) == 2
    sets = {"exercise0": "Squat", "repetitions0": "8", "load0": "62.5"}
    assert person.log("strength", 20, **sets).status_code == 303
    path = f"/workouts/{person.export()['workouts'][-1]['_id']}"
    assert "8 × 62.5 kg" in person.get(path).text
    # Nobody else sees it, and nobody else deletes it.
    other = app.person()
    assert other.get(path).status_code == 404
    other.post(f"{path}/delete", form_of="/settings")
    assert person.get(path).status_code == 200
    person.post(f"{path}/delete", form_of=path)
    assert person.get(path).status_code == 404


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"minutes": ""}, "length"),
        ({"minutes": "many"}, "as numbers"),
        ({"minutes": "1e999"}, "as numbers"),
        ({"minutes": "NaN"}, "as numbers"),
        ({"started_at": "yesterday"}, "a date"),
        ({"started_at": "2999-01-01T10:00"}, "not to come"),
        ({"distance_km": "-1"}, "negative"),
        ({"distance_km": "1e30"}, "a number"),
        ({"effort": "11"}, "from 1 to 10"),
        ({"effort": "9" * 5000}, "from 1 to 10"),
        ({"note": "x" * 2001}, "2,000"),
    ],
)
def test_what_is_of_no_use_is_told(app: Fitness, values: dict[str, str], told: str) -> None:
    person = _shared(app)
    answer = person.log("run", **values)  # type: ignore[arg-type]
    assert (answer.status_code, told in answer.text) == (422, True)


def _shared(app: Fitness) -> Visitor:
    """Somebody whom several tests may use."""
    app.site.limits._limiter.storage.reset()
    if not hasattr(app, "shared"):
        app.shared = app.person()  # type: ignore[attr-defined]
    found: Visitor = app.shared  # type: ignore[attr-defined]
    return found


def test_todays_plan_is_chosen_once_and_kept_with_its_probability(app: Fitness) -> None:
    person = app.person()
    person.get("/")
    choices = app.rows("SELECT * FROM choices WHERE user_id = %s ORDER BY kind", person.id)
    person.get("/")
    assert app.rows("SELECT * FROM choices WHERE user_id = %s ORDER BY kind", person.id) == choices
    kept = app.rows(
        "SELECT kind, item, propensity, policy, done_at FROM choices WHERE user_id = %s",
        person.id,
    )
    (_, code, chance, policy, _), (_, quote, of_quotes, _, _) = sorted(kept, reverse=True)
    workout = {each.code: each for each in CATALOGUE}[code]
    assert workout.name in person.get("/").text
    assert QUOTES[int(quote) - 1][0] in person.get("/").text
    assert (policy, of_quotes) == ("default", Decimal("0.33333333"))
    assert 0 < chance < 1
    person.log(workout.activity, 20)
    done = app.rows(
        "SELECT done_at FROM choices WHERE user_id = %s AND kind = 'workout'", person.id
    )
    assert (done[0][0] is not None) == (workout.minutes > 0)


def test_no_quote_comes_twice_within_thirty_days(app: Fitness) -> None:
    person = app.person()
    began = app.clock.now
    try:
        for _ in range(31):
            person.get("/")
            app.clock.pass_by(days=1)
        shown = app.rows(
            "SELECT item, local_date FROM choices WHERE user_id = %s AND kind = 'quote' "
            "ORDER BY local_date",
            person.id,
        )
    finally:
        app.clock.now = began
    # There are three of them.
    assert len({item for item, _ in shown[:3]}) == 3
    assert [day - shown[0][1] for _, day in shown[3:]] == [timedelta(days=30)]


def test_a_day_without_a_new_quote_is_chosen_once(app: Fitness) -> None:
    person, day = app.person(), app.clock().date()
    for quote in range(1, len(QUOTES) + 1):
        app.rows(
            "INSERT INTO choices (user_id, local_date, kind, item, propensity, policy, reason, "
            "shown_at) VALUES (%s, %s, 'quote', %s, 1, 'default', '', NOW())",
            person.id,
            day - timedelta(days=quote),
            quote,
        )
    asked: list[int] = []

    def scores(user_id: int) -> dict[Any, Any]:
        asked.append(user_id)
        return {}

    with app.site.tables() as tables:
        for _ in range(2):
            plan = todays_choice(tables, app.site.documents, scores, person.id, day, app.clock())
            assert plan.quote is None
    assert asked == [person.id]


def test_a_heavy_proposal_that_was_done_counts_as_heavy(app: Fitness) -> None:
    person, day = app.person(), app.clock().date()
    before = day - timedelta(days=1)
    app.rows(
        "INSERT INTO choices (user_id, local_date, kind, item, propensity, policy, reason, "
        "shown_at) VALUES (%s, %s, 'workout', 'run_intervals_40', 1, 'default', '', NOW())",
        person.id,
        before,
    )

    def last_heavy() -> object:
        with app.site.tables() as tables:
            return _last_heavy(tables, app.site.documents, person.id, day)

    assert last_heavy() is None
    app.rows("UPDATE choices SET done_at = NOW() WHERE user_id = %s", person.id)
    assert last_heavy() == before
    app.rows("UPDATE choices SET item = 'walk_20' WHERE user_id = %s", person.id)
    assert last_heavy() is None


def test_goals_show_how_far_the_week_has_come(app: Fitness) -> None:
    person = app.person()
    assert person.post("/goals", goal1="many").status_code == 422
    person.post("/goals", goal1="150", goal2="20")
    person.log("run", 60, distance_km="10")
    page = person.get("/").text
    assert "60 of 150 minutes" in page
    assert "10 of 20 km" in page
    assert "Run 5 km: 50 percent" in page
    person.post("/goals", goal2="1250.25")
    assert "10 of 1,250.2 km" in person.get("/").text
    # The form has what was given, so that saving it again changes nothing.
    assert 'value="1250.25"' in person.get("/goals").text
    rows = app.rows(
        "SELECT goal_id, amount, ended_on IS NULL FROM user_goals WHERE user_id = %s ORDER BY id",
        person.id,
    )
    assert rows == [
        (1, Decimal("150.00"), 0),
        (2, Decimal("20000.00"), 0),
        (2, Decimal("1250250.00"), 1),
    ]


def test_a_club_counts_what_its_members_do(app: Fitness) -> None:
    first, second, outside = app.person(), app.person(), app.person()
    for each in (first, second):
        each.post("/clubs", club="1")
    first.log("run", 30, distance_km="5")
    second.log("walk", 60, distance_km="6")
    outside.log("run", 30, distance_km="7")
    page = first.get("/clubs").text
    assert "11 of 50 km by 2 members" in page
    assert "5 km are yours" in page
    assert "Round the lake" in first.get("/").text
    assert "Round the lake" not in outside.get("/").text
    first.post("/clubs", club="1", leave="yes")
    assert "6 of 50 km by 1 member" in second.get("/clubs").text
    assert first.post("/clubs", club="999").status_code == 303


def test_a_consent_is_a_row_that_is_never_given_again(app: Fitness) -> None:
    person = app.person()
    times = {"reminder_at": "07:30", "quiet_from": "22:00", "quiet_until": "06:00", "days": ["0"]}
    path = "/settings/messages"
    for values in ({"email_reminder": "yes"}, {}, {"email_reminder": "yes", "sms_quote": "yes"}):
        answer = person.post(path, form_of="/settings", **times, **values)
        assert answer.status_code == 303
        app.clock.pass_by(minutes=1)
    rows = app.rows(
        "SELECT channel, purpose, withdrawn_by, wording FROM consents WHERE user_id = %s "
        "ORDER BY given_at, channel",
        person.id,
    )
    wording = "Send me reminders of my workouts by e-mail."
    assert rows == [
        ("email", "reminder", "page", wording),
        ("email", "reminder", None, wording),
        ("sms", "quote", None, "Send me a quote for the day by SMS."),
    ]
    kept = app.site.documents.preferences(person.id).notifications
    assert (kept.quiet.starts, kept.quiet.ends, kept.days) == (time(22), time(6), {0})
    assert person.post(path, form_of="/settings", reminder_at="noon").status_code == 422


def test_training_and_profile_are_kept(app: Fitness) -> None:
    person = app.person()
    values = {"experience": "much", "mood": "bright", "equipment": ["bike"], "rest_days": ["6"]}
    person.post("/settings/training", form_of="/settings", **values)
    likes = app.site.documents.preferences(person.id)
    assert (likes.experience, likes.mood, likes.equipment) == ("much", "bright", {"bike"})
    assert likes.rest_days == {6}
    profile = {"full_name": "Ada <b>", "time_zone": "America/New_York", "region": "Ohio"}
    person.post("/settings/profile", form_of="/settings", **profile)
    assert "Ada &lt;b&gt;" in person.get("/settings").text
    [row] = app.rows("SELECT country_code, time_zone FROM users WHERE id = %s", person.id)
    assert row == ("US", "America/New_York")
    wrong = profile | {"time_zone": "Moon/Base", "full_name": ""}
    assert person.post("/settings/profile", form_of="/settings", **wrong).status_code == 422


def test_a_file_of_another_application_is_imported_once(app: Fitness) -> None:
    person = app.person()

    def send(content: bytes) -> str:
        return str(person.post("/import", file=(io.BytesIO(content), "run.gpx")).text)

    file = a_run(app.clock.now - timedelta(days=2))
    assert "1 new workout" in send(file)
    assert "1 workout was in your history already." in send(file)
    [workout] = person.export()["workouts"]
    assert (workout["activity"], workout["origin"]) == ("run", "gpx")
    assert 2200 < workout["distance_m"] < 2250
    assert 'role="alert"' in send(b"x" * 9_000_000)
    assert "file_told" in send(b"nothing")


def test_an_import_completes_what_was_shown_before(app: Fitness) -> None:
    began = app.clock.now
    # All of it is one day, whenever this runs.
    app.clock.now = began.replace(hour=12)
    try:
        person = app.person()
        rows = "SELECT done_at IS NOT NULL FROM choices WHERE user_id = %s AND kind = 'workout'"
        for hours, expected in ((3, []), (2, [(1,)])):
            file = a_run(app.clock.now - timedelta(hours=hours))
            person.post("/import", file=(io.BytesIO(file), "run.gpx"))
            assert app.rows(rows, person.id) == expected
            person.get("/")
            run = next(each.code for each in CATALOGUE if each.activity == "run")
            app.rows(
                "UPDATE choices SET item = %s WHERE user_id = %s AND kind = 'workout'",
                *(run, person.id),
            )
    finally:
        app.clock.now = began


def test_all_data_can_be_taken_along(app: Fitness) -> None:
    person, other = app.person(), app.person()
    other.log("yoga", 20)
    person.log("run", 30, distance_km="5.25")
    person.post("/goals", goal1="150")
    wanted = {"name": "My watch", "scopes": "workouts:read", "days": "30"}
    person.post("/apps", password=PASSWORD, **wanted)
    app.rows(
        "INSERT INTO message_events (message_id, event, happened_at) "
        "SELECT id, 'accepted', created_at FROM messages WHERE address = %s",
        person.email,
    )
    found = person.export()
    assert found["account"][0]["email"] == person.email
    assert [each["activity"] for each in found["workouts"]] == ["run"]
    assert found["user_goals"][0]["amount"] == 150
    assert found["sessions"][0]["device"] == "computer"
    # What came before there was an account, what became of it, and what has access.
    [message] = found["messages"]
    assert (message["template"], message["address"]) == ("link", person.email)
    assert [each["message_id"] for each in found["message_events"]] == [message["id"]]
    assert [each["name"] for each in found["api_tokens"]] == ["My watch"]
    assert "digest" not in found["api_tokens"][0]
    assert "claimed_by" not in message
    text = person.post("/export", form_of="/settings").text
    assert "argon2" not in text
    assert other.email not in text
    assert (
        "attachment" in person.post("/export", form_of="/settings").headers["Content-Disposition"]
    )


def test_a_deleted_account_leaves_no_name(app: Fitness) -> None:
    person = app.person()
    person.log()
    person.post("/goals", goal1="150")
    person.post("/clubs", club="1")
    person.post("/start", email=person.email)
    refused = person.post("/delete", password="wrong" * 4)
    assert refused.status_code == 422
    # It says what stays.
    for told in ("your region, country and time zone", "are not erased by this"):
        assert told in refused.text
    assert "is deleted" in person.post("/delete", password=PASSWORD).text
    assert person.get("/log").headers["Location"] == "/sign-in"
    [row] = app.rows("SELECT * FROM users WHERE id = %s", person.id)
    assert "deleted" in row
    for table in ("users", "messages", "links"):
        for row in app.rows(f"SELECT * FROM {table}"):
            assert person.email not in map(str, row), table
            assert "Ada L." not in row or row[0] != person.id
    for table in ("credentials", "user_goals", "choices", "club_members"):
        assert app.rows(f"SELECT 1 FROM {table} WHERE user_id = %s", person.id) == [], table
    found = app.site.documents.everything(person.id)
    assert [*found.values()] == [[], []]
    assert app.site.sessions.everything(person.id) == {}
    # The address is free again.
    again = app.person(person.email)
    assert again.id != person.id
    assert "0</span> days in a row" in again.get("/").text


def test_a_deletion_takes_nothing_of_somebody_with_a_like_address(app: Fitness) -> None:
    person, other = app.person("rene@example.com"), app.visitor()
    other.post("/start", email="rené@example.com")
    link = app.link("rené@example.com")
    person.post("/start", email="RENE@example.com")
    app.link("RENE@example.com")
    assert "is deleted" in person.post("/delete", password=PASSWORD).text
    assert other.get(link).status_code == 200
    address = "SELECT address FROM messages WHERE address LIKE 'ren_@example.com'"
    assert app.rows(address) == [("rené@example.com",)]
    emails = app.rows("SELECT email FROM links WHERE email LIKE 'ren_@example.com'")
    assert emails == [("rené@example.com",)]
    # However many messages there are, these are found by an index.
    for table, column in (("links", "email"), ("messages", "address")):
        assert app.rows(f"SHOW INDEX FROM {table} WHERE column_name = %s", column), table


def test_nothing_is_written_beside_a_deletion(
    app: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, tables, documents = app.person(), app.site.tables, app.site.documents
    day, workout = app.clock().date(), Workout("run", app.clock(), "UTC", timedelta(minutes=9))
    erase, end_all = Tables.erase, app.site.sessions.end_all

    def while_a_program_writes(self: Tables, user_id: int, now: datetime) -> None:
        documents.add(user_id, workout, now)
        documents.set_preferences(user_id, Preferences(), now)
        erase(self, user_id, now)

    def fails(user_id: int, now: datetime) -> int:
        raise OSError

    monkeypatch.setattr(Tables, "erase", while_a_program_writes)
    monkeypatch.setattr(app.site.sessions, "end_all", fails)
    assert person.post("/delete", password=PASSWORD).status_code == 500
    # Nothing is half deleted, so the person tries again.
    monkeypatch.setattr(app.site.sessions, "end_all", end_all)
    assert "is deleted" in person.post("/delete", password=PASSWORD).text
    assert [*documents.everything(person.id).values()] == [[], []]
    # A sender that was about to write a reminder.
    with tables() as opened:
        todays_choice(opened, documents, lambda _: {}, person.id, day, app.clock())
    assert app.rows("SELECT 1 FROM choices WHERE user_id = %s", person.id) == []


def test_what_a_request_loses_by_a_deadlock_is_done_again(
    app: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is.
    monkeypatch.setattr(rows, "_LONGEST_SECONDS", 600)
    person, other = app.person(), app.person()
    times = {"reminder_at": "18:00", "quiet_from": "21:00", "quiet_until": "08:00"}

    def choose(**wanted: str) -> int:
        return person.post("/settings/messages", form_of="/settings", **times, **wanted).status_code

    def end_tokens() -> None:
        with app.site.tables() as tables:
            tables.end_tokens(person.id, app.clock())

    assert choose(email_reminder="yes") == 303
    for n in range(2):
        with app.site.tables() as tables:
            Tokens(tables).add(person.id, f"{person.id} {n}", "x", ["x"], app.clock(), None)
    [first, last] = app.rows("SELECT id FROM api_tokens WHERE user_id = %s ORDER BY id", person.id)
    of_person = f"WHERE user_id = {person.id}"
    cases: list[tuple[Callable[[], object], str, str]] = [
        # A transaction, and a statement without one.
        (choose, f"consents {of_person}", f"users WHERE id = {person.id}"),
        (end_tokens, f"api_tokens WHERE id = {last[0]}", f"api_tokens WHERE id = {first[0]}"),
    ]
    for ask, there, then in cases:
        with (
            ThreadPoolExecutor(1) as asking,
            app.mysql.connect() as client,
            client.cursor() as cursor,
        ):
            # The server ends the transaction that has written less.
            for n in range(50):
                cursor.execute(
                    "INSERT INTO recovery_codes VALUES (%s, %s, '2026-01-01', NULL)", (other.id, n)
                )
            cursor.execute(f"SELECT 1 FROM {there} FOR UPDATE")
            # The last one that was used is the first that is used again.
            [*_, (_, pooled)] = app.site.pool._idle
            done = asking.submit(ask)
            wait_until_locked_out(app, pooled.thread_id())
            cursor.execute(f"SELECT 1 FROM {then} FOR UPDATE")
            client.rollback()
            assert done.result(60) in (303, None)
    consents = app.rows(f"SELECT withdrawn_by FROM consents {of_person}")
    assert consents == [("page",)]
    assert app.rows(f"SELECT 1 FROM api_tokens {of_person} AND revoked_at IS NULL") == []


def test_somebody_of_the_demo_gets_a_password_once(
    app: Fitness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    person = app.person()
    person.post("/goals", goal1="150")
    for _ in range(3):
        person.log("yoga", 10, sure="yes")
    demo.give_login(app.site)
    found = demo.login()
    assert found is not None
    demo.give_login(app.site)
    assert demo.login() == found
    visitor = app.visitor()
    assert visitor.post("/sign-in", email=found[0], password=found[1]).status_code == 303
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
