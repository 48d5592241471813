"""How somebody wants to train and to be written to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from typing import Any, Final

from softcart_assets.inspire_app.hours import EVERY_DAY, QuietHours

EXPERIENCES: Final = ("new", "some", "much")
MOODS: Final = ("calm", "firm", "bright")
EQUIPMENT: Final = ("bike", "pool", "weights")
CHANNELS: Final = ("email", "sms")


@dataclass(frozen=True)
class Notifications:
    """`days`: the weekdays for messages, Monday is 0. `best_hour`: remind at the hour at which
    people like this one train most, instead of `reminder_at`.
    """

    channels: frozenset[str] = frozenset()
    reminder_at: time = time(18)
    best_hour: bool = False
    quiet: QuietHours = field(default_factory=QuietHours)
    days: frozenset[int] = EVERY_DAY


@dataclass(frozen=True)
class Preferences:
    """`goals`: codes. `rest_days`: weekdays. `mood`: that of quotes. Empty: any."""

    goals: tuple[str, ...] = ()
    experience: str = "new"
    rest_days: frozenset[int] = frozenset()
    equipment: frozenset[str] = frozenset()
    mood: str = ""
    notifications: Notifications = field(default_factory=Notifications)

    def document(self) -> dict[str, Any]:
        """The document, without `_id` and `updated_at`."""
        told = self.notifications
        return {
            "fitness_goals": [*self.goals],
            "experience": self.experience,
            "rest_days": sorted(self.rest_days),
            "equipment": sorted(self.equipment),
            "mood": self.mood or None,
            "notifications": {
                "channels": sorted(told.channels),
                "reminder_at": _text(told.reminder_at),
                "best_hour": told.best_hour,
                "quiet_from": _text(told.quiet.starts),
                "quiet_until": _text(told.quiet.ends),
                "days": sorted(told.days),
            },
        }


def preferences(document: Mapping[str, Any] | None) -> Preferences:
    """What a document says. What it leaves out is as for somebody without one."""
    if document is None:
        return Preferences()
    told, usual = document.get("notifications") or {}, Notifications()
    quiet = QuietHours(
        _time(told.get("quiet_from"), usual.quiet.starts),
        _time(told.get("quiet_until"), usual.quiet.ends),
    )
    return Preferences(
        tuple(document.get("fitness_goals") or ()),
        document.get("experience") or "new",
        frozenset(document.get("rest_days") or ()),
        frozenset(document.get("equipment") or ()),
        document.get("mood") or "",
        Notifications(
            frozenset(told.get("channels") or ()),
            _time(told.get("reminder_at"), usual.reminder_at),
            bool(told.get("best_hour")),
            quiet,
            frozenset(told["days"]) if told.get("days") is not None else EVERY_DAY,
        ),
    )


def _text(at: time) -> str:
    return at.strftime("%H:%M")


def _time(text: str | None, usual: time) -> time:
    return time.fromisoformat(text) if text else usual
