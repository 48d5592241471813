"""The command that accepts what holds a line of business back."""

from __future__ import annotations

from typing import Annotated

import typer

from softcart_assets.cli import settings


def accept(
    audit: Annotated[
        str | None, typer.Argument(help="Name of the audit. Without it, list what can be accepted.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why the deviation is right. It is kept.")] = "",
) -> None:
    """Accept that one limit is exceeded, once: the next publication of its line goes live with it.

    The acceptance covers the deviation of the last publication, and one percentage point more.
    """
    import getpass

    from softcart_assets.connections import production
    from softcart_assets.publishing import acceptances

    settings.apply(start=False)
    if audit is None:
        held = acceptances.deviations(production())
        for each in held:
            typer.echo(f"{each.line}, {each.failed_at:%Y-%m-%d %H:%M}: {each.message}")
        typer.echo(f"{len(held)} limit(s) hold a line.")
        return
    if not reason.strip():
        raise typer.BadParameter("Say why the deviation is right.", param_hint="--reason")
    found = acceptances.accept(production(), audit, reason.strip(), getpass.getuser())
    typer.echo(f"Accepted for the next publication of {found.line}: {found.message}")
