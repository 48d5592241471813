"""Shows people at a terminal how far long work is. This module does not know the work itself.

`TableProgress` shows rows by table. `Stages` shows the seconds of each step of a run. `StatusLine`
shows the state of work without an end. Without a terminal, they print plain lines now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """What was last said of a table."""

    started: float
    said: float


class TableProgress:
    """Shows rows done by table while its block runs. Every method may be called from any thread."""

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
            # In a file, each update of a bar would be one more line.
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
        """Show that `rows` rows of a table are done, of `expected` (None if that is unknown)."""
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
            if now - line.said >= _SECONDS_BETWEEN_LINES:
                line.said = now
                self._console.print(_told(table, rows, expected, now - line.started))

    def of(self, source: str) -> Callable[[str, int, int | None], None]:
        """`tell` for the tables of a source. Two sources may have tables of the same name."""
        return lambda table, rows, expected: self.tell(f"{source}.{table}", rows, expected)

    def done(self, table: str, rows: int) -> None:
        """Show that a table is finished, with this number of rows."""
        with self._lock:
            if table in self._tasks:
                self._bars.update(self._tasks[table], completed=rows, total=rows)

    def say(self, text: str) -> None:
        """Print a line, above the bars if there are any."""
        self._console.print(text)


def _told(table: str, rows: int, expected: int | None, seconds: float) -> str:
    rate = rows / seconds
    left = f", about {max(expected - rows, 0) / rate:.0f} s left" if expected and rate else ""
    of = f" of about {expected:,}" if expected else ""
    return f"{table}: {rows:,}{of} rows, {rate:,.0f} rows/s{left}"


@dataclass
class Stages:
    """Seconds per named stage of a run, in order. Each is printed on the console when it ends."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under `name`."""
        started = time.monotonic()
        yield
        self.add(name, time.monotonic() - started)

    def add(self, name: str, seconds: float) -> None:
        """Note a stage that was timed elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.console.print(f"  [green]✓[/] {name:<34} {seconds:6.1f} s")

    def failed(self, name: str) -> None:
        """Print that a stage failed."""
        self.console.print(f"  [red]✗ {name}[/]")


class StatusLine:
    """One line with the state of work that has no end.

    On a terminal, the line is updated in place. Elsewhere a line is printed when something notable
    changes, and otherwise once a minute.
    """

    _SECONDS_BETWEEN = 60

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._said: tuple[object, float] | None = None

    def show(self, text: str, notable: object = None) -> None:
        """Show the text. If `notable` changes, the text is printed in any case."""
        if self._console.is_terminal:
            # Back to the start of the line, and clear the rest of the previous text.
            self._console.file.write(f"\r\x1b[K{text}")
            self._console.file.flush()
            return
        now = time.monotonic()
        if self._said and self._said[0] == notable and now - self._said[1] < self._SECONDS_BETWEEN:
            return
        self._said = notable, now
        self._console.file.write(f"{text}\n")
        self._console.file.flush()
