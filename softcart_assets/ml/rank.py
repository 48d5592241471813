"""Ranks items for subjects: what is known of both as numbers, gradient boosted trees over them, and
how good their order is.

What a subject takes of what is shown to it says what it likes. A subject of whom little is known is
like others: those with the same traits, and those who take the same things (a truncated SVD of who
took what, beyond what was to be expected).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from softcart_assets.ml.sampling import Interval, Numbers, Statistic, draws, interval

Codes = npt.NDArray[np.int64]

PLACES = 10
"""NDCG looks at so many first places."""
_PRIOR = 20.0
"""A rate is that of all until so many were shown."""
_OWN_PRIOR = 3.0
"""What a single subject took weighs little until so many were shown to it."""
_FACTORS = 8
_TREES = {
    "objective": "lambdarank",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "deterministic": True,
    "force_row_wise": True,
    # Threads that wait for each other are slow on a busy machine.
    "num_threads": 1,
    "seed": 20_260_301,
    "verbosity": -1,
}
_ROUNDS = 60


@dataclass(frozen=True)
class Items:
    """The items that there are. `traits`: a column of codes per trait.

    `columns`: the names of the features, see `Knowledge.features`. `sizes`: how many codes each
    trait of the subjects has.
    """

    names: tuple[str, ...]
    traits: Codes
    columns: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Events:
    """What was shown to subjects in a month, and what they took of it: a row per subject, month and
    item, ordered by subject and month. `alike`: a column of codes per trait of the subjects.
    """

    subjects: Codes
    items: Codes
    months: Codes
    shown: Numbers
    taken: Numbers
    alike: Codes

    def of(self, chosen: npt.NDArray[np.bool_]) -> Events:
        """Some of the rows."""
        return Events(
            self.subjects[chosen],
            self.items[chosen],
            self.months[chosen],
            self.shown[chosen],
            self.taken[chosen],
            self.alike[chosen],
        )


@dataclass(frozen=True)
class Knowledge:
    """What events tell of items. `alike`: the rates by code of a trait of subjects and item."""

    items: Items
    overall: Numbers
    alike: tuple[Numbers, ...]
    factors: Numbers

    @classmethod
    def of(cls, items: Items, events: Events) -> Knowledge:
        """What these events tell."""
        count = len(items.names)
        shown, taken = (
            np.bincount(events.items, each, count) for each in (events.shown, events.taken)
        )
        mean = taken.sum() / max(shown.sum(), 1.0)
        overall = (taken + _PRIOR * mean) / (shown + _PRIOR)
        alike = []
        for place, size in enumerate(items.sizes):
            cells = events.alike[:, place] * count + events.items
            shown_of, taken_of = (
                np.bincount(cells, each, size * count).reshape(size, count)
                for each in (events.shown, events.taken)
            )
            alike.append((taken_of + _PRIOR * overall) / (shown_of + _PRIOR))
        found = cls(items, overall, tuple(alike), np.zeros((0, count)))
        return cls(items, overall, tuple(alike), _factors(found, events))

    def expected(self, events: Events) -> Numbers:
        """How probable each row was for somebody like its subject."""
        found: Numbers = (
            self.alike[0][events.alike[:, 0], events.items]
            if self.alike
            else self.overall[events.items]
        )
        return found

    def own(self, events: Events, places: Codes, count: int) -> tuple[Numbers, Numbers]:
        """How much more each subject took of each item than was to be expected, and how often it
        was shown. `places`: the row of each event in the result, of `count`.
        """
        width = len(self.items.names)
        cells = places * width + events.items
        more = events.taken - events.shown * self.expected(events)
        extra, shown = np.zeros(count * width), np.zeros(count * width)
        np.add.at(extra, cells, more)
        np.add.at(shown, cells, events.shown)
        return extra.reshape(count, width), shown.reshape(count, width)

    def features(self, events: Events, places: Codes, alike: Codes) -> Numbers:
        """What is known of each item for each subject, from these events of theirs: subjects by
        items by features. `alike`: the codes of the subjects' traits.

        The features are what is popular with all, with those of the same traits, what the subject
        took of the item, of items of the same traits, what similar subjects took, and how much is
        known of the subject.
        """
        extra, shown = self.own(events, places, len(alike))
        own = extra / (shown + _OWN_PRIOR)
        columns = [np.broadcast_to(self.overall, own.shape)]
        columns += [rates[alike[:, place]] for place, rates in enumerate(self.alike)]
        columns.append(own)
        for codes in self.items.traits.T:
            same = (codes[:, None] == np.unique(codes)[None, :]).astype(np.float64)
            columns.append(((extra @ same) / (shown @ same + _OWN_PRIOR)) @ same.T)
        columns.append((own @ self.factors.T) @ self.factors)
        columns.append(np.broadcast_to(np.log1p(shown.sum(axis=1))[:, None], own.shape))
        return np.stack(columns, axis=2)


def _factors(knowledge: Knowledge, events: Events) -> Numbers:
    """The directions in which subjects differ most from what was to be expected of them.

    It is a truncated SVD by way of the items' products with each other: items are few.
    """
    subjects, places = np.unique(events.subjects, return_inverse=True)
    extra, shown = knowledge.own(events, places, len(subjects))
    own = extra / (shown + _OWN_PRIOR)
    _, directions = np.linalg.eigh(own.T @ own)
    found: Numbers = directions[:, -_FACTORS:].T
    return found


@dataclass(frozen=True)
class Examples:
    """What was shown in some months, with what was known before. A group is a subject's month."""

    values: Numbers
    popular: Numbers
    taken: Numbers
    groups: Codes
    subjects: Codes
    alike: Codes
    months: Codes

    @classmethod
    def joined(cls, parts: Sequence[Examples]) -> Examples:
        """All of them."""
        starts = np.cumsum([0, *(len(part.subjects) for part in parts)])
        moved = [
            replace(part, groups=part.groups + start)
            for part, start in zip(parts, starts, strict=False)
        ]
        return cls(**_joined(moved))

    @cached_property
    def is_told(self) -> npt.NDArray[np.bool_]:
        """Whether each group has something that was taken, and something that was not."""
        sizes = np.bincount(self.groups)
        taken = np.bincount(self.groups, self.taken)
        found: npt.NDArray[np.bool_] = (taken > 0) & (taken < sizes)
        return found


