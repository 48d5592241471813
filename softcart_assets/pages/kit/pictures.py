"""The trends of a page as PNG, for places that show pictures: the Dagster UI and the README.

Altair draws them, in the light theme, from the sums of the cube that the page contains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import altair as alt
import vl_convert

from softcart_assets.lines.page import Measure, Page, Trend
from softcart_assets.pages.kit import theme
from softcart_assets.pages.kit.columns import Course
from softcart_assets.pages.kit.figures import SCALE, value

_MONTHS = 25
"""Two years and the month that is not over."""


def draw(page: Page, course: Course | None) -> dict[str, bytes]:
    """The trends of a page by month, by the name of their measure. None without any event."""
    measures = {measure.name: measure for measure in page.measures}
    trends = [block.measure for block in page.blocks() if isinstance(block, Trend)]
    return {name: _picture(measures, name, course) for name in trends if course is not None}


def points(measures: Mapping[str, Measure], name: str, course: Course) -> list[dict[str, Any]]:
    """The points of a trend. A month that the days do not fill must not look like a fall."""
    months = sorted(course.months)
    scale = SCALE.get(measures[name].kind, 1)
    values = {month: value(measures, name, sums) for month, sums in course.months.items()}
    # The last month goes on.
    cut = {months[-1], course.first.replace(day=1) if course.first.day > 1 else None}
    return [
        {
            "month": month.isoformat(),
            "value": None if (found := values[month]) is None else found / scale,
            "whole": month not in cut,
        }
        for month in months[-_MONTHS:]
    ]


def _picture(measures: Mapping[str, Measure], name: str, course: Course) -> bytes:
    rows = points(measures, name, course)
    title = f"{measures[name].label} by month"
    unit = {"volume": "GB", "duration": "hours"}.get(measures[name].kind, course.currency)
    if unit is not None:
        title += f", {unit}"
    colors = theme.THEMES["light"]
    base = alt.Chart(alt.NamedData(name="rows")).encode(
        x=alt.X("month:T", axis=alt.Axis(format="%b %y", title=None, grid=False, domain=False)),
        y=alt.Y("value:Q", axis=alt.Axis(title=None, tickCount=4, format=".3~s", domain=False)),
    )
    whole = base.transform_filter("datum.whole")
    chart = alt.layer(
        whole.mark_area(color=colors["accent"], opacity=0.09),
        whole.mark_line(color=colors["accent"], strokeWidth=2.25),
        base.transform_filter("!datum.whole").mark_point(color=colors["accent"], size=36),
    ).properties(width=720, height=260, padding=16, title=title)
    specification: dict[str, Any] = chart.to_dict() | {"datasets": {"rows": rows}}
    return vl_convert.vegalite_to_png(
        json.dumps(specification),
        config={"background": colors["card"], "font": theme.FONT, "view": {"stroke": None}},
        scale=1.5,
    )
