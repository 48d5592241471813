"""The fitness application's three databases: seeded, loaded, changed by live traffic, and loaded
again. Each table of raw is what its source has.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.databases import mongo_database, mysql_database
from support.ingestion import load_all, query

from seed_data.common.seeding import seed
from seed_data.common.simulation import simulate
from seed_data.common.traffic import SimulationError
from seed_data.inspire.traffic import OPERATIONS, InspireTraffic
from softcart_assets.assembly import LINES
from softcart_assets.audits import raw
from softcart_assets.connections import (
    DynamoConnection,
    MongoConnection,
    MySQLConnection,
    PostgresConnection,
)
from softcart_assets.stack import Stack

INSPIRE = LINES.line("inspire")
SOURCES = {source.name: source for source in INSPIRE.sources}

BROKEN = (
    "SELECT m.id FROM messages m LEFT JOIN message_events e ON e.message_id = m.id "
    "WHERE m.state = 'sent' AND e.id IS NULL",
    "SELECT user_id FROM user_goals WHERE ended_on IS NULL GROUP BY user_id, goal_id "
    "HAVING COUNT(*) > 1",
    "SELECT u.id FROM users u JOIN consents c ON c.user_id = u.id "
    "WHERE u.state = 'deleted' AND c.withdrawn_at IS NULL",
    "SELECT c.id FROM choices c JOIN users u ON u.id = c.user_id WHERE u.state = 'deleted'",
    "SELECT id FROM consents WHERE withdrawn_at < given_at",
    "SELECT id FROM choices WHERE done_at < shown_at OR propensity <= 0 OR propensity > 1",
)
"""Queries that find rows which should not be."""


class Sources:
    """The three databases, each of its own for these tests."""

    def __init__(
        self,
        mysql: MySQLConnection,
        mongodb: MongoConnection,
        dynamodb: DynamoConnection,
        now: datetime,
    ) -> None:
        self.soon = int(now.timestamp()) + 3_600
        self.by_name = {"inspire": mysql, "inspire_docs": mongodb, "inspire_sessions": dynamodb}
        self.mysql, self.mongodb, self.dynamodb = mysql, mongodb, dynamodb
        self.table = f"{dynamodb.table_prefix}sessions"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.mysql.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def count(self, source: str, table: str) -> int:
        if source == "inspire":
            [[found]] = self.rows(f"SELECT COUNT(*) FROM {table}")
            return int(found)
        if source == "inspire_docs":
            with self.mongodb.connect() as client:
                return int(client[self.mongodb.database][table].count_documents({}))
        # The server deletes the others when it gets to it.
        pages = (
            self.dynamodb.client()
            .get_paginator("scan")
            .paginate(
                TableName=self.table,
                FilterExpression="expires_at > :soon",
                ExpressionAttributeValues={":soon": {"N": str(self.soon)}},
            )
        )
        return sum(page["Count"] for page in pages)


@pytest.fixture(scope="module")
def sources(spark, stack: Stack) -> Iterator[Sources]:
    with (
        mysql_database(MySQLConnection.from_env("SOFTCART_TEST_MYSQL")) as mysql,
        mongo_database(MongoConnection.from_env("SOFTCART_TEST_MONGO")) as mongodb,
        pytest.MonkeyPatch.context() as patch,
    ):
        prefixes = {name: source.env_prefix for name, source in SOURCES.items()}
        for name in ("HOST", "PORT", "USER", "PASSWORD", "DATABASE"):
            patch.setenv(f"{prefixes['inspire']}_{name}", str(getattr(mysql, name.lower())))
        patch.setenv(f"{prefixes['inspire_docs']}_URI", mongodb.uri)
        patch.setenv(f"{prefixes['inspire_docs']}_DATABASE", mongodb.database)
        dynamodb = DynamoConnection.from_env(prefixes["inspire_sessions"])
        dynamodb = replace(dynamodb, table_prefix=f"{random.randrange(10**9)}.")
        patch.setenv(f"{prefixes['inspire_sessions']}_TABLE_PREFIX", dynamodb.table_prefix)
        with pytest.raises(SimulationError, match="holds no users"):
            InspireTraffic(SOURCES)
        # Not when the file is read, which may be an hour before.
        now = datetime.now(UTC).replace(microsecond=0)
        seed([INSPIRE], scale=0.05, seed=3, until=now, spark=spark)
        yield Sources(mysql, mongodb, dynamodb, now)


def _load(sources: Sources, postgres: PostgresConnection, lake: str) -> None:
    for name, connection in sources.by_name.items():
        results = load_all(SOURCES[name], connection, postgres, lake)
        assert not [result.warnings for result in results.values() if result.warnings]
        for table in SOURCES[name].tables:
            assert raw.equals_source(postgres, SOURCES[name], table).passed, table.name
            is_session = f" AND (document ->> 'expires_at')::bigint > {sources.soon}"
            [[kept]] = query(
                postgres,
                f"SELECT count(*) FROM raw_{name}.{table.name} WHERE NOT _deleted"
                + is_session * (table.name == "sessions"),
            )
            assert kept == sources.count(name, table.name), table.name


def test_what_the_application_writes_is_loaded(
    sources: Sources, postgres: PostgresConnection, lake: str
) -> None:
    """All tables at first, then the changes of every operation. An expired session is told from one
    that was signed out, and from one that another one has replaced.
    """
    _load(sources, postgres, lake)
    for statement in BROKEN:
        assert not sources.rows(statement), statement
    # The application's own tables are there, and nobody loads them.
    assert sources.rows("SELECT COUNT(*) FROM credentials") == [(0,)]

    client = sources.dynamodb.client()
    _end_sessions(sources)
    counts = simulate([INSPIRE], rate=150, duration=3, seed=3)
    with closing(InspireTraffic(SOURCES, seed=4)) as traffic:
        for operation in OPERATIONS.keys() - counts.keys():
            done = sum(len(traffic.perform([operation])) for _ in range(20))
            assert done, operation
    for statement in BROKEN:
        assert not sources.rows(statement), statement
    # The server looks for expired items once a minute.
    limit = time.monotonic() + 120
    key = {"session_id": {"S": "expired"}}
    while "Item" in client.get_item(TableName=sources.table, Key=key, ConsistentRead=True):
        assert time.monotonic() < limit
        time.sleep(0.2)
    _load(sources, postgres, lake)
    found = query(
        postgres,
        "SELECT session_id, removed_by, document ->> 'signed_out_at' IS NOT NULL"
        " FROM raw_inspire_sessions.sessions"
        " WHERE session_id IN ('signed out', 'replaced', 'expired') AND _deleted",
    )
    assert set(found) == {
        ("signed out", "request", True),
        ("replaced", "request", False),
        ("expired", "expiry", False),
    }
    # Somebody who has deleted the account has left nothing that tells who it was.
    gone = sources.rows("SELECT id, email, full_name, phone FROM users WHERE state = 'deleted'")
    assert gone
    with sources.mongodb.connect() as server:
        documents = server[sources.mongodb.database]
        for user, email, name, phone in gone:
            assert (email, name, phone) == (f"deleted-{user}@deleted.invalid", "", None)
            assert not documents.activity_logs.find_one({"user_id": user})
            assert not documents.preferences.find_one({"_id": user})


def _end_sessions(sources: Sources) -> None:
    """Three sessions that begin and end. The server deletes one of them some time later."""
    client, now, soon = sources.dynamodb.client(), int(time.time()), sources.soon
    # Of nobody whose account the traffic could delete: that ends all sessions of a person.
    nobody = "999999999"
    for name, expires_at in (("signed out", soon), ("replaced", soon), ("expired", now - 1_000)):
        client.put_item(
            TableName=sources.table,
            Item={
                "session_id": {"S": name},
                "user_id": {"N": nobody},
                "started_at": {"N": str(now - 2_000)},
                "expires_at": {"N": str(expires_at)},
            },
        )
    client.update_item(
        TableName=sources.table,
        Key={"session_id": {"S": "signed out"}},
        UpdateExpression="SET signed_out_at = :now",
        ExpressionAttributeValues={":now": {"N": str(now)}},
    )
    for name in ("signed out", "replaced"):
        client.delete_item(TableName=sources.table, Key={"session_id": {"S": name}})
