"""The audits that every publication must pass.

They follow from the declarations of the published tables. To add an audit of a total, declare the
total there. To add an audit of a reference, add it to the tests of the dbt model.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from psycopg import sql
from psycopg.sql import SQL, Identifier

from softcart_assets.audits.model import (
    AnyAudit,
    Audit,
    Comparison,
    Equality,
    Growth,
    Measured,
    Part,
    Volume,
)
from softcart_assets.lines.model import AddsUp, Limit
from softcart_assets.publishing.differences import ADDED
from softcart_assets.publishing.tables import UNKNOWN, PublishedTable, Reference


def _names(columns: Iterable[str]) -> sql.Composed:
    return SQL(", ").join(map(Identifier, columns))


def _sample(table: PublishedTable, columns: Iterable[str], sample: str) -> sql.SQL:
    """A sample of rows, as SQL, which shows the values of these columns. Null if they are personal:
    everybody who may see the checks could read it.
    """
    is_personal = not {*table.pii, *table.sensitive}.isdisjoint(columns)
    return SQL("NULL::text[]" if is_personal else sample)


def _key(table: PublishedTable) -> Audit:
    key = ", ".join(table.key)

    def question(rows: Identifier) -> sql.Composed:
        return SQL(
            """
            SELECT coalesce(sum(_rows) FILTER (WHERE _rows > 1 OR NOT _present), 0)::bigint
                     AS offending,
                   coalesce(sum(_rows), 0)::bigint AS total,
                   {sample} AS sample
            FROM (SELECT {key}, {present} AS _present, count(*) AS _rows
                  FROM {table} GROUP BY {key}) keys
            """
        ).format(
            key=_names(table.key),
            sample=_sample(
                table,
                table.key,
                "(array_agg(concat_ws('/', {key})) FILTER (WHERE _rows > 1 OR NOT _present))[:5]",
            ).format(key=_names(table.key)),
            present=SQL(" AND ").join(
                SQL("{} IS NOT NULL").format(Identifier(column)) for column in table.key
            ),
            table=rows,
        )

    return Audit(
        f"{table.name}_key_unique",
        table.name,
        f"Each row of {table.name} has a key ({key}) of its own, without nulls.",
        question(Identifier(table.name)),
        # The unique index of the slot keeps added rows apart from the others.
        added=question(Identifier(ADDED, table.name)),
    )


def _not_empty(table: PublishedTable) -> Audit:
    return Audit(
        f"{table.name}_not_empty",
        table.name,
        f"{table.name} has rows.",
        SQL("SELECT (NOT EXISTS (SELECT FROM {}))::int AS offending, 1 AS total").format(
            Identifier(table.name)
        ),
        limit=Limit(
            Decimal(0),
            "Only a table that is declared as may_be_empty may have no rows.",
            table.declared.declared_at,
        ),
        what=f"of the expected rows of {table.name} are missing: it is empty",
    )


def _equality(table: PublishedTable) -> Equality:
    return Equality(
        f"{table.name}_equals_staging",
        table.name,
        f"{table.name} has the rows that it has in staging.",
    )


def _volume(table: PublishedTable) -> Volume:
    return Volume(
        f"{table.name}_volume",
        table.name,
        f"{table.name} has not lost more than {table.declared.max_drop.value:.0%} of its rows "
        "since the last publication, or has its usual number again.",
        table.declared.max_drop,
    )


def _growth(table: PublishedTable) -> Growth:
    return Growth(
        f"{table.name}_growth",
        table.name,
        f"{table.name} has at most {table.declared.max_growth.value} times as many rows as in the "
        "last publication, or as usual.",
        table.declared.max_growth,
    )


def _intervals(table: PublishedTable) -> Audit:
    # The row for the unknown member is left out, because it has no versions.
    return Audit(
        f"{table.name}_intervals",
        table.name,
        f"The versions of each {', '.join(table.versions_of)} in {table.name} cover all time, "
        "without gap or overlap. The last is current.",
        SQL(
            """
            WITH versions AS (
              SELECT {member}, valid_from, valid_to, is_current,
                     lag(valid_to, 1, '1900-01-01 00:00+00') OVER w AS previous_to,
                     lead(valid_from) OVER w AS next_from
              FROM {table} WHERE {key} <> {unknown}
              WINDOW w AS (PARTITION BY {member} ORDER BY valid_from)
            ), offenders AS (
              SELECT DISTINCT {member} FROM versions
              WHERE valid_from <> previous_to OR valid_from >= valid_to
                 OR is_current <> (next_from IS NULL)
                 OR (next_from IS NULL AND valid_to <> '9999-12-31 00:00+00')
            )
            SELECT (SELECT count(*) FROM offenders) AS offending,
                   (SELECT count(DISTINCT ({member})) FROM versions) AS total,
                   {sample} AS sample
            """
        ).format(
            member=_names(table.versions_of),
            sample=_sample(
                table,
                table.versions_of,
                "(SELECT array_agg(concat_ws('/', {member}))"
                " FROM (SELECT * FROM offenders LIMIT 5) few)",
            ).format(member=_names(table.versions_of)),
            table=Identifier(table.name),
            key=Identifier(table.key[0]),
            unknown=SQL(UNKNOWN),
        ),
    )


def _resolves(table: PublishedTable, reference: Reference) -> Audit:
    fact = table.name

    def question(rows: Identifier) -> sql.Composed:
        # Grouped before the join: a fact has many rows, but few different keys.
        return SQL(
            """
            SELECT coalesce(sum(f._rows) FILTER (WHERE d.{key} IS NULL), 0)::bigint AS offending,
                   coalesce(sum(f._rows), 0)::bigint AS total,
                   {sample} AS sample
            FROM (SELECT {column}, count(*) AS _rows FROM {fact} GROUP BY {column}) f
            LEFT JOIN {dimension} d ON d.{key} = f.{column}
            """
        ).format(
            key=Identifier(reference.key),
            column=Identifier(reference.column),
            sample=_sample(
                table,
                [reference.column],
                "(array_agg(coalesce(f.{column}::text, 'null'))"
                " FILTER (WHERE d.{key} IS NULL))[:5]",
            ).format(column=Identifier(reference.column), key=Identifier(reference.key)),
            fact=rows,
            dimension=Identifier(reference.dimension),
        )

    return Audit(
        f"{fact}_{reference.column}_resolves",
        fact,
        f"Each {reference.column} of {fact} stands in {reference.dimension}.",
        question(Identifier(fact)),
        reads=(reference.dimension,),
        added=question(Identifier(ADDED, fact)),
        refers_to=((reference.dimension, reference.key),),
    )


def _known(fact: str, reference: Reference) -> Measured:
    counted = f" with {reference.where}" if reference.where else ""
    question = SQL(
        "SELECT count(*) FILTER (WHERE {} = {}) AS offending, count(*) AS total FROM {} WHERE {}"
    ).format(
        Identifier(reference.column),
        SQL(reference.unknown),
        Identifier(fact),
        SQL(reference.where or "true"),
    )
    return Measured(
        f"{fact}_{reference.column}_known",
        fact,
        f"At most {reference.max_unknown.value:%} of the rows of {fact}{counted} have the unknown "
        f"member as {reference.column}.",
        (Part(fact, question),),
        limit=reference.max_unknown,
        what=f"of the rows of {fact}{counted} have the unknown member as {reference.column}",
    )


def _totals(table: PublishedTable) -> Comparison:
    sums = [SQL("sum({0}) AS {0}").format(Identifier(column)) for column in table.declared.totals]
    return Comparison(
        f"{table.name}_totals",
        table.name,
        f"The sums of {table.name} equal staging's exactly.",
        SQL("SELECT {} FROM {}").format(SQL(", ").join(sums), Identifier(table.name)),
    )


def _latest(fact: str, column: str) -> Comparison:
    return Comparison(
        f"{fact}_latest_day",
        fact,
        f"{fact} reaches the same day as in staging.",
        SQL("SELECT max({})::date AS latest_day FROM {}").format(
            Identifier(column), Identifier(fact)
        ),
    )


def _adds_up(table: str, sums: AddsUp) -> Measured:
    column, other = sums.column, sums.other_table
    ours = SQL("SELECT sum({0}) AS {0} FROM {1}").format(Identifier(column), Identifier(table))
    theirs = SQL("SELECT sum({}) AS {} FROM {} WHERE {}").format(
        Identifier(sums.other_column),
        Identifier(f"{column}_of_{other}"),
        Identifier(other),
        SQL(sums.where),
    )
    return Measured(
        f"{table}_{column}_agrees_with_{other}",
        table,
        f"The sum of {column} of {table} equals that of {sums.other_column} of {other} where "
        f"{sums.where}.",
        (Part(table, ours), Part(other, theirs)),
    )


def audits_of(tables: Iterable[PublishedTable]) -> tuple[AnyAudit, ...]:
    """Every audit of a publication of these tables."""
    tables = list(tables)
    references = [(table, each) for table in tables for each in table.references]
    return (
        *map(_key, tables),
        *(_not_empty(table) for table in tables if not table.declared.may_be_empty),
        *map(_equality, tables),
        *map(_volume, tables),
        *map(_growth, tables),
        *(_intervals(table) for table in tables if table.versions_of),
        *(_resolves(*reference) for reference in references),
        *(_known(table.name, each) for table, each in references if each.max_unknown.value < 1),
        *(_totals(table) for table in tables if table.declared.totals),
        *(_latest(table.name, table.declared.latest) for table in tables if table.declared.latest),
        *(_adds_up(table.name, sums) for table in tables for sums in table.declared.adds_up),
    )
