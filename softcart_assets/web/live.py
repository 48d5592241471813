"""Tells pages that figures may have moved. One look at the positions serves all of a process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from softcart_assets.web.problems import refuse

EVERY_SECONDS = 0.5
"""How often the positions are looked at, unless a desk wants it otherwise."""
HEARTBEAT_SECONDS = 2.0
"""A page that hears nothing for longer than this says so. Its age moves on, too."""


class Unavailable(RuntimeError):
    """The warehouse does not answer, or has nothing to answer with. The message is for people."""


class OpenPages:
    """Counts the pages that stay open at a process.

    `most`: so many may. Each takes a thread, and others are needed for all else. `each`: so many of
    them are of one owner, such as a token. An open page asks more often than its limit allows.
    """

    def __init__(self, most: int = 48, each: int = 8) -> None:
        self._most, self._each = most, each
        self._lock = threading.Lock()
        self._open = Counter[str]()

    def enter(self, owner: str) -> None:
        """Count one more page of an owner. Raises an `HTTPError` if there are too many."""
        with self._lock:
            if self._open[owner] >= self._each:
                status, told = 429, "Too many of your pages are open. Close one."
            elif self._open.total() >= self._most:
                status, told = 503, "Too many pages are open. `--workers` allows more."
            else:
                self._open[owner] += 1
                return
        raise refuse(status, told, headers={"Retry-After": "10"})

    def leave(self, owner: str) -> None:
        """A page was closed."""
        with self._lock:
            self._open[owner] -= 1
            # Owners come and go.
            self._open = +self._open


class Ticker:
    """Counts changes of what `look` returns, as long as somebody waits for them."""

    def __init__(self, look: Callable[[], object], every: float = EVERY_SECONDS) -> None:
        self._look, self._every = look, every
        self._changed = threading.Condition()
        self._tick = 0
        self._waiting = 0
        self._runs = False

    def after(self, tick: int) -> int:
        """Wait for a later tick than this one, at most `HEARTBEAT_SECONDS`. Returns the last."""
        with self._changed:
            self._waiting += 1
            try:
                if not self._runs:
                    self._runs = True
                    threading.Thread(target=self._run, daemon=True).start()
                self._changed.wait_for(lambda: self._tick > tick, HEARTBEAT_SECONDS)
                return self._tick
            finally:
                self._waiting -= 1

    def _run(self) -> None:
        seen: object = None
        idle = 0
        while True:
            time.sleep(self._every)
            try:
                found = self._look()
            except Unavailable:
                # Who waits asks by itself after a while, and is told.
                found = seen
            with self._changed:
                if found != seen:
                    seen = found
                    self._tick += 1
                    self._changed.notify_all()
                idle = 0 if self._waiting else idle + 1
                # Between two waits a page is made, which takes a moment.
                if idle > 10:
                    self._runs = False
                    return
