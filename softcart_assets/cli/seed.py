"""Commands for made-up data, and the demo, which runs the whole project with them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from softcart_assets.cli import settings

_Line = Annotated[
    str | None,
    typer.Argument(metavar="[LINE]", help="A line of business. Default: all with seed data."),
]
_Scale = Annotated[
    float, typer.Option(help="Size: 1 is a few hundred thousand rows per line of business.")
]
_Seed = Annotated[int, typer.Option(help="The same number gives the same data.")]


def seed(
    line: _Line = None,
    scale: _Scale = 1.0,
    seed: _Seed = 1,
    until: Annotated[
        datetime | None, typer.Option(help="Make data up to this moment (UTC). Default: now.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE.TABLE", help="Only this table. Can be repeated."),
    ] = None,
) -> None:
    """Fill the sources with made-up data. Databases with other data are refused."""
    lines = settings.lines(line)
    settings.apply(start=True)
    from seed_data.common.seeding import seed as seed_lines

    seed_lines(lines, scale, seed, until, table or ())


def demo(scale: _Scale = 1.0, seed: _Seed = 1) -> None:
    """Start and seed the servers, materialise every asset, run every check, say what to open."""
    from softcart_assets.demo import run

    run(scale, seed, settings.stack().home)


def simulate(
    line: _Line = None,
    rate: Annotated[float, typer.Option(help="Operations per second and line of business.")] = 5.0,
    duration: Annotated[float | None, typer.Option(help="Seconds. Default: until Ctrl-C.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the choices repeatable.")] = None,
) -> None:
    """Write live traffic into the sources: inserts, updates and deletions."""
    lines = settings.lines(line)
    settings.apply(start=True)
    from seed_data.common.simulation import simulate as simulate_lines

    simulate_lines(lines, rate, duration, seed)