def examples(items: Items, events: Events, month: int) -> Examples:
    """What was shown in a month, with what was known before it."""
    before, of = events.of(events.months < month), events.of(events.months == month)
    knowledge = Knowledge.of(items, before)
    subjects, firsts, groups = np.unique(of.subjects, return_index=True, return_inverse=True)
    is_here = np.isin(before.subjects, subjects)
    known = before.of(is_here)
    alike = of.alike[firsts]
    values = []
    # A part of the subjects at once: all items of all of them would be large.
    for start in range(0, len(subjects), 2_000):
        some = subjects[start : start + 2_000]
        is_of = np.isin(known.subjects, some)
        part = known.of(is_of)
        found = knowledge.features(
            part, np.searchsorted(some, part.subjects), alike[start : start + 2_000]
        )
        rows = (groups >= start) & (groups < start + 2_000)
        values.append(found[groups[rows] - start, of.items[rows]])
    return Examples(
        np.concatenate(values),
        knowledge.expected(of),
        (of.taken > 0).astype(np.float64),
        groups,
        subjects,
        alike[:, 0] if items.sizes else np.zeros(len(subjects), np.int64),
        np.full(len(subjects), month),
    )


@dataclass(frozen=True)
class Trees:
    """A fitted model. `until`: the last month that it learned from."""

    names: tuple[str, ...]
    booster: str
    until: int

    def text(self) -> str:
        """The model as JSON, see `read`."""
        return json.dumps(
            {"names": self.names, "until": self.until, "booster": self.booster.splitlines()},
            indent=1,
        )

    @cached_property
    def _loaded(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.booster)

    def values(self, features: Numbers) -> Numbers:
        """A number for each row: the higher, the earlier in the order."""
        found: Numbers = self._loaded.predict(features, num_threads=1)
        return found

    @cached_property
    def importance(self) -> dict[str, float]:
        """The share of each feature in what the trees gain."""
        gains = self._loaded.feature_importance("gain")
        total = float(gains.sum()) or 1.0
        return {name: float(gain) / total for name, gain in zip(self.names, gains, strict=True)}


def read(text: str) -> Trees:
    """The model that `Trees.text` has written. It is data: to load it runs no code."""
    content = json.loads(text)
    return Trees(tuple(content["names"]), "\n".join(content["booster"]) + "\n", content["until"])


def fit(items: Items, of: Examples) -> Trees:
    """Fit trees that put first what was taken (LambdaMART)."""
    # Only here: it takes a second, and the definitions import this module.
    import lightgbm

    rows = lightgbm.Dataset(
        of.values, of.taken, group=np.bincount(of.groups), feature_name=list(items.columns)
    )
    booster = lightgbm.train(dict(_TREES), rows, num_boost_round=_ROUNDS)
    return Trees(items.columns, booster.model_to_string(), int(of.months.max()))


