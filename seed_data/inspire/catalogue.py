"""The small tables: goals, quotes, clubs with their challenges, and products that help to train."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from seed_data.common.model import documents
from seed_data.common.parameters import DAY, HOUR
from seed_data.inspire.parameters import InspireParameters
from seed_data.inspire.texts import QUOTES
from seed_data.inspire.truth import GOALS, SPORTS
from seed_data.shop.assortment import DEPARTMENTS
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import make_products

_GOALS = {
    "run_5k": ("Run five kilometres", "run", "minutes"),
    "run_10k": ("Run ten kilometres", "run", "metres"),
    "lose_weight": ("Lose weight", None, "minutes"),
    "build_strength": ("Build strength", "strength", "workouts"),
    "move_daily": ("Move every day", None, "minutes"),
    "sleep_better": ("Sleep better", "yoga", "workouts"),
}
_USES = {
    "Running shoes": (["run", "walk"], ["run_5k", "run_10k", "move_daily"]),
    "Running clothes": (["run"], ["run_5k", "run_10k"]),
    "Yoga": (["yoga", "strength"], ["sleep_better", "build_strength"]),
    "Cycling": (["ride"], ["lose_weight"]),
    "Camping": (["walk"], ["move_daily"]),
}
_CLUBS = ("Runners", "Early Birds", "Riders", "Walkers", "Swimmers", "Iron Friends", "Yogis")
_TIMESTAMP = pa.timestamp("us", "UTC")
_AMOUNT = pa.decimal128(12, 2)
MEMBERS_IN = 0.3
"""The share of people who are in a club."""


def goals(parameters: InspireParameters) -> pa.Table:
    """The table `goals`, numbered as in `truth.GOALS`."""
    rows = [
        {
            "id": number,
            "code": code,
            "name": _GOALS[code][0],
            "activity": _GOALS[code][1],
            "unit": _GOALS[code][2],
            "updated_at": _opening(parameters),
        }
        for number, code in enumerate(GOALS, start=1)
    ]
    return pa.Table.from_pylist(rows)


def quotes(parameters: InspireParameters) -> pa.Table:
    """The table `quotes`."""
    rows = [
        {
            "id": number,
            "text": text,
            "author": author,
            "topic": topic,
            "mood": mood,
            "is_on": 1,
            "updated_at": _opening(parameters),
        }
        for number, (text, author, topic, mood) in enumerate(QUOTES, start=1)
    ]
    return pa.Table.from_pylist(rows)


def clubs(parameters: InspireParameters) -> pa.Table:
    """The table `clubs`."""
    founded = [_founded(parameters, number) for number in range(1, parameters.clubs + 1)]
    names = [f"{_CLUBS[number % len(_CLUBS)]} {number}" for number in range(1, len(founded) + 1)]
    return pa.table(
        {
            "id": list(range(1, len(founded) + 1)),
            "name": names,
            "created_at": pa.array(founded, _TIMESTAMP),
            "updated_at": pa.array(founded, _TIMESTAMP),
        }
    )


def challenges(parameters: InspireParameters) -> pa.Table:
    """The table `challenges`: the last month's and this month's of each club."""
    rows = []
    today = parameters.until.astimezone(UTC).date()
    this = today.replace(day=1)
    last = (this - timedelta(days=1)).replace(day=1)
    following = (this + timedelta(days=32)).replace(day=1)
    units: tuple[tuple[str, int], ...] = (
        ("minutes", 6_000),
        ("metres", 400_000),
        ("workouts", 90),
    )
    for club in range(1, parameters.clubs + 1):
        unit, amount = units[club % len(units)]
        months: tuple[tuple[date, date], ...] = ((last, this), (this, following))
        for number, (start, end) in enumerate(months):
            rows.append(
                {
                    "id": club * 2 + number,
                    "club_id": club,
                    "name": f"{start:%B} together",
                    "unit": unit,
                    "amount": Decimal(amount).quantize(Decimal("0.01")),
                    "starts_on": start,
                    "ends_on": end,
                    "updated_at": datetime(start.year, start.month, 1, tzinfo=UTC),
                }
            )
    schema = pa.schema(
        {
            "id": pa.int64(),
            "club_id": pa.int64(),
            "name": pa.string(),
            "unit": pa.string(),
            "amount": _AMOUNT,
            "starts_on": pa.date32(),
            "ends_on": pa.date32(),
            "updated_at": _TIMESTAMP,
        }
    )
    return pa.Table.from_pylist(rows, schema)


def product_metadata(parameters: InspireParameters) -> pa.Table:
    """The collection `product_metadata`: the shop's products of sports, by its own numbers."""
    products = make_products(ShopParameters(parameters.scale, parameters.seed, parameters.until))
    leaves = {
        each["_id"]: each["name"]
        for each in products.categories
        if each["name"] in DEPARTMENTS[SPORTS].leaves
    }
    rng = random.Random(f"{parameters.seed}/inspire.products")
    rows = []
    for product in products.documents:
        if leaf := leaves.get(product["category_id"]):
            activities, codes = _USES[leaf]
            rows.append(
                {
                    "_id": product["_id"],
                    "activities": activities,
                    "goals": codes,
                    "level": rng.choice(("new", "some", "much")),
                    "updated_at": _opening(parameters),
                }
            )
    return documents(rows)


def _opening(parameters: InspireParameters) -> datetime:
    return datetime.fromtimestamp(parameters.first_day * DAY / 1e6, UTC) - timedelta(days=400)


def _founded(parameters: InspireParameters, number: int) -> datetime:
    share = number / (parameters.clubs + 1)
    span = parameters.end - parameters.first_day * DAY - HOUR
    return _opening(parameters) + timedelta(days=400, microseconds=int(span * share))
