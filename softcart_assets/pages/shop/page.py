"""Builds the page from its data, its charts, HTML, CSS and JavaScript, and draws the pictures.

`data.py` defines the figures, `charts.py` the charts, `page.js` the behaviour of the page.
"""

from __future__ import annotations

import base64
import calendar
import gzip
import hashlib
import json
import os
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

import vl_convert

from softcart_assets.connections import PostgresConnection
from softcart_assets.pages.shop import charts, data

_HERE = Path(__file__).parent

Pictures = dict[str, Path]
"""Files with charts as PNG, by the name of the chart."""


@dataclass(frozen=True)
class PageResult:
    """A finished page.

    `version`: the production version of its data (None: nothing was published yet). `figures`:
    those of the default period, with amounts in the currency of the fact. It is empty without
    sales. `coarsened`: the columns of sales that the page leaves out, since not every order fits.
    `pictures`: its charts for the default period, without a filter, beside the page. There are none
    without sales.
    """

    path: Path
    bytes: int
    seconds: float
    version: int | None
    figures: dict[str, Decimal | int]
    coarsened: tuple[str, ...]
    pictures: Pictures


def build_page(production: PostgresConnection, path: Path) -> PageResult:
    """Write the dashboard of the present production data to `path`, as a whole or not at all.

    The pictures of its charts get the names `<name of the page>-<chart>.png`.
    Raises `DashboardError` if production cannot be shown, `ServerUnreachable` if it does not
    answer.
    """
    started = time.monotonic()
    content = data.read(production)
    document = content.document | {
        "charts": charts.CHARTS,
        "themes": {name: charts.page_config(theme) for name, theme in charts.THEMES.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    vega = _vega(path.parent)
    script = "\n".join(map(_text, ("sales.js", "page.js")))
    html = Template(_text("page.html")).substitute(
        style=_variables() + _text("page.css"),
        script_hashes=" ".join(_hash(text) for text in (vega, script)),
        vega=vega,
        script=script,
        data=_pack(document),
    )
    pictures = {}
    for name, png in (_pictures(content.overview) if content.overview else {}).items():
        pictures[name] = path.with_name(f"{path.stem}-{name}.png")
        _write(pictures[name], png)
    _write(path, html.encode())
    return PageResult(
        path=path,
        bytes=path.stat().st_size,
        seconds=time.monotonic() - started,
        version=content.version,
        figures=content.figures,
        coarsened=content.coarsened,
        pictures=pictures,
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file that somebody may open at this moment: as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def _text(name: str) -> str:
    """A file of this package."""
    return (_HERE / name).read_text(encoding="utf-8")


def _vega(folder: Path) -> str:
    """Vega, Vega-Lite and vega-embed as one script without dependencies.

    It takes 1.5 s to make and only changes with the library, so it is kept in a folder.
    """
    path = folder / f".vega-{metadata.version('vl-convert-python')}.js"
    if not path.exists():
        for old in folder.glob(".vega-*.js"):
            old.unlink()
        _write(path, vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").encode())
    return path.read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The script's entry in the page's Content-Security-Policy, which allows no other script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _variables() -> str:
    """The themes as CSS variables."""

    def block(theme: str) -> str:
        return (
            ":root{"
            + "".join(f"--{name}:{color};" for name, color in charts.THEMES[theme].items())
            + "}"
        )

    return (
        f":root{{--font:{charts.FONT};}}{block('light')}"
        f"@media screen and (prefers-color-scheme:dark){{{block('dark')}}}\n"
    )


def _pack(document: dict[str, Any]) -> str:
    """The document as compressed JSON in Base64.

    It is small, and no text in it can end the script element around it.
    """

    def default(value: Any) -> Any:
        if isinstance(value, array):
            return value.tolist()
        if isinstance(value, date | datetime):
            return value.isoformat()
        raise TypeError(f"{value!r} has no place in the page's data")

    text = json.dumps(document, default=default, ensure_ascii=False, separators=(",", ":"))
    # Without a time in the archive, equal data give an equal page.
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _pictures(overview: data.Overview) -> dict[str, bytes]:
    """The charts as PNG."""

    def ratio(amount: Decimal | None, count: int | None) -> Decimal | None:
        return amount / count if amount is not None and count else None

    def trend(name: str) -> list[dict[str, Any]]:
        rows = []
        for month in overview.months:
            figures = month | {
                "basket": ratio(month["revenue"], month["orders"]),
                "basket_before": ratio(month["revenue_before"], month["orders_before"]),
            }
            value, previous = (
                None if figures[key] is None else float(figures[key])
                for key in (name, f"{name}_before")
            )
            start = f"{month['month']:%Y-%m-%dT00:00Z}"
            rows.append(
                {"start": start, "whole": month["whole"], "value": value, "previous": previous}
            )
        return rows

    def heat(key: str, names: dict[Any, str]) -> list[dict[str, Any]]:
        orders: Counter[tuple[Any, int]] = Counter()
        for cell in overview.hours:
            orders[cell[key], cell["hour"]] += cell["orders"]
        return [
            {"row": name, "hour": hour, "orders": orders[value, hour]}
            for value, name in names.items()
            for hour in range(24)
        ]

    devices = sorted({cell["device"] for cell in overview.hours})
    rows = {name: trend(name) for name in ("revenue", "margin", "orders", "basket")} | {
        "hours-by-device": heat(
            "device", {device: device.replace("_", " ").capitalize() for device in devices}
        ),
        "hours-by-weekday": heat("weekday", dict(enumerate(calendar.day_name, start=1))),
    }
    period = f"{overview.start:%d %b %Y} to {overview.end:%d %b %Y}"
    return {
        name: charts.picture(name, f"{_TITLES[name]}, {period}", rows[name], overview.currency)
        for name in charts.CHARTS
    }


_TITLES = {
    "revenue": "Revenue by month (dashed: a year before)",
    "margin": "Margin by month (dashed: a year before)",
    "orders": "Orders by month (dashed: a year before)",
    "basket": "Average basket by month (dashed: a year before)",
    "hours-by-device": "Orders by device and hour (UTC)",
    "hours-by-weekday": "Orders by weekday and hour (UTC)",
}
