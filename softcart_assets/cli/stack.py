"""Commands for the local servers and the programs that use them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from softcart_assets.cli import settings
from softcart_assets.paths import REPOSITORY

_OF_DBT = ("PROJECT", "PROFILES")
"""What dbt looks for in folders that its environment names."""
_MARKS = {
    "ok": ("✓", typer.colors.GREEN),
    "note": ("!", typer.colors.YELLOW),
    "blocks": ("✗", typer.colors.RED),
}


def up(
    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="What this home has from now on, too: production-mysql, the published tables in "
            "MySQL. s3-lake, the lake on a server of S3. hadoop, the lake in HDFS and Spark on "
            "YARN. spark, Spark on a cluster of its own. kafka, or debezium, which is Kafka with "
            "Connect. superset, a BI server.",
        ),
    ] = None,
) -> None:
    """Start the local servers that are not running, with the Hive metastore for queries."""
    from softcart_assets.connections import METASTORE, is_local, setting
    from softcart_assets.lake.hive import publish_all
    from softcart_assets.stack.stack import EXTRAS
    from softcart_assets.stores import lake_uri

    if unknown := set(extras or ()) - EXTRAS.keys():
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))} is unknown. There is {', '.join(EXTRAS)}.",
            param_hint="--with",
        )
    settings.apply(start=True, metastore=True, extras=extras or ())
    # It may not have run when tables were refreshed.
    if is_local(METASTORE):
        publish_all(setting(f"{METASTORE}_URI"), lake_uri())
    status()


def down(
    delete_data: Annotated[
        bool,
        typer.Option(
            "--delete-data", help="Also delete what the servers and the runs have stored."
        ),
    ] = False,
) -> None:
    """Stop the local servers. Data stay."""
    stack = settings.stack()
    if delete_data:
        stack.delete()
        typer.echo(f"Stopped the servers and deleted {stack.home}.")
    else:
        typer.echo(
            f"Stopped: {', '.join(stack.down()) or 'nothing ran'}. Data stay in {stack.home}."
        )


def status() -> None:
    """Show which servers run, where, and how to connect to them."""
    stack = settings.stack()
    typer.echo(f"Home: {stack.home}")
    for server in stack.servers():
        process = server.process()
        if not server.databases and not process:
            continue
        state = f"runs, pid {process.pid}, log {server.log}" if process else "does not run"
        typer.echo(f"{server.title}: {state}")
        local = stack.local_prefixes(server)
        for prefix in server.databases:
            if prefix not in local:
                typer.echo(f"  {prefix}_*: yours, named by the environment or .env")
            elif process:
                typer.echo(f"  {prefix}_*: {server.url(prefix)}")
    for prefix, folder in stack.folders().items():
        typer.echo(f"Folder: {folder}\n  {prefix}_*: put files there")
    _tell_sources()
    typer.echo("Passwords and all other settings: `softcart env`.")


def _tell_sources() -> None:
    """Print what sources have to say of what was read from them, if the warehouse can be asked."""
    from softcart_assets.assembly import LINES
    from softcart_assets.connections import ServerUnreachable, SettingError, staging
    from softcart_assets.ingestion.connectors import connector
    from softcart_assets.stack.server import StackError

    with suppress(ServerUnreachable, SettingError, StackError):
        settings.apply(start=False)
        for source in LINES.sources:
            for line in connector(source.kind).state(source, staging()):
                typer.echo(line)


def env() -> None:
    """Print the settings as `export` lines: eval "$(softcart env)"."""
    import shlex

    for name, value in settings.environment(start=False).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
) -> None:
    """Run a program of .venv with the settings, for example: softcart run -- dg list defs.

    The dbt project is parsed first if it has changed, because the Dagster definitions need that.
    """
    from softcart_assets.dbt import PROJECT_DIR, prepare_manifest

    settings.apply(start=True)
    environment = dict(os.environ)
    if Path(command[0]).name == "dbt":
        # In any folder. dbt would look for its project in the present one.
        environment = {f"DBT_{each}_DIR": str(PROJECT_DIR) for each in _OF_DBT} | environment
        command = [sys.executable, "-m", "softcart_assets.dbt", *command[1:]]
    else:
        # dbt parses for itself, and tells more about a mistake.
        prepare_manifest()
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
    # The program takes the place of this process. So it gets signals and the terminal itself.
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        typer.secho(f"{command[0]}: {error.strerror}", err=True, fg=typer.colors.RED)
        raise typer.Exit(127) from None


def dbt(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="A command of dbt with its arguments.")
    ] = None,
) -> None:
    """Run dbt with the settings, for example: softcart dbt docs generate."""
    run(["dbt", *(arguments or ["--help"])])


def doctor() -> None:
    """Report what is missing or wrong here and what to do. Fails if something blocks the work."""
    from itertools import chain

    from softcart_assets.connections import SettingError
    from softcart_assets.findings import Finding
    from softcart_assets.publishing.targets.db2_probe import examine_settings
    from softcart_assets.stack import StackError
    from softcart_assets.stack.doctor import examine

    found: list[Finding] = []
    try:
        settings.read_dotenv()
    except SettingError as error:
        found += [Finding("blocks", f"Settings: {line}") for line in str(error).splitlines()]
    # Before the first `up` only the user's own servers have settings.
    with suppress(StackError, SettingError):
        settings.apply(start=False)
    blocked = False
    for finding in chain(found, examine(settings.stack()), examine_settings()):
        mark, color = _MARKS[finding.level]
        typer.secho(f"{mark} {finding.text}", fg=color)
        blocked |= finding.level == "blocks"
    if blocked:
        raise typer.Exit(1)


def ui(
    port: Annotated[
        int | None, typer.Option(help="Default: 3000, or another one if that is taken.")
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="The address to listen on. Others than this machine's need SOFTCART_UI_PASSWORD."
        ),
    ] = "127.0.0.1",
) -> None:
    """Serve the Dagster UI and run sensors and schedules until Ctrl-C."""
    from softcart_assets.dbt import prepare_manifest
    from softcart_assets.stack.ui import serve

    settings.apply(start=True)

    def tell(address: str) -> None:
        # Only now, because a second UI should say at once where the first is.
        prepare_manifest()
        typer.secho(f"Dagster UI: {address} (ready in a few seconds, Ctrl-C ends it)", bold=True)

    raise typer.Exit(serve(REPOSITORY, port, host, tell))
