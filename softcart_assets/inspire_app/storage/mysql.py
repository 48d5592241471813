"""What MySQL or MariaDB has of a person: account, consents, goals, choices, clubs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import pymysql

from softcart_assets.connections import MySQLConnection
from softcart_assets.inspire_app.accounts import Link, Profile
from softcart_assets.inspire_app.links import Use
from softcart_assets.inspire_app.outbox import Channel, Message, Purpose
from softcart_assets.inspire_app.people import email_key
from softcart_assets.inspire_app.storage.outbox import add_message
from softcart_assets.inspire_app.storage.rows import Database, naive

_ANSWER_SECONDS: Final = 10.0
_LOCK_SECONDS: Final = 3
"""So long a statement waits for somebody's lock. Then its transaction is done again."""
_ASK_AGAIN_SECONDS: Final = 30.0
"""A connection that was not used for so long is asked whether it still is one."""

Consent = tuple[Channel, Purpose]


@dataclass(frozen=True)
class Person:
    """Somebody with an account. `sessions_since`: sessions from before are over.
    `has_second_factor`: 1 if signing in needs a code.
    """

    id: int
    email: str
    full_name: str
    phone: str | None
    birth_date: date | None
    region: str
    country_code: str
    time_zone: str
    phone_confirmed_at: datetime | None
    created_at: datetime
    sessions_since: datetime
    has_second_factor: int


@dataclass(frozen=True)
class Goal:
    """A goal of the catalogue. `amount`: what somebody wants to do in a week, None: no goal of
    theirs.
    """

    id: int
    code: str
    name: str
    activity: str | None
    unit: str
    amount: Decimal | None = None


@dataclass(frozen=True)
class Club:
    """A club. `is_member`: whether somebody is one of its members."""

    id: int
    name: str
    members: int
    is_member: bool


@dataclass(frozen=True)
class Challenge:
    """What the members of a club want to do together. `ends_on`: the first day after it."""

    id: int
    club_id: int
    name: str
    unit: str
    amount: Decimal
    starts_on: date
    ends_on: date


