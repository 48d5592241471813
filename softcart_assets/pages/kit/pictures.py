"""The pictures of a page as PNG, for places that show pictures: the Dagster UI and the README.

Altair draws trends, in the light theme, from the sums of the cube that the page contains. seaborn
draws what insights found.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from softcart_assets.lines.page import Finding, Insight, Measure, Page, Trend
from softcart_assets.pages.kit import insights, theme
from softcart_assets.pages.kit.columns import Course
from softcart_assets.pages.kit.figures import SCALE, value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def findings(page: Page, found: Mapping[str, Finding]) -> dict[str, bytes]:
    """What insights found, by their name."""
    pictures = {}
    for insight in page.insights():
        if insight.name in found:
            written = io.BytesIO()
            figure(insight, found[insight.name]).savefig(written, format="png")
            pictures[insight.name] = written.getvalue()
    return pictures


def figure(insight: Insight, found: Finding) -> Figure:
    """What an insight found, drawn."""
    # Only here, because they take two seconds to load, and few pages have insights.
    import seaborn
    from matplotlib.figure import Figure

    colors = theme.THEMES["light"]
    drawing = Figure(figsize=(9.6, 4.8), dpi=110, layout="constrained", facecolor=colors["card"])
    axes = drawing.subplots()
    rows = {
        "name": [point.name for point in found.points],
        "series": [point.of for point in found.points],
        "value": [float("nan") if point.value is None else point.value for point in found.points],
    }
    match insight.form:
        case "bars":
            seaborn.barplot(rows, x="value", y="name", color=colors["accent"], ax=axes)
            known = [
                (n, point.value, point.low, point.high)
                for n, point in enumerate(found.points)
                if point.value is not None and point.low is not None and point.high is not None
            ]
            for n, value, low, high in known:
                axes.errorbar(value, n, xerr=[[value - low], [high - value]], color=colors["ink"])
        case "lines":
            seaborn.lineplot(rows, x="name", y="value", hue="series", sort=False, ax=axes)
        case "shades":
            grid = [
                [float("nan") if point.value is None else point.value for point in points]
                for points in insights.series(found).values()
            ]
            seaborn.heatmap(
                grid,
                cmap=seaborn.blend_palette([colors["cold"], colors["hot"]], as_cmap=True),
                xticklabels=insights.names(found),
                yticklabels=list(insights.series(found)),
                ax=axes,
            )
    axes.set(title=insight.title, xlabel="", ylabel="")
    seaborn.despine(ax=axes)
    return drawing
