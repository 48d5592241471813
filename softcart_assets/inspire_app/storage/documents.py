"""What MongoDB has of a person: workouts and preferences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

from bson.decimal128 import Decimal128
from bson.int64 import Int64
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from softcart_assets.connections import MongoConnection
from softcart_assets.inspire_app.preferences import Preferences, preferences
from softcart_assets.inspire_app.workouts import Origin, Set, Workout

_FIELDS: Final = frozenset(
    {"distance_m", "ascent_m", "average_watts", "pool_m", "stroke", "sets", "style"}
)
_ONCE: Final = [("user_id", 1), ("fingerprint", 1)]
_BY_DAY: Final = [("user_id", 1), ("local_date", 1)]

UNITS: Final = {
    "minutes": {"$divide": ["$duration_seconds", 60]},
    "metres": {"$ifNull": ["$distance_m", 0]},
    "workouts": 1,
}
"""Unit of a goal or challenge → what a workout adds to it."""


@dataclass(frozen=True)
class Kept:
    """A workout and its id."""

    id: str
    workout: Workout


class Documents:
    """The collections, for all threads of a process."""

    def __init__(self, connection: MongoConnection) -> None:
        self._client = connection.connect()
        self._database: Database[dict[str, Any]] = self._client[connection.database]
        self._workouts = self._database["activity_logs"]
        self._preferences = self._database["preferences"]

    def prepare(self) -> None:
        """Make the indexes, if there are none of these fields, under whatever name."""
        there = [index["key"] for index in self._workouts.index_information().values()]
        for fields, is_unique in ((_ONCE, True), (_BY_DAY, False)):
            if fields not in there:
                self._workouts.create_index(fields, unique=is_unique)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def add(
        self, user_id: int, workout: Workout, now: datetime, *, again: bool = False
    ) -> str | None:
        """Keep a workout. Returns its id, or None if one like it is there already.

        `again`: keep it all the same, as somebody says that it is another one.
        """
        at = now.astimezone(UTC)
        document = _document(workout) | {"user_id": Int64(user_id)}
        for number in range(2, 12):
            id = str(uuid4())
            try:
                self._workouts.insert_one(
                    {"_id": id, **document, "created_at": at, "updated_at": at}
                )
            except DuplicateKeyError:
                if not again:
                    return None
                document["fingerprint"] = f"{workout.fingerprint}:{number}"
            else:
                return id
        return None

    def remove(self, user_id: int, id: str) -> bool:
        """Delete one of somebody's workouts. Returns whether there was one."""
        return self._workouts.delete_one({"_id": id, "user_id": user_id}).deleted_count > 0

    def get(self, user_id: int, id: str) -> Kept | None:
        """One of somebody's workouts."""
        found = self._workouts.find_one({"_id": id, "user_id": user_id})
        return Kept(id, _workout(found)) if found else None

    def since(self, user_id: int, day: date, most: int = 5000) -> list[Kept]:
        """Somebody's workouts from a local date on, the newest first."""
        found = self._workouts.find({"user_id": user_id, "local_date": {"$gte": day.isoformat()}})
        newest = found.sort([("local_date", -1), ("started_at", -1)]).limit(most)
        return [Kept(each["_id"], _workout(each)) for each in newest]

    def days(self, user_id: int) -> list[date]:
        """The local dates on which somebody has ever done a workout."""
        # The index by day has both, so no document is read. There is no hint: with one, SecantusDB
        # reads the index of all people.
        found = self._workouts.distinct("local_date", {"user_id": user_id})
        return [date.fromisoformat(each) for each in found]

    def count(self, user_id: int) -> int:
        """How many workouts somebody has done, as far as it matters: up to a hundred."""
        return self._workouts.count_documents({"user_id": user_id}, limit=100)

    def together(
        self, people: Iterable[int], unit: str, first: date, end: date
    ) -> dict[int, float]:
        """What each of these people has done in days from `first` to before `end`, in a unit."""
        found = self._workouts.aggregate(
            [
                {
                    "$match": {
                        "user_id": {"$in": [*people]},
                        "local_date": {"$gte": first.isoformat(), "$lt": end.isoformat()},
                    }
                },
                {"$group": {"_id": "$user_id", "sum": {"$sum": UNITS[unit]}}},
            ]
        )
        return {int(each["_id"]): float(str(each["sum"])) for each in found}

    def preferences(self, user_id: int) -> Preferences:
        """Somebody's preferences."""
        return preferences(self._preferences.find_one({"_id": user_id}))

    def preferences_and_time(self, user_id: int) -> tuple[Preferences, datetime | None]:
        """Somebody's preferences, and when they were changed last, for `change_preferences`."""
        found = self._preferences.find_one({"_id": user_id})
        return preferences(found), found["updated_at"] if found else None

    def set_preferences(
        self, user_id: int, wanted: Preferences, now: datetime, *names: str
    ) -> None:
        """Keep somebody's preferences. `names`: only these fields, as other forms may change
        others at this moment. Without names, all of them.
        """
        document = wanted.document()
        changed = {name: document.pop(name) for name in names or [*document]}
        self._preferences.update_one(
            {"_id": Int64(user_id)},
            {
                "$set": changed | {"updated_at": now.astimezone(UTC)},
                **({"$setOnInsert": document} if document else {}),
            },
            upsert=True,
        )

    def change_preferences(
        self, user_id: int, wanted: Preferences, now: datetime, before: datetime | None
    ) -> bool:
        """Keep all of somebody's preferences. False: they have changed since `before`. None: there
        were none.
        """
        id, at = Int64(user_id), milliseconds(now)
        if before is None:
            try:
                self._preferences.insert_one({"_id": id, **wanted.document(), "updated_at": at})
            except DuplicateKeyError:
                return False
            return True
        # Another time at each change, however fast they come.
        document = wanted.document() | {"updated_at": max(at, before + timedelta(milliseconds=1))}
        done = self._preferences.update_one({"_id": id, "updated_at": before}, {"$set": document})
        return done.matched_count > 0

    def everything(self, user_id: int) -> dict[str, list[Mapping[str, Any]]]:
        """All documents about somebody, for themselves."""
        return {
            "workouts": [*self._workouts.find({"user_id": user_id}).sort("started_at", 1)],
            "preferences": [*self._preferences.find({"_id": user_id})],
        }

    def erase(self, user_id: int) -> None:
        """Delete all documents about somebody."""
        self._workouts.delete_many({"user_id": user_id})
        self._preferences.delete_one({"_id": user_id})


