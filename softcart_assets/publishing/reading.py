"""What people see in production: the roles that may read it, and the comments on its columns.

Two roles may read the views. `softcart_reader` does not see columns with personal data.
`softcart_reader_pii` sees them, too. Nobody sees `sensitive` columns by way of these roles. They
cannot log in. A person's or a tool's own role becomes a member of one of them.

Each publication grants the roles what its tables want, in the transaction that switches readers. So
there is no moment in which a column that became personal can be read. If the server does not take a
privilege back, the publication fails. What other roles were granted stays. If the publishing user
may not create the roles, an administrator creates them once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from softcart_assets.comments import Comments, changes, read
from softcart_assets.publishing.slots import PublishError, Shape
from softcart_assets.publishing.tables import PublishedTable

READER = "softcart_reader"
READER_PII = "softcart_reader_pii"


def create_roles(session: psycopg.Connection, tell: Callable[[str], None]) -> None:
    """Create the roles that the server lacks, or tell that it does not work.

    The session is in autocommit mode.
    """
    for role in (READER, READER_PII):
        try:
            if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                session.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # A publication to another database of this server was faster.
        except psycopg.errors.InsufficientPrivilege:
            tell(
                f"the role {role} is missing, and the publishing user may not create it: CREATE "
                f"ROLE {role} NOLOGIN, and publish again"
            )


def serve(
    session: psycopg.Connection,
    tables: Sequence[PublishedTable],
    shape: Shape,
    comments: Comments,
    tell: Callable[[str], None],
) -> None:
    """Grant the roles what they may read, and write the comments, in the session's transaction.

    `tables`: every declared table. `shape`: the tables that readers see. It changes nothing that is
    right already.

    Raises `PublishError` if a role may read what it should not, and the server does not let us take
    it back.
    """
    there = read(session, "production", {table for table, _ in comments})
    statements = [
        *_grants(session, tables, shape),
        *changes("production", there, comments, "VIEW"),
    ]
    try:
        # A block of its own, because a refusal would spoil the switch.
        with session.transaction():
            for statement in statements:
                session.execute(statement)
    except psycopg.errors.InsufficientPrivilege as refusal:
        tell(
            "the roles of readers and the comments in production stay as they were: "
            f"{refusal.diag.message_primary}. The publishing user must own the schema and the views"
        )
    for role, table, columns in _too_much(session, tables, shape):
        raise PublishError(
            f"production/{table}: the role {role} may read {', '.join(columns)}, which it should "
            "not read, and the publishing user cannot take it back. Nothing was published. Run "
            f"REVOKE SELECT ON production.{table} FROM {role} as whoever granted it, or make the "
            "publishing user the view's owner. Then publish again."
        )


def _grants(
    session: psycopg.Connection, tables: Sequence[PublishedTable], shape: Shape
) -> list[sql.Composed]:
    """What makes the privileges of the roles right."""
    roles = [
        role
        for (role,) in session.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [[READER, READER_PII]]
        )
    ]
    granted = _granted(session, roles)
    statements = []
    for role in roles:
        name = sql.Identifier(role)
        if session.execute(
            "SELECT NOT has_schema_privilege(%s, 'production', 'USAGE')", [role]
        ).fetchone() == (True,):
            statements.append(sql.SQL("GRANT USAGE ON SCHEMA production TO {}").format(name))
        for table in tables:
            if table.name not in shape:
                continue
            hidden = _hidden(role, table)
            there = [column for column, _ in shape[table.name]]
            seen = [column for column in there if column not in hidden]
            if granted.get((role, table.name), set()) == set(seen):
                continue
            view = sql.Identifier("production", table.name)
            statements.append(sql.SQL("REVOKE SELECT ON {} FROM {}").format(view, name))
            # Some tools list only tables of which everything may be read.
            names = sql.SQL(", ").join(map(sql.Identifier, seen))
            what = sql.SQL("({})").format(names) if len(seen) < len(there) else sql.SQL("")
            if seen:
                statements.append(sql.SQL("GRANT SELECT {} ON {} TO {}").format(what, view, name))
    return statements


def _hidden(role: str, table: PublishedTable) -> set[str]:
    return {*table.sensitive, *(table.pii if role == READER else ())}


def _granted(session: psycopg.Connection, roles: Sequence[str]) -> dict[tuple[str, str], set[str]]:
    """By role and view, the columns that the role may read."""
    granted: dict[tuple[str, str], set[str]] = {}
    for role, table, column in session.execute(
        """
        SELECT pg_get_userbyid(g.grantee), c.relname, a.attname
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        CROSS JOIN LATERAL (
          SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT * FROM aclexplode(a.attacl)
        ) g
        WHERE c.relnamespace = 'production'::regnamespace AND g.privilege_type = 'SELECT'
          AND pg_get_userbyid(g.grantee) = ANY(%s)
        """,
        [roles],
    ):
        granted.setdefault((role, table), set()).add(column)
    return granted


def _too_much(
    session: psycopg.Connection, tables: Sequence[PublishedTable], shape: Shape
) -> list[tuple[str, str, list[str]]]:
    """The columns that a role may read and should not, with the role and the table."""
    granted = _granted(session, [READER, READER_PII])
    return [
        (role, table.name, found)
        for role in (READER, READER_PII)
        for table in tables
        if table.name in shape
        and (found := sorted(granted.get((role, table.name), set()) & _hidden(role, table)))
    ]
