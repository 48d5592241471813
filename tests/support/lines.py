"""Some of the lines of business, for tests that need no others."""

from __future__ import annotations

import shutil
from pathlib import Path

from softcart_assets.assembly import LINES, Lines
from softcart_assets.derive import derive
from softcart_assets.paths import REPOSITORY

SHOP = Lines([LINES.conformed, LINES.line("shop")])
TELECOM = Lines([LINES.conformed, LINES.line("telecom")])


def folders_of_others(lines: Lines) -> set[str]:
    """The names of the folders of all lines but these."""
    others = [line for line in LINES if line not in list(lines)]
    return {
        *(line.name for line in others),
        *(f"{line.name}_app" for line in others),
        *(source.name for line in others for source in line.sources),
    }


def clone_of(lines: Lines, root: Path) -> None:
    """Copy the whole project to `root`, without the folders of other lines."""
    ignored = shutil.ignore_patterns(
        *(".git", ".venv", ".softcart", "__pycache__", "build", ".*_cache", "target"),
        *folders_of_others(lines),
    )
    shutil.copytree(REPOSITORY, root, ignore=ignored)


def project_of(lines: Lines, folder: Path) -> Path:
    """Copy the dbt project to `folder`, without the models of other lines. Returns its path."""
    project = folder / "dbt_project"
    ignored = shutil.ignore_patterns("target", "logs", *folders_of_others(lines))
    shutil.copytree(REPOSITORY / "dbt_project", project, ignore=ignored)
    derive(lines, folder)
    return project
