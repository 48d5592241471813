"""Commands for dashboards in a BI server."""

from __future__ import annotations

import typer

from softcart_assets.cli import settings

bi = typer.Typer(help="Dashboards in a BI server.", no_args_is_help=True)


@bi.command(name="import")
def import_() -> None:
    """Bring the dashboards of all lines into Superset, and remove those that are gone."""
    from softcart_assets.assembly import LINES
    from softcart_assets.bi.client import Client
    from softcart_assets.bi.declared import boards
    from softcart_assets.bi.load import load
    from softcart_assets.connections import SettingError, production, setting
    from softcart_assets.stack.superset import SUPERSET

    settings.apply(start=True)
    if not setting(f"{SUPERSET}_URI", ""):
        raise SettingError(
            f"There is no Superset. Run `make superset` for a local one, or set {SUPERSET}_URI, "
            "_USER and _PASSWORD for one of yours."
        )
    uri, user, password = (setting(f"{SUPERSET}_{end}") for end in ("URI", "USER", "PASSWORD"))
    for address in load(boards(LINES), Client(uri, user, password), production()):
        typer.echo(address)
    typer.echo(f"Log in as {user}. `softcart env` shows {SUPERSET}_PASSWORD.")
