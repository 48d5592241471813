"""Predicts past months from earlier ones, and says whether a model may be used.

A month is predicted by a model that was fitted on months which were over at the month's cut-off.
Between these and the month is the gap month. So each prediction is one that could have been made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from softcart_assets.lines.model import Classifier
from softcart_assets.ml.fit import Fitted, fit
from softcart_assets.ml.sampling import Counts, Interval, Numbers, Statistic, draws, interval
from softcart_assets.ml.task import Verdict

Flags = npt.NDArray[np.bool_]
BINS = 10


@dataclass(frozen=True)
class Rows:
    """The rows of a model's features. `targets` is NaN where the target is null.

    `months`: the number of each row's month, as `year * 12 + month - 1`.
    """

    subjects: npt.NDArray[np.int64]
    months: npt.NDArray[np.int64]
    values: Numbers
    targets: Numbers

    def of(self, chosen: Flags) -> Rows:
        """Some of the rows."""
        return Rows(
            self.subjects[chosen], self.months[chosen], self.values[chosen], self.targets[chosen]
        )

    @property
    def told(self) -> Rows:
        """The rows whose target is known."""
        return self.of(~np.isnan(self.targets))

    @property
    def events(self) -> int:
        """How many targets are true."""
        return int(np.nansum(self.targets))


@dataclass(frozen=True)
class Bin:
    """A tenth of the predictions, by probability: their mean, what happened, and how many."""

    predicted: float
    happened: float
    rows: int


@dataclass(frozen=True)
class Judgement:
    """What past months say of a model.

    `by_month`: the AUC of each predicted month. `alone`: of each feature for itself, either way
    round. `lift`: how much more often the target is true in the top decile than overall.
    `calibration_error`: the mean distance of `bins` from what happened. `expected`: the sum of the
    predictions. `ahead`: the AUC less that of the champion for the same rows, if it can be asked.
    """

    auc: Interval
    by_month: dict[date, Interval]
    alone: dict[str, Interval]
    lift: Interval
    calibration_error: float
    bins: tuple[Bin, ...]
    rows: int
    events: int
    expected: float
    ahead: Interval | None = None

    @property
    def bias(self) -> float:
        """How many true targets were predicted, by how many there were."""
        return self.expected / self.events

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for the registry."""
        return {
            "auc": self.auc.value,
            "auc_low": self.auc.low,
            "auc_high": self.auc.high,
            "lift_top_decile": self.lift.value,
            "lift_top_decile_low": self.lift.low,
            "lift_top_decile_high": self.lift.high,
            "calibration_error": self.calibration_error,
            "bias": self.bias,
            "rows": float(self.rows),
            "events": float(self.events),
        }


def judge(model: Classifier, rows: Rows, champion: Fitted | None = None) -> Judgement | None:
    """Predict the last months. None if there are too few months or true targets.

    `champion` predicts the same rows: what its AUC was when it was new says nothing of today. It
    may have learned from some of them, so it is not worse than it seems.
    """
    predicted, of = predictions(model, rows)
    if of.events < model.min_events // 2 or rows.told.events < model.min_events:
        return None
    targets = of.targets.astype(bool)
    weights = draws(of.subjects)
    bins = tuple(_bins(predicted, targets))
    return Judgement(
        auc=auc(predicted, targets, weights),
        by_month={
            _first_day(month): auc(predicted[is_of], targets[is_of], weights[:, is_of])
            for month in np.unique(of.months)
            if len(np.unique(targets[is_of := of.months == month])) == 2
        },
        alone={
            feature.name: _either_way(of.values[:, place], targets, weights)
            for place, feature in enumerate(model.inputs)
        },
        lift=_lift(predicted, targets, weights),
        calibration_error=sum(abs(each.predicted - each.happened) * each.rows for each in bins)
        / len(targets),
        bins=bins,
        rows=len(targets),
        events=of.events,
        expected=float(predicted.sum()),
        ahead=_ahead(model, predicted, of, champion, weights),
    )


def predictions(model: Classifier, rows: Rows) -> tuple[Numbers, Rows]:
    """Probabilities for the rows of the last months, and these rows.

    Months with too few true targets before them are left out.
    """
    told = rows.told
    found, kept = [], np.zeros(len(told.months), bool)
    for month in np.unique(told.months)[-model.test_months :]:
        # At the cut-off, the month before it was over. So the gap month is in neither part.
        before = told.of(told.months <= month - 2)
        is_of = told.months == month
        if before.events < model.min_events // 4 or before.events == len(before.targets):
            continue
        fitted = fit(model.inputs, before.values, before.targets.astype(bool))
        found.append((is_of, fitted.probabilities(told.values[is_of])))
        kept |= is_of
    probabilities = np.full(len(told.months), np.nan)
    for is_of, values in found:
        probabilities[is_of] = values
    return probabilities[kept], told.of(kept)


