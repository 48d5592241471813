"""Made-up invoice lines in the form of Online Retail, with all the kinds that the real ones have.

The real data are not a part of this project. These are like them: a third of the lines is of
guests, one invoice has 1,114 lines, 1.6% of the lines are cancellations. They also have their odd
stock codes, their zero prices and their repeated lines.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from support.online_retail import HEADER

CODES = [
    f"{20_000 + number}{'AB'[number % 2] if number % 5 == 0 else ''}" for number in range(1300)
]
COUNTRIES = ["United Kingdom"] * 12 + ["EIRE", "France", "Channel Islands", "Unspecified"]
LARGEST = 1_114
INVOICES = 420


@dataclass
class Sample:
    """The lines, each with what must become of it: a destination or a reason."""

    lines: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(536_365, 999_999)))

    def write(self, path: Path) -> None:
        """Write a CSV file."""
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, HEADER)
            out.writeheader()
            out.writerows(line for _, line in self.lines)

    def invoice(
        self,
        at: datetime,
        customer: int | None,
        country: str,
        *lines: tuple[str, str, int, str],
        letter: str = "",
    ) -> str:
        """Add an invoice. A line is what becomes of it, code, quantity and price."""
        number = f"{letter}{next(self._numbers)}"
        for kind, code, quantity, price in lines:
            values = (
                number,
                code,
                # Some descriptions have quotes, commas and other than ASCII letters.
                f'SET OF 3 "CAFÉ" TINS, {code.upper()}',
                str(quantity),
                f"{at:%Y-%m-%d %H:%M:%S}",
                price,
                f"{customer}.0" if customer else "",
                country,
            )
            self.lines.append((kind, dict(zip(HEADER, values, strict=True))))
        return number

    def sale(self, code: str) -> tuple[str, str, int, str]:
        """A line of goods."""
        pounds = self._chance.choice(("0.42", "0.85", "1.25", "1.65", "2.1", "4.95", "12.75"))
        return "order_lines", code, self._chance.choice((1, 2, 3, 6, 12, 24)), pounds

    def codes(self, count: int) -> list[str]:
        """Different stock codes. Some are much more popular than others."""
        chosen: dict[str, None] = {}
        while len(chosen) < count:
            chosen[CODES[int(self._chance.paretovariate(0.5)) % 400]] = None
        return list(chosen)


def sample() -> Sample:
    """The same lines each time."""
    made = Sample()
    at = datetime(2010, 12, 1, 8, 26)
    for number in range(INVOICES):
        at += timedelta(minutes=made._chance.randint(5, 2500))
        customer = 12_346 + number % 90 if made._chance.random() < 0.85 else None
        country = COUNTRIES[(customer or number) % len(COUNTRIES)]
        lines = [
            made.sale(code) for code in made.codes(made._chance.randint(1, 12 if customer else 9))
        ]
        if country != "United Kingdom":
            lines.append(("orders.shipping_amount", "POST" if customer else "DOT", 1, "18.00"))
        made.invoice(at, customer, country, *lines)
        if customer and number % 7 == 0:
            # Part of a line comes back, days later.
            _, code, quantity, price = lines[0]
            back = ("returns", code, -((quantity + 1) // 2), price)
            made.invoice(at + timedelta(days=3), customer, country, back, letter="C")
        if number % 15 == 0:
            code, quantity = made.codes(1)[0], made._chance.choice((-30, -2, 5, 100))
            made.invoice(at, None, "United Kingdom", ("inventory_movements", code, quantity, "0"))
    _odd_invoices(made)
    return made


def _odd_invoices(made: Sample) -> None:
    """The rare kinds, and the largest invoice, of a guest."""
    made.invoice(
        datetime(2011, 10, 31, 14, 41),
        None,
        "United Kingdom",
        *(made.sale(code) for code in CODES[: LARGEST - 1]),
        ("orders.shipping_amount", "DOT", 1, "1683.75"),
    )
    # Half past midnight in London's summer is the day, and here the month, before in UTC.
    made.invoice(datetime(2011, 7, 1, 0, 30), 12_350, "France", made.sale(CODES[3]))
    twice = made.sale(CODES[0])
    made.invoice(
        datetime(2011, 3, 4, 10),
        # A customer of another country so far.
        12_350,
        "EIRE",
        twice,
        twice,
        made.sale(CODES[5].lower()),
        ("order_lines", CODES[7], 48, "0.0"),  # a gift
        ("order_lines", "PADS", 1, "0.001"),
        ("order_lines", "M", 1, "37.5"),
        ("order_lines", "gift_0001_20", 2, "16.67"),
        ("orders.shipping_amount", "C2", 1, "50.0"),
        ("orders.shipping_amount", "POST", 2, "0.0"),
        ("samples", "S", 1, "2.5"),
    )
    # A line without a price in a guest's invoice with one.
    made.invoice(
        datetime(2011, 3, 5, 10),
        None,
        "Hong Kong",
        made.sale(CODES[9]),
        ("order_lines", CODES[11], 1, "0.0"),
    )
    made.invoice(
        datetime(2011, 3, 6, 10),
        None,
        "United Kingdom",
        ("orders.shipping_amount", "DOT", 1, "11.5"),
    )
    made.invoice(
        datetime(2011, 3, 6, 11), None, "United Kingdom", ("postage of nothing", "DOT", 1, "0.0")
    )
    made.invoice(
        datetime(2011, 3, 7, 10),
        None,
        "United Kingdom",
        ("a fee of a bank", "BANK CHARGES", 1, "15"),
    )
    for amount in ("11062.06", "-11062.06"):
        made.invoice(
            datetime(2011, 8, 12, 14, 50),
            None,
            "United Kingdom",
            ("an adjustment of bad debt", "B", 1, amount),
            letter="A",
        )
    for customer, kind, code, quantity, price in (
        (None, "a cancellation by a guest names no order", CODES[0], -1, "2.1"),
        # Nobody buys as many.
        (12_350, "a cancellation of more than one line has", CODES[0], -9_360, "0.85"),
        (12_350, "a correction without a product", "M", -1, "37.5"),
        (12_346, "a refund of postage", "POST", -1, "18.0"),
        (None, "a fee of a marketplace", "AMAZONFEE", -1, "13541.33"),
        (14_096, "a commission for a charity", "CRUK", -1, "52.24"),
        (12_346, "a discount that names no order", "D", -1, "27.5"),
        (None, "samples", "S", -1, "33.05"),
    ):
        made.invoice(
            datetime(2011, 12, 9, 12, 31),
            customer,
            "United Kingdom",
            (kind, code, quantity, price),
            letter="C",
        )
