"""Column schemas and column lineage as Dagster metadata, for tables that dbt does not make."""

import dagster as dg

from softcart_assets.connections import PostgresConnection


def table_schema(connection: PostgresConnection, schema: str, table: str) -> dg.TableSchema:
    """The columns of a PostgreSQL table or view, with their comments, from the catalog."""
    # `information_schema` has neither the comments nor the types as PostgreSQL writes them.
    with connection.connect() as session:
        rows = session.execute(
            """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                   col_description(a.attrelid, a.attnum)
            FROM pg_attribute a
            WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass
              AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum
            """,
            [schema, table],
        ).fetchall()
    return dg.TableSchema(
        [
            dg.TableColumn(name, type_, comment, dg.TableColumnConstraints(nullable=not not_null))
            for name, type_, not_null, comment in rows
        ]
    )


def same_columns_as(columns: dg.TableSchema, upstream: dg.AssetKey) -> dict[str, dg.MetadataValue]:
    """Column schema, and lineage where each column comes from the same column of `upstream`."""
    lineage = {
        column.name: [dg.TableColumnDep(upstream, column.name)] for column in columns.columns
    }
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(columns),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(lineage)),
    }
