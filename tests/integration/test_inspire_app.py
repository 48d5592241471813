"""The fitness application on real databases: accounts, sessions, workouts, settings, the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from support.fitness import PASSWORD, Fitness, fitness

from softcart_assets.stack import Stack


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[Fitness]:
    with fitness() as made:
        yield made


def test_every_page_answers(app: Fitness) -> None:
    person = app.person()
    pages = ("/", "/log", "/log/run", "/log/strength", "/log/swim", "/history", "/goals", "/clubs")
    for path in (*pages, "/settings", "/delete", "/history/2026-01"):
        assert person.get(path).status_code == 200, path
    stranger = app.visitor()
    for path in ("/", "/start", "/sign-in"):
        assert stranger.get(path).status_code == 200, path
    for path in pages[1:]:
        assert stranger.get(path).headers["Location"] == "/sign-in"
    for path in ("/nothing", "/log/chess", "/history/2026-13", "/workouts/none"):
        assert person.get(path).status_code == 404, path
    assert stranger.get("/finish/none").status_code == 410


def test_a_workout_is_logged_and_shown(app: Fitness) -> None:
    person = app.person()
    assert person.log("run", 45, distance_km="7,5", effort=6, note="by the lake").status_code == 303
    assert "7.5 km" in person.get("/").text
    assert "1</span> day in a row" in person.get("/").text
    history = person.get("/history").text
    assert "45 min, 7.5 km" in history
    [workout] = person.export()["workouts"]
    assert (workout["distance_m"], workout["origin"]) == (7500, "app")
    person.get("/log/run")
    twice = person.log("run", 45)
    assert (twice.status_code, "already" in twice.text) == (422, True)
    assert person.log("run", 45, sure="yes").status_code == 303
    assert len(person.export()["workouts"]) == 2
    sets = {"exercise0": "Squat", "repetitions0": "8", "load0": "62.5"}
    assert person.log("strength", 20, **sets).status_code == 303
    path = f"/workouts/{person.export()['workouts'][-1]['_id']}"
    assert "8 × 62.5 kg" in person.get(path).text
    # Nobody else sees it.
    assert app.person().get(path).status_code == 404
    person.post(f"{path}/delete", form_of=path)
    assert person.get(path).status_code == 404


def test_a_session_ends_in_time(app: Fitness) -> None:
    person = app.person()
    app.clock.pass_by(days=13)
    assert person.get("/log").status_code == 200
    app.clock.pass_by(days=13)
    assert person.get("/log").status_code == 200
    app.clock.pass_by(days=15)
    assert person.get("/log").status_code == 302


def test_deletion(app: Fitness) -> None:
    person = app.person()
    person.log()
    assert person.post("/delete", password="wrong" * 4).status_code == 422
    assert "is deleted" in person.post("/delete", password=PASSWORD).text
    assert person.get("/log").status_code == 302
    assert timedelta() == timedelta()
