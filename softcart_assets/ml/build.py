"""Trains a model and scores its subjects, if anything changed.

The features are an aggregate in the staging warehouse. The scores are a table there, `ml.<scores>`,
which is published like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import IsolationLevel

from softcart_assets import comments, locks, ml, warehouse_state
from softcart_assets.connections import PostgresConnection
from softcart_assets.extracts import kept
from softcart_assets.ingestion.sinks.parquet import replace_table
from softcart_assets.lines.model import Classifier, Model
from softcart_assets.ml.classifier import ClassifierTask
from softcart_assets.ml.ranker import RankerTask
from softcart_assets.ml.registry import Registry, Version
from softcart_assets.ml.task import AnyTask
from softcart_assets.warehouse_state import built_from

_PICTURES = "models"


def task_of(model: Model) -> AnyTask:
    """What is done with a model of this kind."""
    return ClassifierTask(model) if isinstance(model, Classifier) else RankerTask(model)


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
    page, task = folder / f"{model.report}.html", task_of(model)
    with staging.connect(autocommit=True) as alone:
        # Two at once would take turns with the aliases.
        locks.take(alone, f"softcart model {model.name}")
        rows = task.known(alone)
        made_from = kept.digest([code_version(model), task.digest(rows)])
        last, champion = registry.candidate(model.name), registry.champion(model.name)
        same = last if last and last.made_from == made_from else None
        # Somebody may have emptied the folder of the report.
        if same and page.is_file():
            judgement = None
        else:
            judgement = task.judge(rows, task.read(champion.text) if champion else None)
        if judgement is None:
            return Trained(last, champion.number if champion else None, False, page)
        # Only here, because loading Altair takes a second.
        from softcart_assets.ml import report
        from softcart_assets.ml.pictures import draw

        files = draw(model.name, task.charts(judgement), folder / _PICTURES)
        version = same or registry.add(
            model.name,
            task.fit(rows).text(),
            made_from,
            judgement.figures,
            task.verdicts(judgement),
            pictures=files,
        )
        if not same:
            registry.settle(model.name, version)
        champion = registry.champion(model.name)
        number = champion.number if champion else None
        report.write(model, task, judgement, version, number, files, page)
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
        task = task_of(model)
        scores = task.scores(
            reader,
            champion.number if champion else 0,
            task.read(champion.text) if champion else None,
        )
        content = scores.digest()
        last = built_from.read(writer, "ml", model.scores)
        inputs = {"code": code_version(model), "content": content}
        if last and last[1] == inputs:
            return Scored(last[0], False, content)
        # Whoever talks to one subject asks for its score alone.
        count = replace_table(writer, "ml", model.scores, scores, key=model.key)
        texts = {(model.scores, name): text for name, text in task.columns.items()}
        texts[model.scores, ""] = f"{model.description} One row per {' and '.join(model.key)}."
        comments.write(writer, "ml", texts)
        built_from.note(writer, "ml", model.scores, inputs, count)
    return Scored(count, True, content)
