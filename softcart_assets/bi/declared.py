"""What a line of business says of its dashboard: `lines/<line>/superset.yaml`.

The files name columns of published tables. Their types and descriptions come from production, and
are not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from softcart_assets import lines
from softcart_assets.lines.model import Line

FILE = "superset.yaml"


class DashboardError(RuntimeError):
    """A file of a dashboard is wrong. The message says where."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(_Part):
    """A number: an aggregate in SQL over the columns of its dataset.

    `format`: as d3 writes numbers. `is_money`: in the currency of the rows.
    """

    title: str
    sql: str
    format: str = ",d"
    is_money: bool = False
    description: str = ""


class Dataset(_Part):
    """The rows of charts: a query on views of production.

    `time`: the column that the period of the dashboard chooses by. `currency`: the column with the
    currency of the amounts. `titles`: of columns whose names do not say enough.
    """

    description: str
    sql: str
    time: str | None = None
    currency: str | None = None
    titles: dict[str, str] = {}
    metrics: dict[str, Metric]


class Chart(_Part):
    """A chart of some metrics of a dataset.

    `draw`: how it looks. `x`: the column along its axis, by `grain` if it is a time. `by`: columns
    that the metrics are split by. `rows`: how many of them at most, those with the most first.
    `where`: a condition on rows. `width`: of the 12 columns of the page. `height`: in steps of 8
    pixels. `note`: a few words that explain it. `is_stacked`, `is_flat`: of bars. `options`:
    Superset's own.
    """

    title: str
    of: str
    draw: Literal["number", "bars", "lines", "table", "heatmap"]
    metrics: tuple[str, ...]
    x: str | None = None
    grain: Literal["month", "day"] | None = None
    by: tuple[str, ...] = ()
    rows: Annotated[int, Field(gt=0)] = 1000
    where: str | None = None
    width: Annotated[int, Field(ge=2, le=12)] = 6
    height: int = 40
    note: str = ""
    is_stacked: bool = False
    is_flat: bool = False
    options: dict[str, Any] = {}


class Filter(_Part):
    """A choice at the side of the dashboard. `is_single`: one value, at first the first one."""

    title: str
    of: str
    column: str
    is_single: bool = False


class Board(_Part):
    """A dashboard with its datasets, its charts in the order of the page, and its filters."""

    name: str
    title: str
    description: str
    datasets: dict[str, Dataset]
    filters: tuple[Filter, ...] = ()
    charts: tuple[Chart, ...]

    @model_validator(mode="after")
    def _names_are_known(self) -> Board:
        for chart in self.charts:
            dataset = self.datasets.get(chart.of)
            if dataset is None:
                raise ValueError(f"{chart.title!r} is of {chart.of!r}, which is no dataset")
            if unknown := set(chart.metrics) - dataset.metrics.keys():
                raise ValueError(f"{chart.title!r}: {chart.of} has no metric {unknown.pop()!r}")
        for each in self.filters:
            if each.of not in self.datasets:
                raise ValueError(f"the filter {each.title!r} is of {each.of!r}, no dataset")
        titles = [chart.title for chart in self.charts]
        if len(set(titles)) < len(titles):
            raise ValueError("two charts have the same title")
        return self


def boards(of: Iterable[Line]) -> list[Board]:
    """The dashboards of those lines that have one. Raises `DashboardError`."""
    folder = Path(lines.__file__).parent
    files = {line.name: folder / line.name / FILE for line in of}
    found = [read(name, file) for name, file in files.items() if file.is_file()]
    declared_in: dict[str, str] = {}
    for board in found:
        for name in board.datasets:
            if (other := declared_in.setdefault(name, board.name)) != board.name:
                raise DashboardError(
                    f"{files[board.name]}: {files[other]} has a dataset {name!r}, too. Rename one "
                    "of them, as Superset knows them by their names."
                )
    return found


def read(name: str, file: Path) -> Board:
    """The dashboard in a file. `name`: of its line. Raises `DashboardError`."""
    try:
        return Board(name=name, **yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        raise DashboardError(f"{file}: {error}") from None
