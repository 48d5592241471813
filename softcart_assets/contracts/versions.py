"""What a change of a contract means for those who rely on it, and the version that says so.

Versions are semantic: what breaks readers raises the first number, what they gain the second, and
other words the third.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

FIRST = "1.0.0"
Weight = Literal["breaking", "addition", "text"]
_PLACES: Mapping[str, int] = {"breaking": 0, "addition": 1, "text": 2}
_STRICT = ("public", "pii", "sensitive")
"""Classes of columns. Fewer may read each one than the one before."""


@dataclass(frozen=True)
class Change:
    """One difference. `text`: what it is, for a person."""

    weight: Weight
    text: str


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The differences of two contracts of the same table. Their versions are not compared."""
    found = [*_of_columns(old, new)]
    if _key(old) != _key(new):
        found.append(Change("breaking", f"the key is {_key(new)} instead of {_key(old)}"))
    if found or _without_version(old) == _without_version(new):
        return found
    return [Change("text", "descriptions or promises differ")]


def raised(version: str, weight: Weight) -> str:
    """The version that follows, after a change of that weight."""
    numbers, place = [int(each) for each in version.split(".")], _PLACES[weight]
    numbers[place] += 1
    return ".".join(map(str, [*numbers[: place + 1], *[0] * (2 - place)]))


def heaviest(found: list[Change]) -> Weight:
    """The weight of all these changes together."""
    return min((change.weight for change in found), key=_PLACES.__getitem__)


def _of_columns(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    before, now = _columns(old), _columns(new)
    for name in before.keys() - now.keys():
        yield Change("breaking", f"column {name} is gone")
    for name in now.keys() - before.keys():
        yield Change("addition", f"column {name} is new")
    for name in sorted(before.keys() & now.keys()):
        was, is_ = before[name], now[name]
        if was["physicalType"] != is_["physicalType"]:
            told = f"column {name} is {is_['physicalType']} instead of {was['physicalType']}"
            yield Change("breaking", told)
        stricter = _STRICT.index(is_["classification"]) - _STRICT.index(was["classification"])
        if stricter:
            told = f"column {name} is {is_['classification']} instead of {was['classification']}"
            yield Change("breaking" if stricter > 0 else "addition", told)


def _columns(contract: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each["name"]: each for each in contract["schema"][0]["properties"]}


def _key(contract: Mapping[str, Any]) -> str:
    positions = {
        each["primaryKeyPosition"]: each["name"]
        for each in contract["schema"][0]["properties"]
        if each.get("primaryKey")
    }
    return ", ".join(positions[place] for place in sorted(positions)) or "none"


def _without_version(contract: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in contract.items() if name != "version"}
