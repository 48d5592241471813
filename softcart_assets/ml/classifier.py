"""Classifiers: whether something happens to a subject in a month, see `fit` and `judge`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from softcart_assets.extracts import kept
from softcart_assets.lines.model import Classifier
from softcart_assets.ml import tables
from softcart_assets.ml.fit import Fitted, fit, read
from softcart_assets.ml.judge import Judgement, Rows, judge, verdicts
from softcart_assets.ml.sampling import Numbers
from softcart_assets.ml.task import Task, UnusableFeatures, Verdict

_MOST_ROWS = 100_000
"""A model is fitted and judged on about so many rows. Of more, a share of the subjects is taken:
it must all be in memory, some hundred times over for the intervals."""
_BATCH_ROWS = 20_000
_REASONS = 3
_WORTH_TELLING = 0.1
"""Log odds below which a feature is no reason."""

COLUMNS = {
    "month": "Month (UTC) that the score is about, its first day.",
    "cut_off_date": "Day at whose beginning everything that the score is made of was known.",
    "probability_pct": "Probability that it happens in the month, per cent.",
    "decile": "1 for the tenth of the subjects with the highest probabilities, to 10.",
    **{
        f"reason_{number}": f"What raises the probability, number {number} by weight; null if "
        "nothing else does."
        for number in range(1, _REASONS + 1)
    },
    "contributions": "JSON: what each feature adds to the log odds, compared with the average.",
    "model_version": "Version in the registry that made the score.",
    "data_position": "Positions at the sources up to which the data of the score reach.",
}
"""The columns of every table of scores after its subject."""


class ClassifierTask(Task[Rows, Judgement, Fitted]):
    """A classifier of a line."""

    promises: ClassVar[Mapping[str, str]] = {
        "plausible": "The AUC on past months is not significantly above what can be true, that of "
        "no feature alone either. Otherwise a feature knows the future.",
        "calibrated": "Probabilities are what happened, on average within the declared limits.",
        "useful": "The top decile is as much better than chance as declared, and the candidate is "
        "not significantly worse than the champion for the same rows.",
    }
    columns = COLUMNS
    library = "scikitlearn"
    weight = "adds to the log odds, by a spread more"
    template = "classifier.html.j2"

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self.too_little = (
            f"{model.min_events} true targets are needed, half of them in the months to predict."
        )

    def known(self, session: psycopg.Connection) -> Rows:
        """The rows whose target is known, of all subjects or of a share of them."""
        return _known(session, self._model)

    def digest(self, of: Rows) -> str:
        """A digest of the rows."""
        parts = (of.subjects, of.months, of.values, of.targets)
        return hashlib.sha256(b"".join(each.tobytes() for each in parts)).hexdigest()

    def judge(self, of: Rows, champion: Fitted | None) -> Judgement | None:
        """See `judge.judge`."""
        return judge(self._model, of, champion)

    def verdicts(self, judgement: Judgement) -> list[Verdict]:
        """See `judge.verdicts`."""
        return verdicts(self._model, judgement)

    def fit(self, of: Rows) -> Fitted:
        """See `fit.fit`."""
        return fit(self._model.inputs, of.values, of.targets.astype(bool))

    def read(self, text: str) -> Fitted:
        """See `fit.read`."""
        return read(text)

    def scores(self, session: psycopg.Connection, version: int, champion: Fitted | None) -> _Scores:
        """The scores of the last month."""
        return _Scores(session, self._model, version, champion)

    def charts(self, judgement: Judgement) -> Iterator[tuple[str, Any]]:
        """Whether probabilities are right, the lift, the AUC by month."""
        # Only here, because loading Altair takes a second.
        from softcart_assets.ml.pictures import classifier_charts

        return classifier_charts(self._model, judgement)


class _Scores:
    """The scores of the last month, as rows in batches."""

    def __init__(
        self,
        session: psycopg.Connection,
        model: Classifier,
        version: int,
        champion: Fitted | None,
    ) -> None:
        self._session, self._model = session, model
        self._version, self._champion = version, champion
        names = [each.name for each in model.inputs]
        # An older version may have other features.
        self._names = list(champion.names) if champion else names
        self._texts = {each.name: each.text for each in model.inputs}
        self._bounds: Numbers = np.zeros(0)
        if champion and (gone := sorted({*self._names} - tables.names(session, model))):
            raise UnusableFeatures(
                f"aggregates.{model.features} has no column {', '.join(gone)}, which version "
                f"{version} of {model.name} needs, the champion. Put it back into the job, or "
                "train a version without it that passes the checks."
            )
        self._kind = tables.kind_of_subject(session, model)

    @property
    def schema(self) -> pa.Schema:
        kinds: dict[str, Any] = {
            "month": pa.date32(),
            "cut_off_date": pa.date32(),
            "probability_pct": pa.decimal128(7, 4),
            "decile": pa.int32(),
            "model_version": pa.int32(),
        }
        columns = [(name, kinds.get(name, pa.string())) for name in COLUMNS]
        return pa.schema([(self._model.subject, self._kind), *columns])

    def digest(self) -> str:
        """A digest of what the scores are made of. Notes the bounds of the deciles.

        The positions do not count. Otherwise all scores would change with each change at a source.
        """
        if self._champion is None:
            return kept.digest(["no champion"])
        found = hashlib.sha256(str(self._version).encode())
        probabilities = []
        for rows in self._read():
            values = self._values(rows)
            found.update(repr([row[:2] for row in rows]).encode() + values.tobytes())
            probabilities.append(self._champion.probabilities(values))
        if probabilities:
            tenths = np.arange(10, 100, 10)
            self._bounds = np.percentile(np.concatenate(probabilities), tenths)
        return found.hexdigest()

    def to_batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """The scores. Call `digest` before."""
        champion = self._champion
        if champion is None:
            return
        for rows in self._read(batch_size):
            values = self._values(rows)
            probabilities = champion.probabilities(values)
            added = champion.contributions(values)
            scored = [
                self._row(row, float(probability), values[place], added[place])
                for place, (row, probability) in enumerate(zip(rows, probabilities, strict=True))
            ]
            yield pa.RecordBatch.from_pylist(scored, schema=self.schema)

    def _row(
        self,
        row: Sequence[Any],
        probability: float,
        values: Numbers,
        added: Numbers,
    ) -> dict[str, Any]:
        subject, month, cut_off, position = row[:4]
        reasons: list[str | None] = [
            self._reason(self._names[place], float(values[place]))
            for place in np.argsort(-added)[:_REASONS]
            if added[place] >= _WORTH_TELLING and self._is_told(self._names[place], values[place])
        ]
        reasons += [None] * (_REASONS - len(reasons))
        return {
            self._model.subject: subject,
            "month": month,
            "cut_off_date": cut_off,
            "probability_pct": Decimal(f"{probability * 100:.4f}"),
            "decile": 10 - int((self._bounds < probability).sum()),
            **{f"reason_{number}": text for number, text in enumerate(reasons, start=1)},
            "contributions": json.dumps(
                {name: round(float(each), 4) for name, each in zip(self._names, added, strict=True)}
            ),
            "model_version": self._version,
            "data_position": position,
        }

    def _is_told(self, name: str, value: float) -> bool:
        """Whether the feature's text is true. That of a flag is not, where the flag is 0."""
        return value != 0 or "{}" in self._texts.get(name, "{}")

    def _reason(self, name: str, value: float) -> str:
        text = self._texts.get(name, f"{name}: {{}}")
        return text.replace("{}", f"{value:.2f}".rstrip("0").rstrip("."))

    def _values(self, rows: Sequence[Sequence[Any]]) -> Numbers:
        return _numbers(self._model, self._names, [row[4:] for row in rows])

    def _read(self, batch_size: int = _BATCH_ROWS) -> Iterator[list[tuple[Any, ...]]]:
        """The subject, month, cut-off, position and features of each subject, in batches."""
        model = self._model
        names = [model.subject, model.month, model.cut_off, model.position, *self._names]
        query = sql.SQL(
            "SELECT {columns} FROM {features}"
            " WHERE {month} = (SELECT max({month}) FROM {features}) ORDER BY {subject}"
        ).format(
            columns=tables.columns(names),
            features=tables.features(model),
            month=sql.Identifier(model.month),
            subject=sql.Identifier(model.subject),
        )
        with self._session.cursor(name="features") as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(batch_size):
                yield rows


