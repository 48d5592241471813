"""The command line itself; what its commands do to servers is tested with the stack."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

from softcart_assets import cli, stack
from softcart_assets.connections import SettingError
from softcart_assets.dbt import PLACEHOLDERS
from softcart_assets.stack import ui
from softcart_assets.stack.server import free_port

SERVER = ("HOST", "USER", "PASSWORD", "DATABASE")


def test_help_answers_without_importing_the_parts() -> None:
    program = "import sys, softcart_assets.cli; print([m for m in sys.modules if m in %r])"
    heavy = (
        *("dagster", "pyspark", "pyarrow", "pymongo", "psycopg", "psutil", "rich.progress"),
        "softcart_assets.assembly",
    )
    told = subprocess.run(
        [sys.executable, "-c", program % (heavy,)], text=True, capture_output=True, check=True
    )
    assert told.stdout == "[]\n"


def test_errors_meant_for_the_user_are_one_message_and_others_are_not_hidden(monkeypatch) -> None:
    def fail_with(error: Exception):
        def servers(self: stack.Stack):
            raise error

        monkeypatch.setattr(stack.Stack, "servers", servers)
        return CliRunner().invoke(cli.app, ["status"])

    expected = fail_with(stack.StackError("The disk is full. Empty it."))
    assert expected.exit_code == 1
    assert expected.output.endswith("The disk is full. Empty it.\n")
    assert isinstance(fail_with(RuntimeError("a bug")).exception, RuntimeError)


def test_settings_come_from_dotenv_but_the_shell_wins(monkeypatch, tmp_path) -> None:
    file = {"SOFTCART_CATALOG_URI": "from-file", "SOFTCART_CATALOG_DATABASE": "d"}
    file |= {f"SOFTCART_SHOP_{end}": "from-file" for end in SERVER if end != "HOST"}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in file.items()))
    monkeypatch.setattr(cli.settings, "REPOSITORY", tmp_path)
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    monkeypatch.setenv("SOFTCART_SHOP_HOST", "from-shell")
    for name in file:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # and back to unset afterwards
    cli.settings.read_dotenv()
    assert os.environ["SOFTCART_SHOP_HOST"] == "from-shell"
    assert os.environ["SOFTCART_CATALOG_URI"] == "from-file"
    told = CliRunner().invoke(cli.app, ["status"]).output
    assert "SOFTCART_CATALOG_*: yours, named by the environment or .env" in told


def test_a_program_finds_a_manifest_of_the_present_project(monkeypatch) -> None:
    """But dbt parses for itself: a mistake in the project must not keep it from starting."""
    done: list[str] = []
    monkeypatch.setattr(cli.settings, "apply", lambda start: done.append("servers"))
    monkeypatch.setattr("softcart_assets.dbt.prepare_manifest", lambda: done.append("manifest"))
    monkeypatch.setattr(os, "execvpe", lambda name, *more: done.append(name))
    runner = CliRunner()
    assert runner.invoke(cli.app, ["run", "--", "dagster", "--help"]).exit_code == 0
    assert done == ["servers", "manifest", "dagster"]
    done.clear()
    assert runner.invoke(cli.app, ["run", "--", "dbt", "build"]).exit_code == 0
    assert done == ["servers", sys.executable]


@pytest.mark.parametrize("command", ["check", "rebuild"])
def test_a_source_without_totals_is_not_passed_over_in_silence(command, monkeypatch) -> None:
    monkeypatch.setattr(cli.settings, "apply", lambda start: None)
    told = CliRunner().invoke(cli.app, ["ods", command, "shop"])
    assert (told.exit_code, told.output) == (0, "Source 'shop' declares no running totals.\n")


@pytest.mark.parametrize("command", [["run", "--", "dbt"], ["dbt"]])
def test_dbt_finds_its_project_from_every_folder(command, monkeypatch, tmp_path) -> None:
    for name, value in PLACEHOLDERS.items():
        monkeypatch.setenv(f"SOFTCART_STAGING_{name}", value)
    monkeypatch.setattr(cli.settings, "apply", lambda start: None)
    monkeypatch.chdir(tmp_path)
    listed: list[subprocess.CompletedProcess[str]] = []

    def listing(name: str, arguments: list[str], environment: dict[str, str]) -> None:
        listed.append(
            subprocess.run(arguments, env=environment, text=True, capture_output=True, check=False)
        )

    monkeypatch.setattr(os, "execvpe", listing)
    select = ["-s", "dim_date", "--resource-type", "model", "--output", "name"]
    arguments = ["--quiet", "ls", *select, "--target-path", str(tmp_path / "target")]
    CliRunner().invoke(cli.app, [*command, *arguments])
    assert [(each.returncode, each.stdout) for each in listed] == [(0, "dim_date\n")]


def test_the_version_is_told_without_reading_settings(monkeypatch) -> None:
    monkeypatch.setattr(cli.settings, "read_dotenv", lambda **_: pytest.fail("read"))
    told = CliRunner().invoke(cli.app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"softcart {metadata.version('softcart')}\n")


def test_dagster_without_our_settings_says_in_one_line_what_to_run() -> None:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("SOFTCART_")}

    def loaded(**variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import softcart_assets.definitions"]
        return subprocess.run(
            command, env=environment | variables, text=True, capture_output=True, check=False
        )

    # As `dg check defs` and `dg list defs` do, which need no settings.
    assert loaded(DAGSTER_IS_DEV_CLI="1").returncode == 0
    told = loaded(DAGSTER_IS_DEV_CLI="1", DAGSTER_verbose="")
    assert told.stderr.splitlines()[-1].endswith(
        "Run `softcart ui`, or `softcart run -- dagster dev`: it brings the settings."
    )


def test_a_second_ui_says_where_the_first_is(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(ui, "_fail_dead_runs", lambda: None)
    addresses: list[str] = []

    def second(*_: object) -> int:
        with pytest.raises(stack.StackError, match=f"already at {addresses[-1]}. Use it"):
            ui.serve(tmp_path)
        return 0

    monkeypatch.setattr(ui, "_dagster_dev", second)
    assert ui.serve(tmp_path, free_port(), tell=addresses.append) == 0
    assert ui.serve(tmp_path, tell=addresses.append) == 0


def test_a_taken_port_and_an_open_door_are_errors(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(stack.StackError, match="Another program uses port"):
            ui.serve(tmp_path, other.getsockname()[1])
    with pytest.raises(SettingError, match="Set SOFTCART_UI_PASSWORD first"):
        ui.serve(tmp_path, host="0.0.0.0")
    monkeypatch.setenv("SOFTCART_UI_PASSWORD", "x")
    monkeypatch.setattr(ui, "_fail_dead_runs", lambda: None)
    monkeypatch.setattr(ui, "_dagster_dev", lambda repository, port, host: (host, port))
    port = free_port()
    assert ui.serve(tmp_path, port, "0.0.0.0") == ("0.0.0.0", port)
