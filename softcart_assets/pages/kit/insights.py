"""What the template and the pictures draw of a finding: texts, and shares of the room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from softcart_assets.lines.page import Finding, Insight, Kind, Point
from softcart_assets.pages.kit.figures import as_text

_TICKS: Final = 4


@dataclass(frozen=True)
class Scale:
    """The room of a picture: from a round value to another one, 0 included."""

    marks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value is, in percent of the room."""
        low, high = self.marks[0], self.marks[-1]
        return round(100 * (value - low) / (high - low), 2)


def scale(points: Sequence[Point]) -> Scale:
    """The scale with room for all points and their intervals."""
    values = [each for point in points for each in (point.value, point.low, point.high)]
    known = [0.0, *(value for value in values if value is not None)]
    low, high = min(known), max(known)
    rough = (high - low or 1) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Scale(tuple(round(n * step, 10) for n in range(first, max(last, first + 1) + 1)))


def series(finding: Finding) -> dict[str, list[Point]]:
    """The points by their series, in their order."""
    found: dict[str, list[Point]] = {}
    for point in finding.points:
        found.setdefault(point.of, []).append(point)
    return found


def names(finding: Finding) -> list[str]:
    """The names of points, each once: the places on a line or in a row of shades."""
    return list(dict.fromkeys(point.name for point in finding.points))


def path(finding: Finding, points: Sequence[Point], room: Scale) -> str:
    """A line through points, in a square of 100. Where a value is missing, there is a gap."""
    places = {name: n for n, name in enumerate(names(finding))}
    steps, is_open = [], False
    for point in points:
        if point.value is None:
            is_open = False
            continue
        x = 100 * places[point.name] / max(1, len(places) - 1)
        steps.append(f"{'L' if is_open else 'M'}{x:.2f},{100 - room.share(point.value):.2f}")
        is_open = True
    return "".join(steps)


def interval(insight: Insight, low: float | None, high: float | None) -> str:
    """An interval as text; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"{as_text(insight.kind, low)} to {as_text(insight.kind, high)}"


def exact(value: float | None) -> str:
    """A value for programs that read the page."""
    return "" if value is None else f"{value:.6f}"


def axis_text(kind: Kind, value: float) -> str:
    """A mark of an axis."""
    return f"{value * 100:,g}%" if kind == "rate" else f"{value:,g}"
