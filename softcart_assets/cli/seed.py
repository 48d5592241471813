"""Commands for made-up data, and the demo that goes through the whole project with them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from softcart_assets.cli import settings


def seed(
    scale: Annotated[
        float, typer.Option(help="Size: 1 is about 10,000 customers and 60,000 orders.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same number gives the same data.")] = 1,
    until: Annotated[
        datetime | None, typer.Option(help="Make data up to this moment (UTC). Default: now.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table or collection. Can be repeated.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the Parquet files.")] = False,
) -> None:
    """Fill the sources with made-up data. Databases with other data are refused."""
    settings.apply(start=True)
    from seed_data.cli import seed as seed_sources

    seed_sources(scale, seed, until, table or (), keep)


def demo(
    scale: Annotated[
        float, typer.Option(help="Size: 1 is about 10,000 customers and 60,000 orders.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same number gives the same data.")] = 1,
) -> None:
    """Start and seed the servers, materialise every asset, run every check, say what to open."""
    from softcart_assets.demo import run

    run(scale, seed, settings.stack().home)


def simulate(
    rate: Annotated[float, typer.Option(help="Operations per second.")] = 5.0,
    duration: Annotated[float | None, typer.Option(help="Seconds. Default: until Ctrl-C.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the choices repeatable.")] = None,
) -> None:
    """Write live traffic into the sources: inserts, updates and deletions."""
    settings.apply(start=True)
    from seed_data.simulator import simulate as simulate_traffic

    simulate_traffic(rate, duration, seed)
