"""What the receivers have taken, in memory: the newest few hundred."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

MOST = 500


@dataclass(frozen=True)
class Arrived:
    """A mail, or a text message (then `subject` and `fields` are empty)."""

    name: str
    at: datetime
    receiver: str
    subject: str
    text: str
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def is_mail(self) -> bool:
        """Whether it is a mail."""
        return bool(self.fields)


class Kept:
    """Several threads may use it. `taken`: how many came, those that came twice included."""

    def __init__(self, most: int = MOST) -> None:
        self._lock = threading.Lock()
        self._arrived: deque[Arrived] = deque(maxlen=most)
        self.taken = 0

    def add(
        self,
        name: str,
        receiver: str,
        subject: str,
        text: str,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Keep what has come."""
        arrived = Arrived(name, datetime.now(UTC), receiver, subject, text, fields)
        with self._lock:
            self.taken += 1
            self._arrived.appendleft(arrived)

    def add_once(self, name: str, receiver: str, text: str) -> None:
        """Keep a text message, unless one of this name has come."""
        with self._lock:
            self.taken += 1
            if all(each.name != name for each in self._arrived):
                self._arrived.appendleft(Arrived(name, datetime.now(UTC), receiver, "", text))

    def __iter__(self) -> Iterator[Arrived]:
        """The newest first."""
        with self._lock:
            return iter([*self._arrived])
