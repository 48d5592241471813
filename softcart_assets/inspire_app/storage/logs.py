"""Workouts in MongoDB as programs want them: page by page, once however often they are sent, and
changed only if nobody else has changed them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid4, uuid5

from bson.int64 import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from softcart_assets.inspire_app.storage.documents import (
    _FIELDS,
    Documents,
    _document,
    _workout,
    milliseconds,
)
from softcart_assets.inspire_app.workouts import Workout

_TICK: Final = timedelta(milliseconds=1)
"""MongoDB's times are as exact as this."""


@dataclass(frozen=True)
class Log:
    """A workout as it is kept. `updated_at` is another one after each change."""

    id: str
    workout: Workout
    updated_at: datetime

    @property
    def etag(self) -> str:
        """Names this version."""
        return f"{int(self.updated_at.timestamp() * 1000):x}"


class Exists(Exception):
    """There is such a workout already. `id`: which one."""

    def __init__(self, id: str) -> None:
        super().__init__("there is such a workout already")
        self.id = id


class UsedKey(Exception):
    """A key for repeated requests was used for another workout."""


class BadCursor(ValueError):
    """A cursor is none of ours."""


class Logs:
    """Somebody's workouts."""

    def __init__(self, documents: Documents, user_id: int) -> None:
        self._collection = documents._workouts
        self._user_id = user_id

    def get(self, id: str) -> Log | None:
        """One workout."""
        found = self._collection.find_one({"_id": id, "user_id": self._user_id})
        return _log(found) if found else None

    def page(self, limit: int, cursor: str | None) -> tuple[list[Log], str | None]:
        """Some workouts, the newest first, and the cursor of those that follow. Workouts that come
        meanwhile move nothing.

        Raises `BadCursor`.
        """
        wanted: dict[str, Any] = {"user_id": self._user_id}
        if cursor is not None:
            day, at, id = _read(cursor)
            wanted |= {
                "local_date": {"$lte": day},
                "$or": [
                    {"local_date": {"$lt": day}},
                    {"local_date": day, "started_at": {"$lt": at}},
                    {"local_date": day, "started_at": at, "_id": {"$lt": id}},
                ],
            }
        order = [("local_date", -1), ("started_at", -1), ("_id", -1)]
        found = [*self._collection.find(wanted).sort(order).limit(limit + 1)]
        more = _cursor(found[limit - 1]) if len(found) > limit else None
        return [_log(each) for each in found[:limit]], more

    def add(self, workout: Workout, now: datetime, key: str | None = None) -> Log:
        """Keep a workout, once however often it is sent.

        `key`: the same for all attempts of one request. Raises `Exists` and `UsedKey`.
        """
        at = milliseconds(now)
        # The key makes the id. So an attempt finds what the one before has written.
        id = str(uuid5(NAMESPACE_URL, f"inspire:{self._user_id}:{key}") if key else uuid4())
        head = {"_id": id, "user_id": Int64(self._user_id)}
        document = head | _document(workout) | {"created_at": at, "updated_at": at}
        try:
            self._collection.insert_one(document)
        except DuplicateKeyError:
            return self._there(id, workout)
        return _log(document)

    def _there(self, id: str, workout: Workout) -> Log:
        before = self.get(id)
        if before:
            if _content(before.workout) != _content(workout):
                raise UsedKey
            return before
        raise self._exists(id, workout)

    def _exists(self, id: str, workout: Workout) -> Exists:
        found = self._collection.find_one(
            {"user_id": self._user_id, "fingerprint": workout.fingerprint}, {"_id": 1}
        )
        # Somebody may have deleted it at this moment.
        return Exists(found["_id"] if found else id)

    def change(self, log: Log, workout: Workout, now: datetime) -> Log | None:
        """Write another state of a workout. None: it is not `log` any more. Raises `Exists`."""
        at = max(milliseconds(now), log.updated_at + _TICK)
        changed = replace(workout, origin=log.workout.origin)
        document = _document(changed)
        if log.workout.fingerprint == changed.fingerprint:
            # Of two that look alike, one has a longer fingerprint. It keeps it.
            del document["fingerprint"]
        try:
            found = self._collection.find_one_and_update(
                {"_id": log.id, "user_id": self._user_id, "updated_at": log.updated_at},
                {
                    "$set": document | {"updated_at": at},
                    "$unset": dict.fromkeys(_FIELDS - document.keys(), ""),
                },
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            raise self._exists(log.id, changed) from None
        return _log(found) if found else None

    def remove(self, log: Log) -> bool:
        """Delete a workout. False: it is not `log` any more."""
        wanted = {"_id": log.id, "user_id": self._user_id, "updated_at": log.updated_at}
        return self._collection.delete_one(wanted).deleted_count > 0


def _log(document: Mapping[str, Any]) -> Log:
    return Log(document["_id"], _workout(document), document["updated_at"])


def _content(workout: Workout) -> dict[str, Any]:
    return {**_document(workout), "origin": ""}


def _cursor(document: Mapping[str, Any]) -> str:
    at = int(document["started_at"].timestamp() * 1000)
    text = json.dumps([document["local_date"], at, document["_id"]])
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read(cursor: str) -> tuple[str, datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        day, at, id = json.loads(text)
        # What is no text, MongoDB cannot be asked for.
        if not (isinstance(day, str) and isinstance(id, str) and (day + id).isascii()):
            raise BadCursor
        return day, datetime.fromtimestamp(at / 1000, UTC), id
    except (ValueError, TypeError, OverflowError, OSError, binascii.Error):
        raise BadCursor from None
