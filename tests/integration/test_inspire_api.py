"""The API of the fitness application: what programs may do for a person, and what they may not."""

from __future__ import annotations

import base64
import gzip
import io
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import time, timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import (
    negative_data_rejection,
    not_a_server_error,
    positive_data_acceptance,
)
from support.fitness import PASSWORD, Fitness, Visitor, fitness
from werkzeug.test import TestResponse

from softcart_assets.inspire_app import tokens
from softcart_assets.inspire_app.hours import QuietHours
from softcart_assets.inspire_app.preferences import Notifications, Preferences
from softcart_assets.inspire_app.storage.documents import Documents
from softcart_assets.inspire_app.storage.mysql import Tables
from softcart_assets.inspire_app.storage.tokens import Tokens
from softcart_assets.lines.inspire.catalogue import CATALOGUE
from softcart_assets.stack import Stack

API = "/api/v1"
ALL = frozenset(tokens.SCOPES)


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[Fitness]:
    with fitness() as made:
        yield made


class Program:
    """Another application, with a token of somebody."""

    def __init__(self, app: Fitness, scopes: frozenset[str] = ALL, person: Visitor | None = None):
        self.app, self.person = app, person or app.person()
        self.token = tokens.new_token()
        digest = tokens.digest(self.token)
        assert digest
        with app.site.tables() as tables:
            now = app.clock()
            Tokens(tables).add(self.person.id, digest, "watch", scopes, now, now + timedelta(9))
            self.kept = Tokens(tables).every(self.person.id, now)[0]
        self.client = app.app.test_client()

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        if body is not None:
            more["json"] = body
        return self.client.open(f"{API}{path}", method=method, headers=headers, **more)

    def run(self, minutes_ago: int = 60, **changed: Any) -> dict[str, Any]:
        at = self.app.clock() - timedelta(minutes=minutes_ago)
        return {
            "activity": "run",
            "started_at": at.isoformat(),
            "duration_seconds": 1800,
            "distance_m": 5000.5,
        } | changed


@pytest.fixture
def program(app: Fitness) -> Program:
    return Program(app)


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), (
        answer.text
    )
    body: dict[str, Any] = answer.get_json()
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    return body


def a_track(app: Fitness, kind: str) -> bytes:
    at = app.clock() - timedelta(days=1)
    points = "".join(
        f'<trkpt lat="{50 + n / 1000}" lon="8">'
        f"<time>{at + timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ}</time></trkpt>"
        for n in range(30)
    )
    track = f"<trk><name>x</name>{kind}<trkseg>{points}</trkseg></trk>"
    return f'<gpx xmlns="http://www.topografix.com/GPX/1/1" version="1.1">{track}</gpx>'.encode()


def test_a_workout_from_beginning_to_end(program: Program) -> None:
    added = program("POST", "/workouts", program.run(effort=5, note="läuft 🏃"))
    assert added.status_code == 201, added.text
    workout = added.get_json()
    path = added.headers["Location"].removeprefix(API)
    assert (workout["distance_m"], workout["origin"]) == (5000.5, "api")
    assert workout["time_zone"] == "Europe/Berlin"
    found = program("GET", path)
    assert found.get_json() == workout
    etag = found.headers["ETag"]
    assert program("GET", path, headers={"If-None-Match": etag}).status_code == 304
    changed = program("PUT", path, program.run(duration_seconds=2000), headers={"If-Match": etag})
    assert changed.get_json()["duration_seconds"] == 2000
    assert "effort" not in changed.get_json() or changed.get_json()["effort"] is None
    # What stood there before is not written over twice.
    problem(program("PUT", path, program.run(), headers={"If-Match": etag}), 412)
    problem(program("DELETE", path, headers={"If-Match": etag}), 412)
    assert "If-Match" in str(problem(program("DELETE", path), 422)["errors"])
    gone = program("DELETE", path, headers={"If-Match": changed.headers["ETag"]})
    assert gone.status_code == 204
    problem(program("GET", path), 404)


