"""Views that read a raw table's column. They are put aside while the column changes its type.

PostgreSQL changes no type of a column that a view uses. The staging models are such views. Each one
is dropped and made again in the transaction that changes the type, with its owner, its rights and
its comments. So nobody sees that it was away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from softcart_assets.ingestion.sinks.sql import literal

_FIND = """
WITH RECURSIVE reading (view, depth) AS (
  SELECT r.ev_class, 1
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = to_regclass(%(relation)s) AND a.attname = %(column)s
  UNION
  SELECT r.ev_class, reading.depth + 1
  FROM reading JOIN pg_depend d ON d.refobjid = reading.view JOIN pg_rewrite r ON r.oid = d.objid
  WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    AND r.ev_class <> reading.view
)
SELECT v.oid, format('%%I.%%I', n.nspname, v.relname), quote_ident(pg_get_userbyid(v.relowner)),
  rtrim(pg_get_viewdef(v.oid), ';'), array_to_string(v.reloptions, ', ')
FROM (SELECT view, max(depth) AS depth FROM reading GROUP BY view) found
JOIN pg_class v ON v.oid = found.view AND v.relkind = 'v' AND NOT v.relhastriggers
JOIN pg_namespace n ON n.oid = v.relnamespace
ORDER BY found.depth
"""
_RIGHTS = """
SELECT quote_ident(a.attname), g.privilege_type,
  CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
  CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM (
  SELECT NULL AS attname, relacl AS acl FROM pg_class WHERE oid = %(view)s
  UNION ALL SELECT attname, attacl FROM pg_attribute WHERE attrelid = %(view)s
) a CROSS JOIN LATERAL aclexplode(a.acl) g
"""
_COMMENTS = """
SELECT quote_ident(a.attname), d.description FROM pg_description d
LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE d.objoid = %s AND d.classoid = 'pg_class'::regclass
"""


@dataclass(frozen=True)
class _View:
    """A view: its quoted name, and the statements that make it again as it was."""

    name: str
    making: Sequence[str]


@contextmanager
def put_aside(connection: psycopg.Connection, relation: str, column: str) -> Iterator[None]:
    """Drop the views that read a column, directly or through each other, and make them again after
    the block.

    `relation`: its quoted name. The transaction must be open. A materialized view stays, and so
    does a view with a trigger. PostgreSQL then refuses the change.
    """
    found = _found(connection, relation, column)
    # Those that read others first.
    for view in reversed(found):
        connection.execute(f"DROP VIEW {view.name}".encode())
    yield
    for statement in (statement for view in found for statement in view.making):
        connection.execute(statement.encode())


def _found(connection: psycopg.Connection, relation: str, column: str) -> list[_View]:
    # Without a search path, a view's text names each table with its schema.
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(_FIND, {"relation": relation, "column": column}).fetchall()
    return [
        _View(name, [*_definition(name, owner, query, options), *_grants(connection, name, oid)])
        for oid, name, owner, query, options in rows
    ]


def _definition(name: str, owner: str, query: str, options: str | None) -> Iterator[str]:
    yield f"CREATE VIEW {name}{f' WITH ({options})' if options else ''} AS {query}"
    yield f"ALTER VIEW {name} OWNER TO {owner}"
    yield f"REVOKE ALL ON {name} FROM PUBLIC"


def _grants(connection: psycopg.Connection, name: str, oid: int) -> Iterator[str]:
    """Yield the statements that give a view its rights and its comments."""
    for part, privilege, grantee, option in connection.execute(_RIGHTS, {"view": oid}):
        yield f"GRANT {privilege}{f' ({part})' if part else ''} ON {name} TO {grantee}{option}"
    for part, comment in connection.execute(_COMMENTS, [oid]):
        what = f"COLUMN {name}.{part}" if part else f"VIEW {name}"
        yield f"COMMENT ON {what} IS {literal(comment)}"
