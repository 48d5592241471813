"""What a line of business answers about people, and how it is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apiflask import APIBlueprint


class NoDesk(RuntimeError):
    """No line of business has a desk."""


@dataclass(frozen=True)
class Desk:
    """What a line answers: SQL over raw tables and running totals, and how it is shown.

    `title`: the name of the desk.
    `subject`: the column of a source that `people` has as `id`, as `<source>.<table>.<column>`.
    `tables`: the tables that are read, as source and name. They say how old an answer is.
    `people`: how a person is found, `number` or `key` → SELECT of one row with the column `id`, and
    with whatever `answer` wants to know. It has the parameter `wanted`, a text.
    `answer`: SELECT of one row with the column `answer`, a JSON object, from the relation `person`.
    `functions`: SQL that makes functions which `answer` and `names` call, and indexes. It runs at
    each start.
    `names`: SELECT of people whose name has words that begin like those of the parameter `wanted`:
    `id`, `name`, and texts with the headings `about`.
    `number`: the pattern of a number that people are found by.
    `api`: makes the routes of the API from a `Service`.
    `templates`: the folder with its templates. `sections`: the parts of a person's page, id →
    template. A part is shown anew when its text changes.
    """

    title: str
    subject: str
    tables: tuple[tuple[str, str], ...]
    people: Mapping[str, str]
    answer: str
    functions: str
    names: str
    about: tuple[str, ...]
    number: str
    api: Callable[[Any], APIBlueprint]
    templates: Path
    sections: Mapping[str, str]


def find(lines: Iterable[str]) -> Desk:
    """The desk of the line that has one: `DESK` in the package of its name. Raises `NoDesk`."""
    folder = Path(__file__).parent
    for name in lines:
        if (folder / name / "__init__.py").is_file():
            desk: Desk = importlib.import_module(f"softcart_assets.serving.{name}").DESK
            return desk
    raise NoDesk(
        f"No line of business has a desk. Write softcart_assets/serving/<line>/, for one of "
        f"{', '.join(lines)}."
    )