class Tables(Database):
    """All of it, by one connection. See also `accounts.Store`."""

    def add_message(self, message: Message) -> None:
        """Put a message into the outbox, unless one of its key is there."""
        add_message(self, message)

    def numbers_asked(self, user_id: int, now: datetime) -> int:
        """How many texts for numbers of somebody's there were in the last day."""
        [row] = self._rows(
            "SELECT COUNT(*) AS texts FROM messages WHERE user_id = %s AND template = 'phone' "
            "AND expires_at > %s",
            (user_id, naive(now)),
        )
        return int(row["texts"])

    def link(self, digest: str) -> Link | None:
        """A link by its digest, locked until the transaction ends."""
        row = self._row("SELECT * FROM links WHERE digest = %s FOR UPDATE", (digest,))
        if row is None:
            return None
        return Link(digest, Use(row["purpose"]), row["email"], row["expires_at"], row["used_at"])

    def mark_used(self, digest: str, now: datetime) -> None:
        """A link was used."""
        self._execute("UPDATE links SET used_at = %s WHERE digest = %s", (naive(now), digest))

    def user_id(self, key: str) -> int | None:
        """The account of an address, by its key."""
        row = self._row("SELECT id FROM users WHERE email_key = %s AND state = 'active'", (key,))
        return row["id"] if row else None

    def password(self, user_id: int) -> str | None:
        """The hash of somebody's password."""
        row = self._row("SELECT password_hash FROM credentials WHERE user_id = %s", (user_id,))
        return row["password_hash"] if row else None

    def add_user(self, email: str, key: str, profile: Profile, now: datetime) -> int | None:
        """Make an account with a confirmed address. Returns its id. None: another link has made one
        at this moment, maybe from an address that only looks alike.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO users (email, email_key, full_name, birth_date, region, "
                "country_code, time_zone, email_confirmed_at, created_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
                "ON DUPLICATE KEY UPDATE id = id",
                (
                    email,
                    key,
                    profile.full_name.strip(),
                    profile.birth_date,
                    profile.region,
                    profile.country_code.upper(),
                    profile.time_zone,
                    naive(now),
                    naive(now),
                ),
            )
            return int(cursor.lastrowid) if cursor.rowcount == 1 else None

    def set_password(self, user_id: int, kept: str, now: datetime) -> None:
        """Keep the hash of a new password."""
        self._execute(
            "INSERT INTO credentials (user_id, password_hash, changed_at) VALUES (%s, %s, %s) "
            "ON DUPLICATE KEY UPDATE password_hash = VALUES(password_hash), "
            "changed_at = VALUES(changed_at)",
            (user_id, kept, naive(now)),
        )

    def end_sessions(self, user_id: int, now: datetime) -> None:
        """Sessions that began before now are over, also those that nothing has found yet."""
        self._execute(
            "UPDATE credentials SET signed_out_at = %s WHERE user_id = %s", (naive(now), user_id)
        )

    def end_tokens(self, user_id: int, now: datetime) -> None:
        """End all tokens by which programs act for somebody."""
        self._execute(
            "UPDATE api_tokens SET revoked_at = %s WHERE user_id = %s AND revoked_at IS NULL",
            (naive(now), user_id),
        )

    def person(self, user_id: int) -> Person | None:
        """Somebody's account. None: it is deleted."""
        row = self._row(
            "SELECT id, email, full_name, phone, birth_date, region, country_code, time_zone, "
            "phone_confirmed_at, created_at, "
            "GREATEST(changed_at, COALESCE(signed_out_at, changed_at)) AS sessions_since, "
            "f.since IS NOT NULL AS has_second_factor "
            "FROM users JOIN credentials AS c ON c.user_id = id "
            "LEFT JOIN second_factors AS f ON f.user_id = id WHERE id = %s AND state = 'active'",
            (user_id,),
        )
        return Person(**row) if row else None

    def change(self, user_id: int, profile: Profile) -> None:
        """Keep what somebody says about themselves."""
        self._execute(
            "UPDATE users SET full_name = %s, time_zone = %s, region = %s, country_code = %s, "
            "birth_date = %s WHERE id = %s",
            (
                profile.full_name.strip(),
                profile.time_zone,
                profile.region,
                profile.country_code.upper(),
                profile.birth_date,
                user_id,
            ),
        )

    def set_phone(self, user_id: int, phone: str | None) -> None:
        """Keep somebody's number. A new one must be confirmed anew."""
        self._execute(
            # From left to right: the confirmation compares with the old number.
            "UPDATE users SET phone_confirmed_at = IF(phone <=> %s, phone_confirmed_at, NULL), "
            "phone = %s WHERE id = %s",
            (phone, phone, user_id),
        )

    def consents(self, user_id: int) -> set[Consent]:
        """What somebody has consented to, and not withdrawn."""
        rows = self._rows(
            "SELECT channel, purpose FROM consents WHERE user_id = %s AND withdrawn_at IS NULL",
            (user_id,),
        )
        return {(Channel(row["channel"]), Purpose(row["purpose"])) for row in rows}

    def set_consents(
        self, user_id: int, wanted: Mapping[Consent, str], now: datetime, by: str = "page"
    ) -> None:
        """Give and withdraw, so that these are in force. `wanted`: with the wording of each.

        Rows are never given again: a new consent is a new row.
        """
        # The person's row is locked: two requests at once must not give one consent twice.
        self._row("SELECT id FROM users WHERE id = %s FOR UPDATE", (user_id,))
        there = self.consents(user_id)
        for channel, purpose in there - wanted.keys():
            self._execute(
                "UPDATE consents SET withdrawn_at = %s, withdrawn_by = %s WHERE user_id = %s AND "
                "channel = %s AND purpose = %s AND withdrawn_at IS NULL",
                (naive(now), by, user_id, channel.value, purpose.value),
            )
        for channel, purpose in sorted(wanted.keys() - there):
            self._execute(
                "INSERT INTO consents (user_id, channel, purpose, given_at, given_by, wording) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    user_id,
                    channel.value,
                    purpose.value,
                    naive(now),
                    by,
                    wanted[channel, purpose],
                ),
            )

    def goals(self, user_id: int) -> list[Goal]:
        """The catalogue, with somebody's own amounts. The main goal has the smallest row."""
        rows = self._rows(
            "SELECT g.id, g.code, g.name, g.activity, g.unit, u.amount FROM goals AS g "
            "LEFT JOIN user_goals AS u ON u.goal_id = g.id AND u.user_id = %s "
            "AND u.ended_on IS NULL ORDER BY u.id IS NULL, u.id, g.id",
            (user_id,),
        )
        return [Goal(**row) for row in rows]

    def set_goals(self, user_id: int, wanted: Mapping[int, Decimal], day: date) -> None:
        """These are somebody's goals from a local date on: goal → amount per week."""
        self._row("SELECT id FROM users WHERE id = %s FOR UPDATE", (user_id,))
        there = {goal.id: goal.amount for goal in self.goals(user_id) if goal.amount is not None}
        for goal_id in (each for each in there if wanted.get(each) != there[each]):
            self._execute(
                "UPDATE user_goals SET ended_on = %s WHERE user_id = %s AND goal_id = %s "
                "AND ended_on IS NULL",
                (day, user_id, goal_id),
            )
        for goal_id, amount in wanted.items():
            if there.get(goal_id) != amount:
                self._execute(
                    "INSERT INTO user_goals (user_id, goal_id, amount, started_on) "
                    "VALUES (%s, %s, %s, %s)",
                    (user_id, goal_id, amount, day),
                )

    def quotes(self) -> list[dict[str, Any]]:
        """The quotes that may be shown: id, text, author, topic, mood."""
        return self._rows("SELECT id, text, author, topic, mood FROM quotes WHERE is_on", ())

    def quote(self, id: int) -> dict[str, Any] | None:
        """One of the quotes that may be shown."""
        return self._row(
            "SELECT id, text, author, topic, mood FROM quotes WHERE id = %s AND is_on", (id,)
        )

    def choices(self, user_id: int, day: date) -> dict[str, dict[str, Any]]:
        """What was chosen for somebody's day, by its kind."""
        rows = self._rows(
            "SELECT kind, item, propensity, policy, reason, done_at FROM choices "
            "WHERE user_id = %s AND local_date = %s",
            (user_id, day),
        )
        return {row["kind"]: row for row in rows}

    def add_choice(
        self,
        user_id: int,
        day: date,
        kind: str,
        item: str,
        propensity: float,
        policy: str,
        reason: str,
        now: datetime,
    ) -> None:
        """Keep a choice, unless there is one already or the account is deleted."""
        self._execute(
            # A sender may ask for the day of somebody who deletes the account at this moment.
            "INSERT INTO choices (user_id, local_date, kind, item, propensity, policy, reason, "
            "shown_at) SELECT id, %s, %s, %s, %s, %s, %s, %s FROM users "
            "WHERE id = %s AND state = 'active' LOCK IN SHARE MODE "
            "ON DUPLICATE KEY UPDATE choices.id = choices.id",
            (
                day,
                kind,
                item,
                # An impossible choice was not made, so this is not nothing.
                max(Decimal(propensity).quantize(Decimal("1e-8")), Decimal("1e-8")),
                policy,
                reason,
                naive(now),
                user_id,
            ),
        )

    def mark_done(self, user_id: int, day: date, now: datetime) -> None:
        """Somebody did the workout that was proposed."""
        self._execute(
            "UPDATE choices SET done_at = %s WHERE user_id = %s AND local_date = %s "
            "AND kind = 'workout' AND done_at IS NULL",
            (naive(now), user_id, day),
        )

    def quotes_shown(self, user_id: int, since: date) -> dict[int, date]:
        """When each quote was last shown to somebody, from a local date on."""
        rows = self._rows(
            "SELECT item, MAX(local_date) AS day FROM choices WHERE user_id = %s "
            "AND kind = 'quote' AND local_date >= %s GROUP BY item",
            (user_id, since),
        )
        return {int(row["item"]): row["day"] for row in rows}

    def clubs(self, user_id: int) -> list[Club]:
        """All clubs, those of somebody first."""
        rows = self._rows(
            "SELECT c.id, c.name, COUNT(m.user_id) AS members, "
            "COALESCE(SUM(m.user_id = %s), 0) AS is_member FROM clubs AS c "
            "LEFT JOIN club_members AS m ON m.club_id = c.id "
            "GROUP BY c.id, c.name ORDER BY is_member DESC, c.name LIMIT 50",
            (user_id,),
        )
        return [Club(r["id"], r["name"], r["members"], bool(r["is_member"])) for r in rows]

    def join(self, user_id: int, club_id: int, now: datetime) -> None:
        """Become a member of a club, if there is such a club."""
        self._execute(
            "INSERT INTO club_members (club_id, user_id, joined_at) "
            "SELECT id, %s, %s FROM clubs WHERE id = %s "
            "ON DUPLICATE KEY UPDATE joined_at = club_members.joined_at",
            (user_id, naive(now), club_id),
        )

    def leave(self, user_id: int, club_id: int) -> None:
        """Be no member of a club any more."""
        self._execute(
            "DELETE FROM club_members WHERE user_id = %s AND club_id = %s", (user_id, club_id)
        )

    def challenges(self, user_id: int, day: date) -> list[Challenge]:
        """What goes on in somebody's clubs on a day."""
        rows = self._rows(
            "SELECT c.id, c.club_id, c.name, c.unit, c.amount, c.starts_on, c.ends_on "
            "FROM challenges AS c JOIN club_members AS m USING (club_id) WHERE m.user_id = %s "
            "AND c.starts_on <= %s AND c.ends_on > %s ORDER BY c.ends_on, c.id",
            (user_id, day, day),
        )
        return [Challenge(**row) for row in rows]

    def members(self, club_id: int) -> list[int]:
        """The members of a club."""
        rows = self._rows("SELECT user_id FROM club_members WHERE club_id = %s", (club_id,))
        return [row["user_id"] for row in rows]

    def candidates(self, most: int = 100) -> list[tuple[int, str]]:
        """People with a confirmed address and a goal: id and address."""
        rows = self._rows(
            "SELECT id, email FROM users WHERE state = 'active' AND email_confirmed_at IS NOT NULL "
            "AND email_key = LOWER(email) AND EXISTS (SELECT 1 FROM user_goals AS g "
            "WHERE g.user_id = users.id AND g.ended_on IS NULL) ORDER BY id LIMIT %s",
            (most,),
        )
        return [(row["id"], row["email"]) for row in rows]

    def everything(self, user_id: int) -> dict[str, list[dict[str, Any]]]:
        """All rows about somebody, table by table, for themselves. No hash, and no secret."""
        account = (
            "id, email, full_name, phone, birth_date, region, country_code, time_zone, "
            "email_confirmed_at, phone_confirmed_at, created_at, updated_at"
        )
        message = (
            "id, address, channel, purpose, template, parameters, state, reason, attempts, due_at, "
            "expires_at, sent_at, created_at, updated_at"
        )
        token = "id, name, scopes, created_at, expires_at, revoked_at"
        of_user = "WHERE user_id = %s"
        people = self._rows(f"SELECT {account} FROM users WHERE id = %s", (user_id,))
        messages = self._rows(f"SELECT {message} FROM messages {of_user}", (user_id,))
        for each in people:
            # Those of links are to the address, and the first came before there was an account.
            messages += self._of_address("messages", message, "address", each["email"])
        events = self._rows(
            "SELECT * FROM message_events WHERE message_id IN %s",
            ([0, *(each["id"] for each in messages)],),
        )
        return {
            "account": people,
            **{
                table: self._rows(f"SELECT * FROM {table} {of_user}", (user_id,))
                for table in ("consents", "user_goals", "choices", "club_members")
            },
            "messages": messages,
            "message_events": events,
            "api_tokens": self._rows(f"SELECT {token} FROM api_tokens {of_user}", (user_id,)),
            "second_factors": self._rows(f"SELECT since FROM second_factors {of_user}", (user_id,)),
            "recovery_codes": self._rows(
                f"SELECT created_at, used_at FROM recovery_codes {of_user}", (user_id,)
            ),
            "sign_ins": self._rows(
                f"SELECT began_at, expires_at FROM sign_ins {of_user}", (user_id,)
            ),
        }

    def _of_address(
        self, table: str, columns: str, column: str, email: str
    ) -> list[dict[str, Any]]:
        """The rows of an address, however it was typed. `column`: has it, and is one of `columns`.

        The database compares without case and accents.
        """
        key = email_key(email)
        rows = self._rows(f"SELECT {columns} FROM {table} WHERE {column} IN (%s, %s)", (email, key))
        return [row for row in rows if email_key(row[column]) == key]

    def erase(self, user_id: int, now: datetime) -> None:
        """Delete an account: what says who somebody is goes, and so do their goals and choices.

        Rows of messages and consents stay without addresses and texts, as a proof of what was sent
        and allowed. Nothing more is sent.
        """
        row = self._row("SELECT email FROM users WHERE id = %s FOR UPDATE", (user_id,))
        if row is None:
            return
        self.set_consents(user_id, {}, now)
        for statement in (
            "UPDATE users SET state = 'deleted', email = CONCAT('deleted-', id), "
            "email_key = CONCAT('deleted-', id), full_name = '', phone = NULL, birth_date = NULL, "
            "email_confirmed_at = NULL, phone_confirmed_at = NULL WHERE id = %s",
            "UPDATE messages SET state = IF(state IN ('waiting', 'sending'), 'dropped', state), "
            "reason = IF(state = 'dropped', 'The account is deleted.', reason), parameters = '{}', "
            "claimed_by = NULL, claimed_until = NULL WHERE user_id = %s",
            "DELETE FROM credentials WHERE user_id = %s",
            "DELETE FROM second_factors WHERE user_id = %s",
            "DELETE FROM recovery_codes WHERE user_id = %s",
            "DELETE FROM sign_ins WHERE user_id = %s",
            "DELETE FROM api_tokens WHERE user_id = %s",
            "DELETE FROM club_members WHERE user_id = %s",
            "DELETE FROM user_goals WHERE user_id = %s",
            "DELETE FROM choices WHERE user_id = %s",
        ):
            self._execute(statement, (user_id,))
        # Those of links have the address itself. Without them, it can be used again at once.
        for table, key, column in (("links", "digest", "email"), ("messages", "id", "address")):
            for each in self._of_address(table, f"{key}, {column}", column, row["email"]):
                self._execute(f"DELETE FROM {table} WHERE {key} = %s", (each[key],))


