"""The dashboard's dates, colours and packing, without a server or browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from datetime import date, timedelta
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from softcart_assets.assembly import LINES
from softcart_assets.pages.shop import charts, data, page

DAYS = st.dates(date(1970, 1, 2), date(2100, 12, 31))


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", charts.THEMES.values(), ids=charts.THEMES)
def test_text_and_lines_stand_out(theme):
    for background in ("card", "paper"):
        for text in ("ink", "muted", "accent", "good", "bad", "warn"):
            assert contrast(theme[text], theme[background]) >= 4.5, (text, background)
    assert contrast(theme["ink"], theme["tint"]) >= 4.5
    for line in ("accent", "previous"):
        assert contrast(theme[line], theme["card"]) >= 2.5, line


@given(DAYS, st.integers(1, 800))
def test_ranges_that_follow_each_other_do_so_a_year_before(start, length):
    end = start + timedelta(length - 1)
    _, before_end = data.year_before(start, end)
    next_before, _ = data.year_before(end + timedelta(1), end + timedelta(length))
    assert next_before == before_end + timedelta(1)


@given(DAYS, st.integers(0, 2000))
@example(date(2000, 2, 28), 0)  # a day was missing between these twelve months and those before
@example(date(2000, 2, 29), 0)
@example(date(2001, 2, 28), 0)
def test_named_periods_end_with_the_data(last, length):
    named = data.periods(last - timedelta(length), last)
    assert {end for _, end in named.values()} == {last}
    assert (last - named["30d"][0]).days == 29
    assert 365 <= (last - named["12m"][0]).days + 1 <= 366
    assert data.year_before(*named["12m"])[1] + timedelta(1) == named["12m"][0]


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    )
)
def test_packed_data_is_whole_and_cannot_end_its_element(document):
    packed = page._pack({"document": document})
    assert not set(packed) & set("<>&")
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == {"document": document}


def test_each_step_of_the_ladder_leaves_out_more():
    assert all(set(finer) < set(coarser) for finer, coarser in pairwise(data._LADDER))


@pytest.mark.parametrize(
    "dashboard", [each for line in LINES for each in line.dashboards], ids=lambda each: each.name
)
def test_a_dashboard_declares_every_table_that_it_reads(dashboard):
    """It is not built again while these are the same."""
    package = find_spec(dashboard.package)
    sources = "".join(file.read_text() for file in Path(package.origin).parent.rglob("*.py"))
    published = {table.name for table in LINES.published}
    found = published.intersection(re.findall(r"\bproduction\.(\w+)", sources))
    assert found == set(dashboard.reads)


def test_the_script_of_the_charts_is_made_once(tmp_path, monkeypatch):
    """It took 1.5 s in each run."""
    (tmp_path / ".vega-0.1.js").write_text("old")
    script = page._vega(tmp_path)
    [kept] = tmp_path.iterdir()
    assert kept.read_text() == script
    monkeypatch.delattr(page, "vl_convert")
    assert page._vega(tmp_path) == script
