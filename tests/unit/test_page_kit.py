"""Declarations of pages, their packing and their file, without a server or browser."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pages import CALLS, column, opened

from softcart_assets.extracts import dictionary
from softcart_assets.lines.page import (
    Dimension,
    Finding,
    Hours,
    Insight,
    Level,
    Measure,
    Page,
    PageDeclarationError,
    Point,
    Ranking,
    Section,
    Trend,
)
from softcart_assets.lines.shop.pages import SALES
from softcart_assets.pages import lineage
from softcart_assets.pages.kit import (
    cube,
    figures,
    insights,
    pack,
    pictures,
    query,
    render,
    theme,
)
from softcart_assets.pages.kit.columns import Columns, Course


@given(st.lists(st.lists(st.integers(-(2**52), 2**52 - 1)), max_size=4))
def test_columns_come_back_from_an_archive(columns):
    packer = pack.Packer()
    packed = [packer.add(values) for values in columns]
    description, content = opened(packer.archive({"columns": packed, "day": date(2026, 1, 2)}))
    assert [column(each, content) for each in description["columns"]] == columns
    assert description["day"] == "2026-01-02"


def test_a_number_that_a_browser_would_round_is_an_error():
    with pytest.raises(OverflowError, match="exactly"):
        pack.Packer().add([0, 2**53])


@given(st.recursive(st.text() | st.integers(), st.lists))
def test_no_text_ends_the_element_of_the_data(value):
    archive = pack.Packer().archive({"value": value})
    assert not set(archive) & set("<>&")
    assert opened(archive)[0] == {"value": value}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 9), st.integers(-300, 900)), min_size=1)
)
def test_distinct_amounts_and_their_ratios_are_exact(entries):
    entries = entries * 4  # otherwise they do not repeat enough
    keys, main, other = (list(each) for each in zip(*entries, strict=True))
    found = pack.distinct_amounts(keys, [main, other], 4)
    if found is None:
        assert len(set(entries)) > len(entries) // 3
        return
    at = [found.begins[key] + row for key, row in zip(keys, found.rows, strict=True)]
    assert [found.columns[0][n] for n in at] == main
    assert [found.columns[1][n] for n in at] == other
    ratios, rest = pack.rest_of_ratio(found, *found.columns)
    lengths = np.diff([*found.begins, len(found.columns[0])])
    for n, key in enumerate(np.repeat(range(4), lengths)):
        guess = np.floor(found.columns[0][n] * float(ratios[key]) / 1e6 + 0.5)
        assert rest[n] + guess == found.columns[1][n]


def test_a_share_of_the_main_amount_leaves_no_rest():
    """Tax is such a share."""
    main = [100, 250, 999, 100]
    amounts = pack.Amounts([0, 1, 2, 0], [0, 3], [main])
    ratios, rest = pack.rest_of_ratio(amounts, main, [21, 53, 210, 9])
    assert list(ratios) == [210000, 90000]
    assert list(rest) == [0, 0, 0, 0]


def with_measures(*extra: Measure) -> tuple[Measure, ...]:
    return (*CALLS.measures, *extra)


CALLERS = with_measures(
    Measure("callers", "Callers", "count", "", counts="actors"),
    Measure("share", "Calls each", "decimal", "", of=("calls", "callers")),
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measures": with_measures(Measure("x", "X", "count", ""))}, "exactly one of"),
        (
            {"measures": with_measures(Measure("x", "X", "rate", "", of=("gone", "calls")))},
            "'gone'",
        ),
        ({"sections": (Section("s", "S", (Trend("gone"),)),)}, "Trend names 'gone'"),
        ({"sections": (Section("s", "S", (Ranking("gone", ("calls",)),)),)}, "'gone'"),
        # A call with two legs of a kind would count twice.
        ({"sections": (Section("s", "S", (Ranking("leg", ("each",)),)),)}, "do not add up"),
        ({"measures": with_measures(CALLS.measures[0])}, "two measures have the name minutes"),
        (
            {"measures": with_measures(Measure("x", "X", "count", "", sql="1", minus=("calls",)))},
            "minus goes with plus",
        ),
        # Nobody counts the callers of a day.
        (
            {"measures": CALLERS, "sections": (Section("s", "S", (Trend("share"),)),)},
            "whole period",
        ),
        (
            {
                "measures": CALLERS,
                "sections": (Section("s", "S", (Ranking("plan", ("callers",)),)),),
            },
            "whole period",
        ),
        ({"sections": (Section("s", "S", (Hours(),)),)}, "needs the cube's hour"),
        (
            {
                "cube": replace(CALLS.cube, hour="f.hour"),
                "sections": (Section("s", "S", (Hours("leg"),)),),
            },
            "leg is a dimension of items",
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_is_an_error(change, says):
    with pytest.raises(PageDeclarationError, match=says):
        replace(CALLS, **change)


def test_a_rung_leaves_out_the_finer_level_first():
    coarse = query.CubeQuery(CALLS, CALLS.cube.ladder[1])
    assert list(coarse.event) == ["day", "plan_kind", "event"]
    assert coarse.event["event"] == "NULL"
    full = query.CubeQuery(CALLS, CALLS.cube.ladder[0])
    assert list(full.event) == ["day", "plan_kind", "plan_plan", "event"]


@pytest.mark.parametrize("page", [CALLS, SALES], ids=lambda page: page.name)
def test_the_file_has_a_place_for_every_block_and_runs_its_scripts_only(page):
    text = render.html(page, cube.Content("QUJD", None, None, {}, None))
    assert re.findall(r'id="block-(\d+)"', text) == [str(n) for n, _ in enumerate(page.blocks())]
    identities = re.findall(r' id="([^"]+)"', text)
    assert len(identities) == len(set(identities))
    named = set(re.findall(r'aria-labelledby="([^"]+)"', text))
    assert named <= set(identities)
    assert text.count("</script>") == 3
    for opening in ("<script>", '<script type="module">'):
        script = text.split(opening)[1].split("</script>")[0]
        assert render._hash(script) in html.unescape(text)
    assert "Calls <now>" not in text
    # With the largest archive, a page has less than 800 KB.
    assert len(text.encode()) + cube.ARCHIVE_LIMIT < 800_000


def test_only_comments_and_indents_are_left_out_of_a_script():
    text = '/** A\n * B\n */\nfunction a() {\n  // C\n  return "// D" * 2; // E\n}\n* { x: y; }\n'
    assert render._dense(text) == 'function a() {\nreturn "// D" * 2; // E\n}\n* { x: y; }\n'


CURRENCIES = replace(
    CALLS,
    cube=replace(
        CALLS.cube,
        dimensions=(
            *CALLS.cube.dimensions,
            Dimension(
                "currency",
                "Currency",
                "Currencies",
                (Level("currency", "f.currency", names="SELECT 'EUR', 'Euro'"),),
                is_single=True,
            ),
        ),
        currency="currency",
    ),
)


def rows_of_calls() -> Columns:
    """Calls on the 1st of January and in March: two in dollars, three in euros, one in neither."""
    columns = Columns(query.CubeQuery(CURRENCIES, CURRENCIES.cube.ladder[0]), date(2026, 1, 1))
    calls = [(0, "USD", 1000), (0, "EUR", 1), (0, None, 7), (60, "USD", 1000), (60, "EUR", 2)]
    columns.add(
        [
            (day, "prepaid", "Plan", currency, number, leg, 1, charge, 0)
            for number, (day, currency, charge) in enumerate([*calls, (61, "EUR", 4)])
            for leg in (1, 2)
        ]
    )
    return columns


def test_currencies_are_never_added():
    """Pictures and the figures of a run added dollars to euros."""
    columns = rows_of_calls()
    assert columns.by_currency() == {
        "EUR": {"minutes": 6, "charge": 14},
        "USD": {"minutes": 4, "charge": 4000},
        None: {"minutes": 2, "charge": 14},
    }
    assert next(iter(columns.by_currency())) == "EUR"
    assert columns.course() == Course(
        date(2026, 1, 1),
        "EUR",
        {
            date(2026, 1, 1): {"minutes": 2, "charge": 2, "events": 1},
            date(2026, 2, 1): {"minutes": 0, "charge": 0, "events": 0},
            date(2026, 3, 1): {"minutes": 4, "charge": 12, "events": 2},
        },
    )
    packed = columns.packed(pack.Packer())
    paths = [path for [path] in packed["paths"]["currency"]]
    assert dict(zip(paths, packed["often"]["currency"], strict=True)) == {
        "EUR": 3,
        "USD": 2,
        None: 1,
    }


def test_a_page_has_names_of_keys_in_its_rows_only():
    """The names of products that never sold took the place of orders."""
    names = {"currency.currency": {"EUR": "Euro", "CHF": "Franc"}}
    assert rows_of_calls().named(names) == {"currency.currency": {"EUR": "Euro"}}


def test_a_saved_table_marks_formulas_as_the_extracts_do():
    script = render._text("page.js")
    assert f"= /{dictionary.BEGINS}/;" in script
    assert f"= /{dictionary.INSIDE}/g;" in script


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("name", theme.THEMES)
def test_text_and_lines_stand_out(name):
    colors = theme.THEMES[name]
    for background in ("card", "paper"):
        for text in ("ink", "muted", "accent", "good", "bad"):
            assert contrast(colors[text], colors[background]) >= 4.5, (text, background)
    assert contrast(colors["ink"], colors["tint"]) >= 4.5
    for line in ("accent", "previous"):
        assert contrast(colors[line], colors["card"]) >= 2.5, line


def test_each_trend_is_a_picture_of_the_same_sums():
    months = {
        date(2026, month, 1): {"minutes": 60 * month, "charge": 1234, "events": 4}
        for month in range(1, 7)
    }
    course = Course(date(2026, 1, 14), "EUR", months)
    assert set(pictures.draw(CALLS, course)) == {"minutes"}
    assert pictures.draw(CALLS, course)["minutes"].startswith(b"\x89PNG")
    assert pictures.draw(CALLS, None) == {}
    measures = {measure.name: measure for measure in CALLS.measures}
    assert figures.value(measures, "each", months[date(2026, 1, 1)]) == 1234 / 4
    # The first month begins on the 14th, and the last goes on.
    whole = [point["whole"] for point in pictures.points(measures, "minutes", course)]
    assert whole == [False, True, True, True, True, False]
    full = pictures.points(measures, "minutes", replace(course, first=date(2026, 1, 1)))
    assert full[0]["whole"]


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        ("money", 99999, "€999.99"),
        ("money", -1, "-€0.01"),
        ("money", 100050, "€1,001"),
        ("money", 1731.5, "€17.32"),
        ("amount", 99, "€1"),
        ("count", 1234567, "1,234,567"),
        ("volume", 1_234_550_000, "1,234.6 GB"),
        ("duration", 5400, "2 h"),
        ("decimal", 2.25, "2.3"),
        ("rate", 0.03605, "3.6%"),
        ("rate", None, "–"),
    ],
)
def test_the_first_figures_are_rounded_as_a_browser_does_it(kind, amount, text):
    assert figures.as_text(kind, amount, "EUR") == text


@pytest.mark.parametrize(
    ("period", "begin"),
    [
        ("7d", date(2026, 3, 4)),
        ("13w", date(2025, 12, 15)),
        ("3m", date(2026, 1, 1)),
        ("12m", date(2025, 4, 1)),
        ("all", date(2020, 1, 1)),
    ],
)
def test_the_first_days_are_those_of_the_script(period, begin):
    assert figures._begin(period, date(2020, 1, 1), date(2026, 3, 10)) == begin


@given(st.dates(date(1970, 1, 2), date(2100, 12, 31)), st.integers(1, 3))
def test_a_year_before_is_the_same_date_or_28_february(day, years):
    before = cube.years_before(day, years)
    assert (before.year, before.month) == (day.year - years, day.month)
    assert before.day == day.day or (day.month, day.day, before.day) == (2, 29, 28)


FOUND = Finding(
    "Noon is <busiest>.",
    "Calls at noon",
    0.25,
    0.2,
    0.3,
    "Have more people at noon.",
    (
        Point("11:00", 0.1, "2025", 0.05, 0.15),
        Point("12:00", 0.25, "2025", 0.2, 0.3),
        Point("11:00", None, "2026", None, None),
        Point("12:00", -0.05, "2026", -0.1, 0.0),
    ),
    "Noon 25%",
)


def with_insight(form: str) -> tuple[Insight, Page]:
    queries = {"calls": "SELECT f.leg, f.minutes FROM production.fct_calls f"}
    insight = Insight("noon", "Noon", queries, "json:loads", form, "rate", "By hand.")
    return insight, replace(CALLS, sections=(Section("s", "S", (insight, Trend("minutes"))),))


@pytest.mark.parametrize("form", ["bars", "lines", "shades"])
def test_a_finding_is_told_drawn_and_has_its_numbers(form: str) -> None:
    _, page = with_insight(form)
    content = cube.Content("QUJD", None, None, {}, None, findings={"noon": FOUND})
    text = render.html(page, content)
    assert "Noon is &lt;busiest&gt;." in text
    assert "Have more people at noon." in text
    assert 'aria-label="Noon 25%"' in text
    values = dict(re.findall(r'data-figure="(noon[^"]*)" data-value="([^"]*)"', text))
    assert values["noon"] == "0.250000"
    assert (values["noon-low"], values["noon-high"]) == ("0.200000", "0.300000")
    points = re.findall(r'data-figure="noon-point" data-value="([^"]*)"', text)
    assert points == ["0.100000", "0.250000", "", "-0.050000"]
    assert 'data-key="2025 12:00"' in text
    # What is not known yet is said, and nothing is drawn.
    empty = render.html(page, replace(content, findings={}))
    assert "not enough data" in empty
    assert 'data-figure="noon' not in empty


def test_a_picture_has_room_for_zero_and_all_intervals() -> None:
    room = insights.scale(FOUND.points)
    assert room.marks == (-0.1, 0.0, 0.1, 0.2, 0.3)
    assert [room.share(each) for each in (-0.1, 0.1, 0.3)] == [0, 50, 100]
    assert insights.scale([Point("a", 0.0)]).marks == (0.0, 0.25)
    assert insights.scale([Point("a", 1234.0)]).marks[-1] == 1500
    series = insights.series(FOUND)
    assert insights.path(FOUND, series["2025"], room) == "M0.00,50.00L100.00,12.50"
    assert insights.path(FOUND, series["2026"], room) == "M100.00,87.50"


def test_pictures_of_findings_have_their_numbers() -> None:
    widths = {}
    for form in ("bars", "lines", "shades"):
        insight, page = with_insight(form)
        [axes, *_] = pictures.figure(insight, FOUND).axes
        assert axes.get_title() == "Noon"
        if form == "bars":
            widths = [bar.get_width() for bar in axes.patches]
        elif form == "lines":
            line = axes.lines[0]
            assert list(line.get_ydata()) == [0.1, 0.25]
        else:
            assert list(axes.collections[0].get_array().data.ravel())[:2] == [0.1, 0.25]
    assert widths[0] == pytest.approx(0.1)
    [picture] = pictures.findings(page, {"noon": FOUND}).values()
    assert picture.startswith(b"\x89PNG")
    assert pictures.findings(page, {}) == {}


def test_an_insight_tells_what_it_is_made_of() -> None:
    _, page = with_insight("bars")
    [shown] = [each for each in lineage.shown(page) if each.name == "noon"]
    assert shown.origins == (("fct_calls", "leg"), ("fct_calls", "minutes"))
    assert lineage.finders(page) == ("json",)
    with pytest.raises(PageDeclarationError, match="two insights or measures"):
        replace(page, sections=(*page.sections, Section("t", "T", (with_insight("bars")[0],))))
