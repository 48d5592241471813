"""The command line, `softcart`: what a person or a Makefile asks for, in words; the work is done elsewhere.

Each command imports its part when it is called, so that `softcart --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

REPOSITORY = Path(__file__).resolve().parents[1]


class _Commands(TyperGroup):
    """Shows errors that are meant for the user without a traceback.

    Those are the `RuntimeError`s that our own packages define: their texts say what happened and what to do.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RuntimeError as error:
            if type(error).__module__.partition(".")[0] not in ("softcart_assets", "seed_data", "spark"):
                raise
            typer.secho(str(error), err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    help="SoftCart: from the operational databases to the manager's dashboard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _settings() -> None:
    if (REPOSITORY / ".env").exists():
        from dotenv import load_dotenv

        load_dotenv(REPOSITORY / ".env")


def _stack():
    from softcart_assets.stack import Stack, default_home

    return Stack(default_home())


def _environment(*, start: bool) -> dict[str, str]:
    """Our settings: the user's, from shell and `.env`, and the local stack's, which is started if wanted."""
    stack = _stack()
    given = {name: value for name, value in os.environ.items() if name.startswith("SOFTCART_")}
    return given | (stack.up() if start else stack.env())


@app.command()
def up() -> None:
    """Start the local servers that do not run yet."""
    os.environ |= _environment(start=True)
    status()


@app.command()
def down(
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Delete what they and the runs stored, too.")
    ] = False,
) -> None:
    """Stop the local servers; data stay."""
    stack = _stack()
    if delete_data:
        stack.delete()
        typer.echo(f"Stopped the servers and deleted {stack.home}.")
    else:
        typer.echo(f"Stopped: {', '.join(stack.down()) or 'nothing ran'}. Data stay in {stack.home}.")


@app.command()
def status() -> None:
    """Show the servers: which run, where, and how to connect."""
    stack = _stack()
    typer.echo(f"Home: {stack.home}")
    for server in stack.servers():
        process = server.process()
        state = f"runs, pid {process.pid}, log {server.log}" if process else "does not run"
        typer.echo(f"{server.title}: {state}")
        local = stack.local_prefixes(server)
        for prefix in server.databases:
            if prefix not in local:
                typer.echo(f"  {prefix}_*: yours, named by the environment or .env")
            elif process:
                typer.echo(f"  {prefix}_*: {server.url(prefix)}")
    typer.echo("Passwords and all other settings: `softcart env`.")


@app.command()
def env() -> None:
    """Print the settings as `export` lines: eval "$(softcart env)"."""
    import shlex

    for name, value in _environment(start=False).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(command: Annotated[list[str], typer.Argument(help="The command and its arguments.")]) -> None:
    """Run a command with the settings and .venv's programs, for example: softcart run -- dbt build."""
    environment = os.environ | _environment(start=True)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        typer.secho(f"{command[0]}: {error.strerror}", err=True, fg=typer.colors.RED)
        raise typer.Exit(127) from None


@app.command()
def doctor() -> None:
    """Say what is missing or wrong on this machine, and what to do; fails if something blocks the work."""
    from softcart_assets.stack import StackError
    from softcart_assets.stack.doctor import examine

    with suppress(StackError):  # never up so far: only what the user names can be looked at
        os.environ |= _environment(start=False)
    blocked = False
    for finding in examine(_stack()):
        mark, color = {
            "ok": ("✓", typer.colors.GREEN),
            "note": ("!", typer.colors.YELLOW),
            "blocks": ("✗", typer.colors.RED),
        }[finding.level]
        typer.secho(f"{mark} {finding.text}", fg=color)
        blocked |= finding.level == "blocks"
    if blocked:
        raise typer.Exit(1)


@app.command()
def discover(
    prefix: Annotated[str, typer.Argument(help="Prefix of the database's settings, for example SOFTCART_COUPONS.")],
    name: Annotated[str | None, typer.Option(help="The source's name; default: the prefix without SOFTCART_.")] = None,
    strategy: Annotated[str, typer.Option(help="cdc, incremental or snapshot, wherever a table allows it.")] = "cdc",
    views: Annotated[bool, typer.Option("--views", help="Declare views, too.")] = False,
    owner: Annotated[str, typer.Option(help="Who answers for the data.")] = "team:data",
) -> None:
    """Print the declaration of a MySQL database's tables, a module for softcart_assets/sources/."""
    from softcart_assets.connections import MySQLConnection
    from softcart_assets.ingestion.discover import as_python
    from softcart_assets.ingestion.discover import discover as discover_source
    from softcart_assets.stack import StackError

    if strategy not in ("cdc", "incremental", "snapshot"):
        raise typer.BadParameter("cdc, incremental or snapshot", param_hint="--strategy")
    with suppress(StackError):  # never up so far: the database is one that the user names
        os.environ |= _environment(start=False)
    connection = MySQLConnection.from_env(prefix)
    name = name or prefix.removeprefix("SOFTCART_").lower()
    typer.echo(as_python(discover_source(name, connection, strategy=strategy, views=views, owner=owner)), nl=False)  # type: ignore[arg-type]