class Pool:
    """Connections of a process. Each is used by one thread at a time."""

    def __init__(self, connection: MySQLConnection) -> None:
        self._connection = connection
        self._idle: list[tuple[float, pymysql.Connection[Any]]] = []
        self._lock = threading.Lock()

    @contextmanager
    def tables(self) -> Iterator[Tables]:
        """The tables, by a connection that is this thread's meanwhile. Raises
        `ServerUnreachable`.
        """
        with self.connection() as client:
            yield Tables(client)

    @contextmanager
    def connection(self) -> Iterator[pymysql.Connection[Any]]:
        """A connection that is this thread's meanwhile. Raises `ServerUnreachable`."""
        client = self._take()
        try:
            yield client
        except pymysql.MySQLError:
            # Nobody knows what state it is in.
            client.close()
            raise
        except BaseException:
            self._give(client)
            raise
        self._give(client)

    def _take(self) -> pymysql.Connection[Any]:
        with self._lock:
            used_at, client = self._idle.pop() if self._idle else (0.0, None)
        if client and time.monotonic() - used_at > _ASK_AGAIN_SECONDS:
            try:
                client.ping(reconnect=False)
            except pymysql.MySQLError:
                client = None
        if client is None:
            client = self._connection.connect(
                answer_seconds=_ANSWER_SECONDS,
                # Each statement sees what others have committed, and no gap is locked.
                autocommit=True,
            )
            with client.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_SECONDS}")
        return client

    def _give(self, client: pymysql.Connection[Any]) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), client))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for _, client in self._idle:
                client.close()
            self._idle.clear()
