"""Commands for the tokens of the call centre's API and screen."""

from __future__ import annotations

from typing import Annotated

import typer

from softcart_assets.cli import settings

tokens = typer.Typer(
    help="Who may ask the call centre's API and use its screen.", no_args_is_help=True
)


@tokens.command()
def create(
    name: Annotated[str, typer.Argument(help="The person or program who gets it.")],
    purpose: Annotated[str, typer.Option(help="What people are looked up for with it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it is for; again for more. Default: all.")
    ] = None,
    per_minute: Annotated[int, typer.Option(min=1, help="Requests per minute.")] = 600,
    days: Annotated[int | None, typer.Option(min=1, help="After so many days it ends.")] = None,
) -> None:
    """Make a token and print it. It is shown once only."""
    from datetime import UTC, datetime, timedelta

    from softcart_assets.connections import staging
    from softcart_assets.serving.tokens import SCOPES
    from softcart_assets.serving.tokens import create as create_token

    settings.apply(start=False)
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    typer.echo(create_token(staging(), name, scope or [*SCOPES], purpose, per_minute, expires))


@tokens.command("list")
def list_tokens() -> None:
    """List all tokens, without their secrets."""
    from softcart_assets.connections import staging
    from softcart_assets.serving.tokens import every

    settings.apply(start=False)
    for token in every(staging()):
        state = "valid" if token.is_valid else "revoked" if token.revoked_at else "expired"
        typer.echo(
            f"{token.id}  {state:8}{token.created_at:%Y-%m-%d}  {token.name}: "
            f"{', '.join(token.scopes)}, for {token.purpose}, {token.per_minute}/min"
        )


@tokens.command()
def revoke(id: Annotated[str, typer.Argument(help="As `softcart tokens list` shows it.")]) -> None:
    """End a token. Processes that run notice it within two seconds."""
    from softcart_assets.connections import staging
    from softcart_assets.serving.tokens import revoke as revoke_token

    settings.apply(start=False)
    revoke_token(staging(), id)