def ndcg(values: Numbers, of: Examples) -> Numbers:
    """How good the order by `values` is in each group: 1 if all that was taken comes first."""
    order = np.lexsort((-values, of.groups))
    groups, taken = of.groups[order], of.taken[order]
    starts = np.searchsorted(groups, np.arange(len(of.subjects)))
    places = np.arange(len(groups)) - starts[groups]
    discounts = np.where(places < PLACES, 1 / np.log2(places + 2), 0.0)
    found = np.bincount(groups, taken * discounts, len(of.subjects))
    most = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(PLACES) + 2))])
    counts = np.bincount(groups, taken, len(of.subjects)).astype(np.int64)
    best = most[np.minimum(counts, PLACES)]
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Numbers = found / best
    return result


@dataclass(frozen=True)
class RankJudgement:
    """What past months say of a ranker.

    `own`, `popular`: NDCG@10 of its order, and of that by what is popular with subjects like it.
    `gain`: how much better it is, as a share, also `by_group` of subjects that are alike and
    `by_month`. `alone`: NDCG@10 of each feature. `ahead`: NDCG@10 less that of the champion.
    """

    own: Interval
    popular: Interval
    gain: Interval
    by_group: dict[str, Interval]
    by_month: dict[str, Interval]
    alone: dict[str, Interval]
    ahead: Interval | None
    groups: int
    subjects: int

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for the registry."""
        return {
            "ndcg": self.own.value,
            "ndcg_low": self.own.low,
            "ndcg_high": self.own.high,
            "ndcg_popular": self.popular.value,
            "gain": self.gain.value,
            "gain_low": self.gain.low,
            "gain_high": self.gain.high,
            "orders": float(self.groups),
            "subjects": float(self.subjects),
        }


@dataclass(frozen=True)
class Predicted:
    """The groups of the months that were predicted, each with the quality of several orders."""

    subjects: Codes
    alike: Codes
    months: Codes
    own: Numbers
    popular: Numbers
    alone: Numbers
    champion: Numbers

    def gain(self, chosen: npt.NDArray[np.bool_]) -> Interval:
        """How much better the order is than that by what is popular, as a share."""
        own, popular = self.own[chosen], self.popular[chosen]

        def gains(weights: Numbers) -> Numbers:
            with np.errstate(invalid="ignore", divide="ignore"):
                found: Numbers = (weights @ own) / (weights @ popular) - 1
            return found

        return interval(gains, draws(self.subjects[chosen]))

    def mean(self, of: Numbers) -> Interval:
        """The mean over groups, where there is one."""
        chosen = ~np.isnan(of)
        return interval(_mean(of[chosen]), draws(self.subjects[chosen]))


def _mean(of: Numbers) -> Statistic:
    def means(weights: Numbers) -> Numbers:
        found: Numbers = (weights @ of) / weights.sum(axis=1)
        return found

    return means


def predict(
    items: Items, events: Events, test_months: int, champion: Trees | None
) -> Predicted | None:
    """Predict each of the last months from those before it. None if there are too few.

    `champion` predicts the months that came after those that it learned from.
    """
    parts = list(_examples(items, events))
    found = []
    for place in range(max(1, len(parts) - test_months), len(parts)):
        of, before = parts[place], Examples.joined(parts[:place])
        if not before.is_told.any() or not of.is_told.any():
            continue
        values = fit(items, before).values(of.values)
        told = of.is_told
        asked = champion and champion.names == items.columns and champion.until < of.months[0]
        other = ndcg(champion.values(of.values), of) if champion and asked else ndcg(values, of)
        found.append(
            Predicted(
                of.subjects[told],
                of.alike[told],
                of.months[told],
                ndcg(values, of)[told],
                ndcg(of.popular, of)[told],
                np.column_stack([ndcg(each, of)[told] for each in of.values.T]),
                other[told] if asked else np.full(int(told.sum()), np.nan),
            )
        )
    if not found:
        return None
    return Predicted(**_joined(found))


def _joined(parts: Sequence[Any]) -> dict[str, Any]:
    """The arrays of several parts of one kind, each after the other, by their names."""
    names = [each.name for each in fields(parts[0])]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def _examples(items: Items, events: Events) -> Iterator[Examples]:
    # Nothing is known before the first month.
    for month in np.unique(events.months)[1:]:
        yield examples(items, events, int(month))


def fit_all(items: Items, events: Events) -> Trees:
    """Fit on all months."""
    return fit(items, Examples.joined(list(_examples(items, events))))
