"""Who gets daily messages, from MySQL or MariaDB, and at which hours, from production."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import pymysql

from softcart_assets.connections import ServerUnreachable, SettingError, production
from softcart_assets.inspire_app.outbox import Channel, Message, Purpose
from softcart_assets.inspire_app.people import zone_of
from softcart_assets.inspire_app.planning import BestHours, Person
from softcart_assets.inspire_app.storage.outbox import add_messages
from softcart_assets.inspire_app.storage.rows import Database, again_after_deadlock, naive

LOG: Final = logging.getLogger("softcart.messages")

_READ_AGAIN_SECONDS: Final = 3600.0

_ADDRESSES_FOR: Final = timedelta(days=7)
"""Mail servers try for some days, and then report that they could not deliver a mail."""

_AT_ONCE: Final = 1_000


class PeopleTables(Database):
    """See `planning.People`."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        super().__init__(connection)
        self._execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ())

    def is_first(self) -> bool:
        """Whether no other process plans. It holds as long as the connection."""
        with self.transaction():
            row = self._row("SELECT GET_LOCK(CONCAT(DATABASE(), ' planner'), 0) mine", ())
        return bool(row and row["mine"])

    def page(self, after: int, most: int) -> tuple[list[Person], int | None]:
        """See `planning.People`."""
        with self.transaction():
            users = self._rows(
                "SELECT id, time_zone, birth_date, email_confirmed_at IS NOT NULL AS email, "
                "phone IS NOT NULL AND phone_confirmed_at IS NOT NULL AS sms FROM users "
                "WHERE id > %s AND state = 'active' ORDER BY id LIMIT %s",
                (after, most),
            )
            if not users:
                return [], None
            first, last = users[0]["id"], users[-1]["id"]
            rows = self._rows(
                "SELECT user_id, channel, purpose FROM consents WHERE user_id BETWEEN %s AND %s "
                "AND withdrawn_at IS NULL AND purpose IN ('reminder', 'quote')",
                (first, last),
            )
        consents = defaultdict(set)
        for row in rows:
            consents[row["user_id"]].add((Channel(row["channel"]), Purpose(row["purpose"])))
        people = [
            Person(user["id"], zone_of(user["time_zone"]), user["birth_date"], frozenset(wanted))
            for user in users
            if (wanted := {each for each in consents[user["id"]] if user[each[0].value]})
        ]
        return people, last if len(users) == most else None

    @again_after_deadlock
    def add_all(self, messages: list[Message]) -> None:
        """See `planning.People`."""
        with self.transaction():
            add_messages(self, messages)

    @again_after_deadlock
    def forget(self, now: datetime) -> None:
        """Delete links and sign-ins that are over, and addresses of messages that are long done.
        Commits.

        They may be of people without an account, who cannot delete them.
        """
        old = naive(now - _ADDRESSES_FOR)
        for statement in (
            "DELETE FROM links WHERE expires_at < %s LIMIT %s",
            "DELETE FROM sign_ins WHERE expires_at < %s LIMIT %s",
            "UPDATE messages SET address = NULL WHERE address IS NOT NULL "
            "AND state IN ('sent', 'failed', 'dropped') AND expires_at < %s LIMIT %s",
        ):
            count = _AT_ONCE
            while count == _AT_ONCE:
                with self.transaction():
                    count = self._execute(statement, (old, _AT_ONCE))


class PeakHours:
    """The best hours in production, read once an hour. Without production there are none."""

    def __init__(self) -> None:
        self._hours: BestHours = {}
        self._read_at: float | None = None

    def __call__(self) -> BestHours:
        """The best hours as they were read last."""
        if self._read_at is None or time.monotonic() - self._read_at > _READ_AGAIN_SECONDS:
            self._read_at = time.monotonic()
            try:
                self._hours = _best_hours()
            except (SettingError, ServerUnreachable, psycopg.Error) as error:
                LOG.warning("no best hours: %s", type(error).__name__)
        return self._hours


def _best_hours() -> BestHours:
    with production().connect(autocommit=True) as session:
        found = session.execute(
            "SELECT time_zone, age_band, hour FROM production.agg_peak_hours_by_zone_age_hour "
            "WHERE is_best"
        ).fetchall()
    return {(zone, band): hour for zone, band, hour in found}
