"""Views that others own, grant and build on, made again as they were.

PostgreSQL changes no type of a column that a view uses, and none of a view's own columns. Such a
view is dropped and made again in one transaction, with its owner, its privileges, its options and
its comments, and so are the views that read it. So nobody sees that it was away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

# What a view loses with a DROP, and what no query makes again.
_EXTRAS = """
SELECT tgname::text FROM pg_trigger WHERE tgrelid = {view}
UNION ALL
SELECT rulename FROM pg_rewrite WHERE ev_class = {view} AND rulename <> '_RETURN'
UNION ALL
SELECT 'default of ' || a.attname FROM pg_attrdef f
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE f.adrelid = {view}
"""
# Without a column: the views that read any part of the relation.
_FIND = f"""
WITH RECURSIVE reading (view, depth) AS (
  SELECT r.ev_class, 1
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = to_regclass(%(relation)s) AND r.ev_class <> d.refobjid
    AND (%(column)s::text IS NULL OR a.attname = %(column)s)
  UNION
  SELECT r.ev_class, reading.depth + 1
  FROM reading JOIN pg_depend d ON d.refobjid = reading.view JOIN pg_rewrite r ON r.oid = d.objid
  WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    AND r.ev_class <> reading.view
)
SELECT v.oid, format('%%I.%%I', n.nspname, v.relname), pg_get_viewdef(v.oid)
FROM (SELECT view, max(depth) AS depth FROM reading GROUP BY view) found
JOIN pg_class v ON v.oid = found.view AND v.relkind = 'v'
JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE NOT EXISTS ({_EXTRAS.format(view="v.oid")})
ORDER BY found.depth
"""
# NULL stands for the privileges that PostgreSQL gives by default: all of them to the owner.
_PRIVILEGES = """
SELECT a.attname, g.privilege_type,
  CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee) END, g.is_grantable
