"""The command line itself; what its commands do to servers is tested with the stack."""

from __future__ import annotations

import os
import subprocess
import sys

from typer.testing import CliRunner

from softcart_assets import cli, stack


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
    (tmp_path / ".env").write_text("SOFTCART_SHOP_HOST=from-file\nSOFTCART_CATALOG_URI=from-file\n")
    monkeypatch.setattr(cli.settings, "REPOSITORY", tmp_path)
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    monkeypatch.setenv("SOFTCART_SHOP_HOST", "from-shell")
    monkeypatch.setenv("SOFTCART_CATALOG_URI", "")
    monkeypatch.delenv("SOFTCART_CATALOG_URI")  # and back to unset afterwards
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
    assert done == ["servers", "dbt"]
