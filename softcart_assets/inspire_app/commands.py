"""The commands of the fitness application. Each imports its modules when it is called."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.inspire_app.settings import PORT

if TYPE_CHECKING:
    from softcart_assets.inspire_app.site import Site

commands = typer.Typer(help="The fitness application.", no_args_is_help=True)


def _opened() -> closing[Site]:
    """The application's databases, until the end of a `with`."""
    from softcart_assets.connections import MySQLConnection
    from softcart_assets.inspire_app.server import now
    from softcart_assets.inspire_app.settings import Settings
    from softcart_assets.inspire_app.site import PEOPLE, check_tables, open_site
    from softcart_assets.web.limits import Limits

    check_tables(MySQLConnection.from_env(PEOPLE))
    return closing(open_site(Settings.from_env(), Limits(), now))


@commands.command()
def sign_out(
    email: Annotated[str, typer.Argument(help="The address of the account.")],
) -> None:
    """End all sessions of an account, on all devices."""
    from softcart_assets.inspire_app.site import sign_out_everywhere

    with _opened() as site:
        ended = sign_out_everywhere(site, email)
    typer.echo(f"{ended} sessions ended.")


@commands.command()
def turn_off_second_factor(
    email: Annotated[str, typer.Argument(help="The address of the account.")],
) -> None:
    """Let somebody who lost phone and recovery codes in by password alone, and end all sessions.

    Be sure before who asks for it. The person gets a mail.
    """
    from softcart_assets.inspire_app.site import turn_off_second_factor as turn_off

    with _opened() as site:
        was_on = turn_off(site, email)
    typer.echo("It is off." if was_on else "It was not on.")


@commands.command()
def send(
    once: Annotated[bool, typer.Option("--once", help="Send what is due, and end.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of threads that send.")] = 2,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve Prometheus metrics on this local port.")
    ] = None,
) -> None:
    """Plan and send messages until Ctrl-C. Several processes may do so at once."""
    from softcart_assets.inspire_app.sender import Work, log_to_output, run

    log_to_output()
    count = run(Work.from_env(), once=once, workers=workers, metrics_port=metrics_port)
    if once:
        typer.echo(f"{count} messages were due.")


def serve(
    host: Annotated[str, typer.Option(help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = PORT,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> None:
    """Serve the fitness application until Ctrl-C."""
    from softcart_assets.inspire_app.server import serve as serve_pages
    from softcart_assets.stack.server import address_of

    typer.secho(f"Inspire: {address_of(host, port)} (Ctrl-C ends it)", bold=True)
    serve_pages(host, port, workers)


def seeded() -> None:
    """See `applications`. Somebody of the demo gets a password."""
    from softcart_assets.inspire_app.demo import give_login

    with _opened() as site:
        give_login(site)


def opened() -> list[str]:
    """See `applications`."""
    from softcart_assets.inspire_app.demo import login
    from softcart_assets.inspire_app.providers import RECEIVER_PORT

    found = login()
    whose = f", as {found[0]} with the password {found[1]}" if found else ""
    return [
        f".venv/bin/softcart serve inspire   (the fitness application{whose}; what it sends is "
        f"shown at http://127.0.0.1:{RECEIVER_PORT})"
    ]