def milliseconds(moment: datetime) -> datetime:
    """A time as MongoDB keeps it."""
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _document(workout: Workout) -> dict[str, Any]:
    details: dict[str, Any] = {
        name: Decimal128(value) if isinstance(value, Decimal) else value
        for name, value in workout.details.items()
    }
    if "sets" in details:
        details["sets"] = [
            {
                "exercise": each.exercise,
                "repetitions": each.repetitions,
                "load_kg": Decimal128(each.load_kg),
            }
            for each in workout.details["sets"]
        ]
    return {
        "activity": workout.activity,
        # An attempt that comes later is compared with what is kept.
        "started_at": milliseconds(workout.started_at),
        "time_zone": workout.time_zone,
        "local_date": workout.local_date.isoformat(),
        "duration_seconds": round(workout.duration.total_seconds()),
        "effort": workout.effort,
        "note": workout.note,
        "origin": workout.origin.value,
        "fingerprint": workout.fingerprint,
        **details,
    }


def _workout(document: Mapping[str, Any]) -> Workout:
    details = {
        name: _plain(value)
        for name, value in document.items()
        if name in _FIELDS and value is not None
    }
    if "sets" in details:
        details["sets"] = [
            Set(each["exercise"], each["repetitions"], Decimal(_plain(each["load_kg"])))
            for each in document["sets"]
        ]
    return Workout(
        document["activity"],
        document["started_at"],
        document["time_zone"],
        timedelta(seconds=document["duration_seconds"]),
        Origin(document["origin"]),
        document.get("effort"),
        document.get("note") or "",
        details,
    )


def _plain(value: Any) -> Any:
    """A value as Python has it."""
    return value.to_decimal() if isinstance(value, Decimal128) else value
