"""Commands for the privacy officer: where personal values go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings

if TYPE_CHECKING:
    from softcart_assets.privacy.made import Lineage

privacy = typer.Typer(no_args_is_help=True, help="Where personal values go.")


def _models() -> dict[tuple[str, str], str]:
    """All dbt models, by schema and name, and how each is materialized."""
    from softcart_assets.dbt import prepare_manifest, read_manifest

    prepare_manifest()
    return {
        (node["schema"], node["name"]): node["config"]["materialized"]
        for node in read_manifest()["nodes"].values()
        if node["resource_type"] == "model"
    }


def _lineage() -> Lineage:
    """What all builds recorded about the columns of their tables."""
    import dagster as dg

    from softcart_assets.assembly import LINES
    from softcart_assets.components.recorded import column_origins

    ends = {schema for source in LINES.sources for schema in (source.schema, source.lake)}
    with dg.DagsterInstance.get() as instance:
        keys = [key for key in instance.all_asset_keys() if len(key.path) == 2]
        found = column_origins(instance, keys, ends)
    models = _models()
    of_models = {schema for schema, _ in models}
    # Dagster remembers models that are no more.
    return {each: found[each] for each in found if each[0] not in of_models or each in models}


@privacy.command()
def routes(
    problems: Annotated[
        bool, typer.Option("--problems", help="Show only where nobody can be found.")
    ] = False,
) -> None:
    """List where each personal column goes, and how a person is found there.

    Fails if a table has personal values and no way to the person.
    """
    from softcart_assets.assembly import LINES
    from softcart_assets.privacy import routes as found

    settings.apply(start=False)
    lineage = _lineage()
    views = [name for name, kind in _models().items() if kind == "view"]
    if not problems:
        for route in found.routes(LINES, lineage, views):
            typer.secho(f"{route.column} ({route.privacy})", bold=True)
            typer.echo(f"  found by: {route.way or 'nothing'}")
            typer.echo(f"  goes to: {', '.join(route.stores)}")
    if wrong := list(found.problems(LINES, lineage, views)):
        for each in wrong:
            typer.secho(f"✗ {each}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1)
