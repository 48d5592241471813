"""The people of the made-up world, who may be customers of several lines of business.

A person is a number from 1. Everything about a person is drawn from the number, so two lines that
give a customer the same number mean the same person. Each line adds its own mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, strings
from seed_data.common.parameters import DAY
from seed_data.common.words import DOMAINS, Pools

ADDRESSES = 3
"""Numbers of addresses that each person has, whether used or not. The first is the home."""


def address_of(person: Column, number: Column | int) -> Column:
    """The number of an address of a person; `number` 0 is the home."""
    return (person - 1) * ADDRESSES + 1 + number


def spelled(draw: Column, plain: Column, variants: Sequence[tuple[float, Column]]) -> Column:
    """One of several spellings: each variant has its share of [0, 1), the rest is `plain`."""
    reached, column = 0.0, None
    for share, variant in variants:
        reached += share
        column = (F if column is None else column).when(draw < reached, variant)
    return plain if column is None else column.otherwise(plain)


class People:
    """The people of one seed. `country` and `place` are numbers, see `Pools`."""

    def __init__(self, dice: Dice, pools: Pools) -> None:
        self._dice = dice
        self._pools = pools

    def place(self, person: Column) -> Column:
        """The number of the place where the person lives."""
        return self._pools.place(self._dice, "customer.place", person)

    def first_name(self, person: Column, country: Column) -> Column:
        """The first name."""
        return self._pools.first_names.at(country, self._first(person))

    def last_name(self, person: Column, country: Column) -> Column:
        """The last name."""
        return self._pools.last_names.at(country, self._last(person))

    def full_name(self, country: Column, first: Column, last: Column) -> Column:
        """The names in the order of the country."""
        return F.when(country.isin(*self._pools.far_eastern), F.concat(last, first)).otherwise(
            F.concat_ws(" ", first, last)
        )

    def handle(self, person: Column, country: Column) -> Column:
        """The name in Latin letters, with a dot between first and last name."""
        return F.concat_ws(
            ".",
            self._pools.first_slugs.at(country, self._first(person)),
            self._pools.last_slugs.at(country, self._last(person)),
        )

    def email(self, person: Column, country: Column) -> Column:
        """The e-mail address. No two people have the same."""
        return F.concat_ws(
            "",
            self.handle(person, country),
            person.cast("string"),
            F.lit("@"),
            self._dice.pick(strings(DOMAINS), len(DOMAINS), "customer.domain", person),
        )

    def phone(self, person: Column, country: Column) -> tuple[Column, Column, Column]:
        """The phone number: calling code with `+`, area, and number in it."""
        return (
            self._pools.dials[country],
            self._dice.integer(100, 900, "customer.phone_area", person).cast("string"),
            self._dice.integer(1_000_000, 9_000_000, "customer.phone_number", person).cast(
                "string"
            ),
        )

    def gender(self, person: Column) -> Column:
        """`f`, `m` or `x`."""
        return self._dice.weighted({"f": 51, "m": 47, "x": 2}, "customer.gender", person)

    def born(self, person: Column, end: int) -> Column:
        """The day of birth as text. People are 17 to 83 years old at `end`."""
        age = self._dice.uniform("customer.age", person) + self._dice.uniform(
            "customer.age2", person
        )
        born = F.timestamp_micros(F.lit(end) - ((age * 33 + 17) * 365.25 * DAY).cast("bigint"))
        return F.date_format(born, "yyyy-MM-dd")

    def street(self, address: Column, country: Column) -> Column:
        """Street and number of an address."""
        street = self._pools.streets.at(country, self._dice.uniform("address.street", address))
        house = F.pow(self._dice.uniform("address.house", address), F.lit(2)) * 180 + 1
        return F.concat_ws(" ", street, house.cast("int").cast("string"))

    def postal_code(self, address: Column, place: Column) -> Column:
        """Postal code of an address."""
        digits = F.lpad(
            self._dice.integer(0, 1000, "address.postal", address).cast("string"), 3, "0"
        )
        return F.call_function(
            "translate",
            self._pools.postal_patterns[place],
            F.lit(self._pools.POSTAL_DIGITS),
            digits,
        )

    def _first(self, person: Column) -> Column:
        return self._dice.uniform("customer.first_name", person)

    def _last(self, person: Column) -> Column:
        return self._dice.uniform("customer.last_name", person)
