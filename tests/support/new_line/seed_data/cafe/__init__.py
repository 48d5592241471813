"""Seed data of the cafés: a few guests, visits of the last days, and the menu."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pyarrow as pa

from seed_data.common.model import LineSeed, Output, documents
from seed_data.common.parameters import Parameters

DRINKS = ("espresso", "lemonade", "tea")
VISITS = 300


def generate(parameters: Parameters, output: Output) -> None:
    """Write the tables of the sources `cafe` and `cafe_menu`."""
    guests = {"id": [1, 2], "full_name": ["Ann Bean", "Zoë Brew"]}
    output.write("cafe.customers", pa.table(guests))
    numbers = range(1, VISITS + 1)
    output.write(
        "cafe.visits",
        pa.table(
            {
                "id": list(numbers),
                "customer_id": [number % 3 or None for number in numbers],
                "drink_id": [DRINKS[number % 3] for number in numbers],
                "amount": pa.array(
                    [Decimal(number % 5) + Decimal("1.95") for number in numbers],
                    pa.decimal128(12, 2),
                ),
                "visited_at": pa.array(
                    [parameters.until - timedelta(hours=number) for number in numbers],
                    pa.timestamp("us", "UTC"),
                ),
            }
        ),
    )
    menu = [{"_id": name, "name": name.capitalize()} for name in DRINKS]
    output.write("cafe_menu.drinks", documents(menu))


SEED = LineSeed(generate)
