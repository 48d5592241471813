"""The first figures of a page, as text, for the time until its data have arrived.

The script computes the same and shows the same text, with a sign of the reader's own locale for
less frequent currencies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from softcart_assets.lines.page import Kind, Measure, Page

SCALE: Final = {"money": 100, "amount": 100, "volume": 1_000_000, "duration": 3600}
"""How many of what is summed are one of what is shown, by the kind of a measure."""

_SIGNS: Final = {"EUR": "€", "GBP": "£", "USD": "US$"}


@dataclass(frozen=True)
class First:
    """What a page shows at first: these days, and the figure of each measure as text."""

    begin: date
    end: date
    texts: dict[str, str]


def first_shown(
    page: Page,
    first: date,
    last: date,
    currency: str | None,
    sums: Callable[[date, date], Mapping[str, int]],
) -> First:
    """The figures of the page's own period. `first`, `last`: the days that the cube has.

    `sums`: those of some days, in the currency that the page shows at first.
    """
    begin = max(first, _begin(page.period, first, last))
    measures = {measure.name: measure for measure in page.measures}
    until = {each.settles_days: last - timedelta(each.settles_days) for each in page.measures}
    found = {days: sums(begin, end) for days, end in until.items()}
    return First(
        begin,
        last,
        {
            name: as_text(each.kind, value(measures, name, found[each.settles_days]), currency)
            for name, each in measures.items()
        },
    )


def value(measures: Mapping[str, Measure], name: str, sums: Mapping[str, int]) -> float | None:
    """A measure of these sums, money in cents. None where it is unknown, as actors are here."""
    measure = measures[name]
    if measure.sql is not None:
        return sums[name]
    if measure.plus:
        added, taken = (
            sum(value(measures, part, sums) or 0 for part in parts)
            for parts in (measure.plus, measure.minus)
        )
        return added - taken
    if measure.of is not None:
        above, below = (value(measures, part, sums) for part in measure.of)
        return above / below if above is not None and below else None
    return sums["events"] if measure.counts == "events" else None


def _begin(period: str, first: date, last: date) -> date:
    """The first day of a period up to the last. What the reader chooses later, the script knows."""
    found = re.fullmatch(r"(\d+)([dwm])", period)
    if found is None:
        return first
    count = int(found[1])
    if found[2] == "d":
        return last - timedelta(days=count - 1)
    if found[2] == "w":
        return last - timedelta(days=last.weekday() + 7 * (count - 1))
    month = last.year * 12 + last.month - count
    return date(month // 12, month % 12 + 1, 1)


def as_text(kind: Kind, amount: float | None, currency: str | None = None) -> str:
    """What people read for a figure, as the script writes it."""
    if amount is None:
        return "–"
    exact = Decimal(repr(amount / SCALE.get(kind, 1)))
    match kind:
        case "money" | "amount":
            has_cents = kind == "money" and abs(amount) < 1e5
            sign = _SIGNS.get(currency, f"{currency}\u00a0") if currency else ""
            minus = "-" if amount < 0 else ""
            return f"{minus}{sign}{_number(abs(exact), 2 if has_cents else 0)}"
        case "rate":
            return f"{_number(exact * 100, 1)}%"
        case "volume":
            return f"{_number(exact, 1)} GB"
        case "duration":
            return f"{_number(exact, 0)} h"
        case "decimal":
            return _number(exact, 1)
        case _:
            return _number(exact, 0)


def _number(amount: Decimal, digits: int) -> str:
    # Half a unit goes up, as browsers do it.
    rounded = amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded:,.{digits}f}"