def verdicts(model: Classifier, judgement: Judgement) -> list[Verdict]:
    """What must hold of a candidate."""
    return list(_verdicts(model, judgement))


def _verdicts(model: Classifier, judgement: Judgement) -> Iterator[Verdict]:
    ceiling, worst = float(model.ceiling.value), float(model.max_calibration_error.value)
    too_good = {
        name: interval
        for name, interval in {"the model": judgement.auc, **judgement.alone}.items()
        if interval.low > ceiling
    }
    yield Verdict(
        "plausible",
        not too_good,
        f"AUC {judgement.auc}, at most {ceiling} can be true. {model.ceiling.reason}"
        + "".join(f" Too good: {name}, {interval}." for name, interval in too_good.items())
        + (" A feature knows the future. Look for it in the features' job." if too_good else ""),
    )
    most = float(model.max_bias.value)
    yield Verdict(
        "calibrated",
        judgement.calibration_error <= worst and 1 / most <= judgement.bias <= most,
        f"Calibration error {judgement.calibration_error:.4f}, at most {worst}. "
        f"{model.max_calibration_error.reason} Predicted {judgement.bias:.2f} times what happened, "
        f"at most {most} times more or less. {model.max_bias.reason}",
    )
    least = float(model.min_lift.value)
    # Chance alone must not explain it.
    is_useful = judgement.auc.low > 0.5 and judgement.lift.value >= least
    ahead = judgement.ahead
    is_no_worse = ahead is None or ahead.high >= 0
    yield Verdict(
        "useful",
        is_useful and is_no_worse,
        f"Lift of the top decile {judgement.lift}, at least {least}. {model.min_lift.reason}"
        + (f" AUC less the champion's for the same rows: {ahead}." if ahead else ""),
    )


def auc(predicted: Numbers, targets: Flags, weights: Counts) -> Interval:
    """The area under the ROC curve. `weights`: a row per bootstrap sample, see `draws`."""
    return interval(_area(predicted, targets), weights)


def _area(predicted: Numbers, targets: Flags) -> Statistic:
    order = np.argsort(predicted, kind="stable")
    ranked, is_true = predicted[order], targets[order]
    # The first and the last row with the same prediction, of each row whose target is true.
    firsts = np.searchsorted(ranked, ranked[is_true], "left")
    lasts = np.searchsorted(ranked, ranked[is_true], "right") - 1

    def areas(weights: Numbers) -> Numbers:
        of = weights[:, order]
        falses, trues = np.cumsum(of * ~is_true, axis=1), of[:, is_true]
        # Each counts half against its equals.
        below = np.where(firsts > 0, falses[:, firsts - 1], 0) + falses[:, lasts]
        total: Numbers = 2 * trues.sum(axis=1) * falses[:, -1]
        # A sample may lack one of both.
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Numbers = (trues * below).sum(axis=1) / total
        return found

    return areas


def _ahead(
    model: Classifier, predicted: Numbers, of: Rows, champion: Fitted | None, weights: Counts
) -> Interval | None:
    names = [each.name for each in model.inputs]
    # The features of an older version may be gone.
    if champion is None or not set(champion.names) <= set(names):
        return None
    values = of.values[:, [names.index(name) for name in champion.names]]
    targets = of.targets.astype(bool)
    own, other = (_area(each, targets) for each in (predicted, champion.probabilities(values)))
    # Of the same samples: what makes one of the two better by chance does so for both.
    return interval(lambda drawn: own(drawn) - other(drawn), weights)


def _either_way(values: Numbers, targets: Flags, weights: Counts) -> Interval:
    found = auc(values, targets, weights)
    return found if found.value >= 0.5 else auc(-values, targets, weights)


def _lift(predicted: Numbers, targets: Flags, weights: Counts) -> Interval:
    top = np.argsort(-predicted, kind="stable")[: max(1, len(predicted) // BINS)]

    def lifts(of: Numbers) -> Numbers:
        rate = (of * targets).sum(axis=1) / of.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Numbers = (of * targets)[:, top].sum(axis=1) / of[:, top].sum(axis=1) / rate
        return found

    return interval(lifts, weights)


def _bins(predicted: Numbers, targets: Flags) -> Iterator[Bin]:
    for chosen in np.array_split(np.argsort(predicted, kind="stable"), BINS):
        if len(chosen):
            yield Bin(float(predicted[chosen].mean()), float(targets[chosen].mean()), len(chosen))


def _first_day(month: int) -> date:
    return date(int(month) // 12, int(month) % 12 + 1, 1)
