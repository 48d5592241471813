"""Trains a model and scores its subjects, if anything changed.

The features are an aggregate in the staging warehouse. The scores are a table there, `ml.<scores>`,
which is published like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import IsolationLevel, sql

from softcart_assets import comments, locks, ml, warehouse_state
from softcart_assets.connections import PostgresConnection
from softcart_assets.extracts import kept
from softcart_assets.ingestion.sinks.parquet import replace_table
from softcart_assets.lines.model import Model
from softcart_assets.ml.fit import Numbers, fit
from softcart_assets.ml.judge import Rows, judge, verdicts
from softcart_assets.ml.registry import Registry, Version
from softcart_assets.warehouse_state import built_from

_MOST_ROWS = 100_000
"""A model is fitted and judged on about so many rows. Of more, a share of the subjects is taken:
it must all be in memory, some hundred times over for the intervals."""
_BATCH_ROWS = 20_000
_PICTURES = "models"
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


class UnusableFeatures(RuntimeError):
    """The features cannot be used. The message names table and column."""


@dataclass(frozen=True)
class Trained:
    """What a training did.

    `candidate`: the newest version, None if there is too little to learn from. `pictures`: its
    pictures, if it is new. `champion`: the number of the version that scores now. `report`: the
    page about the newest version.
    """

    candidate: Version | None
    champion: int | None
    is_new: bool
    report: Path
    pictures: Sequence[Path] = ()


@dataclass(frozen=True)
class Scored:
    """What a scoring did. `content`: a digest of the scores and of what they are made of."""

    rows: int
    is_new: bool
    content: str


def code_version(model: Model) -> str:
    """A digest of a model's declaration and of the code that trains and scores."""
    return kept.digest([kept.code_version(ml.__name__), model])


def train(staging: PostgresConnection, model: Model, registry: Registry, folder: Path) -> Trained:
    """Train and register a version if the known rows or the code changed.

    It becomes the champion if it is sound. `folder` is for its report, and `models` below it for
    the pictures. Raises `UnusableFeatures`, and `RegistryFailed`.
    """
    page = folder / f"{model.report}.html"
    with staging.connect(autocommit=True) as alone:
        # Two at once would take turns with the aliases.
        locks.take(alone, f"softcart model {model.name}")
        rows = _known(alone, model)
        made_from = _digest(code_version(model), rows)
        last, champion = registry.candidate(model.name), registry.champion(model.name)
        same = last if last and last.made_from == made_from else None
        # Somebody may have emptied the folder of the report.
        if same and page.is_file():
            judgement = None
        else:
            judgement = judge(model, rows, champion.fitted if champion else None)
        if judgement is None:
            return Trained(last, champion.number if champion else None, False, page)
        # Only here, because loading Altair takes a second.
        from softcart_assets.ml import report
        from softcart_assets.ml.pictures import draw

        files = draw(model, judgement, folder / _PICTURES)
        version = same or registry.add(
            model.name,
            fit(model.inputs, rows.values, rows.targets.astype(bool)),
            made_from,
            judgement.figures,
            verdicts(model, judgement),
            pictures=files,
        )
        if not same:
            registry.settle(model.name, version)
        champion = registry.champion(model.name)
        number = champion.number if champion else None
        report.write(model, judgement, version, number, files, page)
        return Trained(version, number, not same, page, files)


def score(staging: PostgresConnection, model: Model, registry: Registry) -> Scored:
    """Score the subjects of the last month with the champion, if it or their features changed.

    The table is empty as long as there is no champion. Raises `UnusableFeatures`, `NotSound` and
    `RegistryFailed`.
    """
    champion = registry.scoring(model.name)
    with staging.connect() as reader, staging.connect() as writer:
        # Both passes over the features see the same rows.
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        reader.read_only = True
        warehouse_state.prepare(writer, "ml")
        writer.commit()
        scores = _Scores(reader, model, champion)
        content = scores.digest()
        last = built_from.read(writer, "ml", model.scores)
        inputs = {"code": code_version(model), "content": content}
        if last and last[1] == inputs:
            return Scored(last[0], False, content)
        # Whoever talks to one subject asks for its score alone.
        count = replace_table(writer, "ml", model.scores, scores, key=model.subject)
        texts = {(model.scores, name): text for name, text in COLUMNS.items()}
        texts[model.scores, ""] = f"{model.description} One row per {model.subject}."
        comments.write(writer, "ml", texts)
        built_from.note(writer, "ml", model.scores, inputs, count)
    return Scored(count, True, content)


class _Scores:
    """The scores of the last month, as rows in batches."""

    def __init__(self, session: psycopg.Connection, model: Model, champion: Version | None) -> None:
        self._session, self._model, self._champion = session, model, champion
        names = [each.name for each in model.inputs]
        # An older version may have other features.
        self._names = list(champion.fitted.names) if champion else names
        self._texts = {each.name: each.text for each in model.inputs}
        self._bounds: Numbers = np.zeros(0)
        columns = session.execute(
            sql.SQL("SELECT * FROM {} LIMIT 0").format(_features(model))
        ).description
        kinds = {each.name: each.type_code for each in columns or ()}
        if champion and (gone := [name for name in self._names if name not in kinds]):
            raise UnusableFeatures(
                f"aggregates.{model.features} has no column {', '.join(gone)}, which version "
                f"{champion.number} of {model.name} needs, the champion. Put it back into the job, "
                "or train a version without it that passes the checks."
            )
        is_number = kinds[model.subject] == psycopg.adapters.types["bigint"].oid
        self._kind = pa.int64() if is_number else pa.string()

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
        found = hashlib.sha256(str(self._champion.number).encode())
        probabilities = []
        for rows in self._read():
            values = self._values(rows)
            found.update(repr([row[:2] for row in rows]).encode() + values.tobytes())
            probabilities.append(self._champion.fitted.probabilities(values))
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
            probabilities = champion.fitted.probabilities(values)
            added = champion.fitted.contributions(values)
            scored = [
                self._row(row, float(probability), values[place], added[place], champion)
                for place, (row, probability) in enumerate(zip(rows, probabilities, strict=True))
            ]
            yield pa.RecordBatch.from_pylist(scored, schema=self.schema)

    def _row(
        self,
        row: Sequence[Any],
        probability: float,
        values: Numbers,
        added: Numbers,
        champion: Version,
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
            "model_version": champion.number,
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
            columns=_columns(names),
            features=_features(model),
            month=sql.Identifier(model.month),
            subject=sql.Identifier(model.subject),
        )
        with self._session.cursor(name="features") as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(batch_size):
                yield rows


def _known(session: psycopg.Connection, model: Model) -> Rows:
    """The rows whose target is known, of all subjects or of a share of them."""
    features, target = _features(model), sql.Identifier(model.target)
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
            columns=_columns(names),
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


def _numbers(model: Model, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Numbers:
    """Features as numbers. Raises `UnusableFeatures` where one is missing."""
    values: Numbers = np.array(rows, np.float64).reshape(len(rows), len(names))
    if np.isnan(values).any():
        name = names[int(np.isnan(values).any(axis=0).argmax())]
        raise UnusableFeatures(
            f"aggregates.{model.features}: the feature {name!r} of the model {model.name} is null "
            "in some rows. Let the job write a number there."
        )
    return values


def _features(model: Model) -> sql.Identifier:
    return sql.Identifier("aggregates", model.features)


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _digest(code: str, rows: Rows) -> str:
    parts = (rows.subjects, rows.months, rows.values, rows.targets)
    return hashlib.sha256(
        b"".join([code.encode(), *(each.tobytes() for each in parts)])
    ).hexdigest()
