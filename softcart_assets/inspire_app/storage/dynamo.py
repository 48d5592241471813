"""Sessions in DynamoDB. It deletes expired ones late, so whoever reads looks at the time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from softcart_assets.connections import DynamoConnection
from softcart_assets.inspire_app.sessions import Session

BY_USER: Final = "by_user"
"""The index by which all sessions of somebody are found."""

_ANSWER_SECONDS: Final = 2.0
"""A page waits no longer for an attempt: others need its thread."""

_MOST_COUNTED: Final = 10_000
"""So many sessions have pages that are not written yet."""


class Sessions:
    """The table, for all threads of a process."""

    def __init__(self, connection: DynamoConnection) -> None:
        self._client = connection.client(answer_seconds=_ANSWER_SECONDS)
        self._table = f"{connection.table_prefix}sessions"
        self._views: Counter[str] = Counter()
        self._lock = threading.Lock()

    def get(self, id: str) -> Session | None:
        """A session by its id."""
        # Consistent: the page after a sign-in must find it, and a session that was ended must not
        # be found.
        found = self._client.get_item(
            TableName=self._table, Key={"session_id": {"S": id}}, ConsistentRead=True
        ).get("Item")
        if not found or "signed_out_at" in found:
            return None
        times = (_time(found[name]) for name in ("started_at", "seen_at", "expires_at"))
        return Session(id, int(found["user_id"]["N"]), *times)

    def put(self, session: Session, *, device: str, time_zone: str) -> None:
        """Write a new session."""
        self._client.put_item(
            TableName=self._table,
            Item={
                "session_id": {"S": session.id},
                "user_id": {"N": str(session.user_id)},
                **_times(session),
                "started_at": _seconds(session.started_at),
                "device": {"S": device},
                "time_zone": {"S": time_zone},
                "page_views": {"N": "0"},
                "workouts_logged": {"N": "0"},
                "how": {"S": "password"},
            },
        )

    def viewed(self, session: Session, seen: Session | None) -> None:
        """Count a page. `seen`: the session after it, if it has to be written.

        Most pages cost no write: they are counted here until then. What a process counts and does
        not write is lost, up to a minute of one session: it ends, or the session does, or very many
        others came since.
        """
        with self._lock:
            self._views[session.id] += 1
            if seen is None:
                if len(self._views) > _MOST_COUNTED:
                    # A session that goes on elsewhere, or is over.
                    del self._views[next(iter(self._views))]
                return
            views = self._views.pop(session.id)
        times = _times(seen)
        self._update(
            session.id,
            "SET seen_at = :seen_at, expires_at = :expires_at ADD page_views :n",
            {f":{name}": value for name, value in times.items()} | {":n": {"N": str(views)}},
        )

    def logged(self, id: str, workouts: int = 1) -> None:
        """Somebody has logged workouts in a session."""
        self._update(id, "ADD workouts_logged :n", {":n": {"N": str(workouts)}})

    def sign_out(self, id: str, now: datetime) -> None:
        """End a session, because somebody wants that."""
        # The image of the deletion has it, which tells this end from others.
        if self._update(id, "SET signed_out_at = :now", {":now": _seconds(now)}):
            self.replace(id)

    def replace(self, id: str) -> None:
        """Delete a session: another one takes its place."""
        with self._lock:
            self._views.pop(id, None)
        self._client.delete_item(TableName=self._table, Key={"session_id": {"S": id}})

    def end_all(self, user_id: int, now: datetime) -> int:
        """End all sessions of somebody that the index shows. It may lag behind, so whoever reads a
        session compares its beginning, too. Returns how many there were.
        """
        ended = 0
        for id in self._of(user_id):
            self.sign_out(id, now)
            ended += 1
        return ended

    def everything(self, user_id: int) -> dict[str, dict[str, Any]]:
        """All sessions of somebody, by their ids."""
        found = {}
        for id in self._of(user_id):
            item = self._client.get_item(
                TableName=self._table, Key={"session_id": {"S": id}}, ConsistentRead=True
            ).get("Item")
            # The index may show what is gone already.
            if item and "signed_out_at" not in item:
                found[id] = {
                    name: int(value["N"]) if "N" in value else value["S"]
                    for name, value in item.items()
                    if name != "session_id"
                }
        return found

    def _of(self, user_id: int) -> list[str]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=BY_USER,
            KeyConditionExpression="user_id = :user",
            ExpressionAttributeValues={":user": {"N": str(user_id)}},
            ProjectionExpression="session_id",
        )
        return [item["session_id"]["S"] for page in pages for item in page["Items"]]

    def _update(self, id: str, expression: str, values: Mapping[str, Any]) -> bool:
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"session_id": {"S": id}},
                UpdateExpression=expression,
                ExpressionAttributeValues=values,
                # An update would make a session that was ended anew.
                ConditionExpression="attribute_exists(session_id)",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True


def _times(session: Session) -> dict[str, dict[str, str]]:
    return {
        "seen_at": _seconds(session.seen_at),
        "expires_at": _seconds(session.expires_at),
    }


def _seconds(moment: datetime) -> dict[str, str]:
    return {"N": str(int(moment.timestamp()))}


def _time(value: Mapping[str, str]) -> datetime:
    return datetime.fromtimestamp(int(value["N"]), UTC)
