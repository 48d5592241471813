"""Where the dbt project is, and how its manifest is kept up to date.

The Dagster definitions are made from the manifest. Set-up and tests use this module too, so it does
not import Dagster. `softcart_assets.components.dbt_models` makes assets from the models.

`prepare_manifest` parses before Dagster starts, because every process of `dagster dev` loads the
definitions, and parsing takes about 5 s.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from softcart_assets.paths import REPOSITORY

PROJECT_DIR = REPOSITORY / "dbt_project"
MANIFEST = PROJECT_DIR / "target" / "manifest.json"
PARSED_FOR = MANIFEST.with_name("parsed_for")
"""The file with the server that the manifest was parsed for, as old as the parsing's start."""
Manifest = Mapping[str, Any]
"""The content of dbt's manifest.json."""
DBT = Path(sys.executable).parent / "dbt"
"""The program of this environment, whatever PATH says."""


class DbtParseFailed(RuntimeError):
    """`dbt parse` refused the project. The message is dbt's own."""


class ManifestMissing(RuntimeError):
    """The dbt project has not been parsed yet. The message says what to do."""


SERVER = ("HOST", "PORT", "USER", "DATABASE", "TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_VERIFY_HOST")
PLACEHOLDERS = {
    "HOST": "127.0.0.1",
    "PORT": "5432",
    "USER": "unset",
    "PASSWORD": "unset",
    "DATABASE": "staging",
}


def server_named() -> str:
    """The server that the environment names, or an empty text."""
    return ":".join(os.environ.get(f"SOFTCART_STAGING_{name}", "") for name in SERVER).strip(":")


def manifest_is_current() -> bool:
    """Whether the manifest is younger than the project, and was parsed for the server in use.

    The models do not depend on the server. But if dbt has parsed the project for another one, it
    parses all of it again in each run, which takes about 4 s.
    """
    if not MANIFEST.exists() or not PARSED_FOR.exists():
        return False
    if server_named() not in ("", PARSED_FOR.read_text()):
        return False
    parsed = PARSED_FOR.stat().st_mtime_ns
    folders = ("models", "macros", "tests")
    # Folders count too: they are as young as the last file that was removed from them.
    paths = [
        PROJECT_DIR / "dbt_project.yml",
        PROJECT_DIR / "profiles.yml",
        *(path for folder in folders for path in (PROJECT_DIR / folder).rglob("*")),
    ]
    return all(path.stat().st_mtime_ns < parsed for path in paths)


def prepare_manifest() -> None:
    """Parse the project if its manifest is missing or old. Parsing takes about 5 s.

    Parsing opens no connection, but it reads the profile. Unset connection settings are filled with
    placeholders. Raises `DbtParseFailed`.
    """
    MANIFEST.parent.mkdir(exist_ok=True)
    # Several commands may start at once. The second one waits here and then finds it done.
    with FileLock(MANIFEST.with_suffix(".lock")):
        if manifest_is_current():
            return
        # Written before, for its time: a model that is saved while dbt parses is younger.
        parsing_for = PARSED_FOR.with_suffix(".new")
        parsing_for.write_text(server_named())
        placeholders = {f"SOFTCART_STAGING_{name}": value for name, value in PLACEHOLDERS.items()}
        finished = subprocess.run(
            [DBT, "--quiet", "parse", "--no-partial-parse"],
            cwd=PROJECT_DIR,
            env={**placeholders, **os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            capture_output=True,
            text=True,
        )
        if finished.returncode:
            raise DbtParseFailed(
                f"dbt parse failed in dbt_project/:\n{finished.stdout}{finished.stderr}"
            )
        parsing_for.replace(PARSED_FOR)


@cache
def read_manifest() -> Manifest:
    """The manifest, from which the definitions are made. Raises `ManifestMissing`."""
    if not MANIFEST.exists():
        raise ManifestMissing(
            "dbt_project/target/manifest.json is missing, and the definitions are made from it. "
            "Run `make manifest`."
        )
    return json.loads(MANIFEST.read_text())  # type: ignore[no-any-return]


def without_jinja(text: str) -> str:
    """A description as dbt reads it literally. dbt would take `{{` in it for Jinja."""
    return re.sub(r"\{(?=[{%#])", "{ ", text)


def name_flags_at_once() -> None:
    """Keep dbt from looking for the module that declares each of its flags on the call stack.

    It reads the source files of the whole stack for that, again for each flag and each command. And
    with each command of a process it has one flag more. This replaces a private function of dbt.
    """
    # Only a process that runs dbt should pay for the import.
    from dbt_common.behavior_flags import BehaviorFlagRendered

    BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt")  # type: ignore[method-assign]


@cache
def keep_values_out_of_errors() -> None:
    """Have dbt tell of a violated constraint without PostgreSQL's detail.

    That has values of a row, which may be personal. Errors go to dbt's log, to run_results.json and
    to Dagster's event log. This replaces a method of dbt's connections.
    """
    # Only a process that runs dbt should pay for the import.
    import psycopg2
    from dbt.adapters.postgres.connections import PostgresConnectionManager

    handler = PostgresConnectionManager.exception_handler

    @contextmanager
    def exception_handler(self: PostgresConnectionManager, sql: Any) -> Iterator[Any]:
        with handler(self, sql):
            try:
                yield
            except psycopg2.IntegrityError as error:
                raise type(error)(error.diag.message_primary) from None

    PostgresConnectionManager.exception_handler = exception_handler  # type: ignore[method-assign]


if __name__ == "__main__":
    # The program `dbt`, as `softcart dbt` starts it.
    from dbt.cli.main import cli

    keep_values_out_of_errors()
    cli(prog_name="dbt")
