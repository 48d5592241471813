"""What the pages and the API work with, in one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from softcart_assets.connections import (
    DynamoConnection,
    MongoConnection,
    MySQLConnection,
    ServerUnreachable,
    SettingError,
    production,
    staging,
)
from softcart_assets.inspire_app.accounts import Passwords
from softcart_assets.inspire_app.leaks import Leaked, leaked_passwords
from softcart_assets.inspire_app.passwords import Argon2
from softcart_assets.inspire_app.people import email_key
from softcart_assets.inspire_app.recommendations import Scores, published
from softcart_assets.inspire_app.second_factor import Change, Vault, notice
from softcart_assets.inspire_app.settings import Settings
from softcart_assets.inspire_app.storage.documents import Documents
from softcart_assets.inspire_app.storage.dynamo import Sessions
from softcart_assets.inspire_app.storage.factors import Factors
from softcart_assets.inspire_app.storage.mysql import Pool, Tables
from softcart_assets.inspire_app.storage.totals import Totals
from softcart_assets.lines.inspire.sources import INSPIRE_TABLES
from softcart_assets.web.limits import Limits

LOG: Final = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS: Final = 60.0

PEOPLE, DOCUMENTS, SESSIONS = (
    "SOFTCART_INSPIRE",
    "SOFTCART_INSPIRE_DOCS",
    "SOFTCART_INSPIRE_SESSIONS",
)
"""The prefixes of the settings of the three databases."""


@dataclass(frozen=True)
class Site:
    """`clock`: the time, in UTC. `scores`: what the models say of a person. `vault`: encrypts the
    secrets of second factors.
    """

    pool: Pool
    documents: Documents
    sessions: Sessions
    totals: Totals
    passwords: Passwords
    limits: Limits
    settings: Settings
    clock: Callable[[], datetime]
    scores: Callable[[int], Scores]
    vault: Vault
    is_leaked: Leaked

    def tables(self) -> AbstractContextManager[Tables]:
        """The tables in MySQL, by a connection of this thread's own."""
        return self.pool.tables()

    def end_sessions(self, user_id: int) -> int:
        """Sign somebody out everywhere. Returns how many sessions were found."""
        now = self.clock()
        # DynamoDB's index lags behind. A session that it does not show yet began before now.
        with self.tables() as tables:
            tables.end_sessions(user_id, now)
        return self.sessions.end_all(user_id, now)

    def close(self) -> None:
        """Close all connections."""
        self.pool.close()
        self.documents.close()
        self.totals.close()


def check_tables(people: MySQLConnection) -> None:
    """Raises `TablesMissing` if MySQL has not all tables, and `ServerUnreachable`."""
    people.check_tables(INSPIRE_TABLES, "inspire", "inspire")


def open_site(settings: Settings, limits: Limits, clock: Callable[[], datetime]) -> Site:
    """Connect to the databases that the settings name. Raises `ServerUnreachable` and
    `SettingError`.
    """
    return Site(
        Pool(MySQLConnection.from_env(PEOPLE)),
        Documents(MongoConnection.from_env(DOCUMENTS)),
        Sessions(DynamoConnection.from_env(SESSIONS)),
        Totals(staging),
        Argon2(),
        limits,
        settings,
        clock,
        published_scores,
        Vault(settings.secret),
        leaked_passwords(),
    )


class PublishedScores:
    """What production says of somebody. It is asked once a day for each person."""

    def __init__(self) -> None:
        self._asks_from = 0.0

    def __call__(self, user_id: int) -> Scores:
        """The scores. There are none for a minute after production did not answer, as somebody
        waits for a page.
        """
        if time.monotonic() < self._asks_from:
            return {}
        try:
            with production().connect(autocommit=True, connect_timeout=2) as session:
                session.execute("SET statement_timeout = '1s'")
                return published(session, user_id)
        except (psycopg.Error, ServerUnreachable, SettingError) as error:
            # There is a plan without it, which is worth more than an error.
            LOG.warning("No scores: %s", type(error).__name__)
            self._asks_from = time.monotonic() + _ASK_AGAIN_SECONDS
            return {}


published_scores: Final = PublishedScores()
"""Of this process."""


class NoAccount(RuntimeError):
    """There is no such account."""


def sign_out_everywhere(site: Site, email: str) -> int:
    """End all sessions of an account. Returns how many there were. Raises `NoAccount`."""
    return site.end_sessions(_account(site, email))


def turn_off_second_factor(site: Site, email: str) -> bool:
    """Let somebody in by password alone again, and end all sessions. A mail tells the person.

    Returns False if there was no second factor. Raises `NoAccount`.
    """
    user_id = _account(site, email)
    with site.tables() as tables:

        def turn_off() -> bool:
            was_on = Factors(tables).turn_off(user_id)
            if was_on:
                tables.add_message(notice(user_id, Change.OFF, site.clock()))
            return was_on

        was_on = tables.atomically(turn_off)
    if was_on:
        site.end_sessions(user_id)
    return was_on


def _account(site: Site, email: str) -> int:
    with site.tables() as tables:
        user_id = tables.user_id(email_key(email) or "")
    if user_id is None:
        raise NoAccount(f"There is no account of {email!r}.")
    return user_id
