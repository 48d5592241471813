"""Live activity: what is logged shows in the totals of a page that is open."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator

import pytest
from support.databases import database
from support.fitness import Fitness, Visitor, fitness

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.capture import stream
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.inspire_app.site import DOCUMENTS
from softcart_assets.lines.inspire.sources import INSPIRE_DOCS
from softcart_assets.lines.inspire.totals import ACTIVE_DAYS
from softcart_assets.stack import Stack

WAIT_SECONDS = 60


class Shown:
    """An open page, read event by event."""

    def __init__(self, person: Visitor) -> None:
        self.person = person
        self.text = ""

    def wait_for(self, *texts: str) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < ends:
            answer = self.person.client.get("/live/events", buffered=False)
            assert answer.mimetype == "text/event-stream"
            for event in answer.response:
                line = event.decode() if isinstance(event, bytes) else event
                if line.startswith("data: "):
                    self.text = json.loads(line.removeprefix("data: "))
                if all(text in self.text for text in texts):
                    answer.close()
                    return
                assert time.monotonic() < ends, self.text
            answer.close()
            # There are no totals yet.
            time.sleep(0.2)


@pytest.fixture
def app(stack: Stack) -> Iterator[Fitness]:
    with fitness() as made:
        yield made


def test_a_workout_shows_while_the_page_is_open(
    app: Fitness, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, other = app.person(), app.person()
    for each in (person, other):
        each.post("/clubs", club="1")
    with database() as postgres:
        monkeypatch.setenv("SOFTCART_STAGING_DATABASE", postgres.database)
        assert "cannot be read" in person.get("/live").text
        documents = MongoConnection.from_env(DOCUMENTS)
        # A process that is forked would have locks of this one's threads.
        follower = multiprocessing.get_context("spawn").Process(
            target=stream, args=(INSPIRE_DOCS, documents, postgres, lake)
        )
        follower.start()
        try:
            person.log("run", 30, distance_km="5")
            page = Shown(person)
            page.wait_for("<dt>Workouts</dt><dd>1</dd>", "5 of 50 km, 5 by you")
            assert '<span class="number">1</span> day in a row' in page.text
            # Somebody else of the club.
            other.log("ride", 60, distance_km="20.5")
            page.wait_for("25.5 of 50 km, 5 by you")
            assert "25.5 of 50 km" in person.get("/").text
            assert "25.5 of 50 km by 2 members" in person.get("/clubs").text
            # A correction, by deletion.
            [workout] = other.export()["workouts"]
            path = f"/workouts/{workout['_id']}"
            other.post(f"{path}/delete", form_of=path)
            # With the tag: "25.5 of 50 km" ends like it.
            page.wait_for("<p>5 of 50 km, 5 by you")
            # Without a script, the page shows the same.
            assert "<p>5 of 50 km, 5 by you" in person.get("/live").text
            assert "script-src 'self'" in person.get("/live").headers["Content-Security-Policy"]
            assert check(postgres, INSPIRE_DOCS, ACTIVE_DAYS).wrong == 0
        finally:
            follower.terminate()
            follower.join(20)
            follower.kill()
        # Without the stream, what others do comes later. What somebody has done is there at once.
        other.log("run", 20, distance_km="3")
        person.log("walk", 20, distance_km="2.5")
        # A warehouse that was slow is left alone for some seconds.
        ends = time.monotonic() + 30
        while "7.5 of 50 km" not in (text := person.get("/").text):
            assert time.monotonic() < ends, text
            time.sleep(0.5)
    assert person.get("/live").headers["Cache-Control"] == "no-store"
