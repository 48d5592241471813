"""Live traffic on the sources of lines of business, at a given rate, until stopped.

A line offers a `Traffic` with its operations. This module decides when operations come and how
often, and handles a server that goes away. At a high rate, several operations share a transaction,
and several threads with connections of their own share the work.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import pymysql
from botocore.exceptions import BotoCoreError
from pymongo.errors import PyMongoError

from softcart_assets.connections import ServerUnreachable

REPORT_SECONDS = 5

BATCH_SECONDS = 0.02
"""Operations that come within this time may share a transaction."""

PASSING_ERRORS = frozenset(
    {0, 1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1317, 1927, 2002, 2003, 2006, 2013, 2055}
)
"""MySQL's errors that may be gone at a later attempt.

The server is stopping or unreachable, the connection is lost (0: PyMySQL has closed it), or a lock
causes a deadlock or a long wait.
"""


class SimulationError(RuntimeError):
    """The simulation cannot start. The message says why and what to do."""


class NothingToDo(Exception):
    """An operation found no row to work on. The next operation follows."""


class Traffic(Protocol):
    """The operations of one line, over connections that it opens itself."""

    weights: Mapping[str, float]
    """How often each operation comes, relative to the others."""

    at_once: int
    """The most operations that share a transaction."""

    def another(self) -> Traffic:
        """The same traffic over connections of its own, for another thread."""
        ...

    def connect(self) -> None:
        """Connect again after a lost connection. Raises `ServerUnreachable`."""
        ...

    def perform(self, operations: Sequence[str]) -> Sequence[str]:
        """Do these operations and commit them. Returns those that found something to do."""
        ...

    def close(self) -> None:
        """Disconnect. Changes that are not committed are undone."""
        ...


class Simulation:
    """Runs the traffic of one line. `counts`: committed operations of each kind."""

    def __init__(self, name: str, traffic: Traffic, seed: int | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.name = name
        self._traffic = traffic
        self._choices = random.Random(seed)

    def run(
        self, rate: float, duration: float | None = None, stop: threading.Event | None = None
    ) -> None:
        """Do `rate` operations per second for `duration` seconds, or until `stop` is set."""
        stop = stop or threading.Event()
        operations, weights = zip(*self._traffic.weights.items(), strict=True)
        size = max(1, min(self._traffic.at_once, int(rate * BATCH_SECONDS)))
        started = reported = due = time.monotonic()
        end = None if duration is None else started + duration
        reported_count = 0
        while (now := time.monotonic()) < (end or now + 1) and not stop.is_set():
            if now >= reported + REPORT_SECONDS:
                self._report((self.counts.total() - reported_count) / (now - reported))
                reported, reported_count = now, self.counts.total()
            if due > now:
                stop.wait(min(due - now, reported + REPORT_SECONDS - now, (end or due) - now))
                continue
            # Never more than a second behind. Otherwise a burst would follow when a slow server
            # recovers.
            due = max(due, now - 1) + size / rate
            chosen = self._choices.choices(operations, weights, k=size)
            with self._patiently(end, stop):
                self.counts.update(self._traffic.perform(chosen))
        self._report(
            (self.counts.total() - reported_count) / max(time.monotonic() - reported, 0.001)
        )

    def _report(self, speed: float) -> None:
        counts = ", ".join(
            f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(self.counts.items())
        )
        self._tell(f"{self.counts.total():,} operations, {speed:,.0f}/s: {counts}")

    def _tell(self, text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S}  {self.name}: {text}", flush=True)

    @contextmanager
    def _patiently(self, end: float | None, stop: threading.Event) -> Iterator[None]:
        """Survive passing failures of a server: drop the operations and connect again."""
        try:
            yield
        except (pymysql.MySQLError, PyMongoError, BotoCoreError) as error:
            if isinstance(error, pymysql.MySQLError) and error.args[0] not in PASSING_ERRORS:
                raise
            self._tell(f"{error}; connecting again")
            self._traffic.close()
            self._connect_again(end, stop)

    def _connect_again(self, end: float | None, stop: threading.Event) -> None:
        pause = 0.1
        while not stop.is_set():
            try:
                return self._traffic.connect()
            except ServerUnreachable as unreachable:
                if end is not None and time.monotonic() + pause > end:
                    raise
                self._tell(f"{unreachable} Trying again in {pause:g} s")
                stop.wait(pause)
                pause = min(pause * 2, 5.0)


def run_together(simulations: list[Simulation], rate: float, duration: float | None) -> None:
    """Run several simulations at once, each in a thread. Ctrl-C or an error of one ends all."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run(simulation: Simulation) -> None:
        try:
            simulation.run(rate, duration, stop)
        except BaseException as failure:
            failures.append(failure)
            stop.set()

    threads = [threading.Thread(target=run, args=(each,), name=each.name) for each in simulations]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