@app.command()
def seed(
    scale: Annotated[float, typer.Option(help="Size: 1 is about 10,000 customers and 60,000 orders.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same number gives the same data.")] = 1,
    until: Annotated[datetime | None, typer.Option(help="Make data up to this moment (UTC); default: now.")] = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table or collection; may be repeated.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the Parquet files.")] = False,
) -> None:
    """Fill the sources with made-up data: customers, orders, stock, catalog."""
    os.environ |= _environment(start=True)
    from seed_data.cli import seed as seed_sources

    seed_sources(scale, seed, until, table or (), keep)


@app.command()
def demo(
    scale: Annotated[float, typer.Option(help="Size: 1 is about 10,000 customers and 60,000 orders.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same number gives the same data.")] = 1,
) -> None:
    """Start the servers, seed them, materialise every asset, run every check, say what to open."""
    from softcart_assets.demo import run

    run(scale, seed, _stack().home)


@app.command()
def simulate(
    rate: Annotated[float, typer.Option(help="Operations per second.")] = 5.0,
    duration: Annotated[float | None, typer.Option(help="Seconds; default: until Ctrl-C.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the choices repeatable.")] = None,
) -> None:
    """Write live traffic into the sources: orders, stock movements, catalog edits, address changes, deletions."""
    os.environ |= _environment(start=True)
    from seed_data.simulator import simulate as simulate_traffic

    simulate_traffic(rate, duration, seed)


@app.command()
def ui() -> None:
    """Serve the Dagster UI and run sensors and schedules, until Ctrl-C."""
    from softcart_assets.dbt import prepare_manifest
    from softcart_assets.stack.server import free_port, port_is_free
    from softcart_assets.stack.ui import serve

    os.environ |= _environment(start=True)
    prepare_manifest()
    port = 3000 if port_is_free(3000) else free_port()
    typer.secho(f"Dagster UI: http://127.0.0.1:{port} (ready in a few seconds; Ctrl-C ends it)", bold=True)
    raise typer.Exit(serve(REPOSITORY, port))


quarantine = typer.Typer(
    help="Rows of the sources that could not be carried: list, show, replay.", no_args_is_help=True
)
app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
def quarantine_list(
    source: Annotated[str | None, typer.Option(help="Only this source, for example shop.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
) -> None:
    """List the rows that are out: number, table, key, column, reason."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion import list_quarantine

    os.environ |= _environment(start=False)
    rows = list_quarantine(staging(), source, table)
    for row in rows:
        key = "/".join(row.key or ["no key"])
        typer.echo(f"{row.id}  {row.source}.{row.table_name}  {key}  {row.column_name}: {row.reason}")
    typer.echo(f"{len(rows)} row(s) in quarantine.")


@quarantine.command("show")
def quarantine_show(entry: Annotated[int, typer.Argument(help="Number of the entry, from `list`.")]) -> None:
    """Show one row whole, values as text."""
    import json

    from softcart_assets.connections import staging
    from softcart_assets.ingestion import show

    os.environ |= _environment(start=False)
    found = show(staging(), entry)
    typer.echo(f"{found.source}.{found.table_name}, {found.column_name}: {found.reason}")
    typer.echo(f"read at {found.position}, {found.quarantined_at.isoformat()}; closed: {found.closed_because or 'no'}")
    typer.echo(json.dumps(found.row, indent=2, ensure_ascii=False))


@quarantine.command("replay")
def quarantine_replay(entries: Annotated[list[int], typer.Argument(help="Numbers of entries, from `list`.")]) -> None:
    """Read rows from their source again; those that were mended there leave the quarantine."""
    from softcart_assets.connections import MongoConnection, MySQLConnection, lake_uri, staging
    from softcart_assets.ingestion import replay
    from softcart_assets.sources import SOURCES

    os.environ |= _environment(start=False)
    for source in SOURCES:
        kind = MongoConnection if source.kind == "mongodb" else MySQLConnection
        for result in replay(source, kind.from_env(source.env_prefix), staging(), lake_uri(), entries):
            typer.echo(f"{source.schema}/{result.table}: {result.inserted} row(s) in, {result.quarantined} still out")
