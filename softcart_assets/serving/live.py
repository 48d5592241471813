"""Tells pages that figures may have moved. One look at the positions serves all of a process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from softcart_assets.serving.asking import Unavailable
from softcart_assets.web.problems import refuse

EVERY_SECONDS = 0.5
"""How often the positions are looked at."""
HEARTBEAT_SECONDS = 2.0
"""A page that hears nothing for longer than this says so. Its age moves on, too."""

PAGES = 48
"""So many pages a process keeps open. Each takes a thread, and others are needed for the API."""
PAGES_OF_A_TOKEN = 8
"""So many of them are of one token. An open page asks more often than the token's limit allows."""


class OpenPages:
    """Counts the pages that stay open at a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = Counter[str]()

    def enter(self, token_id: str) -> None:
        """Count one more page of a token. Raises an `HTTPError` if there are too many."""
        with self._lock:
            if self._open[token_id] >= PAGES_OF_A_TOKEN:
                status, told = 429, "Too many pages of the token are open. Close one."
            elif self._open.total() >= PAGES:
                status, told = 503, "Too many pages are open. `--workers` allows more."
            else:
                self._open[token_id] += 1
                return
        raise refuse(status, told, headers={"Retry-After": "10"})

    def leave(self, token_id: str) -> None:
        """A page was closed."""
        with self._lock:
            self._open[token_id] -= 1
            # Tokens come and go.
            self._open = +self._open


class Ticker:
    """Counts changes of what `look` returns, as long as somebody waits for them."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
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
            time.sleep(EVERY_SECONDS)
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
