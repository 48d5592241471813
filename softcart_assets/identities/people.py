"""From pairs of records to people: which pairs are believed, and which id each person has."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

THRESHOLD: Final = 10.0
"""Bits from which a pair without an identifier in common is believed, beyond those that it takes to
find one customer among all of the largest line: odds of 1,000 to 1. A report that shows one person
as two is a little wrong. One that shows two as one tells somebody's purchases to somebody else."""

MARGIN: Final = 3.0
"""If the second best candidate of a line is less than this many bits behind the best, both are
refused: twins, father and son at one address. Nobody could tell which of them is meant."""


@dataclass(frozen=True, order=True)
class Customer:
    """A customer of a line of business."""

    line: str
    id: int


@dataclass(frozen=True)
class Pair:
    """Two customers who may be one person.

    `rank` is 1 for a common e-mail address, 2 for a common phone number, 3 for a weight alone.
    `weight` is the evidence in bits: how many times likelier these two records are if they are one
    person than if they are not.
    """

    left: Customer
    right: Customer
    rank: int
    weight: float


@dataclass(frozen=True)
class Decision:
    """What a person of the company decided about two customers. It overrules every comparison."""

    left: Customer
    right: Customer
    is_same: bool


@dataclass
class People:
    """Who is who, and what changed since the last time."""

    person_of: dict[Customer, uuid.UUID] = field(default_factory=dict)
    believed: list[Pair] = field(default_factory=list)
    """The pairs that made two people one. Decisions are not among them."""
    expected_precision: float = 1.0
    """The share of the believed pairs that are right, if the model is."""
    refused: list[tuple[Pair, str]] = field(default_factory=list)
    """Pairs that were good enough alone, and why they were not believed."""
    joined: list[tuple[uuid.UUID, uuid.UUID]] = field(default_factory=list)
    """The id that stayed, and the id whose customers came to it."""
    split: list[tuple[uuid.UUID, uuid.UUID]] = field(default_factory=list)
    """The id that a customer had, and the id that it has now."""


def prior(largest: int) -> int:
    """Bits of evidence that it takes to find one customer among `largest`, those of a line.

    Among ten times as many customers, ten times as many strangers look alike. Whole bits, because
    another number decides anew about everybody: a line must double for that.
    """
    return max(largest - 1, 0).bit_length()


@dataclass
class _Group:
    members: list[Customer]
    lines: set[str]
    born: date | None


class _Groups:
    """Customers who are one person, by what is believed so far."""

    def __init__(
        self, births: Mapping[Customer, date | None], apart: Mapping[Customer, set[Customer]]
    ) -> None:
        self._apart = apart
        self._of = {
            customer: _Group([customer], {customer.line}, born) for customer, born in births.items()
        }

    def join(self, left: Customer, right: Customer, is_decided: bool) -> str | None:
        """Make two people one. Returns why not, if they cannot be."""
        small, large = self._of[left], self._of[right]
        if small is large:
            return None
        if len(small.members) > len(large.members):
            small, large = large, small
        if small.lines & large.lines:
            return "two customers of one line"
        # One person may decide that a date was mistyped. A comparison may not.
        if not is_decided and small.born and large.born and small.born != large.born:
            return "different dates of birth"
        if any(
            other in self._apart.get(each, ()) for each in small.members for other in large.members
        ):
            return "decided to be two people"
        for each in small.members:
            self._of[each] = large
        large.members += small.members
        large.lines |= small.lines
        large.born = large.born or small.born
        return None

    def all(self) -> Iterator[list[Customer]]:
        """The customers of each person, in a stable order."""
        seen: set[int] = set()
        for customer in sorted(self._of):
            group = self._of[customer]
            if id(group) not in seen:
                seen.add(id(group))
                yield sorted(group.members)


