"""What a problem is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something that is wrong now.

    `cause`: names it. Two looks that find the same cause find the same problem. `text`: what a
    person reads of it, in one line. It has no personal data.
    """

    cause: str
    text: str


LONGEST_TEXT = 300


def one_line(text: str) -> str:
    """The first line of a text, not longer than a message should have."""
    line = next((each.strip() for each in text.splitlines() if each.strip()), "")
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
