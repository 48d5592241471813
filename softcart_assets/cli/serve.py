"""Commands that serve what was made to others."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from softcart_assets.cli import settings
from softcart_assets.connections import CALL_CENTRE_PORT, PAGES_PORT
from softcart_assets.web.applications import applications

serve = typer.Typer(help="Serve what was made to others.", no_args_is_help=True)


@serve.command()
def pages(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. Other machines need SOFTCART_PAGES_PASSWORD."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = PAGES_PORT,
) -> None:
    """Serve pages and extracts until Ctrl-C. They are read as they are at each request."""
    from softcart_assets.assembly import LINES
    from softcart_assets.connections import EXTRACTS, setting, staging
    from softcart_assets.pages.server import serve as serve_pages
    from softcart_assets.stack.server import address_of

    # Files are served whether the warehouse runs or not.
    settings.apply(start=False)
    typer.secho(f"Pages and extracts: {address_of(host, port)} (Ctrl-C ends it)", bold=True)
    serve_pages(Path(setting(EXTRACTS)), LINES, staging, host, port)


@serve.command()
def call_centre(
    host: Annotated[str, typer.Option(help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = CALL_CENTRE_PORT,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> None:
    """Serve the call centre's API and screen until Ctrl-C."""
    from softcart_assets.assembly import LINES
    from softcart_assets.connections import staging
    from softcart_assets.serving.desk import find
    from softcart_assets.serving.server import serve as serve_desk
    from softcart_assets.stack.server import address_of

    settings.apply(start=False)
    typer.secho(f"Call centre: {address_of(host, port)} (Ctrl-C ends it)", bold=True)
    serve_desk(find([line.name for line in LINES]), staging(), host, port, workers)


def _with_settings(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def called(**named: object) -> None:
        settings.apply(start=False)
        function(**named)

    return called


for _line, _application in applications().items():
    serve.command(_line)(_with_settings(_application.serve))
