"""A model and made-up rows of features whose true probabilities are known."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from softcart_assets.lines.model import Classifier, Feature, Limit
from softcart_assets.ml.judge import Rows

MODEL = Classifier(
    "thirst",
    "Who comes back thirsty.",
    features="agg_thirst",
    subject="guest_id",
    target="returns",
    inputs=(Feature("cups", "Cups: {}", "log"), Feature("is_regular", "Regular")),
    ceiling=Limit(Decimal("0.80"), "Thirst is chance."),
)
SUBJECTS, MONTHS = 1_500, 10


def rows(seed: int = 7, **planted: float) -> tuple[Rows, np.ndarray]:
    """Rows of both features, and their true probabilities. `planted`: a third feature that is the
    target for this share of the rows."""
    dice = np.random.default_rng(seed)
    subjects = np.tile(np.arange(SUBJECTS), MONTHS)
    months = np.repeat(2026 * 12 + np.arange(MONTHS), SUBJECTS)
    cups = dice.poisson(3, len(subjects)).astype(float)
    regular = (subjects % 3 == 0).astype(float)
    truth = 1 / (1 + np.exp(5 - 1.6 * np.log1p(cups) - 1.0 * regular))
    targets = (dice.random(len(subjects)) < truth).astype(float)
    columns = [cups, regular]
    for share in planted.values():
        columns.append(np.where(dice.random(len(subjects)) < share, targets, dice.random()))
    return Rows(subjects, months, np.column_stack(columns), targets), truth
