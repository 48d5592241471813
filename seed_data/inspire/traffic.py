"""Live traffic on the sources of the fitness application, as it would write it itself.

People register, log workouts, correct and delete them, get messages, sign in and out, and delete
their accounts. What is true after each commit: a workout is there once per fingerprint, somebody
whose account is deleted has no documents and no sessions, a message that was sent has its event.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pymysql
from bson import Decimal128
from pymongo.errors import DuplicateKeyError

from seed_data.common.places import PLACES, ZONES
from seed_data.common.sql import SQLSession
from seed_data.common.traffic import NothingToDo, SimulationError
from seed_data.common.words import ask_faker
from seed_data.inspire.settings import IDLE_DAYS
from seed_data.inspire.texts import EXERCISES, NOTES, WORDING
from seed_data.inspire.truth import ACTIVITIES
from softcart_assets.connections import (
    DynamoConnection,
    MongoConnection,
    MySQLConnection,
    ServerUnreachable,
)
from softcart_assets.lines.inspire.sources import INSPIRE_TABLES
from softcart_assets.lines.model import Source

KNOWN_SESSIONS = 5_000
"""Sessions that the simulator may use or end, the last ones."""
_SPEEDS = {"run": 2.7, "walk": 1.4, "ride": 6.3, "swim": 0.8}


@dataclass
class App:
    """One thread's connections, and the sessions that it knows."""

    rng: random.Random
    words: Any
    sql: SQLSession
    documents: Any
    dynamo: Any
    sessions_table: str
    sessions: list[str]

    def person(self) -> tuple[int, str]:
        """The key and the time zone of somebody with an account."""
        found = self.sql.random_id("users", "state = 'active'")
        [zone] = self.sql.one("SELECT time_zone FROM users WHERE id = %s", found)
        return found, zone

    def workout(self) -> Mapping[str, Any]:
        """Some workout."""
        start = {"_id": {"$gte": str(uuid.UUID(int=self.rng.getrandbits(128)))}}
        for condition in (start, {}):
            found = self.documents.activity_logs.find_one(condition, sort=[("_id", 1)])
            if found:
                return dict(found)
        raise NothingToDo

    def key(self) -> str:
        """A new UUID, the same again with the same seed."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))


def registration(app: App) -> None:
    """Somebody makes an account: by a link in a mail, with a goal and perhaps consents."""
    rng = app.rng
    place = rng.choice(PLACES)
    country = list(ZONES).index(place.country)
    first, last = (
        rng.choice(each[country]) for each in (app.words.first_names, app.words.last_names)
    )
    address = f"{app.key()[:13]}@fit.example"
    now = _now()
    user = app.sql.insert(
        "INSERT INTO users (email, email_key, full_name, birth_date, region, country_code, "
        "time_zone, email_confirmed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))",
        *(address, address, f"{first} {last}", f"{rng.randint(1945, 2008)}-06-15"),
        *(place.region, place.country, ZONES[place.country][0]),
    )
    [goal, code] = app.sql.one("SELECT id, code FROM goals ORDER BY RAND(%s)", rng.random())
    app.sql.insert(
        "INSERT INTO user_goals (user_id, goal_id, amount, started_on) "
        "VALUES (%s, %s, %s, UTC_DATE())",
        *(user, goal, rng.randint(2, 5) * 30),
    )
    if rng.random() < 0.5:
        app.sql.insert(
            "INSERT INTO consents (user_id, channel, purpose, given_at, given_by, wording) "
            "VALUES (%s, 'email', 'reminder', UTC_TIMESTAMP(6), 'page', %s)",
            *(user, WORDING),
        )
    _send(app, user, "account", "link")
    app.documents.preferences.insert_one(
        {
            "_id": user,
            "fitness_goals": [code],
            "experience": rng.choice(("new", "some", "much")),
            "rest_days": [6],
            "equipment": [],
            "mood": rng.choice(("calm", "firm", "bright")),
            "notifications": {
                "channels": ["email"],
                "reminder_at": "18:00",
                "best_hour": True,
                "quiet_from": "21:00",
                "quiet_until": "08:00",
                "days": list(range(7)),
            },
            "updated_at": now,
        }
    )


def workout(app: App) -> None:
    """Somebody logs a workout that has just ended."""
    rng = app.rng
    user, zone = app.person()
    [activity] = rng.choices(list(ACTIVITIES), list(ACTIVITIES.values()))
    seconds = rng.randint(15, 90) * 60 + rng.randint(0, 29)
    now = _now()
    started = (now - timedelta(seconds=seconds + rng.randint(60, 900))).replace(microsecond=0)
    document: dict[str, Any] = {
        "_id": app.key(),
        "user_id": user,
        "activity": activity,
        "started_at": started,
        "time_zone": zone,
        "local_date": f"{started.astimezone(ZoneInfo(zone)):%Y-%m-%d}",
        "duration_seconds": seconds,
        "effort": rng.choice((None, 4, 5, 6, 7, 8)),
        "note": rng.choice(("", "", "", *NOTES)),
        "origin": "app",
        "fingerprint": f"{activity}:{started:%Y-%m-%dT%H:%M}:{seconds // 60}",
        "created_at": now,
        "updated_at": now,
    }
    if speed := _SPEEDS.get(activity):
        document["distance_m"] = _decimal(seconds * speed * rng.uniform(0.8, 1.2))
    if activity == "strength":
        document["sets"] = [
            {"exercise": name, "repetitions": rng.randint(6, 12), "load_kg": _decimal(load)}
            for name, load in rng.sample(EXERCISES, 3)
        ]
    try:
        app.documents.activity_logs.insert_one(document)
    except DuplicateKeyError:
        raise NothingToDo from None


def correction(app: App) -> None:
    """Somebody corrects the effort of a workout."""
    found = app.workout()
    app.documents.activity_logs.update_one(
        {"_id": found["_id"]},
        {"$set": {"effort": app.rng.randint(1, 10), "updated_at": _now()}},
    )


def deleted_workout(app: App) -> None:
    """Somebody deletes a workout."""
    app.documents.activity_logs.delete_one({"_id": app.workout()["_id"]})


def changed_goal(app: App) -> None:
    """A goal ends, and another one begins."""
    user, _ = app.person()
    [row, goal] = app.sql.one(
        "SELECT id, goal_id FROM user_goals WHERE user_id = %s AND ended_on IS NULL "
        "ORDER BY id LIMIT 1 FOR UPDATE",
        user,
    )
    [other] = app.sql.one(
        "SELECT id FROM goals WHERE id <> %s AND id NOT IN (SELECT goal_id FROM user_goals "
        "WHERE user_id = %s AND ended_on IS NULL) ORDER BY RAND(%s) LIMIT 1",
        *(goal, user, app.rng.random()),
    )
    app.sql.write(
        "UPDATE user_goals SET ended_on = GREATEST(UTC_DATE(), started_on) WHERE id = %s", row
    )
    app.sql.insert(
        "INSERT INTO user_goals (user_id, goal_id, amount, started_on) "
        "VALUES (%s, %s, 90, UTC_DATE())",
        *(user, other),
    )


def moved(app: App) -> None:
    """Somebody moves to another region, perhaps into another time zone."""
    user, _ = app.person()
    place = app.rng.choice(PLACES)
    app.sql.write(
        "UPDATE users SET region = %s, country_code = %s, time_zone = %s WHERE id = %s",
        *(place.region, place.country, ZONES[place.country][0], user),
    )


def changed_settings(app: App) -> None:
    """Somebody wants reminders at another time."""
    user, _ = app.person()
    app.documents.preferences.update_one(
        {"_id": user},
        {
            "$set": {
                "notifications.reminder_at": f"{app.rng.randint(8, 20):02}:00",
                "updated_at": _now(),
            }
        },
    )


def reminder(app: App) -> None:
    """A reminder goes to somebody who consented."""
    consent = app.sql.random_id(
        "consents", "withdrawn_at IS NULL AND channel = 'email' AND purpose = 'reminder'"
    )
    [user] = app.sql.one("SELECT user_id FROM consents WHERE id = %s", consent)
    _send(app, user, "reminder", "reminder")


def opened_message(app: App) -> None:
    """Somebody opens a message."""
    message = app.sql.random_id("messages", "state = 'sent' AND channel = 'email'", newest=5_000)
    app.sql.write(
        "INSERT IGNORE INTO message_events (message_id, event, happened_at) "
        "VALUES (%s, 'opened', UTC_TIMESTAMP(6))",
        message,
    )


def withdrawal(app: App) -> None:
    """Somebody unsubscribes."""
    consent = app.sql.random_id("consents", "withdrawn_at IS NULL")
    app.sql.write(
        "UPDATE consents SET withdrawn_at = UTC_TIMESTAMP(6), withdrawn_by = 'link' "
        "WHERE id = %s AND withdrawn_at IS NULL",
        consent,
    )


def sign_in(app: App) -> None:
    """Somebody signs in."""
    user, zone = app.person()
    now = int(_now().timestamp())
    session = sha256(app.key().encode()).hexdigest()
    app.dynamo.put_item(
        TableName=app.sessions_table,
        Item={
            "session_id": {"S": session},
            "user_id": {"N": str(user)},
            "started_at": {"N": str(now)},
            "seen_at": {"N": str(now)},
            "expires_at": {"N": str(now + IDLE_DAYS * 86_400)},
            "device": {"S": app.rng.choice(("phone", "phone", "computer", "tablet"))},
            "time_zone": {"S": zone},
            "page_views": {"N": "1"},
            "workouts_logged": {"N": "0"},
            "how": {"S": "password"},
        },
    )
    app.sessions.append(session)
    del app.sessions[:-KNOWN_SESSIONS]


def seen(app: App) -> None:
    """Somebody looks at a page."""
    now = int(_now().timestamp())
    _change(
        app,
        _session(app),
        "SET seen_at = :now, expires_at = :end ADD page_views :one",
        {":now": now, ":end": now + IDLE_DAYS * 86_400, ":one": 1},
    )


def sign_out(app: App) -> None:
    """Somebody signs out: the session says so, and goes."""
    session = _session(app)
    _change(app, session, "SET signed_out_at = :now", {":now": int(_now().timestamp())})
    app.dynamo.delete_item(TableName=app.sessions_table, Key={"session_id": {"S": session}})
    app.sessions.remove(session)


def expiry(app: App) -> None:
    """Somebody has not come for two weeks. DynamoDB deletes the session later, by itself."""
    session = _session(app)
    now = int(_now().timestamp())
    _change(app, session, "SET expires_at = :now", {":now": now})
    app.sessions.remove(session)


def deleted_account(app: App) -> None:
    """Somebody deletes the account: nothing is left that tells who it was."""
    user, _ = app.person()
    nobody = f"deleted-{user}@deleted.invalid"
    app.sql.write(
        "UPDATE users SET state = 'deleted', email = %s, email_key = %s, full_name = '', "
        "phone = NULL, birth_date = NULL WHERE id = %s",
        *(nobody, nobody, user),
    )
    app.sql.write(
        "UPDATE consents SET withdrawn_at = UTC_TIMESTAMP(6), withdrawn_by = 'page' "
        "WHERE user_id = %s AND withdrawn_at IS NULL",
        user,
    )
    for table in (
        *("user_goals", "club_members", "choices", "api_tokens"),
        *("credentials", "second_factors", "recovery_codes", "sign_ins"),
    ):
        app.sql.write(f"DELETE FROM {table} WHERE user_id = %s", user)
    app.documents.activity_logs.delete_many({"user_id": user})
    app.documents.preferences.delete_one({"_id": user})
    found = app.dynamo.query(
        TableName=app.sessions_table,
        IndexName="by_user",
        KeyConditionExpression="user_id = :user",
        ExpressionAttributeValues={":user": {"N": str(user)}},
    )
    for item in found["Items"]:
        app.dynamo.delete_item(TableName=app.sessions_table, Key={"session_id": item["session_id"]})


OPERATIONS: dict[str, tuple[float, Callable[[App], None]]] = {
    "workout": (40, workout),
    "correction": (4, correction),
    "deleted_workout": (1, deleted_workout),
    "registration": (3, registration),
    "changed_goal": (1, changed_goal),
    "moved": (0.3, moved),
    "changed_settings": (2, changed_settings),
    "reminder": (12, reminder),
    "opened_message": (6, opened_message),
    "withdrawal": (0.4, withdrawal),
    "sign_in": (10, sign_in),
    "seen": (14, seen),
    "sign_out": (4, sign_out),
    "expiry": (1, expiry),
    "deleted_account": (0.1, deleted_account),
}
"""Each kind of operation, and how often it comes relative to the others."""


class InspireTraffic:
    """Writes to all sources. Raises `SimulationError` if they are empty, and `TablesMissing` if
    they are of an older release.
    """

    def __init__(self, sources: Mapping[str, Source], seed: int | None = None) -> None:
        self.weights: Mapping[str, float] = {name: each[0] for name, each in OPERATIONS.items()}
        self.at_once = 1
        self._sources = sources
        prefixes = {name: source.env_prefix for name, source in sources.items()}
        self._mysql = MySQLConnection.from_env(prefixes["inspire"])
        self._mongodb = MongoConnection.from_env(prefixes["inspire_docs"])
        self._dynamodb = DynamoConnection.from_env(prefixes["inspire_sessions"])
        rng = random.Random(seed)
        table = self._dynamodb.table_prefix + sources["inspire_sessions"].tables[0].at_source
        words = ask_faker(rng.randrange(2**31))
        self._app = App(rng, words, *self._connections(rng), table, [])
        try:
            self._read_sources()
            self._mysql.check_tables(INSPIRE_TABLES, "inspire", "inspire")
        except BaseException:
            self.close()
            raise

    def _connections(self, rng: random.Random) -> tuple[SQLSession, Any, Any]:
        client = self._mongodb.connect()
        try:
            sql = SQLSession(self._mysql, rng)
        except ServerUnreachable:
            client.close()
            raise
        return sql, client[self._mongodb.database], self._dynamodb.client()

    def another(self) -> InspireTraffic:
        """The same traffic over connections of its own."""
        return InspireTraffic(self._sources, self._app.rng.randrange(2**31))

    def connect(self) -> None:
        """Connect again."""
        app = self._app
        app.sql, app.documents, app.dynamo = self._connections(app.rng)

    def close(self) -> None:
        """Disconnect. What is not committed in MySQL is undone."""
        self._app.sql.close()
        self._app.documents.client.close()
        self._app.dynamo.close()

    def perform(self, operations: Sequence[str]) -> Sequence[str]:
        """Do an operation and commit it. Returns none if it found nothing to do."""
        [operation] = operations
        try:
            OPERATIONS[operation][1](self._app)
            self._app.sql.commit()
        except NothingToDo:
            self._app.sql.rollback()
            return ()
        return operations

    def _read_sources(self) -> None:
        app = self._app
        try:
            [[count]] = app.sql.all("SELECT COUNT(*) FROM users")
        except pymysql.ProgrammingError:  # there is no such table
            count = 0
        app.sql.rollback()
        if not count:
            raise SimulationError("The source inspire holds no users. Run `softcart seed` first.")
        # One that is over may still be there. Nobody uses it again.
        found = app.dynamo.scan(
            TableName=app.sessions_table,
            Limit=KNOWN_SESSIONS,
            ProjectionExpression="session_id",
            FilterExpression="expires_at > :now",
            ExpressionAttributeValues={":now": {"N": str(int(_now().timestamp()))}},
        )
        app.sessions += [item["session_id"]["S"] for item in found["Items"]]


def _send(app: App, user: int, purpose: str, template: str) -> None:
    """A message that was sent, with its event."""
    message = app.sql.insert(
        "INSERT INTO messages (message_key, user_id, channel, purpose, template, parameters, "
        "state, attempts, due_at, expires_at, provider_id, sent_at) VALUES (%s, %s, 'email', %s, "
        "%s, '{}', 'sent', 1, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 4 HOUR, %s, "
        "UTC_TIMESTAMP(6))",
        *(app.key(), user, purpose, template, app.key()),
    )
    app.sql.insert(
        "INSERT INTO message_events (message_id, event, happened_at) "
        "VALUES (%s, 'accepted', UTC_TIMESTAMP(6))",
        message,
    )


def _session(app: App) -> str:
    if not app.sessions:
        raise NothingToDo
    return app.rng.choice(app.sessions)


def _change(app: App, session: str, change: str, values: Mapping[str, int]) -> None:
    """Change a session that is still there."""
    try:
        app.dynamo.update_item(
            TableName=app.sessions_table,
            Key={"session_id": {"S": session}},
            UpdateExpression=change,
            ConditionExpression="attribute_exists(session_id)",
            ExpressionAttributeValues={name: {"N": str(value)} for name, value in values.items()},
        )
    except app.dynamo.exceptions.ConditionalCheckFailedException:
        app.sessions.remove(session)
        raise NothingToDo from None


def _now() -> datetime:
    """Now, as exactly as a date of MongoDB."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _decimal(value: float) -> Decimal128:
    return Decimal128(f"{value:.1f}")
