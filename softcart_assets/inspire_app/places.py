"""Countries and time zones, as the time zone database has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from softcart_assets.lines.inspire.zones import ZONES

_USUAL: Final = "Europe/London"


def _rows(name: str) -> list[list[str]]:
    text = (files("tzdata") / "zoneinfo" / name).read_text()
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


@cache
def country_of() -> Mapping[str, str]:
    """Time zone → code of its country."""
    return {zone: code for code, _, zone, *_ in _rows("zone.tab") if zone in ZONES}


@cache
def zones() -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
    """The zones to choose from, by continent: each with what people call it."""
    names = dict(_rows("iso3166.tab"))
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for zone, code in country_of().items():
        continent, _, place = zone.partition("/")
        # Argentina/Buenos_Aires: the country stands behind it anyway.
        town = place.rpartition("/")[2].replace("_", " ")
        groups[continent].append((f"{town}, {names.get(code, code)}", zone))
    return [
        (continent, [(zone, told) for told, zone in sorted(groups[continent])])
        for continent in sorted(groups)
    ]


def likely_zone(languages: str) -> str:
    """A guess from what a browser sends as `Accept-Language`, such as `de-AT,de;q=0.9`."""
    first = languages.partition(",")[0].partition(";")[0].strip()
    language, _, country = first.partition("-")
    code = (country or language).upper()
    return next((zone for zone, of in country_of().items() if of == code), _USUAL)