def people(
    births: Mapping[Customer, date | None],
    pairs: Iterable[Pair],
    decisions: Iterable[Decision] = (),
    known: Mapping[Customer, uuid.UUID] | None = None,
    *,
    prior: int,
    since: Mapping[uuid.UUID, datetime] | None = None,
    taken: Collection[uuid.UUID] = (),
) -> People:
    """Decide who is who.

    `births` has customers with their dates of birth: all, or all whom pairs and decisions connect
    with the changed ones. `known` are the ids of the last time, `since` says how old they are, and
    `taken` are ids of others. `prior`: see the function of that name. A person has at most one
    customer of each line and one date of birth. The result depends on what is given, not on its
    order.
    """
    found = People()
    decided, apart = [], defaultdict[Customer, set[Customer]](set)
    for each in decisions:
        if not {each.left, each.right} <= births.keys():
            # A customer who was erased. The decision about him has no more object.
            continue
        if each.is_same:
            decided.append(each)
        else:
            apart[each.left].add(each.right)
            apart[each.right].add(each.left)
    groups = _Groups(births, apart)
    for each in sorted(decided, key=lambda d: (d.left, d.right)):
        if why := groups.join(each.left, each.right, is_decided=True):
            found.refused.append((Pair(each.left, each.right, 0, 0.0), why))
    good = [each for each in pairs if each.rank < 3 or each.weight >= THRESHOLD + prior]
    doubtful = _doubtful(good)
    for pair in sorted(good, key=_order):
        if pair in doubtful:
            found.refused.append((pair, "another customer fits as well"))
        elif why := groups.join(pair.left, pair.right, is_decided=False):
            found.refused.append((pair, why))
        else:
            found.believed.append(pair)
    if found.believed:
        sure = [probability(pair, prior) for pair in found.believed]
        found.expected_precision = math.fsum(sure) / len(sure)
    _name(groups, known or {}, since or {}, set(taken), found)
    return found


def probability(pair: Pair, prior: int) -> float:
    """How likely the two are one person, if the model is right."""
    return 1 / (1 + math.exp2(prior - pair.weight))


def _order(pair: Pair) -> tuple[int, float, Customer, Customer]:
    """The best first, and a fixed order among equals."""
    return pair.rank, -pair.weight, pair.left, pair.right


def _doubtful(pairs: Iterable[Pair]) -> set[Pair]:
    """The pairs beside which another pair of the same customer is about as good."""
    candidates = defaultdict[tuple[Customer, str], list[Pair]](list)
    for pair in pairs:
        candidates[pair.left, pair.right.line].append(pair)
        candidates[pair.right, pair.left.line].append(pair)
    found: set[Pair] = set()
    for each in candidates.values():
        best = min(each, key=_order)
        rivals = [
            pair
            for pair in each
            if pair is not best and pair.rank == best.rank and best.weight - pair.weight < MARGIN
        ]
        if rivals:
            found.update([best, *rivals])
    return found


def _name(
    groups: _Groups,
    known: Mapping[Customer, uuid.UUID],
    since: Mapping[uuid.UUID, datetime],
    taken: set[uuid.UUID],
    found: People,
) -> None:
    """Give every person an id: the oldest that a customer had, if nobody else keeps it.

    Of several people who had it, the one with most of its customers does.
    """
    members = list(groups.all())
    claims = [
        (since.get(person, _NOW), -count, group[0], number, person)
        for number, group in enumerate(members)
        for person, count in Counter(known[each] for each in group if each in known).items()
    ]
    kept: dict[int, uuid.UUID] = {}
    held: set[uuid.UUID] = set()
    for _, _, _, number, person in sorted(claims):
        if number not in kept and person not in held:
            kept[number] = person
            held.add(person)
    # An id that once meant somebody never means somebody else, not even for a moment.
    taken |= held | set(known.values())
    for number, group in enumerate(members):
        person = kept.get(number) or _new(group[0], taken)
        taken.add(person)
        for customer in group:
            found.person_of[customer] = person
    holders = set(found.person_of.values())
    changes = {
        (was, found.person_of[customer])
        for customer, was in known.items()
        if found.person_of.get(customer, was) != was
    }
    for was, now in sorted(changes):
        if was in holders:
            found.split.append((was, now))
        else:
            found.joined.append((now, was))


_NOW: Final = datetime.max.replace(tzinfo=UTC)


def alone(customer: Customer) -> uuid.UUID:
    """The id of a person who has this customer only. A rebuild from nothing gives it again.

    The macro `surrogate_key` of the dbt project makes the same one.
    """
    name = json.dumps([customer.line, customer.id]).encode()
    return uuid.UUID(hashlib.md5(name, usedforsecurity=False).hexdigest())


def _new(first: Customer, taken: set[uuid.UUID]) -> uuid.UUID:
    person = alone(first)
    # The customer once named a person who is somebody else now.
    return uuid.uuid4() if person in taken else person
