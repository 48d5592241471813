"""Refuses the contents of a binary log that cannot be read exactly. Each refusal names the setting
to change.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from softcart_assets.ingestion.connectors.mysql import events
from softcart_assets.ingestion.connectors.mysql.events import TableMap
from softcart_assets.ingestion.connectors.mysql.schema import Bytes
from softcart_assets.ingestion.errors import IngestionError, PositionPurged
from softcart_assets.ingestion.position import Position

_EMPTY_TABLE_IDS = (b"\xff\xff\xff\0\0\0", b"\xff\xff\xff\xff\xff\xff")
"""Table ids of rows events that a statement leaves which changed nothing."""


@dataclass(frozen=True)
class Refusals:
    """Refuses contents of a source's log. `requested`: the position at which reading began."""

    source: str
    wanted: Collection[tuple[str, str]]
    requested: Position

    def statement(self, database: str, sql: str, behind: Position) -> None:
        """Refuse rows that a logged statement changed, if they may belong to a wanted table."""
        # A statement may also name tables that it does not change. An error too many is better than
        # rows that silently differ.
        for wanted, table in sorted(self.wanted):
            if (database == wanted or wanted in sql) and re.search(
                rf"(?<![\w$]){re.escape(table)}(?![\w$])", sql, re.I
            ):
                raise IngestionError(
                    f"Source {self.source!r}: rows of `{wanted}`.`{table}` may have been changed "
                    "by a statement that the binary "
                    f"log holds as text ({sql.split(maxsplit=1)[0].upper()} behind {behind}), so "
                    "which rows is not "
                    "known. Run SET GLOBAL binlog_format = ROW on the server and see that no "
                    "session sets it otherwise, then "
                    f"`softcart resnapshot {self.source}`."
                )

    def unknown_table(self, table_id: bytes) -> None:
        """Refuse rows of a table that the log has not described before."""
        # A log describes each table in its transaction before its rows. Without that, reading began
        # in the middle of one, as it could after a restart in flink-cdc (apache/flink-cdc#2217).
        if table_id not in _EMPTY_TABLE_IDS:
            raise PositionPurged(f"position {self.requested} lies within a transaction")

    def event(
        self, kind: int, data: bytes, start: int, table: TableMap | None, behind: Position
    ) -> None:
        """Refuse an event with changes that cannot be read.

        `table`: the wanted table that it belongs to.
        """
        where = f"Source {self.source!r}: behind {behind} the binary log has"
        if kind == events.PARTIAL_UPDATE:
            if table is not None:
                raise IngestionError(
                    f"{where} a partial update of JSON in `{table.database}`.`{table.table}`. Run "
                    "SET GLOBAL "
                    "binlog_row_value_options = '' on the server and see that no session sets it "
                    "otherwise, then "
                    f"`softcart resnapshot {self.source}`."
                )
        elif kind == events.INCIDENT:
            message = data[start + 3 :].decode(errors="replace")
            raise IngestionError(
                f"{where} an incident: the server may have failed to log changes ({message}). "
                "Take a new snapshot with "
                f"`softcart resnapshot {self.source}`."
            )
        # New servers add types of events. Those without changes have this flag.
        elif not (start and data[start - 2] & 0x80):  # not marked as one to ignore
            raise IngestionError(
                f"{where} an event of type {kind}, which is not known here and may hold changes. "
                "Tell the maintainers the "
                f"server's version; until then use strategy 'snapshot' for source {self.source!r}."
            )


def refuse_partial(table: TableMap, beginning: bytes) -> None:
    """Refuse rows without some of their columns.

    `beginning`: the start of a rows event's body, with its bitmaps of present columns.
    """
    if beginning in table.whole:
        return
    count = len(table.columns)
    reader = Bytes(beginning)
    is_whole = reader.number() == count
    while is_whole and reader.at < len(beginning):
        bitmap = int.from_bytes(reader.take((count + 7) // 8), "little")
        is_whole = bitmap & (1 << count) - 1 == (1 << count) - 1
    if not is_whole:
        raise IngestionError(
            f"Rows of `{table.database}`.`{table.table}` are in the binary log without some of "
            "their columns. Run SET GLOBAL binlog_row_image = FULL on the server, and check that "
            "no session sets it otherwise. Changes logged before that cannot be read: take a new "
            "snapshot with `softcart resnapshot`."
        )
    table.whole.add(beginning)
