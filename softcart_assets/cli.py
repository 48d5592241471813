"""The command line, `softcart`: what a person or a Makefile asks for, in words; the work is done elsewhere.

Each command imports its part when it is called, so that `softcart --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
            if type(error).__module__.partition(".")[0] not in (
                "softcart_assets",
                "seed_data",
                "spark",
            ):
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
        typer.echo(
            f"Stopped: {', '.join(stack.down()) or 'nothing ran'}. Data stay in {stack.home}."
        )


@app.command()
def status() -> None:
    """Show the servers: which run, where, and how to connect."""
    stack = _stack()
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
    typer.echo("Passwords and all other settings: `softcart env`.")


@app.command()
def env() -> None:
    """Print the settings as `export` lines: eval "$(softcart env)"."""
    import shlex

    for name, value in _environment(start=False).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
) -> None:
    """Run a command with the settings and .venv's programs, for example: softcart run -- dbt build."""
    environment = os.environ | _environment(start=True)
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
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
def derive() -> None:
    """Write the files that are derived from the declarations, such as dbt's sources."""
    from softcart_assets.derive import derive as write_derived

    for path in write_derived():
        typer.echo(f"written: {path}")


@app.command()
def discover(
    prefix: Annotated[
        str, typer.Argument(help="Prefix of the database's settings, as in .env.example.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The source's name; default: the prefix without SOFTCART_.")
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="cdc, incremental or snapshot, wherever a table allows it.")
    ] = "cdc",
    views: Annotated[bool, typer.Option("--views", help="Declare views, too.")] = False,
    owner: Annotated[str, typer.Option(help="Who answers for the data.")] = "team:data",
) -> None:
    """Print the declaration of a MySQL database's tables: `sources.py` of a line of business."""
    from softcart_assets.connections import MySQLConnection
    from softcart_assets.ingestion.connectors.mysql.discover import as_python
    from softcart_assets.ingestion.connectors.mysql.discover import discover as discover_source
    from softcart_assets.stack import StackError

    if strategy not in ("cdc", "incremental", "snapshot"):
        raise typer.BadParameter("cdc, incremental or snapshot", param_hint="--strategy")
    with suppress(StackError):  # never up so far: the database is one that the user names
        os.environ |= _environment(start=False)
    connection = MySQLConnection.from_env(prefix)
    name = name or prefix.removeprefix("SOFTCART_").lower()
    found = discover_source(name, connection, strategy=strategy, views=views, owner=owner)  # type: ignore[arg-type]
    typer.echo(as_python(found), nl=False)


@app.command()
def seed(
    scale: Annotated[
        float, typer.Option(help="Size: 1 is about 10,000 customers and 60,000 orders.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same number gives the same data.")] = 1,
    until: Annotated[
        datetime | None, typer.Option(help="Make data up to this moment (UTC); default: now.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table or collection; may be repeated.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the Parquet files.")] = False,
) -> None:
    """Fill the sources with made-up data: customers, orders, stock, catalog."""
    os.environ |= _environment(start=True)
    from seed_data.cli import seed as seed_sources

    seed_sources(scale, seed, until, table or (), keep)


