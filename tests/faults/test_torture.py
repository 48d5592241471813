"""Torture at a small size: short rounds with fixed seeds, on servers of their own. `make torture`
runs long ones with new seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.torture.harness import Plan, Round
from tests.faults.torture.lakes import Lakes
from tests.faults.torture.servers import Servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("torture"))
    servers.up()
    yield servers
    servers.down()


# These seeds also have shared rows. The second one shifts the clock. The third one has a second
# source and documents. None has what takes long.
@pytest.mark.parametrize(
    "plan",
    [Plan(5, "snapshot", seconds=5), Plan(6, "incremental", seconds=5), Plan(26, "cdc", seconds=8)],
    ids=lambda plan: plan.strategy,
)
def test_torture(servers: Servers, plan: Plan, tmp_path: Path) -> None:
    round_ = Round(servers, Lakes(tmp_path), plan, tmp_path)
    print(round_.run())
    round_.clean_up()
