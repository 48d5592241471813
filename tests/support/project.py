"""The whole project for end-to-end tests: its commands, its environment, its published tables."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import dagster as dg
from support.databases import fingerprints

from softcart_assets.assembly import LINES
from softcart_assets.connections import production
from softcart_assets.paths import REPOSITORY

SCALE = "0.03"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Project:
    """The demo's home and environment, and what the first demo printed."""

    home: Path
    env: Mapping[str, str]
    told: str = ""

    @property
    def extracts(self) -> Path:
        """The folder of extracts and the dashboard."""
        return self.home / "extracts"

    def start(self, *command: str, to: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a program of `.venv/bin` with the project's settings. Its errors go to `to` too."""
        return subprocess.Popen(
            [PROGRAMS / command[0], *command[1:]],
            cwd=REPOSITORY,
            env=self.env,
            stdout=to,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> tuple[int, str]:
        """Run a program of `.venv/bin` with the project's settings. Returns exit code, output."""
        with self.start(*command) as process:
            told, _ = process.communicate()
        return process.returncode, told

    def demo(self) -> tuple[int, str]:
        """Run the demo. Returns its exit code and output."""
        return self.run("softcart", "demo", "--scale", SCALE)

    def is_sound(self, definitions: dg.Definitions, told: str) -> bool:
        """Whether a demo says that all checks of what it makes passed. It counts running totals
        itself, and shows them apart.

        An item of DynamoDB may expire while the demo runs. Its table is then not compared.
        """
        graph = definitions.resolve_asset_graph()
        made = graph.materializable_asset_keys
        checks = len([key for key in graph.asset_check_keys if key.asset_key in made])
        expiring = sum(len(each.tables) for each in LINES.sources if each.kind == "dynamodb")
        found = re.search(r"Checks: (\d+) of (\d+) passed\.", told)
        return (
            found is not None
            and found[1] == found[2]
            and checks - expiring <= int(found[1]) <= checks
        )

    def published(self) -> dict[str, tuple]:
        """Rows and checksum of every view that people read."""
        return fingerprints(production(), [f"production.{table.name}" for table in LINES.published])
