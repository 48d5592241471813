"""The fitness application on the tests' own servers."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from apiflask import APIFlask
from argon2 import PasswordHasher
from flask.testing import FlaskClient
from support.databases import mongo_database, mysql_database, name_server

from seed_data.common.seeding import database_of
from softcart_assets.assembly import LINES
from softcart_assets.connections import MongoConnection, MySQLConnection
from softcart_assets.inspire_app.accounts import LINK_IS_GOOD_FOR
from softcart_assets.inspire_app.links import Use, kept_form, link_secret
from softcart_assets.inspire_app.passwords import Argon2
from softcart_assets.inspire_app.server import make
from softcart_assets.inspire_app.settings import Settings
from softcart_assets.inspire_app.site import DOCUMENTS, PEOPLE, SESSIONS, Site, open_site
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.server import free_port
from softcart_assets.web.limits import Limits

PASSWORD = "correct horse battery"
SECRET = "s" * 40

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes that take no time. Those of the application itself take a tenth of a second."""

QUOTES = (
    ("A little is more than nothing.", "A. Walker", "start", "calm"),
    ("Go on.", "B. Runner", "persist", "firm"),
    ("Rest is a part of it.", "C. Sleeper", "rest", "calm"),
)
GOALS = (
    ("move_daily", "Move every day", None, "minutes"),
    ("run_5k", "Run 5 km", "run", "metres"),
    ("build_strength", "Build strength", "strength", "workouts"),
)


class Clock:
    """The time of the application. It stands still until it is moved."""

    def __init__(self) -> None:
        # Sessions have whole seconds.
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


class Fitness:
    """The databases of the application, and the application itself."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self.site, self.clock = site, clock
        self.app: APIFlask = make(site)
        self.mysql = MySQLConnection.from_env(PEOPLE)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.mysql.connect(autocommit=True) as session, session.cursor() as cursor:
            cursor.execute(statement, values)
            return [*cursor.fetchall()]

    def link(self, email: str) -> str:
        """The path of the link that waits to be sent to an address, as the sender makes it."""
        [(key, address)] = self.rows(
            "SELECT message_key, address FROM messages WHERE address = %s ORDER BY id DESC LIMIT 1",
            email,
        )
        known = self.rows("SELECT 1 FROM users WHERE email = %s AND state = 'active'", email)
        use = Use.RESET if known else Use.CONFIRM
        secret = link_secret(SECRET.encode(), use, 0, key)
        self.rows(
            # A sender beside may have been faster.
            "INSERT INTO links (digest, purpose, email, expires_at) VALUES (%s, %s, %s, %s) "
            "ON DUPLICATE KEY UPDATE digest = digest",
            kept_form(secret),
            use.value,
            address,
            (self.clock() + LINK_IS_GOOD_FOR).replace(tzinfo=None),
        )
        return f"/finish/{secret}"

    def visitor(self) -> Visitor:
        return Visitor(self.app.test_client())

    def person(self, email: str | None = None) -> Visitor:
        """Somebody who has just made an account, and is signed in."""
        # Each test has people of its own, and none is kept waiting for those of another one.
        self.site.limits._limiter.storage.reset()
        visitor = self.visitor()
        visitor.email = email or f"{secrets.token_hex(6)}@example.com"
        visitor.post("/start", email=visitor.email)
        profile = {"full_name": "Ada L.", "time_zone": "Europe/Berlin", "region": "Bavaria"}
        answer = visitor.post(self.link(visitor.email), password=PASSWORD, **profile)
        assert answer.status_code == 303, answer.text
        [(visitor.id,)] = self.rows("SELECT id FROM users WHERE email = %s", visitor.email)
        return visitor


class Visitor:
    """A browser without scripts."""

    email = ""
    id = 0

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def post(self, path: str, form_of: str = "", **values: Any) -> Any:
        """Fill in the form of a page and send it. `form_of`: the page, if it has another path."""
        page = self.client.get(form_of or path).text
        found = re.search(r'name="csrf_token" value="([^"]+)"', page)
        token = {"csrf_token": found[1]} if found else {}
        return self.client.post(path, data=token | values)

    def log(self, activity: str = "run", minutes: int = 30, **values: Any) -> Any:
        page = self.client.get(f"/log/{activity}").text
        found = re.search(r'name="started_at"[^>]*value="([^"]+)"', page)
        assert found
        values = {"started_at": found[1], "minutes": minutes} | values
        return self.post(f"/log/{activity}", **values)

    def export(self) -> Any:
        return json.loads(self.post("/export", form_of="/settings").text)


def wait_for(happened: Callable[[], bool], every: float = 0.05) -> None:
    """Wait until something has happened, looking every so many seconds."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(every)


def wait_until_locked_out(app: Fitness, thread_id: int) -> None:
    """Wait until a connection to MySQL waits for somebody's lock."""
    asked = (
        "SELECT 1 FROM information_schema.innodb_trx"
        " WHERE trx_state = 'LOCK WAIT' AND trx_mysql_thread_id = %s"
    )
    # The server brings this table up to date only if nobody has read it for 0.1 s.
    wait_for(lambda: bool(app.rows(asked, thread_id)), every=0.3)


@contextmanager
def fitness() -> Iterator[Fitness]:
    """The application on fresh databases. The environment has their settings meanwhile."""
    with (
        pytest.MonkeyPatch.context() as patch,
        mysql_database(MySQLConnection.from_env(PEOPLE)) as people,
        mongo_database(MongoConnection.from_env(DOCUMENTS)) as documents,
    ):
        name_server(patch, replace(people, prefix=PEOPLE))
        patch.setenv(f"{DOCUMENTS}_DATABASE", documents.database)
        patch.setenv(f"{SESSIONS}_TABLE_PREFIX", f"{secrets.token_hex(6)}.")
        patch.setenv("SOFTCART_INSPIRE_APP_SECRET", SECRET)
        # It has no running totals, whatever other tests have put into the usual one.
        patch.setenv("SOFTCART_STAGING_DATABASE", "postgres")
        line = LINES.line("inspire")
        for source in line.sources:
            database_of(line, source).recreate(source.tables)
        clock = Clock()
        site = open_site(Settings.from_env(), Limits(), clock)
        site.documents.prepare()
        made = Fitness(replace(site, passwords=Argon2(QUICK)), clock)
        _fill(made)
        yield made
        site.close()


def _fill(made: Fitness) -> None:
    for quote in QUOTES:
        made.rows("INSERT INTO quotes (text, author, topic, mood) VALUES (%s, %s, %s, %s)", *quote)
    for goal in GOALS:
        made.rows("INSERT INTO goals (code, name, activity, unit) VALUES (%s, %s, %s, %s)", *goal)
    made.rows("INSERT INTO clubs (name) VALUES ('Lake runners')")
    day = made.clock().date()
    made.rows(
        "INSERT INTO challenges (club_id, name, unit, amount, starts_on, ends_on) "
        "VALUES (1, 'Round the lake', 'metres', 50000, %s, %s)",
        day - timedelta(days=3),
        day + timedelta(days=10),
    )


@contextmanager
def served(**settings: str) -> Iterator[str]:
    """`softcart serve inspire` as a process on the databases of `fitness`: its address, from its
    first answer on.
    """
    port = free_port()
    process = psutil.Popen(
        [REPOSITORY / ".venv" / "bin" / "softcart", "serve", "inspire", f"--port={port}"],
        env=os.environ | settings,
        cwd=REPOSITORY,
        stdout=-1,
        stderr=-2,
        text=True,
    )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while not _answers(address):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
        yield address
    finally:
        if process.is_running():
            process.terminate()
            process.wait(15)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True
