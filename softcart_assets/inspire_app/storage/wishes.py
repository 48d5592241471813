"""When and how people want messages, from MongoDB. Several people at once, or one at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymongo import MongoClient

from softcart_assets.inspire_app.preferences import Notifications, preferences

LOG: Final = logging.getLogger("softcart.messages")


class Wishes:
    """Threads may share it. `database`: the name of the database."""

    def __init__(self, client: MongoClient[dict[str, Any]], database: str) -> None:
        self._preferences = client[database]["preferences"]

    def of(self, user_id: int) -> Notifications:
        """Those of one person, as they are now."""
        return self.of_all([user_id]).get(user_id, Notifications())

    def of_all(self, user_ids: Iterable[int]) -> dict[int, Notifications]:
        """Those of people who have some, by id."""
        found = self._preferences.find({"_id": {"$in": [*user_ids]}}, {"notifications": 1})
        return {int(each["_id"]): _notifications(each) for each in found}


def _notifications(document: Mapping[str, Any]) -> Notifications:
    try:
        return preferences(document).notifications
    except (AttributeError, TypeError, ValueError) as error:
        # The others must get their messages. Nobody knows what this one wants: no message at all.
        LOG.warning("preferences %s cannot be read: %s", document["_id"], type(error).__name__)
        return Notifications()
