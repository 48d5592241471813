"""The time zones that the application takes, and the jobs and the warehouse know."""

from __future__ import annotations

from typing import Final
from zoneinfo import available_timezones

ZONES: Final = frozenset(name for name in available_timezones() if "/" in name or name == "UTC")
"""Names of IANA, of places and of UTC. Java does not know all the others, such as Factory."""
