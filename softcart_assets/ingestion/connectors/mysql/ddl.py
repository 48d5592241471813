"""What a statement of MySQL or MariaDB does to tables, as far as it matters for following their
rows.

This module only reads SQL as text. It asks nothing and runs nothing. A server has executed the
statements, so they are taken to be correct. A statement that is not understood counts as changing
values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


@dataclass(frozen=True)
class TableChange:
    """What a statement does to one table.

    `kind` is one of: `create` (also IF NOT EXISTS of an existing table), `drop` (an empty `table`
    means the whole database), `truncate`, `rename` (to `new`, database and table), `alter` (the
    definition), and `rewrite` (rows came or went without row events, as with partitions).
    `changes_values`: an `alter` may have given existing rows other values without row events, or a
    `create` has brought rows. Then earlier copies are no longer right. `added`: the columns that an
    `alter` adds. All rows have NULL in them, even if an earlier column of that name had values.
    """

    kind: Literal["create", "drop", "truncate", "rename", "alter", "rewrite"]
    database: str
    table: str
    new: tuple[str, str] | None = None
    changes_values: bool = False
    added: tuple[str, ...] = ()


class _Token(NamedTuple):
    """A piece of a statement.

    `word`: a word in capitals, or any other sign. `name`: a quoted or unquoted name.
    """

    word: str
    name: str


# `/*!50100 … */`, and MariaDB's `/*M! … */`, are comments that the server executes. So only their
# marks are skipped.
_TOKENS = re.compile(
    r"""
    (?P<skipped> \s+ | \#[^\n]* | --(?=\s|$)[^\n]* | /\*M?!\d* | \*/ | /\*(?!M?!).*?\*/ )
    | ` (?P<quoted> (?:[^`]|``)* ) `
    | (?P<text> N?'(?:[^'\\]|\\.|'')*' )
    | " (?P<double> (?:[^"\\]|\\.|"")* ) "
    | (?P<word> [\w$\u0080-\U0010ffff]+ | @+[\w$.]* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_END = _Token("", "")
# So a server that restarts says that a table in memory is empty. Other deletions may be of a view,
# or have triggers.
_EMPTY_IN_MEMORY = re.compile(r"DELETE FROM `(?:[^`]|``)*`\.`(?:[^`]|``)*`")
# With binlog_format=STATEMENT or MIXED the log has these instead of rows.
_ROW_STATEMENTS = {
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "LOAD",
    "CALL",
    "WITH",
    "DO",
    "SELECT",
    "VALUES",
    "EXECUTE",
    "(",
}


def _tokens(statement: str) -> Iterator[_Token]:
    """Yield the tokens. The content of executable comments counts, other comments do not."""
    for match in _TOKENS.finditer(statement):
        match match.lastgroup:
            case "skipped":
                continue
            case "quoted":
                yield _Token("`", match["quoted"].replace("``", "`"))
            case "double":
                # A text, or a name where the session has ANSI_QUOTES: the grammar tells.
                yield _Token('"', match["double"].replace('""', '"'))
            case "text":
                yield _Token("'", "")
            case "word":
                yield _Token(match["word"].upper(), match["word"])
            case _:
                yield _Token(match["sign"], "")


class _Reader:
    """Reads along the tokens of a statement."""

    def __init__(self, tokens: Sequence[_Token], database: str) -> None:
        self.tokens = tokens
        self.database = database
        self.at = 0

    @property
    def next(self) -> _Token:
        """The token that comes next."""
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def take(self) -> _Token:
        """Read the next token and return it."""
        token = self.next
        self.at += 1
        return token

    def skip(self, *words: str) -> bool:
        """Read these words if they come next: all of them or none."""
        if [token.word for token in self.tokens[self.at : self.at + len(words)]] != list(words):
            return False
        self.at += len(words)
        return True

    def skip_any(self, *words: str) -> bool:
        """Read as many of these words as come next."""
        start = self.at
        while self.next.word in words:
            self.at += 1
        return self.at > start

    def table(self) -> tuple[str, str]:
        """Return a table's database and name."""
        first = self.take().name
        if self.skip("."):
            return first, self.take().name
        # In `db.1st` the tokenizer sees no break. A leading dot is an old way to name the database
        # in use.
        return self.database, first

    def items(self) -> Iterator[list[_Token]]:
        """Yield what comes next, split at the commas outside parentheses."""
        depth = 0
        item: list[_Token] = []
        for token in self.tokens[self.at :]:
            depth += (token.word == "(") - (token.word == ")")
            if token.word == "," and depth == 0:
                yield item
                item = []
            else:
                item.append(token)
        yield item


def classify(statement: str, default_database: str) -> list[TableChange]:
    """Return what a statement changes about the rows or columns of tables, in order."""
    reader = _Reader([token for token in _tokens(statement) if token.word != ";"], default_database)
    match reader.take().word:
        case "CREATE":
            return list(_create(reader))
        case "DROP":
            return list(_drop(reader))
        case "TRUNCATE":
            reader.skip("TABLE")
            return [TableChange("truncate", *reader.table())]
        case "RENAME" if reader.skip_any("TABLE", "TABLES"):
            return list(_rename(reader))
        case "ALTER":
            reader.skip_any("ONLINE", "OFFLINE")
            is_lossy = reader.skip("IGNORE")
            return _alter(reader, is_lossy=is_lossy) if reader.skip("TABLE") else []
        case "DELETE" if _EMPTY_IN_MEMORY.fullmatch(statement) and reader.skip("FROM"):
            return [TableChange("truncate", *reader.table())]
    return []


def changes_rows(statement: str, default_database: str) -> bool:
    """Return whether a statement changes rows in a way that only its execution would tell."""
    first = next(_tokens(statement), _END)
    return first.word in _ROW_STATEMENTS and not classify(statement, default_database)


def _create(reader: _Reader) -> Iterator[TableChange]:
    is_replacing = reader.skip("OR", "REPLACE")
    if reader.skip("TABLE"):
        reader.skip("IF", "NOT", "EXISTS")
        table = reader.table()
        # CREATE OR REPLACE drops the old table, and the log has no deletions of its rows.
        if is_replacing:
            yield TableChange("drop", *table)
        yield TableChange("create", *table, changes_values=_is_query(reader))
    elif is_replacing and reader.skip_any("DATABASE", "SCHEMA"):
        yield TableChange("drop", reader.take().name, "")
    else:
        reader.skip_any("ONLINE", "OFFLINE", "UNIQUE", "FULLTEXT", "SPATIAL")
        if reader.skip("INDEX"):
            yield from _index(reader)


def _is_query(reader: _Reader) -> bool:
    """Return whether a new table has rows from a query.

    With binlog_format=ROW the server logs the rows and leaves the query out. Otherwise nothing else
    tells them.
    """
    words = {token.word for token in reader.tokens[reader.at :]}
    return bool({"SELECT", "TABLE"} & words or {"VALUES", "ROW"} <= words)


def _drop(reader: _Reader) -> Iterator[TableChange]:
    if reader.skip_any("TABLE", "TABLES"):
        reader.skip("IF", "EXISTS")
        yield TableChange("drop", *reader.table())
        while reader.skip(","):
            yield TableChange("drop", *reader.table())
    elif reader.skip_any("DATABASE", "SCHEMA"):
        reader.skip("IF", "EXISTS")
        yield TableChange("drop", reader.take().name, "")
    else:
        reader.skip_any("ONLINE", "OFFLINE")
        if reader.skip("INDEX"):
            yield from _index(reader)


def _index(reader: _Reader) -> Iterator[TableChange]:
    while reader.next is not _END:
        if reader.take().word == "ON":
            yield TableChange("alter", *reader.table())
            return


def _rename(reader: _Reader) -> Iterator[TableChange]:
    reader.skip("IF", "EXISTS")
    while reader.next is not _END:
        old = reader.table()
        while reader.next is not _END and reader.take().word != "TO":
            pass  # WAIT 5, NOWAIT
        # In order: one statement often exchanges two tables by way of a third name.
        yield TableChange("rename", *old, new=reader.table())
        if not reader.skip(","):
            return


def _alter(reader: _Reader, *, is_lossy: bool) -> list[TableChange]:
    reader.skip("IF", "EXISTS")
    database, table = reader.table()
    if reader.skip("WAIT"):
        reader.take()
    reader.skip("NOWAIT")
    others: list[TableChange] = []
    added: list[str] = []
    kinds = set()
    for tokens in reader.items():
        item = _Reader(tokens, reader.database)
        words = [token.word for token in tokens]
        if words[:1] == ["RENAME"] and words[1:2] not in (["COLUMN"], ["INDEX"], ["KEY"]):
            item.take()
            item.skip_any("TO", "AS", "=")
            others.append(TableChange("rename", database, table, new=item.table()))
        # Rows change places between two tables, and the log has no rows of it.
        elif words[:2] == ["EXCHANGE", "PARTITION"] and "TABLE" in words:
            item.at = words.index("TABLE") + 1
            others.append(TableChange("rewrite", *item.table()))
            kinds.add("rewrite")
        # MariaDB makes a partition a table, or the other way round. The log has no rows of it
        # either.
        elif words[:2] == ["CONVERT", "PARTITION"] and "TABLE" in words:
            item.at = words.index("TABLE") + 1
            others.append(TableChange("create", *item.table()))
            kinds.add("rewrite")
        elif words[:2] == ["CONVERT", "TABLE"]:
            item.at = 2
            others.append(TableChange("drop", *item.table()))
            kinds.add("rewrite")
        else:
            kinds.add(_effect(words))
            added += _added(item)
        if words[:1] in (["ORDER"], ["PARTITION"]):
            break  # commas in there separate something else
    # ALTER IGNORE drops rows that violate a new key, without logging them.
    if is_lossy or "rewrite" in kinds:
        return [TableChange("rewrite", database, table), *others]
    if kinds or not others:
        changes_values = "values" in kinds
        others.insert(
            0,
            TableChange(
                "alter", database, table, changes_values=changes_values, added=tuple(added)
            ),
        )
    return others


def _added(item: _Reader) -> Iterator[str]:
    """Yield the names of the columns that one item of ALTER TABLE adds."""
    if not item.skip("ADD") or item.next.word in _KEYS or item.next.word in _NO_COLUMNS:
        return
    item.skip("COLUMN")
    item.skip("IF", "NOT", "EXISTS")
    is_list = item.skip("(")
    for tokens in filter(None, item.items()):
        yield tokens[0].name
        # Without parentheses, what follows a comma is an item of its own.
        if not is_list:
            return


_HARMLESS = {
    *(
        "COMMENT",
        "AUTO_INCREMENT",
        "ROW_FORMAT",
        "KEY_BLOCK_SIZE",
        "STATS_PERSISTENT",
        "STATS_AUTO_RECALC",
        "CHECKSUM",
    ),
    *(
        "STATS_SAMPLE_PAGES",
        "AVG_ROW_LENGTH",
        "MAX_ROWS",
        "MIN_ROWS",
        "PACK_KEYS",
        "DELAY_KEY_WRITE",
        "COMPRESSION",
    ),
    *(
        "ENCRYPTION",
        "PAGE_COMPRESSED",
        "PAGE_COMPRESSION_LEVEL",
        "ENCRYPTED",
        "TABLESPACE",
        "DATA",
        "INDEX",
        "UNION",
    ),
    *(
        "ALGORITHM",
        "LOCK",
        "FORCE",
        "ENABLE",
        "DISABLE",
        "ORDER",
        "ALTER",
        "DEFAULT",
        "CHARACTER",
        "CHARSET",
        "COLLATE",
    ),
    *(
        "WITH",
        "WITHOUT",
        "PARTITION",
        "REMOVE",
        "REORGANIZE",
        "COALESCE",
        "REBUILD",
        "ANALYZE",
        "OPTIMIZE",
        "CHECK",
    ),
    *(
        "SECONDARY_LOAD",
        "SECONDARY_UNLOAD",
        "SECONDARY_ENGINE",
        "INSERT_METHOD",
        "TRANSACTIONAL",
        "CONNECTION",
        "NOWAIT",
    ),
    *("", "WAIT", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE", "AUTOEXTEND_SIZE"),
}
"""First words of what leaves rows and columns alone."""
_KEYS = {
    "INDEX",
    "KEY",
    "FULLTEXT",
    "SPATIAL",
    "UNIQUE",
    "PRIMARY",
    "CONSTRAINT",
    "FOREIGN",
    "CHECK",
}
_NO_COLUMNS = {"PARTITION", "PERIOD", "SYSTEM"}
"""What else ADD may add."""
_VALUED = {
    "NOT",
    "AUTO_INCREMENT",
    "AS",
    "GENERATED",
    "SERIAL",
    "PRIMARY",
    "TIMESTAMP",
    "VERSIONING",
    "PERIOD",
}


def _effect(words: Sequence[str]) -> Literal["none", "values", "rewrite"]:
    """Return what one item of ALTER TABLE does to existing rows."""
    first, second = (*words, "", "")[:2]
    match first:
        case "ADD":
            if second in _KEYS or second == "PARTITION":
                return "none"
            words = " ".join(words).replace(" IF NOT EXISTS", "").split(" ")
            # DEFAULT NULL gives old rows what raw gives them, too. Any other default is a value.
            without_null = [
                word
                for i, word in enumerate(words)
                if word != "DEFAULT" or words[i + 1 : i + 2] != ["NULL"]
            ]
            return "values" if "DEFAULT" in without_null or _VALUED & set(words) else "none"
        case "DROP" if second == "PARTITION":
            return "rewrite"
        case "DROP":
            return "rewrite" if second == "SYSTEM" else "none"
        case "TRUNCATE" | "IMPORT" | "DISCARD":
            return "rewrite"
        case "ENGINE":
            return "none" if words[-1] in ("INNODB", "=") else "values"
        case "RENAME":
            return "none" if second in ("INDEX", "KEY") else "values"
    # In doubt "values": reading the table again costs time. Missing a change costs rows.
    return "none" if first in _HARMLESS else "values"
