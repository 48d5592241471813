"""Looks for problems again and again, and sends what is new to each destination.

What was told is kept in a file, so that neither a restart nor a database that is down tells it
again. The file is written after each message: whoever is killed between the two sends it once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from softcart_assets.alerts import news
from softcart_assets.alerts.destinations import Destination
from softcart_assets.alerts.problem import Problem, one_line

Readers = Mapping[str, Callable[[], list[Problem]]]
"""What finds problems, by the beginning of their causes."""


@dataclass(frozen=True)
class Look:
    """What one look found. `unread`: the beginnings of causes that could not be asked for."""

    problems: Sequence[Problem]
    unread: Sequence[str]


def look(readers: Readers) -> Look:
    """Ask all readers. One that fails is a problem itself, and the others go on."""
    problems, unread = [], []
    for name, read in readers.items():
        try:
            problems += read()
        except Exception as error:  # whatever it is, somebody must hear of it
            unread.append(name)
            problems.append(
                Problem(
                    f"unread:{name}",
                    f"nobody knows about problems of the kind {name.strip(':')}: "
                    f"{one_line(str(error))}",
                )
            )
    return Look(problems, unread)


class Watch:
    """The memory in a file, and what is done at each look."""

    def __init__(self, file: Path, destinations: Sequence[Destination]) -> None:
        self._file, self._destinations = file, destinations
        self.memory = news.Memory.read(file.read_text()) if file.exists() else news.Memory()

    def take(
        self,
        found: Look,
        now: datetime,
        on_refused: Callable[[Destination], None] = lambda _: None,
    ) -> Iterable[tuple[Destination, news.Message]]:
        """Remember a look, and send each destination its news. Returns what was taken.

        `on_refused` is called for a destination that did not take its message. It gets it with the
        next look.
        """
        memory = news.looked(self.memory, found.problems, found.unread, now)
        self._keep(news.of_destinations(memory, [each.name for each in self._destinations]))
        sent = []
        for destination in self._destinations:
            message = news.message(self.memory, destination.name, now)
            if message is None:
                continue
            if destination.send(message):
                self._keep(news.after(self.memory, destination.name, now))
                sent.append((destination, message))
            else:
                on_refused(destination)
        return sent

    def _keep(self, memory: news.Memory) -> None:
        self.memory = memory
        # Whole or not at all. It names tables and errors, so only the owner reads it.
        new = self._file.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(memory.written())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)
