"""The command line, `softcart`. It reads what is wanted and lets other packages do it.

One module per noun holds its commands. Each command imports what it needs when it is called, so
that `softcart --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from softcart_assets.cli import lines, quarantine, seed, settings, stack, stream, tables

_OURS = ("softcart_assets", "seed_data", "spark")


class _Commands(TyperGroup):
    """Shows errors that are meant for the user without a traceback.

    Those are the `RuntimeError`s that our own packages define. Their texts say what happened and
    what to do.
    """

    def invoke(self, ctx: Any) -> Any:
        """See `TyperGroup`."""
        try:
            return super().invoke(ctx)
        except RuntimeError as error:
            if type(error).__module__.partition(".")[0] not in _OURS:
                raise
            typer.secho(str(error), err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    callback=settings.read_dotenv,
    help="SoftCart: from the operational databases to the manager's dashboard.",
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
    stream.stream,
)
for _command in _COMMANDS:
    # What follows the name of a program belongs to that program.
    app.command(context_settings=_PASS_ON if _command is stack.run else None)(_command)
app.add_typer(quarantine.quarantine, name="quarantine")
