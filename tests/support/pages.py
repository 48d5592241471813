"""A small page of a line that the project does not have, and what is in any page."""

import json
import zlib
from itertools import accumulate
from typing import Any

import pytest
import vl_convert

from softcart_assets.lines.page import (
    Cards,
    Column,
    Cube,
    Dimension,
    Level,
    Listing,
    Measure,
    Page,
    Ranking,
    Rung,
    Section,
    Trend,
)
from softcart_assets.pages.kit import pictures
from softcart_assets.pages.kit.columns import Course
from softcart_assets.pages.kit.pack import as_text

_LISTING = Listing(
    "late", "Late calls", "SELECT 1 AS key", (Column("key", "Key", "count"),), "key", choice="key"
)
CALLS = Page(
    "calls",
    "Calls <now>",
    Cube(
        fact="production.fct_calls",
        joins="LEFT JOIN production.dim_plan p ON p.plan_key = f.plan_key",
        where="true",
        day="f.call_date",
        event="f.call_id",
        moment="f.called_at",
        dimensions=(
            Dimension("plan", "Plan", "Plans", (Level("kind", "p.kind"), Level("plan", "p.name"))),
            Dimension("leg", "Leg", "Legs", (Level("leg", "f.leg"),), grain="item"),
        ),
        ladder=(Rung(3), Rung(1, ("event", "plan"))),
    ),
    (
        Measure("minutes", "Minutes", "count", "Minutes of calls.", sql="f.minutes"),
        Measure("charge", "Charges", "money", "What calls cost.", sql="f.charge"),
        Measure("calls", "Calls", "count", "Calls.", counts="events"),
        Measure("each", "Charge each", "money", "Charge per call.", of=("charge", "calls")),
    ),
    (
        Section("all", "All", (Cards(("minutes", "each")), Trend("minutes"))),
        Section("parts", "Parts", (Ranking("leg", ("charge",)), _LISTING), is_folded=True),
    ),
)


def opened(archive: str) -> tuple[dict, bytes]:
    """The description and the columns of an archive."""
    size, _, letters = archive.partition(":")
    alphabet = [chr(code) for code in range(33, 127) if chr(code) not in "<>&"]
    values = [alphabet.index(letter) for letter in letters]
    bits = "".join(
        f"{high * 91 + low:013b}" for high, low in zip(values[::2], values[1::2], strict=True)
    )
    content = bytes(int(bits[n : n + 8], 2) for n in range(0, int(size) * 8, 8))
    assert set(bits[int(size) * 8 :]) <= {"0"}
    content = zlib.decompress(content, wbits=-15)
    length = int.from_bytes(content[:4], "little")
    return json.loads(content[4 : 4 + length]), content[4 + length :]


def text_of(description: dict, content: bytes) -> str:
    """The archive of a description and columns."""
    text = json.dumps(description).encode()
    packing = zlib.compressobj(wbits=-15)
    archive = packing.compress(len(text).to_bytes(4, "little") + text + content) + packing.flush()
    return as_text(archive)


def column(packed: dict[str, int], content: bytes) -> list[int]:
    """As the script reads it."""
    rows, begin = packed["rows"], packed["at"]
    planes = [content[begin + n * rows : begin + (n + 1) * rows] for n in range(packed["bytes"])]
    values = [
        packed["low"] + sum(plane[row] << 8 * n for n, plane in enumerate(planes))
        for row in range(rows)
    ]
    if "wrap" in packed:
        return [total % packed["wrap"] for total in accumulate(values)]
    return values


def pictured(
    monkeypatch: pytest.MonkeyPatch, page: Page, course: Course | None
) -> dict[str, dict[str, float | None]]:
    """The numbers that the pictures of a page draw, by measure and month."""
    drawn: list[dict[str, Any]] = []

    def keep(text: str, **_: object) -> bytes:
        drawn.append(json.loads(text)["datasets"]["rows"])
        return b""

    monkeypatch.setattr(vl_convert, "vegalite_to_png", keep)
    names = list(pictures.draw(page, course))
    return {
        name: {row["month"]: row["value"] for row in rows}
        for name, rows in zip(names, drawn, strict=True)
    }
