"""What is known of the files of a table: `ingestion.files`, in the transaction of the load.

A content counts once, whatever its name, so it has one number. It counts as long as one of its
names is in force: as long as no other version of the same sequence comes after it. This depends on
the set of files alone, and not on the order in which they arrived.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from softcart_assets.ingestion.connectors.files.folder import Found
from softcart_assets.ingestion.proof.digest import Checksums, checksum

_TABLE = "(source, table_name) = (%(source)s, %(table)s)"
_IN_FORCE = "state IN ('loaded', 'repeated')"


@dataclass(frozen=True)
class Facts:
    """What a file had: its records, how many of them are in quarantine, and what the others add up
    to, by column with its type.
    """

    records: int
    quarantined: int
    checksums: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Known:
    """A content that was read before: its number, and the SHA-256."""

    number: int
    content: str


class FileRecords:
    """The files of one table."""

    def __init__(
        self, connection: psycopg.Connection, source: str, table: str, load_id: str
    ) -> None:
        self.connection = connection
        self._key = {"source": source, "table": table, "load_id": load_id}
        self._reserved: list[int] = []
        # What was broken before this load, and is. Without it, each file would ask the server.
        self._broken: set[str] | None = None

    def _run(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), self._key | values)
        return cursor.fetchall() if cursor.description else []

    def reserve(self, count: int) -> None:
        """Draw numbers for so many files at once."""
        rows = self._run(
            "SELECT nextval('ingestion.file_numbers') FROM generate_series(1, %(count)s)",
            count=count,
        )
        self._reserved = [number for (number,) in reversed(rows)]

    def draw(self) -> int:
        """Draw the number of a file that is read for the first time."""
        if not self._reserved:
            self.reserve(1)
        return self._reserved.pop()

    def draw_above(self, relation: str) -> None:
        """Let later numbers be above those in a raw table that outlived this bookkeeping."""
        self._run(
            f"SELECT setval('ingestion.file_numbers', m) FROM (SELECT max(_file) AS m FROM"
            f" {relation}) r WHERE m > (SELECT last_value FROM ingestion.file_numbers)"
        )

    def forms(self, found: Sequence[Found]) -> dict[str, Known | None]:
        """Return by name the files that are known in just the form in which they are there now.

        None: such a file is broken.
        """
        rows = self._run(
            "SELECT f.name, f.number, f.content FROM ingestion.files f JOIN"
            " unnest(%(names)s::text[], %(sizes)s::bigint[], %(times)s::timestamptz[])"
            " AS n (name, size, moment)"
            " ON (f.name, f.byte_count, f.modified_at) = (n.name, n.size, n.moment)"
            f" WHERE {_TABLE} AND f.state <> 'waiting'",
            names=[each.name for each in found],
            sizes=[each.bytes for each in found],
            times=[each.modified_at for each in found],
        )
        return {name: Known(number, content) if content else None for name, number, content in rows}

    def in_force(self) -> set[int]:
        """Return the numbers of all files that count."""
        rows = self._run(f"SELECT number FROM ingestion.files WHERE {_TABLE} AND {_IN_FORCE}")
        return {number for (number,) in rows}

    def is_superseded(self, found: Found) -> bool:
        """Return whether another version comes after a file, so that it does not count."""
        return bool(
            self._run(
                f"SELECT 1 FROM ingestion.files WHERE {_TABLE} AND sequence = %(sequence)s AND"
                " content <> '' AND (version, latest_at) > (%(version)s, %(moment)s) LIMIT 1",
                sequence=found.sequence.name,
                version=found.sequence.version,
                moment=found.modified_at,
            )
        )

    def number_of(self, content: str) -> tuple[int | None, bool]:
        """Return the number of a content, if it is known, and whether it counts."""
        [(number, counts)] = self._run(
            f"SELECT max(number), coalesce(bool_or({_IN_FORCE}), false) FROM ingestion.files"
            f" WHERE {_TABLE} AND content = %(content)s",
            content=content,
        )
        return number, counts

    def write(
        self,
        found: Found,
        content: str,
        number: int,
        state: Literal["loaded", "repeated", "replaced"],
        facts: Facts | None = None,
        *,
        is_known: bool = True,
    ) -> None:
        """Record a file that was read whole, with `facts` if its rows were taken.

        `state`: until `settle` decides. A content whose rows nobody has taken must not seem to
        count, or the next file with it would be left out. `is_known`: whether the content may be
        known already.
        """
        if facts and is_known:
            # The same content under other names: it may have been read, replaced, and now come
            # back. Then it has new rows and a new number.
            self._run(
                "UPDATE ingestion.files SET number = %(number)s, record_count = NULL,"
                " quarantined_count = NULL, checksums = NULL"
                f" WHERE {_TABLE} AND content = %(content)s",
                content=content,
                number=number,
            )
        self._run(
            "INSERT INTO ingestion.files AS f (source, table_name, name, content, number, sequence,"
            " version, state, byte_count, modified_at, latest_at, record_count, quarantined_count,"
            " checksums, load_id) VALUES (%(source)s, %(table)s, %(name)s, %(content)s, %(number)s,"
            " %(sequence)s, %(version)s, %(state)s, %(bytes)s, %(moment)s, %(moment)s, %(records)s,"
            " %(quarantined)s, %(checksums)s, %(load_id)s)"
            " ON CONFLICT (source, table_name, name, content) DO UPDATE SET number ="
            " EXCLUDED.number, sequence = EXCLUDED.sequence, version = EXCLUDED.version,"
            " state = EXCLUDED.state, byte_count = EXCLUDED.byte_count,"
            " modified_at = EXCLUDED.modified_at,"
            # A file that was the last version stays the last one, so that nothing that is gone
            # would have to come back.
            " latest_at = greatest(f.latest_at, EXCLUDED.latest_at),"
            " record_count = coalesce(EXCLUDED.record_count, f.record_count),"
            " quarantined_count = coalesce(EXCLUDED.quarantined_count, f.quarantined_count),"
            " checksums = coalesce(EXCLUDED.checksums, f.checksums), load_id = EXCLUDED.load_id",
            name=found.name,
            content=content,
            number=number,
            sequence=found.sequence.name,
            version=found.sequence.version,
            state=state,
            bytes=found.bytes,
            moment=found.modified_at,
            records=facts.records if facts else None,
            quarantined=facts.quarantined if facts else None,
            checksums=Jsonb(facts.checksums) if facts else None,
        )

    def forget_broken(self, name: str) -> list[int]:
        """Delete that a file is broken. Returns the number that it had, if it was."""
        if self._broken is None:
            known = self._run(
                f"SELECT name FROM ingestion.files WHERE {_TABLE} AND state = 'broken'"
            )
            self._broken = {each for (each,) in known}
        if name not in self._broken:
            return []
        self._broken.remove(name)
        rows = self._run(
            f"DELETE FROM ingestion.files WHERE {_TABLE} AND state = 'broken' AND name = %(name)s"
            " RETURNING number",
            name=name,
        )
        return [number for (number,) in rows]

    def forget_waiting(self) -> None:
        """Delete the files that were waiting and are not any more."""
        self._run(
            f"DELETE FROM ingestion.files WHERE {_TABLE} AND state = 'waiting'"
            " AND load_id <> %(load_id)s"
        )

    def unread(self, found: Found, state: str, reason: str, number: int | None = None) -> None:
        """Record a file that was not read, and why."""
        if state == "broken" and self._broken is not None:
            self._broken.add(found.name)
        self._run(
            "INSERT INTO ingestion.files (source, table_name, name, content, number, sequence,"
            " version, state, reason, byte_count, modified_at, latest_at, load_id)"
            " VALUES (%(source)s, %(table)s, %(name)s, '', %(number)s, %(sequence)s, %(version)s,"
            " %(state)s, %(reason)s, %(bytes)s, %(moment)s, %(moment)s, %(load_id)s)"
            " ON CONFLICT (source, table_name, name, content) DO UPDATE SET state ="
            " EXCLUDED.state, reason = EXCLUDED.reason, number = EXCLUDED.number,"
            " byte_count = EXCLUDED.byte_count, modified_at = EXCLUDED.modified_at,"
            " load_id = EXCLUDED.load_id",
            name=found.name,
            number=number,
            sequence=found.sequence.name,
            version=found.sequence.version,
            state=state,
            reason=reason,
            bytes=found.bytes,
            moment=found.modified_at,
        )

    def settle(self, sequences: Collection[str]) -> list[int]:
        """Decide which files of these sequences count. Returns the numbers that count no more."""
        # With windows and not by joins: this reads every file once, whatever PostgreSQL expects.
        self._run(
            "UPDATE ingestion.files f SET state = d.decided FROM (SELECT name, content, state,"
            " CASE WHEN content <> first_value(content) OVER last THEN 'replaced'"
            " WHEN record_count IS NULL THEN 'repeated' ELSE 'loaded' END AS decided"
            f" FROM ingestion.files WHERE {_TABLE} AND sequence = ANY(%(sequences)s)"
            " AND content <> '' WINDOW last AS"
            " (PARTITION BY sequence ORDER BY version DESC, latest_at DESC, content DESC)) d"
            f" WHERE {_TABLE} AND (f.name, f.content) = (d.name, d.content)"
            " AND d.state <> d.decided",
            sequences=list(sequences),
        )
        rows = self._run(
            f"SELECT number FROM ingestion.files WHERE {_TABLE} GROUP BY number"
            f" HAVING NOT bool_or({_IN_FORCE})"
            " AND bool_or(sequence = ANY(%(sequences)s) AND state = 'replaced')",
            sequences=list(sequences),
        )
        return [number for (number,) in rows]

    def names(self, numbers: Collection[int]) -> dict[int, str]:
        """Return a name of each of these files."""
        rows = self._run(
            "SELECT number, min(name) FROM ingestion.files"
            f" WHERE {_TABLE} AND number = ANY(%(numbers)s) GROUP BY number",
            numbers=list(numbers),
        )
        return dict(rows)

    def totals(self) -> tuple[int, dict[str, str], Checksums]:
        """Return what the files that count say together, less what is in quarantine.

        The number of records, and by column the type and the checksum. A column that files state by
        several types is left out.
        """
        of_files = (
            "FROM (SELECT record_count, quarantined_count, checksums,"
            f" bool_or({_IN_FORCE}) OVER (PARTITION BY number) AS counts FROM ingestion.files"
            f" WHERE {_TABLE}) f WHERE counts AND record_count IS NOT NULL"
        )
        [(rows,)] = self._run(
            f"SELECT coalesce(sum(record_count - quarantined_count), 0)::bigint {of_files}"
        )
        columns = self._run(
            "SELECT c.key, min(c.value ->> 0), sum(split_part(c.value ->> 1, ':', 1)::numeric),"
            " sum(split_part(c.value ->> 1, ':', 2)::numeric)"
            f" FROM (SELECT checksums {of_files}) s, jsonb_each(s.checksums) c"
            " GROUP BY c.key HAVING count(DISTINCT c.value ->> 0) = 1"
        )
        types = {name: type_ for name, type_, *_ in columns}
        sums = {name: checksum(Decimal(count), Decimal(total)) for name, _, count, total in columns}
        return rows, types, sums

    def released(self, entries: Collection[int]) -> set[int]:
        """Return the numbers of the files of quarantine entries that are to be read again."""
        rows = self._run(
            f"SELECT (row ->> '_file')::bigint FROM ingestion.quarantine WHERE {_TABLE}"
            " AND closed_at IS NULL AND id = ANY(%(entries)s) AND row ->> '_file' IS NOT NULL",
            entries=list(entries),
        )
        return {number for (number,) in rows}

    def entries(self, numbers: Collection[int], *, only_earlier: bool) -> list[int]:
        """Return the open quarantine entries of files. `only_earlier`: not those of this load."""
        rows = self._run(
            f"SELECT id FROM ingestion.quarantine WHERE {_TABLE} AND closed_at IS NULL"
            " AND row ->> '_file' = ANY(%(numbers)s)"
            + (" AND load_id <> %(load_id)s" if only_earlier else ""),
            numbers=[str(number) for number in numbers],
        )
        return [entry for (entry,) in rows]
