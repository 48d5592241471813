"""Brings the declared dashboards into a Superset, which then reads production.

Superset logs in to production as a member of `softcart_reader`, so it sees no personal column.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from softcart_assets import comments
from softcart_assets.bi.bundle import MARK, Column, Columns, bundle
from softcart_assets.bi.client import KINDS, Client
from softcart_assets.bi.declared import Board, DashboardError
from softcart_assets.connections import PostgresConnection, setting
from softcart_assets.publishing.reading import READER

LOGIN = "softcart_superset"
"""The login that is made in production for Superset."""
_READER = "SOFTCART_SUPERSET_READER"
_READER_PASSWORD = "SOFTCART_SUPERSET_READER_PASSWORD"
_TIMES = ("date", "timestamp", "time")


class NoReader(RuntimeError):
    """Production has no login for Superset. The message says who makes one, and how."""


def load(boards: Iterable[Board], client: Client, production: PostgresConnection) -> list[str]:
    """Import the dashboards, and delete those of an earlier import that are not declared any more.

    What people made in Superset themselves stays. Returns the addresses of the dashboards. Raises
    `NoReader`, `DashboardError` and `SupersetError`.
    """
    boards = list(boards)
    login = reader(production)
    packed, known = bundle(boards, columns(boards, login), _uri(login))
    client.upload("assets/import/", "bundle", "softcart.zip", packed)
    for kind in KINDS:
        stale = [
            str(each["id"])
            for each in client.listed(kind)
            if _is_ours(each) and each["uuid"] not in known
        ]
        if stale:
            client.ask(f"{kind}/?q=!({','.join(stale)})", method="DELETE")
    return [f"{client.uri}/superset/dashboard/{board.name}/" for board in boards]


def _is_ours(listed: dict[str, Any]) -> bool:
    """Whether an import made it. A copy of it that somebody made for themselves is not ours."""
    if "certified_by" in listed:
        return bool(listed["is_managed_externally"] and listed["certified_by"] == MARK)
    return MARK in (listed["extra"] or "")


def reader(production: PostgresConnection) -> PostgresConnection:
    """The connection to production with a login that may read what is not personal.

    Settings may name it. Otherwise it is made, with a new password each time. Raises `NoReader`.
    """
    if user := setting(_READER, ""):
        return replace(production, user=user, password=setting(_READER_PASSWORD))
    login = replace(production, user=LOGIN, password=secrets.token_urlsafe(18))
    name, role = sql.Identifier(LOGIN), sql.Identifier(READER)
    with production.connect(autocommit=True) as session:
        try:
            if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [LOGIN]).fetchone():
                session.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            session.execute(sql.SQL("GRANT {} TO {}").format(role, name))
            session.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(login.password))
            )
        except psycopg.errors.UndefinedObject:
            raise NoReader(
                f"Production has no role {READER} yet. Publish something first, or run `make demo`."
            ) from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise NoReader(
                f"Production refuses to make a login for Superset: {error.diag.message_primary}. "
                f"Ask an administrator for `CREATE ROLE … LOGIN PASSWORD '…' IN ROLE {READER}`, "
                f"and set {_READER} and {_READER_PASSWORD}."
            ) from None
    return login


def columns(boards: Iterable[Board], login: PostgresConnection) -> Columns:
    """The columns of all datasets, as production has them, with their comments.

    Raises `DashboardError` if a query does not work, such as for a column that readers do not see.
    """
    found: dict[str, list[Column]] = {}
    with login.connect(autocommit=True) as session:
        for board in boards:
            for name, dataset in board.datasets.items():
                tables = dict.fromkeys(re.findall(r"production\.(\w+)", dataset.sql))
                texts: dict[str, str] = {}
                for (_, column), text in comments.read(session, "production", tables).items():
                    texts.setdefault(column, text)
                try:
                    asked = session.execute(f"SELECT * FROM ({dataset.sql}) q LIMIT 0".encode())
                except psycopg.Error as error:
                    raise DashboardError(
                        f"{board.name}, dataset {name}: {error.diag.message_primary}"
                    ) from None
                found[name] = [
                    Column(
                        each.name,
                        kind.upper(),
                        kind.startswith(_TIMES),
                        texts.get(each.name, ""),
                    )
                    for each in asked.description or ()
                    for kind in [each.type_display]
                ]
    return found


def _uri(login: PostgresConnection) -> str:
    """As SQLAlchemy wants it, with what the connection says of TLS."""
    user, password = quote(login.user, safe=""), quote(login.password, safe="")
    query = f"?{urlencode(login.tls.libpq())}" if login.tls else ""
    address = f"{login.host}:{login.port}/{quote(login.database, safe='')}"
    return f"postgresql+psycopg2://{user}:{password}@{address}{query}"