FROM (
  SELECT NULL AS attname, coalesce(relacl, acldefault('r', relowner)) AS acl
  FROM pg_class WHERE oid = %(view)s
  UNION ALL
  SELECT attname, attacl FROM pg_attribute
  WHERE attrelid = %(view)s AND NOT attisdropped
) a CROSS JOIN LATERAL aclexplode(a.acl) g
"""
_COMMENTS = """
SELECT a.attname, d.description FROM pg_description d
LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE d.objoid = %s AND d.classoid = 'pg_class'::regclass
"""


class ViewKept(RuntimeError):
    """A view cannot be made again as it was. The message names it and the cause."""


@dataclass(frozen=True)
class _Kept:
    """What a view has besides its query. A privilege is (column, name, grantee, grantable)."""

    owner: str
    options: str
    privileges: Sequence[tuple[str | None, str, str | None, bool]]
    comments: Sequence[tuple[str | None, str]]


@contextmanager
def put_aside(
    connection: psycopg.Connection, relation: str, column: str | None = None
) -> Iterator[None]:
    """Drop the views that read a relation, directly or through each other, and make them again
    after the block.

    `relation`: its quoted name. `column`: only those that read this column. The transaction must be
    open. A materialized view stays, and so does a view with triggers, rules or defaults of its own.
    PostgreSQL then refuses the change. Raises `ViewKept` if a view cannot be made again.
    """
    found = _found(connection, relation, column)
    # Those that read others first.
    for name, _, _ in reversed(found):
        with _naming(name):
            connection.execute(f"DROP VIEW {name}".encode())
    yield
    for name, query, kept in found:
        with _naming(name):
            options = f" WITH ({kept.options})" if kept.options else ""
            connection.execute(f"CREATE VIEW {name}{options} AS {query}".encode())
            _give_back(connection, name, kept)


def replace(connection: psycopg.Connection, view: str, query: str) -> None:
    """Create a view, or give it another query and other columns. `view`: its quoted name.

    It keeps its owner, its options, and the privileges and comments of itself and of the columns
    that it still has. The views that read it are made again. The transaction must be open. Raises
    `ViewKept` if that is not possible.
    """
    present = _oid(connection, view)
    kept = _kept(connection, present) if present else None
    # Replacing a view takes away its options, unless they are named again.
    options = f" WITH ({kept.options})" if kept and kept.options else ""
    create = f"CREATE OR REPLACE VIEW {view}{options} AS {query}".encode()
    try:
        # A block of its own, because a refusal would spoil the caller's transaction.
        with connection.transaction():
            connection.execute(create)
    except psycopg.errors.InvalidTableDefinition:
        # Other columns than before, and not only more of them.
        assert kept
        _refuse_extras(connection, view)
        with put_aside(connection, view):
            connection.execute(f"DROP VIEW {view}".encode())
            connection.execute(create)
            _give_back(connection, view, kept)


def carry_privileges(connection: psycopg.Connection, old: str, new: str) -> None:
    """Give a table the privileges of another one, without those on columns that it does not have.

    Both are quoted names.
    """
    present = _oid(connection, old)
    assert present, f"{old} does not exist"
    _grant(connection, new, _kept(connection, present).privileges)


def _refuse_extras(connection: psycopg.Connection, view: str) -> None:
    """Raise `ViewKept` for what would be lost with a view: its triggers, rules and defaults."""
    extras = connection.execute(
        _EXTRAS.format(view="to_regclass(%(view)s)").encode(), {"view": view}
    ).fetchall()
    if extras:
        names = ", ".join(name for (name,) in extras)
        raise ViewKept(
            f"view {view} cannot be made again with its triggers, rules and defaults: {names}"
        )


def _found(
    connection: psycopg.Connection, relation: str, column: str | None
) -> list[tuple[str, str, _Kept]]:
    # Without a search path, a view's text names each table with its schema.
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(_FIND, {"relation": relation, "column": column}).fetchall()
    # By number: its name would need privileges on its schema.
    return [(name, query.rstrip(";"), _kept(connection, view)) for view, name, query in rows]


def _oid(connection: psycopg.Connection, relation: str) -> int | None:
    row = connection.execute("SELECT to_regclass(%s)::oid", [relation]).fetchone()
    assert row
    return row[0]  # type: ignore[no-any-return]


def _kept(connection: psycopg.Connection, view: int) -> _Kept:
    row = connection.execute(
        "SELECT pg_get_userbyid(relowner), coalesce(array_to_string(reloptions, ', '), '')"
        " FROM pg_class WHERE oid = %s",
        [view],
    ).fetchone()
    assert row
    privileges = connection.execute(_PRIVILEGES, {"view": view}).fetchall()
    comments = connection.execute(_COMMENTS, [view]).fetchall()
    return _Kept(row[0], row[1], privileges, comments)


def _give_back(connection: psycopg.Connection, view: str, kept: _Kept) -> None:
    """Give a new view what it had before."""
    made = _oid(connection, view)
    assert made
    new = _kept(connection, made)
    if new.owner != kept.owner:
        connection.execute(f"ALTER VIEW {view} OWNER TO {_role(kept.owner)}".encode())
    # The new view has the default privileges of its schema, which may be others.
    for grantee in {grantee for _, _, grantee, _ in new.privileges} | {kept.owner}:
        connection.execute(f"REVOKE ALL ON {view} FROM {_role(grantee)}".encode())
    _grant(connection, view, kept.privileges)
    columns = _columns(connection, view)
    for column, comment in kept.comments:
        if column is None or column in columns:
            what = f"COLUMN {view}.{_quoted(column)}" if column else f"VIEW {view}"
            text = sql.Literal(comment).as_string()
            connection.execute(f"COMMENT ON {what} IS {text}".encode())


def _columns(connection: psycopg.Connection, view: str) -> Collection[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND NOT attisdropped",
        [view],
    )
    return {name for (name,) in rows}


def _grant(
    connection: psycopg.Connection,
    relation: str,
    privileges: Sequence[tuple[str | None, str, str | None, bool]],
) -> None:
    columns = _columns(connection, relation)
    for column, privilege, grantee, is_grantable in privileges:
        if column and column not in columns:
            continue
        part = f" ({_quoted(column)})" if column else ""
        option = " WITH GRANT OPTION" if is_grantable and grantee else ""
        connection.execute(
            f"GRANT {privilege}{part} ON {relation} TO {_role(grantee)}{option}".encode()
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _role(name: str | None) -> str:
    return "PUBLIC" if name is None else _quoted(name)


@contextmanager
def _naming(view: str) -> Iterator[None]:
    """Say which view could not be dropped or made again."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        # PostgreSQL does not say which of several views it is.
        cause = error.diag.message_detail or error.diag.message_primary
        raise ViewKept(f"view {view} cannot be made again: {cause}") from error
