"""Nothing of ours sends telemetry, however it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FORBIDDEN_BY = (
    "DAGSTER_DISABLE_TELEMETRY",
    "DAGSTER_HOME",
    "DBT_SEND_ANONYMOUS_USAGE_STATS",
    "DG_CLI_CONFIG",
    "DO_NOT_TRACK",
)


@pytest.fixture
def new_user(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has never used any of it, and has set nothing."""
    environment = {name: value for name, value in os.environ.items() if name not in FORBIDDEN_BY}
    return environment | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}


def test_dg_notes_nothing_to_send(new_user: dict[str, str]) -> None:
    """`dg check defs` wrote to ~/.dagster/logs, which the next webserver would have sent."""
    finished = subprocess.run(
        [Path(sys.executable).with_name("dg"), "check", "toml"],
        cwd=REPOSITORY,
        env=new_user,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert "elemetry" not in finished.stdout + finished.stderr
    assert not (Path(new_user["HOME"]) / ".dagster").exists()


def test_every_program_of_the_environment_knows(new_user: dict[str, str]) -> None:
    """A setting of the user's own stands."""
    names = FORBIDDEN_BY[2:]
    script = f"import os; print(*(os.environ[name] for name in {names}), sep='\\n')"

    def asked(environment: dict[str, str]) -> list[str]:
        command = [sys.executable, "-c", script]
        return subprocess.check_output(command, env=environment, text=True).splitlines()

    dbt, dg, track = asked(new_user)
    assert (dbt, track) == ("false", "1")
    assert (REPOSITORY / "softcart_assets" / "stack" / "dg.toml").samefile(dg)
    assert asked(new_user | {"DG_CLI_CONFIG": "/mine"})[1] == "/mine"
