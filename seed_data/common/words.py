"""Words for rows about people: names, streets and calling codes by country.

Faker is slow. So it makes a few thousand words on the driver, and Spark samples from them as
literal arrays. Nothing here depends on the number of rows.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from faker import Faker
from pyspark.sql import Column
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, numbers, strings
from seed_data.common.places import COUNTRIES, PLACES

FIRST_NAMES = 250
LAST_NAMES = 400
STREETS = 300
"""How often Faker is asked per locale. Duplicates are dropped."""

RARE_LAST_NAMES = ("𠮷田", "𠮷野", "𠮟山", "𩸽", "𡈽屋")
"""Japanese last names whose characters take four bytes in UTF-8."""

DECORATIONS = ("🌸", "😀", "🦊", "𝒥", "👩‍🚀", "🇪🇺", "🧵", "𓅓")
"""Decorations that customers put behind their names. All take four bytes or more in UTF-8."""

DOMAINS = ("mail.example", "post.example", "inbox.example", "web.example", "courriel.example")
"""Domains of e-mail addresses. RFC 2606 reserves the suffix, so nobody gets mail."""


def _slug(name: str) -> str:
    """The letters of a name for an e-mail address. Names in other scripts give none."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]+", "", ascii_name.lower())


def _ask(provider: Callable[[], str], times: int) -> list[str]:
    return list(dict.fromkeys(provider() for _ in range(times)))


def _number_digits(postal: str) -> str:
    """Give each `#` of a postal code a character of its own.

    Spark's `translate` replaces characters. Equal characters would become equal digits.
    """
    digits = iter(Pools.POSTAL_DIGITS)
    return "".join(next(digits) if character == "#" else character for character in postal)


@dataclass
class Words:
    """The words from Faker, one list per country in the order of `COUNTRIES`.

    `*_slugs` are for e-mail addresses.
    """

    first_names: list[list[str]] = field(default_factory=list)
    last_names: list[list[str]] = field(default_factory=list)
    first_slugs: list[list[str]] = field(default_factory=list)
    last_slugs: list[list[str]] = field(default_factory=list)
    streets: list[list[str]] = field(default_factory=list)


def ask_faker(seed: int) -> Words:
    """The words for one seed."""
    words = Words()
    handles = Faker("en_US")
    handles.seed_instance(seed)
    for country, (_, locale, _) in COUNTRIES.items():
        # A seed for each country, so that its words do not depend on the other countries.
        faker = Faker(locale)
        faker.seed_instance(f"{seed}/{country}")
        first = _ask(faker.first_name, FIRST_NAMES)
        last = _ask(faker.last_name, LAST_NAMES) + list(RARE_LAST_NAMES if country == "JP" else ())
        words.first_names.append(first)
        words.last_names.append(last)
        words.first_slugs.append([_slug(name) or _slug(handles.first_name()) for name in first])
        words.last_slugs.append([_slug(name) or _slug(handles.last_name()) for name in last])
        words.streets.append(_ask(faker.street_name, STREETS))
    return words


class _Ragged:
    """Lists of different lengths as one literal array. A list is found by its number."""

    def __init__(self, lists: list[list[str]]):
        sizes = [len(values) for values in lists]
        self._array = strings(list(itertools.chain.from_iterable(lists)))
        self._sizes = numbers(sizes)
        self._offsets = numbers(list(itertools.accumulate(sizes, initial=0))[:-1])

    def at(self, list_number: Column, uniform: Column) -> Column:
        """The element of the numbered list to which `uniform`, in [0, 1), points."""
        index = self._offsets[list_number] + F.floor(uniform * self._sizes[list_number])
        return self._array[index.cast("int")]


class Pools:
    """Words and places as Spark arrays, numbered as in `places.py`. Needs a running session."""

    POSTAL_DIGITS = "#$%"
    """The characters of `postal_patterns` that stand for digits, first to last."""

    def __init__(self, words: Words):
        self.first_names, self.last_names = _Ragged(words.first_names), _Ragged(words.last_names)
        self.first_slugs, self.last_slugs = _Ragged(words.first_slugs), _Ragged(words.last_slugs)
        self.streets = _Ragged(words.streets)
        self.dials = strings([country.dial for country in COUNTRIES.values()])

        codes = list(COUNTRIES)
        self.country_codes = strings([place.country for place in PLACES])
        self.cities = strings([place.city for place in PLACES])
        self.regions = strings([place.region for place in PLACES])
        self.postal_patterns = strings([_number_digits(place.postal) for place in PLACES])
        self.latitudes = numbers([round(place.latitude * 1e6) for place in PLACES])
        self.longitudes = numbers([round(place.longitude * 1e6) for place in PLACES])
        self.countries = numbers([codes.index(place.country) for place in PLACES], "int")
        self.far_eastern = tuple(codes.index(code) for code in ("JP", "CN"))

    def place(self, dice: Dice, purpose: str, *key: Column) -> Column:
        """The number of a place, as likely as it has customers."""
        in_country: dict[str, int] = {}
        for place in PLACES:
            in_country[place.country] = in_country.get(place.country, 0) + place.weight
        tickets = [
            number
            for number, place in enumerate(PLACES)
            for _ in range(
                round(
                    1000
                    * COUNTRIES[place.country].weight
                    / 100
                    * place.weight
                    / in_country[place.country]
                )
            )
        ]
        return dice.pick(numbers(tickets, "int"), len(tickets), purpose, *key)
