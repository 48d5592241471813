"""Pictures of somebody's history, drawn on the server as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import Final

_DAY: Final = timedelta(days=1)
_WIDTH, _HEIGHT, _FOOT = 320, 140, 18
_HEAD: Final = 16
"""Room for the names of months."""


def bars(title: str, values: Sequence[tuple[str, float]], unit: str) -> str:
    """Columns with their names below. The title and every value can be read aloud.

    Colours come from the page's stylesheet, so they follow its dark form.
    """
    if not values:
        return ""
    highest = max(max(value for _, value in values), 0.0) or 1.0
    step = _WIDTH / len(values)
    room = _HEIGHT - _FOOT - 14
    parts = []
    for place, (name, value) in enumerate(values):
        height = room * max(value, 0.0) / highest
        x, y = place * step, _HEIGHT - _FOOT - height
        told = f"{name}: {value:g} {unit}"
        parts.append(
            f'<g><title>{escape(told)}</title><rect class="bar" x="{x + step * 0.15:.1f}" '
            f'y="{y:.1f}" width="{step * 0.7:.1f}" height="{height:.1f}" rx="2"/>'
            f'<text class="name" x="{x + step / 2:.1f}" y="{_HEIGHT - 5}" '
            f'text-anchor="middle">{escape(name)}</text>'
            f'<text class="value" x="{x + step / 2:.1f}" y="{y - 4:.1f}" '
            f'text-anchor="middle">{value:g}</text></g>'
        )
    aloud = "; ".join(f"{name} {value:g}" for name, value in values)
    return _picture(title, f"{unit} – {aloud}", _WIDTH, _HEIGHT, "".join(parts))


def calendar(title: str, minutes: Mapping[date, float], today: date, weeks: int = 13) -> str:
    """A square per day, weeks side by side, darker with more minutes. Monday is on top.

    A month has its name above its first whole week.
    """
    size, gap = 20, 4
    monday = today - today.weekday() * _DAY - (weeks - 1) * 7 * _DAY
    parts, done = [], 0
    for number in range((today - monday).days + 1):
        day = monday + number * _DAY
        value = minutes.get(day, 0.0)
        done += value > 0
        # Four steps: none, under half an hour, under an hour, more.
        level = 0 if value <= 0 else 1 if value < 30 else 2 if value < 60 else 3
        column, row = divmod(number, 7)
        x = column * (size + gap)
        if row == 0 and day.day <= 7:
            parts.append(f'<text x="{x}" y="{_HEAD - 6}">{day:%b}</text>')
        parts.append(
            f'<rect class="day level{level}" x="{x}" y="{_HEAD + row * (size + gap)}" '
            f'width="{size}" height="{size}" rx="3"><title>{day.isoformat()}: {value:g} minutes'
            "</title></rect>"
        )
    width, height = weeks * (size + gap) - gap, _HEAD + 7 * (size + gap) - gap
    return _picture(title, f"{done} active days in {weeks} weeks", width, height, "".join(parts))


def _picture(title: str, told: str, width: int, height: int, content: str) -> str:
    return (
        f'<svg class="picture" role="img" viewBox="0 0 {width} {height}" '
        f'aria-label="{escape(f"{title}: {told}")}">{content}</svg>'
    )
