"""The whole project, brought up once for all end-to-end tests, by the command that its users type.

Here belongs what these tests share: the demo's servers and data, commands and jobs on them. `project` is the same in
every module; its environment holds within a module, so that tests on the suite's other servers are not led astray.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from support.databases import fingerprints

from softcart_assets.connections import production
from softcart_assets.publishing.tables import PUBLISHED
from softcart_assets.stack import REPOSITORY, Stack

SCALE = "0.03"
PROGRAMS = Path(sys.executable).parent
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Project:
    """The demo's home and environment, and what the first demo printed."""

    home: Path
    env: Mapping[str, str]
    told: str

    @property
    def extracts(self) -> Path:
        """Where extracts and the dashboard lie."""
        return self.home / "extracts"

    def start(self, *command: str, **options) -> subprocess.Popen[str]:
        """Start a program of `.venv/bin` with the project's settings; its output and errors come out of one pipe."""
        return subprocess.Popen(
            [PROGRAMS / command[0], *command[1:]],
            cwd=REPOSITORY,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(self, *command: str) -> tuple[int, str]:
        """Run a program of `.venv/bin` with the project's settings; its exit code and what it printed."""
        with self.start(*command) as process:
            told, _ = process.communicate()
        return process.returncode, told

    def demo(self) -> tuple[int, str]:
        """Run the demo; its exit code and what it printed."""
        return self.run("softcart", "demo", "--scale", SCALE)

    def published(self) -> dict[str, tuple]:
        """Rows and checksum of every view that people read."""
        return fingerprints(production(), [f"production.{table.name}" for table in PUBLISHED])


@pytest.fixture(scope="session")
def first_demo(home: Path) -> Iterator[Project]:
    """The project after its first demo; the servers are stopped and everything is removed at the end."""
    # Not pytest's own temporary folder: that keeps the last three, and this holds whole servers.
    own_home = Path(tempfile.mkdtemp(prefix="softcart-e2e-"))
    stack = Stack(own_home, ignore_environment=True)
    ours = ("SOFTCART_", "DAGSTER_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "SOFTCART_SPARK_MASTER": "local[2]",
        "SOFTCART_SPARK_MEMORY": "1g",
        "COLUMNS": "120",
    }
    try:
        env |= stack.up()
        code, told = Project(own_home, env, "").demo()
        assert code == 0, told
        yield Project(own_home, env, told)
    finally:
        stack.down()
        shutil.rmtree(own_home)


@pytest.fixture(scope="module")
def project(first_demo: Project) -> Iterator[Project]:
    """The project, with the environment that leads to it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in first_demo.env.items():
            patch.setenv(name, value)
        yield first_demo


@pytest.fixture(scope="module")
def definitions(project: Project) -> dg.Definitions:
    """The code location's definitions."""
    from softcart_assets.definitions import defs  # needs the manifest, which the demo has made

    return defs()


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance."""
    with dg.DagsterInstance.get() as instance:
        yield instance
