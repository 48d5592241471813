"""The page of the fitness application in headless Chromium: every figure against production, and
the insights against the same statistics by another way, person by person.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
from selenium import webdriver
from selenium.webdriver.common.by import By
from support.browser import chromium
from support.databases import database
from support.training import create_training

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.inspire.extracts import EXTRACTS
from softcart_assets.lines.inspire.groups import OTHERS, hidden
from softcart_assets.lines.inspire.pages import INSPIRE_PAGE
from softcart_assets.lines.model import Extract
from softcart_assets.pages.kit.render import PageResult, build_page
from tests.e2e.test_pages import drawn_figures, first_figures, open_page, shown, violations

Z = 1.959963984540054
BANDS = ("under 20", "20s", "30s", "40s", "50s", "60s", "70 and over")
NEWEST = date(2026, 3, 1)


@pytest.fixture(scope="module")
def production(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_training(connection)
        yield connection


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def built(production: PostgresConnection, tmp_path_factory: pytest.TempPathFactory) -> PageResult:
    return build_page(production, INSPIRE_PAGE, tmp_path_factory.mktemp("pages") / "inspire.html")


def rows(production: PostgresConnection, query: str) -> list[dict[str, Any]]:
    with production.connect(row_factory=dict_row) as session:
        return session.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def people(production: PostgresConnection) -> dict[int, dict[str, Any]]:
    found = rows(
        production,
        "SELECT * FROM production.dim_customer WHERE is_current AND line_of_business = 'inspire'",
    )
    return {row["customer_id"]: row for row in found}


@pytest.fixture(scope="module")
def months(production: PostgresConnection) -> list[dict[str, Any]]:
    return rows(production, "SELECT * FROM production.agg_engagement_by_user_month")


@pytest.fixture(scope="module")
def figures(browser: webdriver.Chrome, built: PageResult) -> dict[tuple[str, str], str]:
    browser.get_log("browser")
    open_page(browser, built.path)
    found = shown(browser)
    assert browser.get_log("browser") == []
    return found


def estimate(y: list[float], x: list[float]) -> tuple[float, float, float]:
    """The ratio of sums over people, with its interval from what each is apart from it."""
    value, n = sum(y) / sum(x), len(y)
    apart = sum((did - value * time) ** 2 for did, time in zip(y, x, strict=True))
    reach = Z * math.sqrt(n / (n - 1) * apart) / sum(x) / value
    return value, value * math.exp(-reach), value * math.exp(reach)


def points(figures: dict[tuple[str, str], str], name: str) -> dict[str, float]:
    return {
        place: float(text)
        for (figure, place), text in figures.items()
        if figure == f"{name}-point" and text
    }


def interval(figures: dict[tuple[str, str], str], name: str) -> tuple[float, ...]:
    return tuple(float(figures[f"{name}{end}", ""]) for end in ("", "-low", "-high"))


def around(month: date) -> tuple[date, date]:
    """The months before and after."""
    number = month.year * 12 + month.month - 1
    before, after = (divmod(number + n, 12) for n in (-1, 1))
    return date(before[0], before[1] + 1, 1), date(after[0], after[1] + 1, 1)


def near(values: Any) -> Any:
    return pytest.approx(values, abs=2e-6)


def in_groups(months: list[dict[str, Any]], half: str, column: str) -> dict[tuple[date, str], list]:
    """The rows with any of `half`, by month and group: small ones together, and no small month."""
    found: dict[date, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for row in months:
        if row[half] and row["month"] > date(1900, 1, 1):
            found[row["month"]][row[column]].append(row)
    small = hidden({month: sum(map(len, parts.values())) for month, parts in found.items()})
    groups: dict[tuple[date, str], list] = defaultdict(list)
    for month, parts in found.items():
        left_out = hidden({part: len(each) for part, each in parts.items()})
        for part, each in parts.items():
            if month not in small:
                groups[month, OTHERS if part in left_out else part] += each
    return groups


def test_every_figure_of_the_cube_equals_production(
    figures: dict[tuple[str, str], str], months: list
) -> None:
    wanted: Counter[tuple[str, str]] = Counter()
    over: Counter[tuple[str, str]] = Counter()
    columns = {
        "workouts": "workout_count",
        "days": "active_days",
        "time": "duration_seconds",
        "visits": "session_count",
        "views": "page_views",
    }
    for half in ("workout_count", "session_count"):
        for (month, goal), group in in_groups(months, half, "goal_code").items():
            assert len(group) >= 10
            if month < date(2025, 4, 1):
                continue
            for prefix, place in (("", ""), ("goal-", json.dumps([goal]))):
                if half == "workout_count":
                    wanted[f"{prefix}active", place] += len(group)
                for name, column in columns.items():
                    if (half == "session_count") == (name in ("visits", "views")):
                        wanted[f"{prefix}{name}", place] += sum(row[column] for row in group)
                if half == "workout_count" and month < NEWEST:
                    over[f"{prefix}each", place] += len(group)
                    wanted[f"{prefix}each", place] += sum(row["workout_count"] for row in group)
    compared = set()
    for place, value in wanted.items():
        if place in figures:
            text = figures[place]
            assert text
            exact = Decimal(value) / over[place] if place in over else value
            assert abs(Decimal(text) - exact) < Decimal("0.0001"), place
            compared.add(place[0])
    assert len(compared) == 5 + 5


def test_neither_page_nor_extract_tells_of_few_people(
    built: PageResult, production: PostgresConnection, months: list
) -> None:
    cube = rows(production, f"SELECT * FROM {INSPIRE_PAGE.cube.fact} f WHERE f.is_told")
    for half in ("workout_count", "session_count"):
        by_goal = Counter((row["month"], row["part"]) for row in cube if row[half])
        expected = in_groups(months, half, "goal_code")
        assert by_goal == {key: len(group) for key, group in expected.items()}
        assert min(by_goal.values()) >= 10
        # Some goals of the first months are too small, and so is the month with the odd date.
        assert {part for _, part in by_goal} > {OTHERS, "run_5k"}
        assert len(expected) < len(
            {(row["month"], row["goal_code"]) for row in months if row[half]}
        )
    [extract] = [each for each in EXTRACTS if each.name == "ext_engagement_monthly"]
    found = rows(production, extract.sql)
    told = {half: in_groups(months, half, "region") for half in ("workout_count", "session_count")}
    assert {(row["month"], row["region"]): row["active_count"] for row in found} == {
        key: len(told["workout_count"].get(key, ())) for key in {*chain(*told.values())}
    }
    assert all(row["active_count"] >= 10 for row in found if row["workout_count"])
    assert OTHERS in {row["region"] for row in found}
    assert not any("region" in str(each) for each in INSPIRE_PAGE.cube.dimensions)


def test_the_first_figures_are_those_of_the_script(
    browser: webdriver.Chrome, built: PageResult
) -> None:
    open_page(browser, built.path)
    assert drawn_figures(browser) == first_figures(built.path)


def test_regions_are_per_registered_person(
    figures: dict[tuple[str, str], str], people: dict, months: list
) -> None:
    did: Counter[int] = Counter()
    for row in months:
        if date(2025, 3, 1) <= row["month"] < NEWEST:
            did[row["user_id"]] += row["workout_count"]
    by_region: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
    for user, person in people.items():
        began = max(datetime(2025, 3, 1), person["created_at"].replace(tzinfo=None))
        if person["is_deleted"] or began >= datetime(2026, 3, 1):
            continue
        y, x = by_region[person["region"] or "Unknown"]
        y.append(did[user])
        x.append((datetime(2026, 3, 1) - began).total_seconds() / 86400 / 30.4375)
    wanted = {region: estimate(*each) for region, each in by_region.items()}
    assert len(wanted) == 4
    assert points(figures, "where") == near({k: 1000 * v[0] for k, v in wanted.items()})
    whole = estimate(*(list(chain(*(each[n] for each in by_region.values()))) for n in (0, 1)))
    # Benjamini and Hochberg, by the error on the scale of logarithms.
    chances = sorted(
        (2 - 2 * NormalDist().cdf(abs(math.log(v / whole[0])) / (math.log(high / v) / Z)), region)
        for region, (v, _, high) in wanted.items()
    )
    passed = [n for n, (chance, _) in enumerate(chances, 1) if chance <= 0.05 * n / len(chances)]
    clear = [wanted[region] for _, region in chances[: max(passed, default=0)]]
    above = [each for each in clear if each[0] > whole[0]]
    below = [each for each in clear if each[0] < whole[0]]
    told = max(above, key=lambda each: each[1], default=None) or min(
        below, key=lambda each: each[2], default=whole
    )
    assert interval(figures, "where") == near(tuple(1000 * each for each in told))


def test_seasons_are_those_of_another_regression(
    figures: dict[tuple[str, str], str], months: list
) -> None:
    done: Counter[date] = Counter()
    active: Counter[date] = Counter()
    trained = {(row["user_id"], row["month"]) for row in months if row["workout_count"]}
    for row in months:
        before, after = around(row["month"])
        kept_on = {(row["user_id"], before), (row["user_id"], after)} <= trained
        if row["workout_count"] and kept_on and after < NEWEST:
            done[row["month"]] += row["workout_count"]
            active[row["month"]] += 1
    days = sorted(done)
    assert len(days) == 24
    length = {day: (day.replace(day=28).toordinal() + 4, day) for day in days}
    size = {
        day: date.fromordinal(end).replace(day=1).toordinal() - day.toordinal()
        for day, (end, _) in length.items()
    }
    logs = np.array([math.log(done[day] / (active[day] * size[day])) for day in days])
    time = np.arange(24.0)
    # A constant for each month of the year, instead of effects that add up to nothing.
    design = np.column_stack(
        [time, time**2, *(np.array([d.month == m for d in days]) for m in range(1, 13))]
    )
    weights = np.linalg.lstsq(design, logs, rcond=None)[0]
    effects = weights[2:] - weights[2:].mean()
    top = int(np.argmax(effects))
    left = logs - design @ weights
    pick = np.zeros(14)
    pick[2:] = -1 / 12
    pick[2 + top] += 1
    error = math.sqrt(left @ left / 10 * (pick @ np.linalg.inv(design.T @ design) @ pick))
    reach = 2.228139 * error
    assert interval(figures, "seasons") == pytest.approx(
        [math.expm1(effects[top] + each) for each in (0, -reach, reach)], rel=2e-3
    )
    drawn = points(figures, "seasons")
    assert len(drawn) == 23
    apart = {
        f"{d.year} {d:%b}": math.expm1(effects[d.month - 1] + rest)
        for d, rest in zip(days, left, strict=True)
    }
    # Of 2026 there is one month, which is no line.
    del apart["2026 Jan"]
    assert drawn == near(apart)


def test_segments_join_two_lines(
    figures: dict[tuple[str, str], str], production: PostgresConnection, people: dict, months: list
) -> None:
    person = {row["person_id"]: user for user, row in people.items() if not row["is_deleted"]}
    goals: dict[int, tuple[date, str]] = {}
    for row in months:
        if row["month"] > date(1900, 1, 1):
            goals[row["user_id"]] = max(
                goals.get(row["user_id"], (date.min, "")), (row["month"], row["goal_code"])
            )
    shoppers = {
        row["customer_id"]: person[row["person_id"]]
        for row in rows(
            production,
            "SELECT * FROM production.dim_customer WHERE line_of_business = 'shop' AND is_current",
        )
        if person.get(row["person_id"]) in goals
    }
    departments = {
        row["product_id"]: row["department_name"]
        for row in rows(production, "SELECT * FROM production.dim_product WHERE is_current")
    }
    bought: dict[int, set[str]] = defaultdict(set)
    for row in rows(production, "SELECT * FROM production.fct_order_lines WHERE NOT is_cancelled"):
        department = departments[row["product_id"]]
        if row["customer_id"] in shoppers and department:
            bought[shoppers[row["customer_id"]]].add(department)
    pairs = {}
    for code, name in (("run_5k", "Run 5 km"), ("build_strength", "Build strength")):
        for department in ("Sports", "Books", "Home"):
            table = Counter(
                (goals[user][1] == code, department in had) for user, had in bought.items()
            )
            # Ten with both, and ten with the goal alone.
            if table[True, True] >= 10 and table[True, False] >= 10:
                keys = ((1, 1), (1, 0), (0, 1), (0, 0))
                pairs[name, department] = [table[key] + 0.5 for key in keys]
    assert pairs
    best: dict[str, list] = defaultdict(list)
    # All intervals hold together.
    wide = NormalDist().inv_cdf(1 - 0.05 / 2 / len(pairs))
    for (name, department), cells in pairs.items():
        value = math.log(cells[0] * cells[3] / cells[1] / cells[2])
        reach = wide * math.sqrt(sum(1 / cell for cell in cells))
        found = tuple(math.exp(value + each) for each in (0, -reach, reach))
        best[name].append((found[1], department, found))
    chosen = {name: max(each) for name, each in best.items()}
    assert points(figures, "lift") == near(
        {f"{n}: {each[1]}": each[2][0] for n, each in chosen.items()}
    )
    assert interval(figures, "lift") == near(max(chosen.values())[2])
    segments = {
        row["customer_id"]: row["segment"]
        for row in rows(production, "SELECT * FROM production.agg_rfm_by_customer")
    }
    names = {"run_5k": "Run 5 km", "build_strength": "Build strength", "none": "none"}
    crowd = Counter(
        f"{segments[customer]} {names[goals[user][1]]}" for customer, user in shoppers.items()
    )
    listed = {
        place: int(text) for (name, place), text in figures.items() if name == "segments-people"
    }
    assert listed == {key: count for key, count in crowd.items() if count >= 10}
    assert len(listed) < len(crowd)


def test_ages_are_of_people_who_keep_on(
    figures: dict[tuple[str, str], str], people: dict, months: list
) -> None:
    trained = {(row["user_id"], row["month"]): row for row in months if row["workout_count"]}
    did: dict[int, tuple[float, float]] = {}
    for (user, month), row in trained.items():
        before, after = around(month)
        if month < date(2025, 3, 1) or after >= NEWEST:
            continue
        if (user, before) in trained and (user, after) in trained:
            y, x = did.get(user, (0.0, 0.0))
            did[user] = y + row["active_days"], x + (after - month).days / 7
    by_band: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
    for user, (y, x) in did.items():
        birth = people[user]["birth_date"]
        if birth:
            years = 2026 - birth.year - ((birth.month, birth.day) > (3, 1))
            band = BANDS[min(6, max(0, years // 10 - 1))]
            by_band[band][0].append(y)
            by_band[band][1].append(x)
    sizes = sorted((len(y), band) for band, (y, _) in by_band.items())
    assert sizes[0][0] >= 10
    wanted = {band: estimate(*each) for band, each in by_band.items()}
    assert points(figures, "ages") == near({band: each[0] for band, each in wanted.items()})
    assert interval(figures, "ages") == near(max(wanted.values()))


def test_peaks_are_shares_of_the_local_week(
    figures: dict[tuple[str, str], str], production: PostgresConnection
) -> None:
    cells: Counter[str] = Counter()
    of_cell: dict[str, set[int]] = defaultdict(set)
    by_person: dict[int, Counter[int]] = defaultdict(Counter)
    for row in rows(production, "SELECT * FROM production.fct_activity"):
        if row["time_of_day_key"] >= 0:
            hour = row["time_of_day_key"] // 60
            cells[f"{row['activity_date']:%a} {hour}"] += 1
            of_cell[f"{row['activity_date']:%a} {hour}"].add(row["customer_id"])
            by_person[row["customer_id"]][hour] += 1
    whole = sum(cells.values())
    drawn = points(figures, "peaks")
    # All of the small table's hours have people enough.
    assert min(map(len, of_cell.values())) >= 10
    assert len(drawn) == 7 * 24
    assert {key: value for key, value in drawn.items() if value} == near(
        {key: count / whole for key, count in cells.items()}
    )
    hours = Counter[int]()
    for each in by_person.values():
        hours += each
    top = max(hours, key=lambda hour: (hours[hour], -hour))
    y = [each[top] for each in by_person.values()]
    x = [sum(each.values()) for each in by_person.values()]
    assert interval(figures, "peaks") == near(estimate(y, x))


def test_each_insight_has_a_sentence_a_picture_and_advice(
    browser: webdriver.Chrome, built: PageResult
) -> None:
    open_page(browser, built.path)
    panels = browser.find_elements(By.CSS_SELECTOR, ".finding")
    assert len(panels) == 5
    for panel in panels:
        sentence = panel.find_element(By.CSS_SELECTOR, ".sentence").text
        assert sentence.endswith(".")
        assert "What to do." in panel.text
        named = panel.find_element(By.CSS_SELECTOR, ".drawn [aria-label]")
        assert len(named.get_attribute("aria-label")) > 30
        assert named.size["height"] > 60
    assert "60s at 8:00; 30s at 18:00" in panels[-1].text
    # Beside the page, for the UI.
    drawn = {"where", "seasons", "lift", "ages", "peaks", "workouts", "visits"}
    assert {*built.pictures} == drawn
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in built.pictures.values())


@pytest.mark.parametrize(("colours", "width"), [("dark", 400), ("light", 1024), ("dark", 1600)])
def test_everybody_can_read_it_on_any_screen(
    browser: webdriver.Chrome, built: PageResult, colours: str, width: int
) -> None:
    assert violations(browser, built.path, colours, width) == []


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_sums_of_extracts_are_those_of_the_facts(
    production: PostgresConnection, extract: Extract
) -> None:
    found = rows(production, extract.sql)
    assert [*found[0]] == [*extract.columns]
    for column, total in extract.totals.items():
        [expected] = rows(production, f"SELECT {total}")
        assert sum(row[column] or 0 for row in found) == next(iter(expected.values())), column
