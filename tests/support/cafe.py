"""The line of business in `new_line`, without the e2e test's copy of the whole project."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from support.lines import project_of

from softcart_assets.assembly import LINES, Lines
from softcart_assets.derive import derive

NEW_LINE = Path(__file__).parent / "new_line"


def add_cafe(folder: Path, to: Lines = LINES) -> Lines:
    """Copy the dbt project and the cafés' models to `folder`. Returns the lines with the new one.

    `to`: the other lines of the project.
    """
    project = project_of(to, folder)
    shutil.copytree(NEW_LINE / "dbt_project", project, dirs_exist_ok=True)
    declared = NEW_LINE / "softcart_assets" / "lines" / "cafe" / "__init__.py"
    spec = importlib.util.spec_from_file_location("cafe", declared)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = Lines([*to, module.LINE])
    derive(lines, folder)
    return lines
