"""The charts' specifications (Vega-Lite, by Altair) and the colours of page and charts.

The page and the pictures share one specification per chart. The page fills it with the reader's
selection. The pictures are drawn here, without a browser. Rows go into the data set `rows` of a
specification. Colours always come from a theme. Rankings and lists are tables of the page.
"""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import vl_convert

THEMES = {
    "light": {
        "paper": "#f5f6f8",
        "card": "#ffffff",
        "ink": "#17202c",
        "muted": "#566273",
        "line": "#e1e5ea",
        "accent": "#2a55c4",
        "tint": "#e6ecfa",
        "previous": "#8f9bab",
        "good": "#0a7447",
        "bad": "#b3261e",
        "warn": "#8a5300",
        "cold": "#eff3fb",
        "warm": "#7d9ce6",
        "hot": "#17357f",
    },
    "dark": {
        "paper": "#0e131a",
        "card": "#171e28",
        "ink": "#e7ecf2",
        "muted": "#a2afbf",
        "line": "#2b3543",
        "accent": "#86abff",
        "tint": "#22304a",
        "previous": "#71809a",
        "good": "#62d39c",
        "bad": "#ff938a",
        "warn": "#f0bb58",
        "cold": "#1c2532",
        "warm": "#3f64b4",
        "hot": "#bcd2ff",
    },
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'Noto Sans', sans-serif"


def config(theme: dict[str, str]) -> dict[str, Any]:
    """Vega-Lite's configuration for a theme."""
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "domain": False,
            "ticks": False,
            "grid": False,
            "labelColor": theme["muted"],
            "labelFontSize": 11,
            "labelPadding": 6,
            "title": None,
        },
        "axisY": {"tickCount": 4},
        "axisQuantitative": {"grid": True, "gridColor": theme["line"]},
        "legend": {"disable": True},
        "range": {"heatmap": [theme["cold"], theme["warm"], theme["hot"]]},
        "rect": {"stroke": theme["card"], "strokeWidth": 1.5},
        "style": {
            "now": {"color": theme["accent"]},
            "now-area": {"color": theme["accent"], "opacity": 0.09},
            "previous": {"color": theme["previous"]},
            "cursor": {"color": theme["muted"]},
        },
    }


def page_config(theme: dict[str, str]) -> dict[str, Any]:
    """The configuration of the page's charts. Colours are CSS variables of the page.

    So the charts print in the light theme too. Heat maps need real colours, to compute shades.
    """
    heat = {name: theme[name] for name in ("cold", "warm", "hot")}
    return config({name: f"var(--{name})" for name in theme} | heat)


# Altair's own theme would override our configuration.
alt.theme.enable("none")


def _rows() -> Any:
    return alt.NamedData(name="rows")


def trend(money: bool, height: int) -> dict[str, Any]:
    """A measure over time, against the same days a year before.

    Rows: `start` (milliseconds UTC, the first day of the day, week or month), `value`, `previous`
    (null: not known), `whole` (false: the period covers only a part of the week or month). The
    tooltip shows `label`, `valueText`, `previousText` and `changeText`.
    """
    prefix = "$" if money else ""
    day = (
        "utcFormat(datum.value, utcdate(datum.value) > 1 ? '%-d %b' : utcmonth(datum.value) ? "
        "'%b' : '%Y')"
    )
    x = alt.X(
        "start:T",
        scale=alt.Scale(type="utc", padding=8),
        axis=alt.Axis(
            labelExpr=day, labelOverlap=True, labelSeparation=8, tickCount=8, labelFlush=True
        ),
    )
    y_axis = alt.Axis(
        labelExpr=f"format(datum.value, abs(datum.value) < 1000 ? '{prefix},.2~f' : '{prefix}.3~s')"
    )
    hover = alt.selection_point(
        name="hover",
        fields=["start"],
        nearest=True,
        on="pointerover",
        clear="pointerout",
        empty=False,
    )
    base = alt.Chart(_rows()).encode(x=x)
    value = alt.Y("value:Q", axis=y_axis)
    previous = alt.Y("previous:Q", axis=y_axis)
    ring = alt.condition("datum.whole", alt.value(0), alt.value(1))
    # A part of a month must not look like a fall. So lines join whole months only, and parts are
    # rings next to them.
    wholes, parts = base.transform_filter("datum.whole"), base.encode(opacity=ring)
    layers = (
        wholes.mark_area(style="now-area").encode(y=value),
        wholes.mark_line(style="previous", strokeWidth=1.5, strokeDash=[4, 3]).encode(y=previous),
        wholes.mark_line(style="now", strokeWidth=2.25).encode(y=value),
        parts.mark_point(style="previous", size=30).encode(y=previous),
        parts.mark_point(style="now", size=36).encode(y=value),
        base.mark_rule(style="cursor")
        .encode(
            opacity=alt.condition(hover, alt.value(0.6), alt.value(0)),
            tooltip=[
                alt.Tooltip("label:N", title="When"),
                alt.Tooltip("valueText:N", title="Now"),
                alt.Tooltip("previousText:N", title="A year before"),
                alt.Tooltip("changeText:N", title="Change"),
            ],
        )
        .add_params(hover),
    )
    chart = alt.layer(*layers).properties(width="container", height=height)
    return dict(chart.to_dict())


def heat_map(rows: int) -> dict[str, Any]:
    """Orders by hour of the day, in about that many rows.

    Rows: `row` (the label at the left, in order), `hour` (0-23), `orders`, `text`.
    """
    chart = (
        alt.Chart(_rows())
        .mark_rect()
        .encode(
            x=alt.X(
                "hour:O",
                axis=alt.Axis(
                    labelAngle=0,
                    labelExpr="datum.value + ':00'",
                    values=list(range(0, 24, 3)),
                    labelOverlap=True,
                ),
            ),
            y=alt.Y("row:N", sort=None),
            color=alt.Color("orders:Q", scale=alt.Scale(range="heatmap", zero=True)),
            tooltip=[alt.Tooltip("row:N", title=" "), alt.Tooltip("text:N", title="Orders")],
        )
        .properties(width="container", height=rows * 26)
    )
    return dict(chart.to_dict())


CHARTS: dict[str, dict[str, Any]] = {
    "revenue": trend(money=True, height=260),
    "margin": trend(money=True, height=150),
    "orders": trend(money=False, height=150),
    "basket": trend(money=True, height=150),
    "hours-by-device": heat_map(rows=5),
    "hours-by-weekday": heat_map(rows=7),
}
"""The page's charts by name."""


def picture(name: str, title: str, rows: list[dict[str, Any]], currency: str) -> bytes:
    """A chart with these rows, as PNG in the light theme. `currency` is an ISO code."""
    theme = THEMES["light"]
    specification = CHARTS[name] | {
        "width": 720,
        "padding": 16,
        "title": {
            "text": title,
            "anchor": "start",
            "fontSize": 15,
            "color": theme["ink"],
            "offset": 12,
        },
        "datasets": {"rows": rows},
    }
    # The specifications write amounts with `$`, which Vega replaces by the currency of its locale.
    symbol = "€" if currency == "EUR" else f"{currency} "
    return vl_convert.vegalite_to_png(
        json.dumps(specification),
        config=config(theme) | {"background": theme["card"]},
        format_locale={"decimal": ".", "thousands": ",", "grouping": [3], "currency": [symbol, ""]},
        scale=1.5,
    )
