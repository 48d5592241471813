"""Commands for the privacy officer: what the platform holds about a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings

if TYPE_CHECKING:
    import psycopg

    from softcart_assets.privacy.made import Lineage
    from softcart_assets.privacy.person import Person

privacy = typer.Typer(no_args_is_help=True, help="Find what is held about a person, and export it.")

_Email = Annotated[str, typer.Option(help="An e-mail address of the person, now or before.")]
_Phone = Annotated[str, typer.Option(help="A telephone number or MSISDN, in any form.")]
_Customer = Annotated[
    str,
    typer.Option(metavar="LINE:NUMBER", help="A line of business and the number of a customer."),
]


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


@contextmanager
def _found(email: str, phone: str, customer: str) -> Iterator[tuple[psycopg.Connection, Person]]:
    """A session that sees one moment of the staging warehouse, and the person in it."""
    import psycopg

    from softcart_assets.assembly import LINES
    from softcart_assets.connections import staging
    from softcart_assets.privacy.person import Sought, find_person

    line, _, number = customer.partition(":")
    if customer and not (number and line in [each.name for each in LINES]):
        raise typer.BadParameter(
            "Write LINE:NUMBER: a line of business, and the number of a customer.",
            param_hint="--customer",
        )
    if sum(map(bool, (email, phone, customer))) != 1:
        raise typer.BadParameter("Name one of --email, --phone and --customer.")
    with staging().connect() as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        sought = Sought(email, phone, (line, number) if customer else None)
        yield session, find_person(session, LINES, sought)


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


@privacy.command()
def find(email: _Email = "", phone: _Phone = "", customer: _Customer = "") -> None:
    """List every store that holds the person, with the number of rows.

    Fails if a store could not be looked at.
    """
    from softcart_assets.assembly import LINES
    from softcart_assets.privacy.find import Search
    from softcart_assets.privacy.places import places

    settings.apply(start=False)
    lineage = _lineage()
    with _found(email, phone, customer) as (session, person):
        _tell_who(person)
        unknown = 0
        for each in Search(session, LINES, places(), person, lineage).everywhere():
            rows = "–" if each.rows is None else f"{each.rows:,}"
            named = f", named in {each.mentions:,} of others" if each.mentions else ""
            typer.echo(f"{each.layer:<12} {each.store:<52} {rows:>10}{named}")
            if each.note:
                typer.echo(f"{'':<12} {each.note}")
            unknown += each.is_unknown
    if unknown:
        typer.secho(f"{unknown} store(s) could not be looked at.", err=True, fg=typer.colors.RED)
        raise typer.Exit(1)


@privacy.command()
def export(
    to: Annotated[str, typer.Option(help="A new folder for the files.")],
    email: _Email = "",
    phone: _Phone = "",
    customer: _Customer = "",
) -> None:
    """Write all that is known about the person: `person.json`, and one CSV file per table."""
    from pathlib import Path

    from softcart_assets.assembly import LINES
    from softcart_assets.privacy import export as files

    settings.apply(start=False)
    lineage = _lineage()
    with _found(email, phone, customer) as (session, person):
        _tell_who(person)
        written = files.export(session, LINES, person, lineage, Path(to))
    for name, rows in written.items():
        typer.echo(f"{name:<52} {rows:>10,}")
    typer.echo(f"Written to {to}. Others must not read it: hand it over by a safe way.")


def _tell_who(person: Person) -> None:
    customers = ", ".join(f"{line}:{number}" for line, number in person.customers)
    typer.echo(f"Customers: {customers or 'none, only an address or a number'}.")
    if person.shared:
        typer.echo(
            f"{person.shared} address(es) or number(s) are also those of others. Nothing is looked "
            "for by them."
        )