@app.command()
def demo(
    scale: Annotated[
        float, typer.Option(help="Size: 1 is about 10,000 customers and 60,000 orders.")
    ] = 1.0,
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
    typer.secho(
        f"Dagster UI: http://127.0.0.1:{port} (ready in a few seconds; Ctrl-C ends it)", bold=True
    )
    raise typer.Exit(serve(REPOSITORY, port))


def _chosen(names: list[str]) -> list[tuple[Any, list[str]]]:
    """Sources, each with tables of it, that `SOURCE` and `SOURCE.TABLE` name; all if there are none."""
    from softcart_assets.assembly import LINES

    tables: dict[str, list[str]] = {source.name: [] for source in LINES.sources}
    for name in names or tables:
        source_name, _, table = name.partition(".")
        source = next((each for each in LINES.sources if each.name == source_name), None)
        known = [each.name for each in source.tables] if source else []
        if not source or (table and table not in known):
            options = [f"{source_name}.{each}" for each in known] if source else list(tables)
            raise typer.BadParameter(f"{name!r} is not declared; there are {', '.join(options)}")
        tables[source_name] += [
            each for each in ([table] if table else known) if each not in tables[source_name]
        ]
    return [(source, tables[source.name]) for source in LINES.sources if tables[source.name]]


def _database(source: Any) -> Any:
    """The connection to a source that the settings name."""
    from softcart_assets.ingestion.connectors import connector

    return connector(source.kind).connection(source.env_prefix)


@contextmanager
def _raw_tables_held() -> Iterator[None]:
    """Keep models from being built out of raw tables that change, as a load in Dagster does."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.raw_tables import raw_tables_held

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    with raw_tables_held(staging(), still=False, tell=tell):
        yield


def _tell_dagster(source: Any, *results: Any) -> None:
    """Let Dagster know of loads that it did not do itself, so that what is built from the tables follows."""
    changed = [result for result in results if result and result.is_changed]
    if not (changed and os.environ.get("DAGSTER_HOME")):
        return
    import dagster as dg

    from softcart_assets.components.keys import raw_keys
    from softcart_assets.components.raw import load_metadata

    with dg.DagsterInstance.get() as instance:
        for result in changed:
            table = source.table(result.table)
            for key in raw_keys(source, table):
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(key, metadata=load_metadata(result))
                )


def _figures(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; all columns but the first and the last hold figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(columns):
        table.add_column(
            column, justify="right" if 0 < number < len(columns) - 1 else "left", no_wrap=True
        )
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


TABLES = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Default: every table of every source."),
]


@app.command()
def load(
    tables: TABLES = None,
    full: Annotated[
        bool, typer.Option("--full", help="Compare every row, whatever cursors say.")
    ] = False,
) -> None:
    """Load raw tables from their sources now, without Dagster; fails if a table could not be loaded."""
    from softcart_assets.connections import lake_uri, staging
    from softcart_assets.ingestion.errors import LoadsFailed
    from softcart_assets.ingestion.load import LoadRequest
    from softcart_assets.ingestion.load import load as load_tables
    from softcart_assets.progress import TableProgress

    os.environ |= _environment(start=False)
    chosen = _chosen(tables or [])
    rows, failures = [], []
    with _raw_tables_held(), TableProgress() as progress:
        for source, names in chosen:
            request = LoadRequest(
                source,
                _database(source),
                staging(),
                lake_uri(),
                full=full,
                on_progress=progress.tell,
            )
            try:
                for result in load_tables(request, names):
                    progress.done(result.table, result.rows_read)
                    _tell_dagster(source, result)
                    figures = (
                        result.rows_read,
                        result.inserted,
                        result.updated,
                        result.deleted,
                        result.quarantined,
                    )
                    rows.append(
                        [
                            f"{source.name}.{result.table}",
                            *(f"{figure:,}" for figure in figures),
                            f"{result.seconds:.1f}",
                            f"{result.rows_per_second:,.0f}",
                            result.position,
                        ]
                    )
            except LoadsFailed as error:
                failures.append(str(error))
    _figures(
        "Loaded",
        ["table", "read", "inserted", "updated", "deleted", "out", "s", "rows/s", "position"],
        rows,
    )
    if failures:
        typer.secho("\n".join(failures), err=True, fg=typer.colors.RED)
        raise typer.Exit(1)


@app.command()
def stream(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The source to follow, for example shop.")
    ],
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Serve Prometheus metrics on this port of this machine; 0: a free one."),
    ] = None,
) -> None:
    """Keep the raw tables of a source up with its log, until Ctrl-C: inserts, updates, deletions, within half a second."""
    from softcart_assets.connections import lake_uri, staging
    from softcart_assets.ingestion.capture import Status
    from softcart_assets.ingestion.capture import stream as follow
    from softcart_assets.ingestion.capture.metrics import served

    os.environ |= _environment(start=False)
    declared, _ = _chosen([source])[0]
    if not any(table.strategy == "cdc" for table in declared.tables):
        raise typer.BadParameter(f"{source!r} declares no table with strategy 'cdc'")
    status = Status(source)
    with ExitStack() as stack:
        if metrics_port is not None:
            port = stack.enter_context(served(status, metrics_port))
            typer.echo(f"Metrics: http://127.0.0.1:{port}/metrics")
        typer.echo(f"Process {os.getpid()} follows {source}; Ctrl-C ends it, whenever you like.")
        follow(
            declared,
            _database(declared),
            staging(),
            lake_uri(),
            status=status,
            on_report=_StreamLine(),
        )
    typer.echo(f"Stopped at {status.position}; everything up to there is committed.")


class _StreamLine:
    """A line that says how a stream fares: kept up to date on a terminal, elsewhere said when something changes, or rarely."""

    _SECONDS_BETWEEN = 60

    def __init__(self) -> None:
        self._said: tuple[object, float] = (None, 0.0)

    def __call__(self, status: Any) -> None:
        """Show the status."""
        stopped = [
            f"{name} {state}" for name, (state, _) in status.tables.items() if state != "live"
        ]
        behind = (
            "" if status.lag_bytes is None else f", {status.lag_bytes / 1e6:,.1f} MB of log ahead"
        )
        text = (
            f"{status.position}  {status.rows_per_second:,.0f} rows/s  {status.rows:,} rows  lag {status.lag_seconds:.1f} s{behind}"
            + (
                f"  {sum(status.quarantined.values()):,} in quarantine"
                if status.quarantined
                else ""
            )
            + (f"  {', '.join(stopped)}" if stopped else "")
            + (f"  waiting: {status.problem}" if status.problem else "")
        )
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\x1b[K{text}")
            sys.stdout.flush()
            return
        of_note, (noted, said) = (stopped, status.problem), self._said
        if of_note != noted or time.monotonic() - said >= self._SECONDS_BETWEEN:
            typer.echo(text)
            self._said = of_note, time.monotonic()


@app.command()
def resnapshot(
    table: Annotated[
        str, typer.Argument(metavar="SOURCE[.TABLE]", help="A captured table, or all of a source.")
    ],
    first: Annotated[
        str | None, typer.Option("--from", help="Only from this value of the leading key column.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Only up to this value of the leading key column.")
    ] = None,
) -> None:
    """Read a captured table, or a range of its keys, from the source again, and mend what raw has otherwise.

    A table that stopped because its columns changed goes on, in the columns that it has now. Of a whole source, all tables are
    read and its log is followed from its end now: that is the way on if the log was purged.
    """
    from softcart_assets.connections import lake_uri, staging
    from softcart_assets.ingestion.capture import resnapshot as read_again
    from softcart_assets.progress import TableProgress

    os.environ |= _environment(start=False)
    declared, _ = _chosen([table])[0]
    name = table.partition(".")[2] or None
    key_range = (first, last) if first is not None or last is not None else None
    if key_range and not name:
        raise typer.BadParameter("--from and --to need a table: SOURCE.TABLE")
    with TableProgress() as progress:
        results = read_again(
            declared,
            _database(declared),
            staging(),
            lake_uri(),
            name,
            key_range,
            on_progress=progress.tell,
        )
    rows = [
        [f"{declared.name}.{each.table}", f"{each.rows_changed:,}", each.position]
        for each in results
    ]
    _figures("Read again", ["table", "rows mended", "position"], rows)


@app.command()
def reconcile(
    tables: TABLES = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring the rows that differ into raw, and no others.")
    ] = False,
) -> None:
    """Compare raw tables with their sources, row by row at one position; fails if something differs unrepaired."""
    from softcart_assets.connections import lake_uri, staging
    from softcart_assets.ingestion.errors import IngestionError
    from softcart_assets.ingestion.load import LoadRequest
    from softcart_assets.ingestion.proof.reconcile import reconcile as reconcile_table
    from softcart_assets.progress import TableProgress

    os.environ |= _environment(start=False)
    chosen = _chosen(tables or [])
    rows, told, is_settled = [], [], True
    with _raw_tables_held(), TableProgress() as progress:
        for source, names in chosen:
            for name in names:
                request = LoadRequest(
                    source,
                    _database(source),
                    staging(),
                    lake_uri(),
                    on_progress=progress.tell,
                )
                try:
                    found = reconcile_table(request, name, repair=repair)
                except IngestionError as error:
                    told.append(str(error))
                    is_settled = False
                    continue
                progress.done(name, found.rows)
                _tell_dagster(source, found.load, found.repair)
                is_settled &= found.is_settled
                verdict = (
                    "equal"
                    if not found.differences
                    else "repaired"
                    if found.is_repaired
                    else "differs"
                )
                counts = (
                    found.missing,
                    found.extra,
                    found.differing,
                    found.unfit,
                    found.quarantined,
                )
                rows.append(
                    [
                        f"{source.name}.{name}",
                        f"{found.rows:,}",
                        *(f"{count:,}" for count in counts),
                        f"{found.seconds:.1f}",
                        verdict,
                        found.position,
                    ]
                )
                told += [
                    f"{source.name}.{name}: {each}" for each in [*found.sample, *found.warnings]
                ]
                if found.before_load:
                    told.append(
                        f"before the load that preceded the comparison: {found.before_load}"
                    )
    _figures(
        "Compared with the source",
        ["table", "rows", "missing", "extra", "differing", "unfit", "out", "s", "", "position"],
        rows,
    )
    for line in told:
        typer.echo(line)
    if not is_settled:
        raise typer.Exit(1)


quarantine = typer.Typer(
    help="Rows of the sources that could not be carried: list, show, replay, erase.",
    no_args_is_help=True,
)
app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
def quarantine_list(
    source: Annotated[str | None, typer.Option(help="Only this source, for example shop.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="Those that have left it, instead.")
    ] = False,
) -> None:
    """List the rows that are out: number, table, key, column, reason."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.quarantine import list_quarantine

    os.environ |= _environment(start=False)
    rows = list_quarantine(staging(), source, table, closed=closed)
    for row in rows:
        key = "erased" if row.erased_at else "/".join(row.key or ["no key"])
        because = f", {row.closed_because} {row.closed_at:%Y-%m-%d %H:%M}" if row.closed_at else ""
        reason = row.reason.removeprefix(f"{row.column_name}: ")
        typer.echo(
            f"{row.id}  {row.source}.{row.table_name}  {key}  {row.column_name}: {reason}{because}"
        )
    typer.echo(f"{len(rows)} row(s) {'have left the' if closed else 'in'} quarantine.")


@quarantine.command("show")
def quarantine_show(
    entry: Annotated[int, typer.Argument(help="Number of the entry, from `list`.")],
) -> None:
    """Show one row whole, values as text."""
    import json

    from softcart_assets.connections import staging
    from softcart_assets.ingestion.quarantine import show

    os.environ |= _environment(start=False)
    found = show(staging(), entry)
    typer.echo(f"{found.source}.{found.table_name}, {found.column_name}: {found.reason}")
    typer.echo(
        f"read at {found.position}, {found.quarantined_at.isoformat()}; closed: {found.closed_because or 'no'}"
    )
    if found.erased_at:
        typer.echo(f"erased {found.erased_at.isoformat()}")
    else:
        typer.echo(json.dumps(found.row, indent=2, ensure_ascii=False))


@quarantine.command("replay")
def quarantine_replay(
    entries: Annotated[list[int], typer.Argument(help="Numbers of entries, from `list`.")],
) -> None:
    """Read rows from their source again; those that were mended there leave the quarantine."""
    from softcart_assets.connections import lake_uri, staging
    from softcart_assets.ingestion.load import LoadRequest, replay
    from softcart_assets.ingestion.quarantine import show

    os.environ |= _environment(start=False)
    wanted = {show(staging(), entry).source for entry in entries}
    with _raw_tables_held():
        for source, _ in _chosen(sorted(wanted)):
            request = LoadRequest(
                source, _database(source), staging(), lake_uri(), released=entries
            )
            for result in replay(request):
                typer.echo(
                    f"{source.schema}/{result.table}: {result.inserted} row(s) in, {result.quarantined} still out"
                )


@quarantine.command("erase")
def quarantine_erase(
    entries: Annotated[
        list[int] | None, typer.Argument(help="Numbers of entries, from `list`.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE[.TABLE]:COLUMN=VALUE",
            help="All entries, open and closed, whose row has this value, such as shop:customer_id=4711.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Wipe rows' values for good, such as those of a person who asks for it; what was wrong, where and when stays.

    Erase them at the source first: a row that is still there is found anew by the next load.
    """
    import getpass
    import re

    from softcart_assets.connections import staging
    from softcart_assets.ingestion.quarantine import entries_with, erase

    os.environ |= _environment(start=False)
    numbers = list(entries or [])
    if where:
        match = re.fullmatch(r"([^.:=]+)(?:\.([^:=]+))?:([^=]+)=(.*)", where, re.DOTALL)
        if not match:
            raise typer.BadParameter(f"{where!r} is not of the form SOURCE[.TABLE]:COLUMN=VALUE")
        source, table, column, value = match.groups()
        _chosen([f"{source}.{table}" if table else source])
        numbers += [
            row.id
            for row in entries_with(staging(), source, column, value, table)
            if not row.erased_at
        ]
    if not numbers:
        typer.echo("There is nothing to erase.")
        return
    listed = ", ".join(map(str, sorted(numbers)))
    if not yes:
        typer.confirm(
            f"Erase the values of {len(numbers)} entries ({listed}) for good?", abort=True
        )
    erased = erase(staging(), numbers, getpass.getuser())
    typer.echo(
        f"Erased: {', '.join(map(str, erased)) or 'none; they were before, or there are none such'}"
    )
