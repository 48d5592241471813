"""Threads that share the readers of one snapshot.

Each thread has one reader. One thread does a table's job. All threads share the key ranges of a big
table. This module does not know what a job does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, Protocol, TypeVar


class Resettable(Protocol):
    """The part of a reader that matters here."""

    def reset(self) -> None:
        """Become ready for another job after one that failed."""


R = TypeVar("R", bound=Resettable)
T = TypeVar("T")


class WorkerPool(Generic[R]):
    """One thread per reader.

    Ranges of tables under way come before new tables, so that started tables finish first. Among
    them, those of the table that was submitted first come first.
    """

    def __init__(self, readers: Sequence[R]) -> None:
        # One condition guards both queues. Threads, not processes: the codec runs without Python's
        # lock, and each process would need another 90 MB for Arrow and the clients.
        self._changed = threading.Condition()
        self._tables: deque[tuple[int, Future[Any], Callable[[R], object]]] = deque()
        # A heap by the number of the table, and a number that no two ranges share.
        self._ranges: list[tuple[int, int, Future[Any], Callable[[R], object]]] = []
        self._numbers = count()
        self._of_this_thread = threading.local()
        self._is_open = True
        self._running = 0
        self.size = len(readers)
        # Daemons: a thread that waits for a dead server must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._work, args=(reader,), daemon=True) for reader in readers
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> WorkerPool[R]:
        return self

    def __exit__(self, *_: object) -> None:
        """Let no further table begin, and wait for those under way."""
        with self._changed:
            self._is_open = False
            for _number, waiting, _job in self._tables:
                waiting.cancel()
            self._tables.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, job: Callable[[R], T]) -> Future[T]:
        """Have the next free thread do a table's job."""
        future: Future[T] = Future()
        with self._changed:
            self._tables.append((next(self._numbers), future, job))
            self._changed.notify()
        return future

    def share(self, reader: R, jobs: Sequence[Callable[[R], T]]) -> list[T]:
        """Do a table's range jobs together with all threads that are free. Called from the table's
        own job.

        The first failure is raised once no job of the table runs any more. Jobs that did not begin
        are dropped.
        """
        # The caller's thread works on ranges itself. If it only waited, a pool of one would never
        # finish.
        futures: list[Future[T]] = [Future() for _ in jobs]
        with self._changed:
            table: int = self._of_this_thread.table
            for each in zip(futures, jobs, strict=True):
                heappush(self._ranges, (table, next(self._numbers), *each))
            self._changed.notify_all()
        while True:
            with self._changed:
                if any(f.done() and not f.cancelled() and f.exception() for f in futures):
                    for future in futures:
                        future.cancel()
                if all(future.done() for future in futures):
                    break
                if not self._ranges:
                    self._changed.wait()
                    continue
                _, _, future, job = heappop(self._ranges)
            self._run(future, job, reader)
        # Not before all jobs have ended: one that still copies would write into a table that the
        # failed load is about to remove.
        for future in futures:
            if not future.cancelled() and (error := future.exception()):
                raise error
        return [future.result() for future in futures]

    def is_busy(self) -> bool:
        """Return whether any other job runs or waits. Called from a job, behind its ranges."""
        with self._changed:
            return bool(self._running > 1 or self._ranges or self._tables)

    def _work(self, reader: R) -> None:
        while True:
            with self._changed:
                while not (self._ranges or self._tables):
                    if not self._is_open:
                        return
                    self._changed.wait()
                if self._ranges:
                    _, _, future, job = heappop(self._ranges)
                else:
                    self._of_this_thread.table, future, job = self._tables.popleft()
            self._run(future, job, reader)

    def _run(self, future: Future[Any], job: Callable[[R], object], reader: R) -> None:
        if future.set_running_or_notify_cancel():
            with self._changed:
                self._running += 1
            try:
                future.set_result(job(reader))
            except BaseException as error:
                # `BaseException`, so that a waiting thread learns of every end. Without a result it
                # would wait for ever.
                future.set_exception(error)
                with suppress(
                    Exception
                ):  # a reader that is beyond use fails the next job with its own error
                    reader.reset()
            with self._changed:
                self._running -= 1
        with self._changed:
            self._changed.notify_all()