def test_a_request_that_is_sent_again_logs_one_workout(program: Program) -> None:
    key = {"Idempotency-Key": "a-1"}
    body = program.run()
    with ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda _: program("POST", "/workouts", body, headers=key), range(6))]
    assert {each.status_code for each in answers} == {201}
    assert len({each.get_json()["id"] for each in answers}) == 1
    assert len(program("GET", "/workouts").get_json()["items"]) == 1
    other = program.run(duration_seconds=60)
    assert (
        "another workout"
        in problem(program("POST", "/workouts", other, headers=key), 422)["detail"]
    )
    # Without a key, the same minute, activity and length are one workout.
    there = program("POST", "/workouts", body)
    problem(there, 409)
    assert program("GET", there.headers["Location"].removeprefix(API)).status_code == 200


def test_a_time_as_exact_as_programs_have_it_can_be_sent_again(program: Program) -> None:
    at = program.app.clock().replace(microsecond=123456) - timedelta(hours=1)
    body, key = program.run(started_at=at.isoformat()), {"Idempotency-Key": "exact"}
    first, second = (program("POST", "/workouts", body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201), second.text
    path = first.headers["Location"].removeprefix(API)
    assert first.get_json() == second.get_json() == program("GET", path).get_json()


def test_a_proposal_is_done_though_the_first_attempt_failed(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError

    program.person.get("/")
    run = next(each.code for each in CATALOGUE if each.activity == "run")
    program.app.rows(
        "UPDATE choices SET item = %s WHERE user_id = %s AND kind = 'workout'",
        *(run, program.person.id),
    )
    body, key = program.run(0), {"Idempotency-Key": "again"}
    with monkeypatch.context() as patch:
        patch.setattr(Tables, "mark_done", fails)
        assert program("POST", "/workouts", body, headers=key).status_code == 500
    assert program("POST", "/workouts", body, headers=key).status_code == 201
    done = "SELECT done_at IS NULL FROM choices WHERE user_id = %s AND kind = 'workout'"
    assert program.app.rows(done, program.person.id) == [(0,)]


def test_a_change_that_makes_a_double_says_of_which(program: Program) -> None:
    first, second = (program("POST", "/workouts", program.run(ago)) for ago in (60, 120))
    path = second.headers["Location"].removeprefix(API)
    etag = {"If-Match": second.headers["ETag"]}
    answer = program("PUT", path, program.run(60), headers=etag)
    problem(answer, 409)
    assert answer.headers["Location"] == first.headers["Location"]


def test_pages_neither_skip_nor_repeat(program: Program) -> None:
    for n in range(7):
        # Two of them begin in one minute.
        body = program.run(60 * (n // 2) + 10, duration_seconds=600 + 60 * n)
        assert program("POST", "/workouts", body).status_code == 201
    wanted = [each["id"] for each in program("GET", "/workouts").get_json()["items"]]
    seen, cursor = [], ""
    while True:
        page = program("GET", f"/workouts?limit=3{cursor}").get_json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        # A new one moves nothing.
        late = program.run(1, duration_seconds=60 * len(seen))
        assert program("POST", "/workouts", late).status_code == 201
    assert seen == wanted
    assert len(seen) == 7
    half = base64.urlsafe_b64encode(rb'["\ud800", 1, "x"]').rstrip(b"=").decode()
    for made_up in ("bm90aGluZw", half):
        problem(program("GET", f"/workouts?cursor={made_up}"), 422)


def test_a_file_is_imported_once(program: Program) -> None:
    gpx = a_track(program.app, "")

    def send(content: bytes, **more: str) -> TestResponse:
        return program("POST", "/imports", data={"file": (io.BytesIO(content), "x.gpx"), **more})

    assert "Choose one" in str(problem(send(gpx), 422)["errors"])
    first = send(gzip.compress(gpx), activity="ride").get_json()
    assert (len(first["added"]), first["duplicates"]) == (1, 0)
    assert send(gpx, activity="ride").get_json() == {
        "added": [],
        "duplicates": 1,
        "problems": [],
    }
    [kept] = program("GET", "/workouts").get_json()["items"]
    assert (kept["origin"], kept["duration_seconds"]) == ("gpx", 29 * 60)
    # More than a page may send, and more than a file may have.
    assert problem(send(b"x" * 9_000_000), 413)
    assert "file" in str(problem(send(b"x" * 200_000), 422)["errors"])


def test_the_day_and_what_leads_to_it(program: Program) -> None:
    for days in range(3):
        body = program.run(5 + 1440 * days)
        assert program("POST", "/workouts", body).status_code == 201
    today = program("GET", "/today").get_json()
    assert today["plan"]["name"]
    assert today["week"]["workouts"] >= today["today"]["workouts"]
    history = program("GET", "/history?days=30").get_json()["days"]
    assert sum(each["workouts"] for each in history) == 3
    assert program("GET", "/streak").get_json()["longest"] == 3
    goals = [{"code": "run_5k", "amount": 15000}, {"code": "move_daily", "amount": 150.25}]
    kept = program("PUT", "/goals", {"goals": goals}).get_json()
    assert {each["code"]: each["amount"] for each in kept}["move_daily"] == 150.25
    problem(program("PUT", "/goals", {"goals": [{"code": "fly", "amount": 1}]}), 422)


def test_settings_change_only_as_they_were_read(program: Program) -> None:
    found = program("GET", "/settings")
    wanted = found.get_json()
    assert wanted.pop("time_zone") == "Europe/Berlin"
    wanted["rest_days"] = [6]
    wanted["notifications"]["quiet_from"] = "20:30"
    etag = {"If-Match": found.headers["ETag"]}
    assert program("PUT", "/settings", wanted, headers=etag).get_json()["rest_days"] == [6]
    problem(program("PUT", "/settings", wanted, headers=etag), 412)


def test_settings_that_change_meanwhile_are_not_overwritten(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, id, now = program.app.site.documents, program.person.id, program.app.clock()
    read = Documents.preferences_and_time

    def then_a_form_is_sent(self: Documents, user_id: int) -> object:
        found = read(self, user_id)
        quiet = Notifications(quiet=QuietHours(time(20), time(7)))
        documents.set_preferences(id, Preferences(notifications=quiet), now, "notifications")
        return found

    wanted = program("GET", "/settings").get_json() | {"mood": "firm"}
    del wanted["time_zone"]
    monkeypatch.setattr(Documents, "preferences_and_time", then_a_form_is_sent)
    # The first time, there are no settings yet.
    problem(program("PUT", "/settings", wanted, headers={"If-Match": "*"}), 412)
    program.app.clock.pass_by(seconds=1)
    now = program.app.clock()
    problem(program("PUT", "/settings", wanted, headers={"If-Match": "*"}), 412)
    # A form changes what it has, and nothing else.
    documents.set_preferences(id, Preferences(mood="calm"), now, "mood", "experience")
    kept = documents.preferences(id)
    assert (kept.mood, kept.notifications.quiet.starts) == ("calm", time(20))
    monkeypatch.undo()
    assert program("PUT", "/settings", wanted, headers={"If-Match": "*"}).status_code == 200
    assert documents.preferences(id).mood == "firm"


def test_a_token_is_for_its_person_and_its_scopes(app: Fitness) -> None:
    writer = Program(app, frozenset({"workouts:write"}))
    reader = Program(app, frozenset({"workouts:read"}), writer.person)
    stranger = Program(app)
    added = writer("POST", "/workouts", writer.run())
    path = added.headers["Location"].removeprefix(API)
    assert reader("GET", path).status_code == 200
    problem(writer("GET", path), 403)
    problem(reader("POST", "/workouts", reader.run()), 403)
    etag = {"If-Match": added.headers["ETag"]}
    for method, more in (("GET", {}), ("DELETE", {"headers": etag})):
        problem(stranger(method, path, **more), 404)
    problem(stranger("PUT", path, stranger.run(), headers=etag), 404)
    # A cookie is no token, and a token opens no page.
    told = problem(writer.person.client.get(f"{API}/streak"), 401)["detail"]
    assert "Bearer <token>" in told
    shown = {"Authorization": f"Bearer {reader.token}"}
    assert app.visitor().client.get("/history", headers=shown).status_code == 302


def test_a_token_ends(app: Fitness) -> None:
    program = Program(app)
    assert program("GET", "/streak").status_code == 200
    # Whoever reads the table has no token.
    [(kept,)] = app.rows("SELECT digest FROM api_tokens WHERE id = %s", program.kept.id)
    assert program.token not in kept
    with app.site.tables() as tables:
        Tokens(tables).revoke(program.person.id, program.kept.id, app.clock())
    problem(program("GET", "/streak"), 401)
    later = Program(app)
    app.clock.pass_by(days=10)
    problem(later("GET", "/streak"), 401)


def test_too_many_requests(program: Program) -> None:
    limits = program.app.site.limits
    for _ in range(300):
        limits.hit(f"token {program.kept.id}", 300)
    answer = program("GET", "/streak")
    problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0
    program.token = f"inspire_{secrets.token_urlsafe(32)}"
    answers = {program("GET", "/streak").status_code for _ in range(62)}
    assert answers == {401, 429}
    limits._limiter.storage.reset()


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_it_does_what_its_description_says(
    app: Fitness, mode: schemathesis.GenerationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests as the description allows them, and as it does not."""
    monkeypatch.setattr(app.site.limits, "hit", lambda key, most: 0)
    program = Program(app)
    known = program("POST", "/workouts", program.run()).get_json()
    described = schemathesis.openapi.from_wsgi("/openapi.json", app.app)
    seen = set()

    def check(case: schemathesis.Case) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE and "id" in case.path_parameters:
            case.path_parameters["id"] = known["id"]
        # Not all that is well formed is a workout: a run has no stroke.
        excluded = [not_a_server_error, positive_data_acceptance]
        # Further parameters of an address are passed over.
        excluded += [negative_data_rejection] if case.query else []
        answer = case.call_and_validate(
            headers={"Authorization": f"Bearer {program.token}"}, excluded_checks=excluded
        )
        assert answer.status_code < 500, answer.text
        seen.add(answer.status_code)

    limits = settings(max_examples=8, suppress_health_check=list(HealthCheck), deadline=None)
    for found in described.get_all_operations():
        operation = found.ok()
        if operation.path.startswith(API):
            cases = operation.as_strategy(generation_mode=mode)
            limits(given(case=cases)(check))()
    assert seen <= {200, 201, 204, 304, 400, 401, 404, 405, 409, 412, 413, 415, 422}
    assert seen & ({200} if mode is schemathesis.GenerationMode.POSITIVE else {422})


def test_the_description_is_of_use_to_others(app: Fitness) -> None:
    spec = app.app.test_client().get("/openapi.json").get_json()
    paths = {path for path in spec["paths"] if path.startswith(API)}
    assert paths == {
        f"{API}/{each}"
        for each in (
            *("workouts", "workouts/{id}", "imports", "today", "history", "streak"),
            *("goals", "settings"),
        )
    }
    for path in paths:
        for operation in spec["paths"][path].values():
            if isinstance(operation, dict):
                assert operation["summary"]
                assert "Needs the scope" in operation["description"]
                assert operation["security"]


def test_people_make_tokens_on_their_page(app: Fitness) -> None:
    person = app.person()
    wanted = {"name": "My watch", "scopes": "workouts:read", "days": "30"}
    page = person.post("/apps", password=PASSWORD, **wanted)
    token = re.search(r"inspire_[\w-]{43}", page.text)
    assert token, page.text
    assert token[0] not in person.get("/apps").text
    shown = {"Authorization": f"Bearer {token[0]}"}
    client = app.app.test_client()
    assert client.get(f"{API}/streak", headers=shown).status_code == 200
    problem(client.get(f"{API}/goals", headers=shown), 403)
    assert person.post("/apps", name="", days="30").status_code == 422
    found = re.search(r'name="end" value="(\d+)"', person.get("/apps").text)
    assert found
    # Nobody else ends it.
    app.person().post("/apps", end=found[1])
    assert client.get(f"{API}/streak", headers=shown).status_code == 200
    person.post("/apps", end=found[1])
    problem(client.get(f"{API}/streak", headers=shown), 401)
