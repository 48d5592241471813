"""Whether a Db2 database can take published tables: a trial of all that a publication does there.

Privileges come from users, groups, roles and authorities, and each setting of a database may change
what a value becomes. So nothing is looked up that can be tried: a table, a row with a value of
every type, a view, and the right to read it. All of it is one transaction, which is taken back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from softcart_assets.connections import (
    PRODUCTION_DB2,
    PRODUCTION_DB2_READER,
    Db2Connection,
    ServerUnreachable,
    SettingError,
    setting,
)
from softcart_assets.findings import Finding
from softcart_assets.publishing.targets import db2_fields
from softcart_assets.publishing.targets.db2 import Connection, Refused, Relation, Session
from softcart_assets.publishing.targets.db2_driver import Driver
from softcart_assets.publishing.targets.db2_fields import quote

_COLUMNS = (
    ("a_key", "text", "a"),
    ("a_number", "bigint", str(2**63 - 1)),
    ("a_decimal", "numeric", "0.123456789012"),
    ("a_double", "double precision", "0.30000000000000004"),
    ("a_boolean", "boolean", "true"),
    ("a_date", "date", "2024-02-29"),
    ("a_timestamp", "timestamp without time zone", "2024-02-29 23:59:59.999999"),
    ("an_empty_text", "text", ""),
    ("a_text", "text", "Zürich 😀"),
    ("a_long_text", "jsonb", "{}"),
    ("bytes", "bytea", b"\x00\xff"),
    # Tables with many texts do not fit into a page of any size.
    *((f"wide_{number}", "text", "x") for number in range(9)),
)
_MEANING = {
    "a_boolean": "BOOLEAN columns need Db2 11.1 or newer",
    "a_date": "the database has date_compat, so that DATE has a time of day",
    "an_empty_text": "the database has varchar2_compat, so that an empty text is null",
    "a_text": "the database is not Unicode. Create it with CODESET UTF-8",
}
"""What is wrong if the value of this column does not come back."""


def examine_settings() -> Iterator[Finding]:
    """What is missing in the database that the settings name. Nothing if they name none."""
    if not setting(f"{PRODUCTION_DB2}_HOST", ""):
        return
    try:
        connection = Db2Connection.from_env(PRODUCTION_DB2)
        reader = setting(PRODUCTION_DB2_READER, "")
        for found in examine(Driver(connection), connection.user, reader):
            yield replace(found, text=f"{PRODUCTION_DB2}: {found.text}")
        if connection.exposure:
            yield Finding("note", f"{PRODUCTION_DB2}: {connection.exposure}")
    except (SettingError, ServerUnreachable) as error:
        yield Finding("blocks", f"{PRODUCTION_DB2}: {error}")


def examine(connection: Connection, user: str, reader: str) -> Iterator[Finding]:
    """What is missing there. `user`: the publishing user. `reader`: the reading role, or empty.

    Raises what `Connection.open` raises.
    """
    session = connection.open()
    try:
        refused = False
        for finding in _tried(session, connection.schema, user, reader):
            refused |= finding.level == "blocks"
            yield finding
        if not refused:
            yield Finding(
                "ok", f"{user} can publish to {connection.address}, and every type is exact there"
            )
    finally:
        with suppress(Refused):
            session.rollback()
            session.close()


def _tried(session: Session, schema: str, user: str, reader: str) -> Iterator[Finding]:
    name = f"SC_PROBE_{secrets.token_hex(4)}".upper()
    columns = tuple((column, kind) for column, kind, _ in _COLUMNS)
    fields = db2_fields.fields(name, columns, ("a_key",), (("a_number",),))
    table = Relation(name, name, fields, ("a_key",), (("a_number",),))
    names, view = ", ".join(quote(field.name) for field in fields), f"{quote(schema)}.{quote(name)}"
    marks = ", ".join("?" * len(fields))
    try:
        for statement in table.create(name):
            session.run(statement)
        session.run(
            f"INSERT INTO {view} ({names}, SC_NUMBER) VALUES ({marks}, 1)",
            *(value for *_, value in _COLUMNS),
        )
        [row] = session.ask(f"SELECT {names} FROM {view}")
    except Refused as error:
        yield Finding("blocks", _no_table(error, schema, user))
        return
    for field, sent, come in zip(fields, (value for *_, value in _COLUMNS), row, strict=True):
        if field.compared(sent) != field.compared(come):
            why = _MEANING.get(field.name, f"{field.type} has changed {sent!r} to {come!r}")
            yield Finding("blocks", f"published values would not be exact: {why}.")
    for_readers = f"{quote(schema + '_READERS')}.{quote(name)}"
    try:
        session.run(f"CREATE VIEW {for_readers} AS SELECT {names} FROM {view}")
    except Refused as error:
        yield Finding(
            "blocks" if reader else "note",
            f"{user} cannot create views in the schema {schema}_READERS ({error}). Only the "
            f"reading role needs them. Run CREATE SCHEMA {schema}_READERS AUTHORIZATION {user}.",
        )
        return
    try:
        where = "V WHERE V.TABNAME ="
        list(session.ask(f"SELECT V.REMARKS FROM SYSCAT.COLUMNS {where} ?", name))
        list(session.ask(f"SELECT V.REMARKS FROM SYSCAT.TABLES {where} ?", name))
        roles = list(session.ask("SELECT 1 FROM SYSCAT.ROLES V WHERE V.ROLENAME = ?", reader))
    except Refused as error:
        yield Finding("blocks", f"{user} cannot read Db2's catalog, SYSCAT ({error}).")
        return
    if reader and not roles:
        yield Finding("blocks", f"there is no role {reader}. Run CREATE ROLE {reader}.")


def _no_table(error: Refused, schema: str, user: str) -> str:
    told = f"{user} cannot create and write a table in the schema {schema} ({error}). "
    if error.state in ("54010", "42727"):
        return told + (
            "Rows are wider than a page. Run UPDATE DATABASE CONFIGURATION USING EXTENDED_ROW_SZ "
            f"ENABLE, and GRANT USE OF TABLESPACE USERSPACE1 TO USER {user}."
        )
    return told + (
        f"Run CREATE SCHEMA {schema} AUTHORIZATION {user}, GRANT CREATETAB ON DATABASE TO USER "
        f"{user}, and GRANT USE OF TABLESPACE USERSPACE1 TO USER {user}."
    )
