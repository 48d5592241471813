"""Writes a declared page as one self-contained file."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import os
import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import jinja2

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.page import Block, Cards, Hours, Listing, Page, Rung
from softcart_assets.pages.kit import STATE_MARK, cube, figures, insights, pictures, theme
from softcart_assets.pages.kit.database import Database, production

_HERE: Final = Path(__file__).parent

_DAYS: Final = {
    "today": "Last day",
    "yesterday": "The day before",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "13w": "Last 13 weeks",
}
_MONTHS: Final = {"3m": "Last 3 months", "6m": "Last 6 months"}
_LONG: Final = {"year": "This year", "12m": "Last 12 months", "all": "All", "custom": "Custom …"}

PERIODS: Final = {"day": _DAYS | _LONG, "month": _MONTHS | _LONG}
"""The periods that a reader chooses from, by the unit of the cube. The script knows their days."""


_OF_FINDINGS: Final = ("scale", "series", "names", "path", "interval", "exact", "axis_text")
"""What the template asks of `insights`."""

_FIRST: Final = "if (location.hash) document.documentElement.className = 'chosen'"
"""Runs before anything is painted. The first figures are not those that an address chooses."""


@dataclass(frozen=True)
class PageResult:
    """A finished page.

    `version`: the production version of its data (None: nothing was published yet). `rung`: how
    much of the cube it contains. `totals`: by currency, each summed measure over all its days,
    money in cents. `pictures`: its trends by month and what its insights found as PNG files, by
    measure or insight. There are none without any event.
    """

    path: Path
    bytes: int
    seconds: float
    version: int | None
    rung: Rung | None
    totals: dict[str | None, dict[str, int]]
    pictures: dict[str, Path]


def build_page(connection: PostgresConnection, page: Page, path: Path) -> PageResult:
    """Write a page of the present production data to `path`, as a whole or not at all.

    Raises `PageError` if production cannot be shown, `ServerUnreachable` if it does not answer.
    """
    return build_page_from(production(connection, page.name), page, path)


def build_page_from(
    database: AbstractContextManager[Database], page: Page, path: Path
) -> PageResult:
    """Write a page of a database, as `build_page` does."""
    started = time.monotonic()
    content = cube.read_from(database, page)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = {}
    trends = pictures.draw(page, content.course)
    for name, picture in (trends | pictures.findings(page, content.findings)).items():
        drawn[name] = path.with_name(f"{path.stem}-{name}.png")
        _write(drawn[name], picture)
    _write(path, html(page, content).encode())
    return PageResult(
        path=path,
        bytes=path.stat().st_size,
        seconds=time.monotonic() - started,
        version=content.version,
        rung=content.rung,
        totals=content.totals,
        pictures=drawn,
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file that somebody may open at this moment: as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def html(page: Page, content: cube.Content) -> str:
    """The page around its data. What it shows at first stands before them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = itertools.count()
    script = "\n".join(_dense(_text(name)) for name in ("sums.js", "page.js"))
    return environment.get_template("page.html.j2").render(
        page=page,
        # The script finds a block by its number, wherever it stands.
        sections=[
            (section, [(next(numbers), block) for block in section.blocks])
            for section in page.sections
        ],
        columns_of=_columns,
        measures={measure.name: measure for measure in page.measures},
        dimensions={dimension.name: dimension for dimension in page.cube.dimensions},
        periods=PERIODS[page.cube.unit],
        kind_of=_kind,
        is_broad=_is_broad,
        style=style() + (_dense(_text("insights.css")) if page.insights() else ""),
        script=script,
        script_hashes=f"{_hash(_FIRST)} {_hash(script)}",
        first_script=_FIRST,
        first=content.first,
        parts=content.parts,
        day_text=_day_text,
        findings=content.findings,
        as_text=figures.as_text,
        **{name: getattr(insights, name) for name in _OF_FINDINGS},
        archive=content.archive,
        state_mark=STATE_MARK,
    )


def style() -> str:
    """The stylesheet of pages, with their colours."""
    return theme.variables() + _dense(_text("kit.css"))


def _day_text(page: Page, day: date) -> str:
    return f"{day:%b %Y}" if page.cube.unit == "month" else f"{day:%b} {day.day}, {day.year}"


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


def _is_broad(block: Block) -> bool:
    """Whether a block needs the whole width."""
    return isinstance(block, Hours) or (isinstance(block, Listing) and len(block.columns) > 6)


def _columns(cards: Cards) -> int:
    """How many columns cards fill, with a headline as large as four of them."""
    count = len(cards.measures)
    return 2 + math.ceil((count - 1) / 2) if cards.has_headline else count


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _dense(text: str) -> str:
    """A script or stylesheet of the kit without indents and comments that have lines of their own.

    No text in them spans lines, so this changes nothing else.
    """
    own_line = r"\s*//.*|\s*/\*.*|\s+\*( .*|/)?"
    return re.sub(rf"^({own_line})$\n|^\s+", "", text, flags=re.MULTILINE)


def _hash(script: str) -> str:
    """The script's entry in the page's Content-Security-Policy, which allows no other script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
