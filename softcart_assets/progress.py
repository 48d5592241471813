"""Progress of long work on tables, for people at a terminal: a bar per table with the rate and the time left.

Where there is no terminal, plain lines say the same now and then. What is worked on is not known here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10


class _Rows(ProgressColumn):
    """How many rows of how many, and how many a second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        of = f" of about {task.total:,.0f}" if task.total and not task.finished else ""
        rate = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f}{of} rows" + (f", {rate:,.0f} rows/s" if rate else ""))


@dataclass
class _Line:
    """What was said last of a table."""

    started: float
    said: float
    rows: int = 0


class TableProgress:
    """Shows rows done by table while its block runs; `tell` may be called from several threads."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            _Rows(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lines: dict[str, _Line] = {}
        self._lock = Lock()

    def __enter__(self) -> TableProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def tell(self, table: str, rows: int, expected: int | None) -> None:
        """So many rows of a table are done, of so many expected (None: unknown)."""
        with self._lock:
            if self._console.is_terminal:
                if table not in self._tasks:
                    self._tasks[table] = self._bars.add_task(table, total=None)
                # An estimate that was too low would show more than everything.
                total = None if expected is None else max(expected, rows)
                self._bars.update(self._tasks[table], completed=rows, total=total)
                return
            now = time.monotonic()
            line = self._lines.setdefault(table, _Line(now, now))
            line.rows = rows
            if now - line.said >= _SECONDS_BETWEEN_LINES:
                line.said = now
                self._console.print(_told(table, rows, expected, now - line.started))

    def done(self, table: str, rows: int) -> None:
        """A table is finished, after so many rows."""
        with self._lock:
            if table in self._tasks:
                self._bars.update(self._tasks[table], completed=rows, total=rows)


def _told(table: str, rows: int, expected: int | None, seconds: float) -> str:
    rate = rows / seconds
    left = f", about {max(expected - rows, 0) / rate:.0f} s left" if expected and rate else ""
    of = f" of about {expected:,}" if expected else ""
    return f"{table}: {rows:,}{of} rows, {rate:,.0f} rows/s{left}"