def _known(session: psycopg.Connection, model: Classifier) -> Rows:
    """The rows whose target is known, of all subjects or of a share of them."""
    features, target = tables.features(model), sql.Identifier(model.target)
    row = session.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {} IS NOT NULL").format(features, target)
    ).fetchone()
    assert row
    names = [each.name for each in model.inputs]
    found = session.execute(
        sql.SQL(
            "SELECT number, extract(year FROM {month})::int * 12 + extract(month FROM {month})::int"
            " - 1, {target}, {columns} FROM {features}"
            # A hash and not the subject itself: that may be a text, and be given out by tens.
            " CROSS JOIN LATERAL (SELECT hashtextextended({subject}::text, 0) AS number) AS hash"
            " WHERE {target} IS NOT NULL AND number %% %s = 0 ORDER BY {month}, number"
        ).format(
            month=sql.Identifier(model.month),
            target=target,
            columns=tables.columns(names),
            features=features,
            subject=sql.Identifier(model.subject),
        ),
        [-(-row[0] // _MOST_ROWS) or 1],
    ).fetchall()
    return Rows(
        np.array([each[0] for each in found], np.int64),
        np.array([each[1] for each in found], np.int64),
        _numbers(model, names, [each[3:] for each in found]),
        np.array([each[2] for each in found], np.float64),
    )


def _numbers(model: Classifier, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Numbers:
    """Features as numbers. Raises `UnusableFeatures` where one is missing."""
    values: Numbers = np.array(rows, np.float64).reshape(len(rows), len(names))
    if np.isnan(values).any():
        name = names[int(np.isnan(values).any(axis=0).argmax())]
        raise UnusableFeatures(
            f"aggregates.{model.features}: the feature {name!r} of the model {model.name} is null "
            "in some rows. Let the job write a number there."
        )
    return values
