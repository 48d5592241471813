"""Declares a MySQL database from its own catalog.

The result is an ordinary `Source` with tables, keys, strategies and privacy classes, or the text of
its module. `softcart_assets.scaffold` adds staging models. Nothing is loaded. A person then adds
descriptions and history, and reviews the privacy classes, which are guessed from the columns'
names.
"""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, count
from typing import Literal

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.session import Session, explained
from softcart_assets.ingestion.connectors.mysql.tables import (
    ROW_END,
    TRANSACTIONAL_ENGINES,
    is_cascaded_into,
    logs_cascades,
)
from softcart_assets.ingestion.connectors.mysql.types import target_type
from softcart_assets.ingestion.errors import MissingTable, UnsupportedColumn
from softcart_assets.lines.model import Column, Privacy, Source, Table

Strategy = Literal["snapshot", "incremental", "cdc"]

_TABLES = {"BASE TABLE", "SYSTEM VERSIONED"}
"""What the catalog calls tables. MariaDB lists those with system versioning as a type of their own.
"""
# PostgreSQL cuts longer names off. MySQL's have up to 64 characters.
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,63}")
_NAME_LENGTH = 50
"""Length of a made-up name. It leaves room for `_history`."""
_LONGEST = 63
"""Length of a name of PostgreSQL, such as the one of a table's staging view."""
_WIDTH = 78
"""Width of a line within a table's columns. With its indentation it has at most 100 characters."""

_TEXT_OF_A_TABLE, _TEXT_OF_A_COLUMN = 80, 68
"""Characters of a text per line. Indentation, quotes and a few escapes come on top."""

_SENSITIVE = re.compile(
    r"salar(y|ies)|wages?|bonus|payroll|income|iban|bic|swift|credit|debit|card|cvv|cvc|pan|account|balance|passw(or)?d"
    r"|password\w*|pwd|pin|secret|token|hash|ssn|insurance|tax|vat|health|diagnos[ie]s|medical|blood|disability|religion"
    r"|ethnicity"
)
_PII = re.compile(
    r"\w*e?mail|\w*name|\w*phone|mobile|cell|fax|\w*address\w*|addr|street|city|town|zip(code)?|post(al)?(code)?|birth\w*"
    r"|born|dob|age|gender|sex|nationality|passport|lat(itude)?|lng|lon(gitude)?|gps|location|geom(etry)?|ip|photo|picture"
    r"|image|avatar|signature|contact|customer|comment|note|notes|remarks?"
)


def discover(
    name: str,
    connection: MySQLConnection,
    *,
    env_prefix: str | None = None,
    strategy: Strategy = "cdc",
    views: bool = False,
    owner: str = "team:data",
) -> Source:
    """Declare every table of a database (and with `views` every view) as a source called `name`.

    Key: the primary key. Otherwise the shortest unique key whose columns cannot be NULL, or none.
    Strategy: `strategy` wherever it can carry the table exactly, otherwise `snapshot`, see
    `_strategy`. A table's name that is not made of letters, digits and _ is replaced. `env_prefix`:
    by default the connection's. Raises `MissingTable` if the user can see no table of the database.
    """
    with (
        explained(connection, f"database `{connection.database}`"),
        closing(Session(connection)) as session,
    ):
        catalog = _Catalog(session)
    kinds = _TABLES | ({"VIEW"} if views else set())
    found = [table for table, (kind, _, _) in catalog.tables.items() if kind in kinds]
    names = _plain_names(found, name)
    tables = tuple(
        catalog.declaration(table, names[table], strategy, connection.database) for table in found
    )
    if not tables:
        raise MissingTable(
            f"MySQL database `{connection.database}` has no table that user {connection.user!r} "
            "may see. "
            f"Check {connection.prefix}_DATABASE, or run GRANT SELECT ON `{connection.database}`.* "
            f"TO {connection.user!r}."
        )
    description = f"MySQL database `{connection.database}`."
    prefix = env_prefix or connection.prefix
    return Source(name, "mysql", description, tables, owner=owner, prefix=prefix)


