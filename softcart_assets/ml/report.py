"""The report on a version of a model: one self-contained page with its judgement and pictures."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2

from softcart_assets.lines.model import Model
from softcart_assets.ml.registry import Version
from softcart_assets.ml.sampling import DRAWS
from softcart_assets.ml.task import AnyTask, Judgement
from softcart_assets.pages.kit import render


def write(
    model: Model,
    task: AnyTask,
    judgement: Judgement,
    version: Version,
    champion: int | None,
    pictures: Sequence[Path],
    path: Path,
) -> None:
    """Write the report to `path`, as a whole or not at all. `champion`: its number, if any."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(task.template).render(
        model=model,
        task=task,
        judgement=judgement,
        version=version,
        champion=champion,
        draws=DRAWS,
        weights=task.read(version.text).importance,
        pictures={
            file.stem: base64.b64encode(file.read_bytes()).decode("ascii") for file in pictures
        },
        now=datetime.now(UTC),
        style=render.style(),
    )
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
