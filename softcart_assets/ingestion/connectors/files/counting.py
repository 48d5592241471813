"""Decides which record of each key counts, in PostgreSQL.

Several files may have a record with the same key. The one with the greatest cursor counts, and of
equal ones that of the file with the greatest hash: whichever it is, it is always the same one. The
others are kept in `ingestion.file_duplicates`. When a file is replaced, one of them may take the
place of a record that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from softcart_assets.ingestion.connectors.files.folder import FILE, LINE
from softcart_assets.ingestion.proof.digest import Checksums
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.sinks.sql import listed, literal, quote
from softcart_assets.ingestion.types import Column

ARRIVED = "pg_temp.arrived"
"""The records of the files of this load."""


class Counting:
    """The records of a load, next to those that raw and the duplicates have."""

    def __init__(self, raw: RawTable) -> None:
        self.raw = raw
        self._of = f"({literal(raw.source.name)}, {literal(raw.table.name)})"
        self._is_table = f"(d.source, d.table_name) = {self._of}"

    def begin(self, columns: Sequence[Column]) -> None:
        """Create the temporary table for the records."""
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        self._run(f"CREATE TEMP TABLE arrived ({definitions}) ON COMMIT DROP")

    def add_column(self, column: Column) -> None:
        """Add a column that a file has and others had not."""
        self._run(f"ALTER TABLE {ARRIVED} ADD COLUMN {quote(column.name)} {column.target_type}")

    def find(self, columns: Sequence[Column], gone: Sequence[int], again: Sequence[int]) -> Counts:
        """Fill `changes` with what the records change in raw.

        `gone`: the numbers of files that count no more. `again`: of files that were read again.
        """
        key = self.raw.key
        out = _array([*gone, *again])
        self._run(f"ANALYZE {ARRIVED}")
        self._run("DROP TABLE IF EXISTS pg_temp.touched, pg_temp.candidates")
        self._run(
            f"CREATE TEMP TABLE touched ON COMMIT DROP AS SELECT {listed(key)} FROM {ARRIVED}"
            f" WHERE _file <> ALL({_array(gone)}) UNION SELECT {listed(key)} FROM {self.raw.name}"
            f" WHERE NOT _deleted AND _file = ANY({out})"
        )
        self._run("ANALYZE pg_temp.touched")
        self._rank(columns, gone, out)
        self._run("ANALYZE pg_temp.candidates")
        names = listed([c.name for c in columns])
        self._run(
            f"DELETE FROM ingestion.file_duplicates d WHERE {self._is_table} AND"
            f" (d.number = ANY({out}) OR d.key IN (SELECT {self._json('t')} FROM"
            " pg_temp.touched t))"
        )
        self._run(
            "WITH lost AS (DELETE FROM pg_temp.candidates WHERE _rank > 1 RETURNING *)"
            " INSERT INTO ingestion.file_duplicates (source, table_name, number, line, key, row)"
            f" SELECT {self._of[1:-1]}, _file, _line, {self._json('lost')},"
            " to_jsonb(lost) - '_rank' FROM lost"
        )
        self.raw.stage(columns)
        found = self.raw.find_changes(
            columns, missing_is_deleted=False, incoming="pg_temp.candidates"
        )
        deleted = self.raw.connection.execute(
            f"INSERT INTO pg_temp.changes ({names}, _deleted, _is_new)"
            f" SELECT {listed([c.name for c in columns], 'r')}, true, false FROM {self.raw.name} r"
            f" JOIN pg_temp.touched t ON {self.raw.same_key('t', 'r')} WHERE NOT r._deleted"
            " AND NOT EXISTS (SELECT FROM pg_temp.candidates c"
            f" WHERE {self.raw.same_key('c', 't')})".encode()
        ).rowcount
        return found + Counts(deleted=deleted)

    def _rank(self, columns: Sequence[Column], gone: Sequence[int], out: str) -> None:
        """Create the temporary table of all records with a touched key, the best one as rank 1."""
        names = [c.name for c in columns]
        cursor = quote(self.raw.table.cursor or "")
        of_duplicate = self.raw.same_key("p", "t")
        self._run(
            "CREATE TEMP TABLE candidates ON COMMIT DROP AS"
            f" SELECT c.*, row_number() OVER (PARTITION BY {listed(self.raw.key, 'c')} ORDER BY"
            f" c.{cursor} DESC NULLS LAST, f.content DESC, c._line DESC) AS _rank FROM ("
            f"SELECT {listed(names)} FROM {ARRIVED} WHERE _file <> ALL({_array(gone)})"
            f" UNION ALL SELECT {listed(names, 'r')} FROM {self.raw.name} r JOIN pg_temp.touched t"
            f" ON {self.raw.same_key('r', 't')} WHERE NOT r._deleted AND r._file <> ALL({out})"
            f" UNION ALL SELECT {listed(names, 'p')} FROM pg_temp.touched t JOIN"
            f" ingestion.file_duplicates d ON {self._is_table} AND d.key = {self._json('t')},"
            f" LATERAL jsonb_populate_record(NULL::{self.raw.name}, d.row) p"
            # The key as jsonb only finds the records. Their own decides.
            f" WHERE d.number <> ALL({out}) AND {of_duplicate}) c"
            " JOIN (SELECT DISTINCT number, content FROM ingestion.files d"
            f" WHERE {self._is_table} AND number IS NOT NULL AND content <> '') f"
            " ON f.number = c._file"
        )

    def undecided(self, columns: Sequence[Column]) -> tuple[int, int, int] | None:
        """Return how many records of this load share key and cursor with another, but not the
        values, and the file and the line of one of them. None: there are none.
        """
        key = self.raw.key
        own = {FILE.name, LINE.name, *key}
        values = [c.name for c in columns if c.name not in own]
        cursor = quote(self.raw.table.cursor or "")
        if not values:
            return None
        row = self.raw.connection.execute(
            "SELECT count(*), min(d.number), min(d.line) FROM ingestion.file_duplicates d,"
            f" LATERAL jsonb_populate_record(NULL::{self.raw.name}, d.row) p,"
            f" pg_temp.candidates c WHERE {self._is_table} AND d.key = {self._json('c')}"
            f" AND {self.raw.same_key('c', 'p')} AND p.{cursor} IS NOT DISTINCT FROM c.{cursor}"
            f" AND ROW({listed(values, 'p')}) IS DISTINCT FROM ROW({listed(values, 'c')})".encode()
        ).fetchone()
        return row if row and row[0] else None

    def duplicates(self, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Return the number of all records that do not count, and the checksum of each column."""
        return self.raw.checksums(
            columns,
            f"(SELECT p.* FROM ingestion.file_duplicates d, LATERAL"
            f" jsonb_populate_record(NULL::{self.raw.name}, d.row) p WHERE {self._is_table})",
        )

    def _json(self, alias: str) -> str:
        return f"jsonb_build_array({listed(self.raw.key, alias)})"

    def _run(self, statement: str) -> None:
        self.raw.connection.execute(statement.encode())


def _array(numbers: Sequence[int]) -> str:
    """Return numbers as an array in SQL."""
    return f"'{{{','.join(map(str, numbers))}}}'::bigint[]"