class _Catalog:
    """What information_schema says of the connection's database."""

    def __init__(self, session: Session) -> None:
        here = "table_schema = DATABASE()"
        self.tables = {
            str(name): (kind, engine, comment or "")
            for name, kind, engine, comment in session.query(
                "SELECT table_name, table_type, engine, table_comment FROM "
                f"information_schema.tables WHERE {here}"
                " ORDER BY table_name"
            )
        }
        self.columns: dict[str, dict[str, tuple[bool, str]]] = {}
        self.comments: dict[tuple[str, str], str] = {}
        self.collations: dict[tuple[str, str], str] = {}
        row_ends = set()
        for table, column, nullable, extra, comment, collation, expression in session.query(
            "SELECT table_name, column_name, is_nullable, extra, column_comment, collation_name, "
            "generation_expression"
            f" FROM information_schema.columns WHERE {here}"
            " ORDER BY table_name, ordinal_position"
        ):
            self.columns.setdefault(str(table), {})[str(column)] = (
                nullable == "YES",
                # MySQL and MariaDB write "on update" in different cases.
                (extra or "").lower(),
            )
            self.comments[str(table), str(column)] = comment or ""
            self.collations[str(table), str(column)] = collation or ""
            if expression == ROW_END:
                row_ends.add((table, column))
        self.unique_keys: dict[str, dict[str, list[str | None]]] = {}
        for table, index, column in session.query(
            "SELECT table_name, index_name, column_name FROM information_schema.statistics WHERE "
            f"{here}"
            " AND non_unique = 0 ORDER BY table_name, index_name, seq_in_index"
        ):
            # It is in each key of a table with system versioning, and only tells old rows apart.
            if (table, column) not in row_ends:
                keys = self.unique_keys.setdefault(str(table), {})
                keys.setdefault(str(index), []).append(column)
        self.cascaded_tables = {
            table
            for table, (kind, _, _) in self.tables.items()
            if kind in _TABLES and is_cascaded_into(session, table)
        }
        self.logs_cascades = logs_cascades(session)

    def declaration(self, table: str, name: str, strategy: Strategy, database: str) -> Table:
        """Return the table's declaration under a name."""
        kind, _, comment = self.tables[table]
        key = self._key(table)
        cursor = self._cursor(table)
        strategy = self._strategy(table, strategy, key, cursor)
        what = "view" if kind == "VIEW" else "table"
        return Table(
            name=name,
            description=_grain(
                f"{what} `{table}` of MySQL database `{database}`",
                # MySQL gives every view the comment "VIEW".
                "" if kind == "VIEW" else comment,
            ),
            key=key,
            strategy=strategy,
            columns=tuple(
                Column(column, guess_privacy(column), self._description(table, column, key))
                for column in self.columns.get(table, ())
            ),
            cursor=cursor if strategy == "incremental" else None,
            source_name=table if table != name else None,
        )

    def _description(self, table: str, column: str, key: tuple[str, ...]) -> str:
        """Return a column's comment, and what a person has to know of a key that ignores case."""
        description = " ".join(self.comments[table, column].split())
        collation = self.collations[table, column]
        if column not in key or not collation.endswith("_ci"):
            return description
        # Found with real stock codes: 112 of them met nothing in the warehouse.
        note = (
            f"Here {collation} ignores case, in PostgreSQL nothing does: "
            f"join on folded_key('{column}')."
        )
        return f"{description} {note}".lstrip()

    def _key(self, table: str) -> tuple[str, ...]:
        keys = self.unique_keys.get(table, {})
        columns = self.columns.get(table, {})
        # A part that is an expression has no column.
        usable = [
            # Fewer columns make a shorter key. The name decides ties, so that each run finds the
            # same key.
            (index != "PRIMARY", len(parts), index, tuple(filter(None, parts)))
            for index, parts in keys.items()
            if all(part and not columns[part][0] for part in parts)
        ]
        return min(usable)[-1] if usable else ()

    def _cursor(self, table: str) -> str | None:
        """Return the column that the server sets to the present time whenever a row changes."""
        touched = (
            name for name, (_, extra) in self.columns.get(table, {}).items() if "on update" in extra
        )
        return next(touched, None)

    def _strategy(
        self, table: str, wanted: Strategy, key: tuple[str, ...], cursor: str | None
    ) -> Strategy:
        """Return the wanted strategy, or `snapshot` where it could miss changes.

        The binary log has no rows of views. Before MySQL 9.6, it does not have what cascades of
        foreign keys do. A table without transactions cannot be copied as of a position. A cursor
        must be kept by the server, and cascades do not move it.
        """
        kind, engine, _ = self.tables[table]
        is_cascaded_into = table in self.cascaded_tables
        match wanted:
            case "cdc":
                fits = (
                    kind in _TABLES
                    and engine in TRANSACTIONAL_ENGINES
                    and (self.logs_cascades or not is_cascaded_into)
                )
            case "incremental":
                fits = bool(key and cursor) and not is_cascaded_into
            case _:
                fits = True
        return wanted if fits else "snapshot"


def _grain(what: str, comment: str) -> str:
    """Return a description that says what a row is, as those of all tables and models do."""
    if comment.startswith("One "):
        return comment
    return f"One row per row of {what}" + (f": {comment}" if comment else ".")


def column_types(source: Source, connection: MySQLConnection) -> dict[str, dict[str, str]]:
    """Table → column → type of the column in the raw table, for the tables of a source.

    Raises `UnsupportedColumn` if a column's values could not be copied exactly.
    """
    with (
        explained(connection, f"database `{connection.database}`"),
        closing(Session(connection)) as session,
    ):
        rows = session.query(
            "SELECT table_name, column_name, column_type, numeric_precision, numeric_scale FROM "
            "information_schema.columns WHERE table_schema = DATABASE() "
            "ORDER BY table_name, ordinal_position"
        )
    names = {table.at_source: table.name for table in source.tables}
    types: dict[str, dict[str, str]] = {table.name: {} for table in source.tables}
    for table, column, source_type, *digits in rows:
        if table not in names:
            continue
        precision, scale = (int(each) if each else None for each in digits)
        if (target := target_type(str(source_type), precision, scale)) is None:
            raise UnsupportedColumn(
                f"Column `{column}` of `{table}` has type {source_type}, which cannot be carried "
                "exactly. Convert it at the source, or make a view without it."
            )
        types[names[table]][str(column)] = target
    return types


