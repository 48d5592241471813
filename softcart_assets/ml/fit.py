"""A logistic regression over declared features, as data that people can read.

Its file is JSON. So to load a version runs no code, which a pickle would, and any later release
can read it. And the contribution of a feature to a score is exact: it is a summand of the log odds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from softcart_assets.lines.model import Feature
from softcart_assets.ml.sampling import Numbers


@dataclass(frozen=True)
class Fitted:
    """A fitted model. `means` and `spreads` are those of the scaled features that it was fitted on.

    `weights`: how much a spread more of each feature adds to the log odds.
    """

    names: tuple[str, ...]
    scales: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def contributions(self, values: Numbers) -> Numbers:
        """What each feature adds to the log odds of each row, compared with the average row.

        `values`: a column per feature, in the order of `names`.
        """
        standard = (_scaled(values, self.scales) - self.means) / self.spreads
        found: Numbers = standard * self.weights
        return found

    def probabilities(self, values: Numbers) -> Numbers:
        """The probability of each row."""
        odds = self.contributions(values).sum(axis=1) + self.intercept
        found: Numbers = 1 / (1 + np.exp(-odds))
        return found

    @property
    def importance(self) -> dict[str, float]:
        """The weights by the names of the features."""
        return dict(zip(self.names, self.weights, strict=True))

    def text(self) -> str:
        """The model as JSON, see `read`."""
        return json.dumps(asdict(self), indent=1)


def read(text: str) -> Fitted:
    """The model that `Fitted.text` has written."""
    content: dict[str, Any] = json.loads(text)
    intercept = content.pop("intercept")
    return Fitted(**{name: tuple(each) for name, each in content.items()}, intercept=intercept)


def fit(features: Sequence[Feature], values: Numbers, targets: npt.NDArray[np.bool_]) -> Fitted:
    """Fit a model. `values`: a column per feature. `targets` must have both true and false."""
    # Only here: it takes a second, and the definitions import this module.
    from sklearn.linear_model import LogisticRegression

    scales = tuple(feature.scale for feature in features)
    scaled = _scaled(values, scales)
    means, spreads = scaled.mean(axis=0), scaled.std(axis=0)
    # A feature that is the same everywhere adds nothing.
    spreads[spreads == 0] = 1.0
    found = LogisticRegression(C=1.0, max_iter=1_000).fit((scaled - means) / spreads, targets)
    return Fitted(
        names=tuple(feature.name for feature in features),
        scales=scales,
        means=tuple(map(float, means)),
        spreads=tuple(map(float, spreads)),
        weights=tuple(map(float, found.coef_[0])),
        intercept=float(found.intercept_[0]),
    )


def _scaled(values: Numbers, scales: Sequence[str]) -> Numbers:
    is_log = np.array([scale == "log" for scale in scales])
    # np.where computes both sides, and log1p warns below 0.
    found: Numbers = np.where(is_log, np.log1p(np.maximum(values, 0)), values)
    return found
