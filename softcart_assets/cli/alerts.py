"""Commands that tell people when the platform is ill."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings

if TYPE_CHECKING:
    from softcart_assets.alerts.watch import Readers

alerts = typer.Typer(no_args_is_help=True, help="Tell people when the platform is ill.")


def _readers() -> Readers:
    import dagster as dg

    from softcart_assets.alerts import dagster_records, streams
    from softcart_assets.assembly import LINES
    from softcart_assets.connections import staging
    from softcart_assets.dbt import prepare_manifest

    followed = streams.expected(LINES)
    prepare_manifest()
    from softcart_assets.definitions import defs

    definitions = defs()
    job = definitions.resolve_implicit_global_asset_job_def()
    return {
        **dagster_records.readers(
            dg.DagsterInstance.get(),
            definitions.get_repository_def(),
            [node.name for node in job.nodes],
        ),
        "stream:": lambda: streams.stream_problems(followed, staging()),
    }


@alerts.command()
def watch(
    every: Annotated[int, typer.Option(min=1, help="Seconds between two looks.")] = 30,
) -> None:
    """Look for problems and send what is new, until Ctrl-C.

    SOFTCART_ALERTS_TO names the destinations.
    """
    from softcart_assets.alerts.destinations import SETTING, destinations
    from softcart_assets.alerts.watch import Watch, look, now
    from softcart_assets.paths import softcart_home

    if not (found := destinations()):
        raise typer.BadParameter(f"Set {SETTING} first. `.env.example` explains it.")
    settings.apply(start=False)
    readers = _readers()
    watching = Watch(softcart_home() / "alerts.json", found)
    typer.echo(f"Looking every {every} s. Messages go to {', '.join(each.name for each in found)}.")
    while True:
        sent = watching.take(
            look(readers),
            now(),
            on_refused=lambda each: typer.secho(
                f"{each.name} did not take a message. It is sent again at the next look.",
                err=True,
                fg=typer.colors.RED,
            ),
        )
        for destination, message in sent:
            typer.echo(f"{destination.name}: {message.title}")
        time.sleep(every)


@alerts.command()
def show() -> None:
    """Print what is wrong now. Fails if anything is."""
    from softcart_assets.alerts.watch import look

    settings.apply(start=False)
    found = look(_readers()).problems
    for each in found:
        typer.secho(f"✗ {each.text}", fg=typer.colors.RED)
    if found:
        raise typer.Exit(1)
    typer.echo("All is well.")


@alerts.command()
def test() -> None:
    """Send a message to each destination. Fails if one does not take it."""
    from softcart_assets.alerts.destinations import SETTING, destinations
    from softcart_assets.alerts.news import Message

    if not (found := destinations()):
        raise typer.BadParameter(f"Set {SETTING} first. `.env.example` explains it.")
    message = Message("SoftCart: a test", "Alerts of SoftCart arrive here.", is_good=True)
    refused = [each.name for each in found if not each.send(message)]
    for each in found:
        typer.echo(f"{each.name}: {'refused' if each.name in refused else 'taken'}")
    if refused:
        raise typer.Exit(1)
