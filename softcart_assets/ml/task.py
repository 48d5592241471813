"""What the kinds of models have in common: something is known, judged, fitted, and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import psycopg
import pyarrow as pa


class UnusableFeatures(RuntimeError):
    """The features cannot be used. The message names table and column."""


@dataclass(frozen=True)
class Verdict:
    """One thing that must hold of a model before it becomes the champion."""

    name: str
    passed: bool
    message: str


class Judgement(Protocol):
    """What past months say of a model."""

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for the registry."""


class Fitted(Protocol):
    """A fitted model."""

    def text(self) -> str:
        """The model as JSON. To load it runs no code."""

    @property
    def importance(self) -> Mapping[str, float]:
        """How much each feature counts."""


class Scores(Protocol):
    """The scores of all subjects, as rows in batches."""

    @property
    def schema(self) -> pa.Schema:
        """The columns."""

    def digest(self) -> str:
        """A digest of what the scores are made of. Ask for it before the rows."""

    def to_batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """The rows."""


D = TypeVar("D")
J = TypeVar("J", bound=Judgement)
F = TypeVar("F", bound=Fitted)


class Task(ABC, Generic[D, J, F]):
    """One model. D: what it learns from. J: its judgement. F: it fitted.

    `promises`: what must hold of a champion, by the name of the verdict. `columns`: the description
    of each column of the scores but the subject. `library`: who fits it, as Dagster shows it.
    `weight`: what the weight of a feature says. `template`: of the report.
    """

    promises: ClassVar[Mapping[str, str]]
    columns: ClassVar[Mapping[str, str]]
    library: ClassVar[str]
    weight: ClassVar[str]
    template: ClassVar[str]
    too_little: str
    """What is missing if there is no judgement."""

    @abstractmethod
    def known(self, session: psycopg.Connection) -> D:
        """What is known of months that are over. Raises `UnusableFeatures`."""

    @abstractmethod
    def digest(self, of: D) -> str:
        """A digest of it."""

    @abstractmethod
    def judge(self, of: D, champion: F | None) -> J | None:
        """Predict past months from earlier ones. None if there is too little to learn from."""

    @abstractmethod
    def verdicts(self, judgement: J) -> list[Verdict]:
        """What must hold of a candidate, a verdict for each of `promises`."""

    @abstractmethod
    def fit(self, of: D) -> F:
        """Fit it."""

    @abstractmethod
    def read(self, text: str) -> F:
        """What `Fitted.text` has written."""

    @abstractmethod
    def scores(self, session: psycopg.Connection, version: int, champion: F | None) -> Scores:
        """The scores by the champion of this version. None at all without a champion."""

    @abstractmethod
    def charts(self, judgement: J) -> Iterator[tuple[str, Any]]:
        """Pictures of a judgement, each with a name."""


AnyTask = Task[Any, Any, Any]
"""A task whose kind does not matter."""
