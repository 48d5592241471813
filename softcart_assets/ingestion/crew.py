"""Threads that share the readers of one snapshot.

Each thread has one reader. A table is the job of one thread. The key ranges of a big table are
shared among all threads. What a job does is not known here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar


class Resettable(Protocol):
    """A reader, as far as it matters here."""

    def reset(self) -> None:
        """Be fit for another job after one that failed."""


R = TypeVar("R", bound=Resettable)
T = TypeVar("T")


class Crew(Generic[R]):
    """One thread per reader.

    Ranges of tables under way come before new tables, so that those tables are finished first.
    """

    def __init__(self, readers: Sequence[R]) -> None:
        self._changed = threading.Condition()
        self._tables: deque[tuple[Future[Any], Callable[[R], object]]] = deque()
        self._ranges: deque[tuple[Future[Any], Callable[[R], object]]] = deque()
        self._is_open = True
        self.size = len(readers)
        self._threads = [
            threading.Thread(target=self._work, args=(reader,), daemon=True) for reader in readers
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Crew[R]:
        return self

    def __exit__(self, *_: object) -> None:
        """Let no table begin any more, and wait for those under way."""
        with self._changed:
            self._is_open = False
            for future, _job in self._tables:
                future.cancel()
            self._tables.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, job: Callable[[R], T]) -> Future[T]:
        """Have a table's job done by the next free thread."""
        future: Future[T] = Future()
        with self._changed:
            self._tables.append((future, job))
            self._changed.notify()
        return future

    def share(self, reader: R, jobs: Sequence[Callable[[R], T]]) -> list[T]:
        """Do a table's range jobs together with all threads that are free.

        Called from the table's own job.

        The first failure is raised once no job of the table runs any more; those not begun are
        dropped.
        """
        futures: list[Future[T]] = [Future() for _ in jobs]
        with self._changed:
            self._ranges.extend(zip(futures, jobs, strict=True))
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
                future, job = self._ranges.popleft()
            self._run(future, job, reader)
        for future in futures:
            if not future.cancelled() and (error := future.exception()):
                raise error
        return [future.result() for future in futures]

    def _work(self, reader: R) -> None:
        while True:
            with self._changed:
                while not (self._ranges or self._tables):
                    if not self._is_open:
                        return
                    self._changed.wait()
                future, job = (self._ranges or self._tables).popleft()
            self._run(future, job, reader)

    def _run(self, future: Future[Any], job: Callable[[R], object], reader: R) -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(job(reader))
            except BaseException as error:
                future.set_exception(error)
                with suppress(
                    Exception
                ):  # a reader that is beyond use fails the next job with its own error
                    reader.reset()
        with self._changed:
            self._changed.notify_all()
