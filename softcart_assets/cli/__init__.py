"""The command line, `softcart`. It reads the arguments, and other packages do the work.

There is one module of commands per noun. Each command imports its packages when it is called, so
that `softcart --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from softcart_assets.cli import (
    alerts,
    bi,
    contracts,
    lines,
    ods,
    privacy,
    publication,
    quarantine,
    seed,
    serve,
    settings,
    stack,
    stream,
    tables,
    tokens,
)
from softcart_assets.interrupts import obeyed
from softcart_assets.web.applications import applications

_OURS = ("softcart_assets", "seed_data", "spark")
_HELP = "softcart.help"


class _Commands(TyperGroup):
    """Shows errors for the user without a traceback.

    These are the `RuntimeError`s that our own packages define. Their texts say what happened and
    what to do. Any other error is a mistake in the code, and its traceback is needed.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See `TyperGroup`. Notes for `_begin` whether somebody asks for help."""
        ctx.meta[_HELP] = "--help" in args
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """See `TyperGroup`."""
        try:
            return super().invoke(ctx)
        except RuntimeError as error:
            if type(error).__module__.partition(".")[0] not in _OURS:
                raise
            typer.secho(str(error), err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"softcart {version('softcart')}")
        raise typer.Exit


def _begin(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """SoftCart: from the operational databases to the manager's dashboard."""
    command = context.invoked_subcommand
    # These two have ways of their own: `ui` ends its processes, and `stream` commits first.
    if command not in ("ui", "stream"):
        context.with_resource(obeyed())
    # The doctor tells what is wrong with the settings beside what else is wrong.
    if command != "doctor":
        settings.read_dotenv(undeclared=command == "discover", checks=not context.meta[_HELP])


app = typer.Typer(
    cls=_Commands,
    callback=_begin,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_COMMANDS: tuple[Callable[..., None], ...] = (
    stack.up,
    stack.down,
    stack.status,
    stack.env,
    stack.run,
    stack.dbt,
    stack.doctor,
    stack.ui,
    seed.demo,
    seed.seed,
    seed.simulate,
    lines.discover,
    lines.derive,
    tables.load,
    tables.reconcile,
    tables.resnapshot,
    publication.accept,
    stream.stream,
)
for _command in _COMMANDS:
    # All options after the name of a program belong to that program.
    app.command(context_settings=_PASS_ON if _command in (stack.run, stack.dbt) else None)(_command)
app.add_typer(quarantine.quarantine, name="quarantine")
app.add_typer(serve.serve, name="serve")
app.add_typer(ods.ods, name="ods")
app.add_typer(tokens.tokens, name="tokens")
app.add_typer(alerts.alerts, name="alerts")
app.add_typer(contracts.contracts, name="contracts")
app.add_typer(bi.bi, name="bi")
app.add_typer(privacy.privacy, name="privacy")


def _of_application(context: typer.Context) -> None:
    if not context.meta[_HELP]:
        settings.apply(start=False)


for _line, _application in applications().items():
    app.add_typer(_application.commands, name=_line, callback=_of_application)
