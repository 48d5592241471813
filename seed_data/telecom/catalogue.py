"""The small tables: plans, tariffs and agents. The driver makes them with Python and Faker."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa
from faker import Faker

from seed_data.common.words import DOMAINS
from seed_data.telecom.parameters import TelecomParameters

KINDS = ("voice", "sms", "data")
UNITS = ("minute", "message", "megabyte")
PRICE_CHANGE = 6
"""The month from which the plans with `later` have other prices."""
FOUNDED = datetime(2012, 1, 1, tzinfo=UTC)


class Plan(NamedTuple):
    """A price plan. `fee` and the prices per unit of each kind are cents, before tax.

    `included`: minutes, messages and megabytes per bill cycle. `later`: the prices after a change.
    """

    code: str
    name: str
    kind: str
    fee: int
    included: tuple[int, int, int]
    prices: tuple[int, int, int]
    later: tuple[int, int, int] | None = None
    on_sale: bool = True


PLANS = (
    Plan("PRE-BASIC", "Prepaid Basic", "prepaid", 0, (0, 0, 0), (9, 9, 2), (12, 9, 2)),
    Plan("PRE-SMART", "Prepaid Smart", "prepaid", 0, (0, 0, 0), (5, 5, 1)),
    Plan("POST-S", "Mobile S", "postpaid", 999, (15, 0, 200), (12, 9, 3), (15, 9, 3)),
    Plan("POST-M", "Mobile M", "postpaid", 1999, (40, 5, 1_000), (9, 7, 2)),
    Plan("POST-L", "Mobile L", "postpaid", 3499, (120, 20, 5_000), (7, 5, 1)),
    Plan("CLASSIC", "Mobile Classic", "postpaid", 2499, (20, 0, 100), (19, 19, 5), None, False),
    Plan("BUSINESS", "Business", "postpaid", 2999, (100, 10, 2_000), (8, 6, 1)),
)
"""A plan's id is its place here, from 1."""

PREPAID = (1, 2)
POSTPAID = (3, 3, 3, 4, 4, 4, 5, 6, 6)
"""The plans that people choose, as often as they stand here."""
BUSINESS = (7, 7, 5)

_TIME = pa.timestamp("us", tz="UTC")
_MONEY = pa.decimal128(12, 2)


def money(cents: int) -> Decimal:
    """Cents as an amount."""
    return Decimal(cents).scaleb(-2)


def plans() -> pa.Table:
    """The table `plans`."""
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("code", pa.string()),
            ("name", pa.string()),
            ("kind", pa.string()),
            ("currency", pa.string()),
            ("monthly_fee", _MONEY),
            ("included_minutes", pa.int64()),
            ("included_sms", pa.int64()),
            ("included_mb", pa.int64()),
            ("is_on_sale", pa.int64()),
            ("created_at", _TIME),
            ("updated_at", _TIME),
        ]
    )
    rows = [
        (
            *(number, plan.code, plan.name, plan.kind, "EUR", money(plan.fee), *plan.included),
            *(int(plan.on_sale), FOUNDED, FOUNDED),
        )
        for number, plan in enumerate(PLANS, start=1)
    ]
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def tariff_id(plan: int, kind: int, is_later: bool) -> int:
    """The id of the price of a kind of usage. Plans count from 1, kinds from 0."""
    return ((plan - 1) * len(KINDS) + kind) * 2 + is_later + 1


def tariffs(parameters: TelecomParameters) -> pa.Table:
    """The table `tariffs`."""
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("plan_id", pa.int64()),
            ("kind", pa.string()),
            ("unit", pa.string()),
            ("price", _MONEY),
            ("currency", pa.string()),
            ("valid_from", _TIME),
            ("valid_to", _TIME),
            ("updated_at", _TIME),
        ]
    )
    changed = parameters.month_starts[PRICE_CHANGE]
    rows = []
    for number, plan in enumerate(PLANS, start=1):
        for kind, (name, unit) in enumerate(zip(KINDS, UNITS, strict=True)):
            until = changed if plan.later else None
            first = (FOUNDED, until, until or FOUNDED)
            rows.append(
                (tariff_id(number, kind, False), number, name, unit, plan.prices[kind], *first)
            )
            if plan.later:
                second = (changed, None, changed)
                rows.append(
                    (tariff_id(number, kind, True), number, name, unit, plan.later[kind], *second)
                )
    return pa.Table.from_pylist(
        [
            dict(zip(schema.names, (*row[:4], money(row[4]), "EUR", *row[5:]), strict=True))
            for row in rows
        ],
        schema,
    )


def working_agents(parameters: TelecomParameters) -> int:
    """The number of agents who still work. They have the first ids."""
    return parameters.agents * 4 // 5


def agents(parameters: TelecomParameters) -> pa.Table:
    """The table `agents`. Those who left did so before the data begin."""
    faker, rng = Faker("de_DE"), random.Random(parameters.seed)
    faker.seed_instance(parameters.seed)
    start = parameters.month_starts[0]
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("full_name", pa.string()),
            ("email", pa.string()),
            ("team", pa.string()),
            ("hired_on", pa.date32()),
            ("left_on", pa.date32()),
            ("updated_at", _TIME),
        ]
    )
    rows = []
    for number in range(1, parameters.agents + 1):
        left = start - timedelta(days=rng.randrange(1, 700))
        hired = left - timedelta(days=rng.randrange(30, 2_500))
        is_working = number <= working_agents(parameters)
        rows.append(
            {
                "id": number,
                "full_name": faker.name(),
                "email": f"agent{number}@{rng.choice(DOMAINS)}",
                "team": ("service", "sales", "retention", "billing")[number % 4],
                "hired_on": hired.date(),
                "left_on": None if is_working else left.date(),
                "updated_at": hired if is_working else left,
            }
        )
    return pa.Table.from_pylist(rows, schema)
