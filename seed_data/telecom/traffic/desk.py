"""What the operations of the traffic share: sessions, subscribers, and rows that wait for a commit.

Usage comes in large numbers, so its rows are collected and written with one statement per table.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from seed_data.common.sql import SQLSession
from seed_data.telecom import shares
from seed_data.telecom.roaming import HEADER

WRONG_CHARGES = 1_000
"""The most charges that wait for their correction."""
RECENT_FILES = 20
"""Files about roaming of which one may come again or be corrected."""

CALL_COLUMNS = (
    "event_id, subscriber_id, msisdn, direction, other_msisdn, started_at, duration_seconds, "
    "termination, cell_id, region, recorded_at"
)
SMS_COLUMNS = (
    "event_id, subscriber_id, msisdn, direction, other_msisdn, sent_at, parts, recorded_at"
)
SESSION_COLUMNS = (
    "event_id, subscriber_id, msisdn, started_at, ended_at, megabytes, cell_id, region, recorded_at"
)
CHARGE_COLUMNS = (
    "subscriber_id, event_id, kind, quantity, amount, currency, tariff_id, event_at, recorded_at, "
    "reverses_id"
)
TOP_UP_COLUMNS = "subscriber_id, amount, currency, channel, topped_up_at, recorded_at"

TABLES = {
    "call_records": ("signaling", CALL_COLUMNS),
    "sms_records": ("signaling", SMS_COLUMNS),
    "data_sessions": ("signaling", SESSION_COLUMNS),
    "charges": ("charging", CHARGE_COLUMNS),
    "top_ups": ("charging", TOP_UP_COLUMNS),
}
"""The tables whose rows are collected, with their source and columns."""

LOWEST_BALANCE = Decimal(2)
"""Below it, a prepaid subscriber tops up."""


@dataclass
class Subscriber:
    """An active subscriber, as the network and the charging know it."""

    id: int
    customer: int
    account: int | None
    msisdn: str
    plan: int
    region: str | None
    is_active: bool = True


class RoamingFile(NamedTuple):
    """A file about roaming: its path without the ending, and its lines without the header."""

    name: str
    ending: str
    lines: list[str]

    @property
    def text(self) -> str:
        """The content."""
        return "".join(f"{line}\n" for line in (HEADER, *self.lines))


@dataclass
class Desk:
    """One thread's view of the sources. The lists are shared by all threads."""

    rng: random.Random
    sql: dict[str, SQLSession]
    subscribers: list[Subscriber]
    prices: dict[tuple[int, str], tuple[int, Decimal]]
    agents: int
    deliver: Callable[[str, str], object]
    """Writes a file about roaming, by its name and its content."""
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    spent: dict[int, Decimal] = field(default_factory=dict)
    wrong: deque[tuple[Any, ...]] = field(default_factory=lambda: deque(maxlen=WRONG_CHARGES))
    """Charges that will be corrected."""
    files: list[RoamingFile] = field(default_factory=list)
    delivered: deque[RoamingFile] = field(default_factory=lambda: deque(maxlen=RECENT_FILES))
    after_commit: list[Callable[[], object]] = field(default_factory=list)
    """Changes of what the threads know, for when the sources have them."""
    _mark: str = field(default_factory=lambda: os.urandom(4).hex())
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def subscriber(self) -> Subscriber:
        """A random active subscriber."""
        while not (found := self.rng.choice(self.subscribers)).is_active:
            pass
        return found

    def agent(self) -> int:
        """The id of an agent."""
        return self.rng.randint(1, self.agents)

    def event_id(self, letter: str) -> str:
        """A new id of an event. No earlier run and no other thread made it."""
        return f"{letter}{time.time_ns():x}{self._mark}{next(self._numbers):x}"

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Collect a row of one of `TABLES`."""
        self.rows.setdefault(table, []).append(row)

    def commit(self) -> None:
        """Write what was collected, and commit in all sources."""
        self._flush()
        for session in self.sql.values():
            session.commit()
        for file in self.files:
            self.deliver(file.name + file.ending, file.text)
        self.files.clear()
        for change in self.after_commit:
            change()
        self.after_commit.clear()

    def forget(self) -> None:
        """Drop what is not committed."""
        self.rows.clear()
        self.spent.clear()
        self.files.clear()
        self.after_commit.clear()

    def _flush(self) -> None:
        """Write what was collected. Balances follow the charges and top-ups."""
        for table, rows in self.rows.items():
            source, columns = TABLES[table]
            marks = ", ".join(["%s"] * len(rows[0]))
            sql = self.sql[source]
            sql.write_many(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
            if table == "charges":
                self.after_commit.append(self._remembering(rows))
        self.rows.clear()
        self._settle()

    def _remembering(self, rows: list[tuple[Any, ...]]) -> Callable[[], None]:
        """Keeps the charges that turn out wrong, with the ids that the server gave them."""
        # A statement with a known number of rows gets consecutive ids.
        [[first]] = self.sql["charging"].all("SELECT LAST_INSERT_ID()")
        charges = [
            (first + number, *row)
            for number, row in enumerate(rows)
            if row[4] > 0 and row[9] is None and self.rng.random() < shares.CHARGE_CORRECTED
        ]
        return lambda: self.wrong.extend(charges)

    def _settle(self) -> None:
        """Take what prepaid subscribers spent from their balances, and top up low ones."""
        if not self.spent:
            return
        sql = self.sql["charging"]
        # In the order of the keys, so that two threads do not wait for each other.
        changes = sorted(self.spent.items())
        self.spent.clear()
        change = (
            "INSERT INTO balances (subscriber_id, amount, currency) VALUES (%s, %s, 'EUR') "
            "ON DUPLICATE KEY UPDATE amount = amount + VALUES(amount)"
        )
        sql.write_many(change, [(subscriber, -amount) for subscriber, amount in changes])
        marks = ", ".join(["%s"] * len(changes))
        low = sql.all(
            f"SELECT subscriber_id, amount FROM balances WHERE subscriber_id IN ({marks}) "
            "AND amount < %s ORDER BY subscriber_id",
            *(subscriber for subscriber, _ in changes),
            LOWEST_BALANCE,
        )
        now = utc_now()
        amounts = [(row[0], Decimal(15) + max(Decimal(0), -row[1] // 15 * 15 + 15)) for row in low]
        sql.write_many(
            f"INSERT INTO top_ups ({TOP_UP_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)",
            [(subscriber, amount, "EUR", "auto", now, now) for subscriber, amount in amounts],
        )
        sql.write_many(change, amounts)


def utc_now() -> datetime:
    """The time as MySQL's DATETIME has it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def delay(rng: random.Random, late: float) -> timedelta:
    """How long ago an event was that is recorded now: hours to weeks for this share of events."""
    if rng.random() < late:
        return timedelta(hours=2) + timedelta(days=20) * rng.random() ** 3
    return timedelta(seconds=rng.uniform(1, 20))
