"""Where the tests' processor time goes: `--processor` lists it by file at the end.

Wall time is no measure here. Tests start servers, JVMs and processes of ours, two workers share
the cores, and the machine may be busy. Processor seconds are the same on any day.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import pytest

MARK = "SOFTCARTS_TESTS"
"""Processes inherit this variable, so that we find servers that no longer are our children. Tests
take away what begins with `SOFTCART_`.
"""

TICKS = os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    parent: int
    started: str
    ticks: int
    """Its own, and those of its children that have ended and that it has waited for."""


def _read(number: int) -> _Process | None:
    """A process of now. None if it has ended."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name, which may have anything in it.
    fields = text.rpartition(") ")[2].split()
    return _Process(int(fields[1]), fields[19], sum(map(int, fields[11:15])))


class Processor:
    """The processor seconds of this process and of everything that was started from it."""

    def __init__(self) -> None:
        self.mark = f"{MARK}={secrets.token_hex(8)}".encode()
        name, _, value = self.mark.decode().partition("=")
        os.environ[name] = value
        self.ours: dict[int, _Process] = {}
        self.others: dict[int, str] = {}
        self.lost = 0
        self.known = self._ticks()

    def _ticks(self) -> int:
        before, self.ours = self.ours, {}
        # Parents first: a child may have replaced its environment.
        for number in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
            if (process := _read(number)) and self._is_ours(number, process, before):
                self.ours[number] = process
        for number, process in before.items():
            now = self.ours.get(number)
            # What a child of ours had used is in its parent's figure now.
            is_over = not now or now.started != process.started
            if is_over and process.parent not in before:
                self.lost += process.ticks
        return self.lost + sum(process.ticks for process in self.ours.values())

    def _is_ours(self, number: int, process: _Process, before: dict[int, _Process]) -> bool:
        if number == os.getpid() or process.parent in self.ours:
            return True
        if (known := before.get(number)) and known.started == process.started:
            return True
        if self.others.get(number) == process.started:
            return False
        try:
            environment = Path(f"/proc/{number}/environ").read_bytes()
        except OSError:
            environment = b""
        if self.mark in environment.split(b"\0"):
            return True
        self.others[number] = process.started
        return False

    def since_last(self) -> float:
        """Processor seconds since the last question."""
        before, self.known = self.known, self._ticks()
        return max(0, self.known - before) / TICKS

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write the seconds of a test's set-up, call or tear-down into its report."""
        report = yield
        report.user_properties = [
            *(each for each in report.user_properties if each[0] != MARK),
            (MARK, self.since_last()),
        ]
        return report


class ByFile:
    """Adds the workers' figures up, and prints them."""

    def __init__(self) -> None:
        self.processor: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one up."""
        file = report.nodeid.partition("::")[0]
        self.wall[file] += report.duration
        self.processor[file] += dict(report.user_properties).get(MARK, 0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the files, the dearest first."""
        terminalreporter.section("processor seconds, wall seconds")
        for file, seconds in [*self.processor.most_common(), ("all", self.processor.total())]:
            wall = self.wall[file] if file != "all" else self.wall.total()
            terminalreporter.write_line(f"{seconds:8.1f} {wall:8.1f}  {file}")
