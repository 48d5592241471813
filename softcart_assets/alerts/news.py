"""Decides what each destination is told, and when. It reads no clock, no file and no server.

A problem is told once two looks have found it. It is over once no look has found it for
`QUIET`. So what comes and goes is one problem. A problem that stays is told again once a day. Each
problem that a destination was told of is followed by its all-clear there.

A look that could not ask says nothing. The problems that it would have found stay as they were.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from softcart_assets.alerts.problem import Problem

QUIET = timedelta(minutes=10)
REPEAT = timedelta(days=1)


@dataclass(frozen=True)
class Seen:
    """A problem that is not over: its text, and when looks found it first and last."""

    text: str
    first: datetime
    last: datetime

    @property
    def is_confirmed(self) -> bool:
        """Whether a second look found it."""
        return self.first < self.last


@dataclass(frozen=True)
class Told:
    """What a destination was told of a problem: the text, and when."""

    text: str
    at: datetime


@dataclass(frozen=True)
class Memory:
    """What the looks until now leave for the next one.

    `problems`: those that are not over, by cause. `told`: for each destination, what it was told
    and has had no all-clear of, by cause.
    """

    problems: Mapping[str, Seen] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, Told]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Memory:
        """The memory that `written` made a text of."""
        known = json.loads(text)
        return cls(
            {
                cause: Seen(
                    each["text"],
                    datetime.fromisoformat(each["first"]),
                    datetime.fromisoformat(each["last"]),
                )
                for cause, each in known["problems"].items()
            },
            {
                destination: {
                    cause: Told(each["text"], datetime.fromisoformat(each["at"]))
                    for cause, each in causes.items()
                }
                for destination, causes in known["told"].items()
            },
        )

    def written(self) -> str:
        """The memory as a text."""
        return json.dumps(
            {
                "problems": {
                    cause: {
                        "text": each.text,
                        "first": each.first.isoformat(),
                        "last": each.last.isoformat(),
                    }
                    for cause, each in self.problems.items()
                },
                "told": {
                    destination: {
                        cause: {"text": each.text, "at": each.at.isoformat()}
                        for cause, each in causes.items()
                    }
                    for destination, causes in self.told.items()
                },
            },
            indent=1,
        )


@dataclass(frozen=True)
class Message:
    """What a destination is told. `is_good`: nothing is wrong any more."""

    title: str
    body: str
    is_good: bool


def looked(
    memory: Memory, found: Iterable[Problem], unread: Collection[str], now: datetime
) -> Memory:
    """The memory after a look.

    `unread`: the beginnings of the causes that could not be asked for.
    """
    problems = {}
    for cause, seen in memory.problems.items():
        if any(cause.startswith(each) for each in unread):
            # It counts as found, so that its time of quiet begins when it can be asked for again.
            problems[cause] = replace(seen, last=now) if seen.is_confirmed else seen
        elif now - seen.last < QUIET:
            problems[cause] = seen
    for each in found:
        # Also after a long pause between two looks.
        known = memory.problems.get(each.cause)
        problems[each.cause] = Seen(each.text, known.first if known else now, now)
    return replace(memory, problems=problems)


def message(memory: Memory, destination: str, now: datetime) -> Message | None:
    """What a destination is to be told now, if anything."""
    told = memory.told.get(destination, {})
    problems = {cause: each for cause, each in memory.problems.items() if each.is_confirmed}
    new = [each for cause, each in problems.items() if cause not in told]
    over = [each for cause, each in told.items() if cause not in memory.problems]
    old = {cause: each for cause, each in problems.items() if cause in told}
    if not new and not over and not any(now - told[cause].at >= REPEAT for cause in old):
        return None
    still = list(old.values())
    body = "\n\n".join(
        "\n".join([heading, *lines])
        for heading, lines in (
            ("New:", [_line(each) for each in new]),
            ("Over:", [f"- {each.text}" for each in over]),
            ("Still wrong:", [_line(each) for each in still]),
        )
        if lines
    )
    is_good = not new and not still
    if not is_good:
        body += "\n\nWhat to do stands in docs/operations.md."
    return Message(_title(len(new), len(over), len(still)), body, is_good)


def after(memory: Memory, destination: str, now: datetime) -> Memory:
    """The memory after the destination has taken its message."""
    known = {
        cause: Told(each.text, now) for cause, each in memory.problems.items() if each.is_confirmed
    }
    waiting = {
        cause: each
        for cause, each in memory.told.get(destination, {}).items()
        # Told before, and not confirmed since: it came back a moment ago.
        if cause in memory.problems and cause not in known
    }
    return replace(memory, told={**memory.told, destination: {**waiting, **known}})


def of_destinations(memory: Memory, destinations: Collection[str]) -> Memory:
    """The memory without destinations that there are no more."""
    return replace(
        memory, told={each: told for each, told in memory.told.items() if each in destinations}
    )


def _line(seen: Seen) -> str:
    return f"- since {seen.first:%Y-%m-%d %H:%M} UTC: {seen.text}"


def _title(new: int, over: int, still: int) -> str:
    return "SoftCart: " + ", ".join(_parts(new, over, still))


def _parts(new: int, over: int, still: int) -> Iterator[str]:
    if new:
        yield f"{_counted(new, 'new problem')}"
    if over:
        yield f"{_counted(over, 'problem')} over"
    if still:
        yield f"{still} still wrong"
    if not new and not still:
        yield "all is well"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
