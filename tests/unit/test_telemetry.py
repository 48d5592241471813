"""Nothing of ours sends telemetry, however it is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from softcart_assets.dbt import PLACEHOLDERS

REPOSITORY = Path(__file__).parents[2]
STACK = REPOSITORY / "softcart_assets" / "stack"
FORBIDDEN_BY = (
    "DAGSTER_DISABLE_TELEMETRY",
    "DAGSTER_HOME",
    "DBT_SEND_ANONYMOUS_USAGE_STATS",
    "DG_CLI_CONFIG",
    "DO_NOT_TRACK",
    "MLFLOW_DISABLE_TELEMETRY",
)


NOTES_CONNECTIONS = """
import os
import sys

OURS = ("localhost", "::1", "0.0.0.0")


def note(event, details):
    if event == "socket.connect":
        address = details[1]
        host = address[0] if isinstance(address, tuple) else ""
    elif event == "socket.getaddrinfo":
        host = details[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and host not in OURS and not host.startswith("127."):
        with open(os.environ["ASKED_FOR"], "a") as notes:
            print(host, file=notes)
        raise OSError(f"No connection to {host} in this test")


sys.addaudithook(note)
"""
"""Python runs it at the start of each process, as `sitecustomize`."""
DBT = ("dbt", "--quiet", "parse", "--project-dir", "dbt_project", "--profiles-dir", "dbt_project")


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

    dbt, dg, track, mlflow = asked(new_user)
    assert (dbt, track, mlflow) == ("false", "1", "true")
    assert (STACK / "dg.toml").samefile(dg)
    assert asked(new_user | {"DG_CLI_CONFIG": "/mine"})[1] == "/mine"


def test_the_image_forbids_what_the_environment_forbids() -> None:
    """It has no .venv."""
    names = re.findall(r'"([A-Z_]+)": ', (STACK / "no_telemetry.pth").read_text())
    [line] = re.findall(
        r"^ENV ((?:.*\\\n)*.*)", (REPOSITORY / "docker/Dockerfile").read_text(), re.MULTILINE
    )
    settings = dict(each.split("=") for each in line.replace("\\\n", " ").split())
    assert settings.keys() == {*names}
    settings_of_dg = settings["DG_CLI_CONFIG"].removeprefix("/app/")
    assert (REPOSITORY / settings_of_dg).samefile(STACK / "dg.toml")


def asked_for(
    environment: dict[str, str], command: tuple[str, ...], folder: Path
) -> tuple[set[str], set[str]]:
    """The hosts that a program of .venv wants to reach, and the files that it leaves at home."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NOTES_CONNECTIONS)
    notes = folder / "asked_for"
    notes.touch()
    program, *arguments = command
    placeholders = {f"SOFTCART_STAGING_{name}": value for name, value in PLACEHOLDERS.items()}
    target = {"DBT_TARGET_PATH": str(folder / "dbt"), "DBT_LOG_PATH": str(folder / "dbt")}
    finished = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=REPOSITORY,
        env=environment
        | placeholders
        | target
        | {"PYTHONPATH": str(site), "ASKED_FOR": str(notes)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    home = Path(environment["HOME"])
    left = {str(path.relative_to(home)) for path in home.glob(".d*/**/*") if path.is_file()}
    return set(notes.read_text().split()), left


# The first one validates the definitions as `dagster definitions validate` does.
@pytest.mark.parametrize("command", [("dg", "check", "defs"), DBT], ids=" ".join)
def test_no_program_connects_to_anybody_or_notes_something_to_send(
    new_user: dict[str, str], command: tuple[str, ...], tmp_path: Path
) -> None:
    assert asked_for(new_user, command, tmp_path) == (set(), set())


def test_what_would_be_sent_is_seen(new_user: dict[str, str], tmp_path: Path) -> None:
    """The test above can fail: a user's own setting sends what dbt knows of this run."""
    wanted = new_user | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "true", "DO_NOT_TRACK": "0"}
    hosts, _ = asked_for(wanted, DBT, tmp_path)
    assert hosts == {"fishtownanalytics.sinter-collect.com"}


def test_mlflow_sends_nothing(new_user: dict[str, str]) -> None:
    """It takes `DO_NOT_TRACK=1` for no answer. So its own variable is set for all programs."""
    program = "from mlflow.telemetry.utils import is_telemetry_disabled as no; print(no())"
    # By these it knows tests and CI, from which it sends nothing anyhow.
    for name in ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST"):
        new_user.pop(name, None)
    for setting, told in (({}, "True"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "False")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=new_user | setting,
            capture_output=True,
            text=True,
        )
        assert (done.stdout.strip(), done.returncode) == (told, 0), done.stderr