def _plain_names(tables: Iterable[str], source: str) -> dict[str, str]:
    """Return the tables' names here. They differ in more than case, because Hive ignores case."""
    used: set[str] = set()
    names = {}
    room = _LONGEST - len(f"stg_{source}__")
    made_up = min(_NAME_LENGTH, room - len("_99"))

    def can_stay(table: str) -> bool:
        return bool(_PLAIN.fullmatch(table)) and len(table) <= room

    # Names that can stay come first, so that a made-up name never takes one of theirs.
    for table in sorted(tables, key=lambda table: (not can_stay(table), table)):
        letters = unicodedata.normalize("NFKD", table).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", letters).strip("_") or "table"
        plain = table if can_stay(table) else plain[:made_up]
        candidates = chain(
            [plain, f"{source}_{plain}"[:made_up]],
            (f"{plain[:made_up]}_{n}" for n in count(2)),
        )
        names[table] = next(name for name in candidates if name.lower() not in used)
        used.add(names[table].lower())
    return names


def guess_privacy(column: str) -> Privacy:
    """Guess a column's privacy class from its name, in doubt the stricter one."""
    words = re.findall(r"[^\W\d_A-Z]+|[A-Z]+(?![a-z])|[A-Z][^\W\d_A-Z]*", column)
    candidates = [word.lower() for word in [*words, "".join(words)]]
    for privacy, pattern in ((Privacy.SENSITIVE, _SENSITIVE), (Privacy.PII, _PII)):
        if any(map(pattern.fullmatch, candidates)):
            return privacy
    return Privacy.NONE


def constant_of(source: Source) -> str:
    """Return the name of the source's constant in its module."""
    return re.sub(r"\W", "_", source.name).upper()


def as_python(source: Source) -> str:
    """Return the text of a module that declares the source for a line of business."""
    tables = "".join(textwrap.indent(_table_text(table), 8 * " ") for table in source.tables)
    used = {column.privacy for table in source.tables for column in table.columns}
    # In the order in which ruff sorts imports: constants before classes.
    names = [*(each.name for each in Privacy if each in used), "Column", "Source", "Table"]
    return f'''\
"""The MySQL database behind {source.env_prefix}_HOST, as `softcart discover` found it."""

from softcart_assets.lines.model import {", ".join(names)}

{constant_of(source)} = Source(
    {_literal(source.name)},
    {_literal(source.kind)},
    {_literal(source.description)},
    owner={_literal(source.owner)},
    prefix={_literal(source.prefix)},
    tables=(
{tables}    ),
)
'''


def _table_text(table: Table) -> str:
    """Return the call of `Table` as ruff would format it."""
    lines = [f"{_literal(table.name)},", *_argument("", table.description)]
    lines.append(f"key=({', '.join(map(_literal, table.key))}{',' * (len(table.key) == 1)}),")
    lines.append(f"strategy={_literal(table.strategy)},")
    if table.cursor:
        lines.append(f"cursor={_literal(table.cursor)},")
    if table.source_name:
        lines.append(f"source_name={_literal(table.source_name)},")
    lines += _columns_text(table.columns)
    return "Table(\n" + textwrap.indent("\n".join(lines), "    ") + "\n),\n"


def _columns_text(columns: Iterable[Column]) -> Iterator[str]:
    """Yield the lines of the argument `columns`: one `Column` each, in the order of the table."""
    yield "columns=("
    for column in columns:
        call = f"Column({_literal(column.name)}, {column.privacy.name}, "
        text = _literal(column.description)
        if len(call) + len(text) <= _WIDTH:
            yield f"    {call}{text}),"
            continue
        yield from ("    Column(", f"        {_literal(column.name)},")
        yield f"        {column.privacy.name},"
        yield from textwrap.indent(
            "\n".join(_argument("", column.description, _TEXT_OF_A_COLUMN)), 8 * " "
        ).splitlines()
        yield "    ),"
    yield "),"


def _argument(name: str, text: str, width: int = _TEXT_OF_A_TABLE) -> list[str]:
    """Return a text as an argument, on several lines if it is long."""
    pieces = textwrap.wrap(
        text,
        width,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=False,
        break_on_hyphens=False,
    )
    lines = [_literal(piece) for piece in pieces] or ['""']
    lines[0] = f"{name}={lines[0]}" if name else lines[0]
    lines[-1] += ","
    return lines


def _literal(text: str) -> str:
    """Return a text as a literal, in the quotes that need fewer escapes, as ruff wants it."""
    literal = json.dumps(text, ensure_ascii=False)
    if text.count('"') <= text.count("'"):
        return literal
    inner = literal[1:-1].replace('\\"', '"').replace("'", "\\'")
    return f"'{inner}'"
