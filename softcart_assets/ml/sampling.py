"""Figures with their confidence intervals, by bootstrap samples of subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint16]
Statistic = Callable[[Numbers], Numbers]
"""A figure for each row of weights."""

DRAWS = 400
"""Bootstrap samples. With 400, an end of an interval moves by a tenth of its width."""
_AT_ONCE = 20
"""Samples in memory as floating-point numbers. All of them would be gigabytes of many rows."""
_SEED = 20_260_301
_CONFIDENCE = 95


@dataclass(frozen=True)
class Interval:
    """An estimate, and the ends of its confidence interval of 95%."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval(statistic: Statistic, weights: Counts) -> Interval:
    """A statistic of the rows as they are, and of the bootstrap samples, a few at a time."""
    drawn = np.concatenate(
        [
            statistic(weights[start : start + _AT_ONCE].astype(np.float64))
            for start in range(0, len(weights), _AT_ONCE)
        ]
    )
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    [value] = statistic(np.ones((1, weights.shape[1])))
    return Interval(float(value), float(low), float(high))


def draws(subjects: npt.NDArray[np.int64]) -> Counts:
    """How often each row is in each bootstrap sample.

    Subjects are drawn and not rows, because the months of a subject are alike.
    """
    known, places = np.unique(subjects, return_inverse=True)
    chance = np.random.default_rng(_SEED)
    found = np.empty((DRAWS, len(subjects)), np.uint16)
    for each in range(DRAWS):
        found[each] = chance.multinomial(len(known), np.full(len(known), 1 / len(known)))[places]
    return found
