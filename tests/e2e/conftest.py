"""The whole project, brought up once for all end-to-end tests, by the command that its users type.

`project` is the same in every module; its environment holds within a module, so that tests on the
suite's other servers are not led astray.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from support.databases import without_fsync
from support.project import Project

from softcart_assets.stack import Stack


@pytest.fixture(scope="session")
def first_demo(home: Path) -> Iterator[Project]:
    """The project after its first demo; the servers are stopped and everything is removed at the
    end.
    """
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
        without_fsync(stack)
        project = Project(own_home, env)
        code, told = project.demo()
        assert code == 0, told
        yield replace(project, told=told)
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
