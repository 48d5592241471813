"""Tells which contents of a binary log cannot be read exactly. Each refusal names the setting to
change.

Contents that belong to known tables are `Unreadable`: these tables stop, and the others go on.
Contents that may belong to any table raise an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from softcart_assets.ingestion.connectors.mysql import events
from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.names import Wanted
from softcart_assets.ingestion.connectors.mysql.schema import Bytes
from softcart_assets.ingestion.connectors.mysql.statements import Logged
from softcart_assets.ingestion.errors import IngestionError, PositionPurged
from softcart_assets.ingestion.position import Position

_EMPTY_TABLE_IDS = (b"\xff\xff\xff\0\0\0", b"\xff\xff\xff\xff\xff\xff")
"""Table ids of rows events that a statement leaves which changed nothing."""


@dataclass(frozen=True)
class Refusals:
    """Refuses contents of a source's log. `requested`: the position at which reading began."""

    source: str
    wanted: Wanted
    requested: Position

    def statement(self, logged: Logged, behind: Position) -> Unreadable | None:
        """Refuse rows that a logged statement changed, if they may belong to a wanted table."""
        wanted = self.wanted
        if logged.used is not None:
            is_ours = any(map(wanted.is_here, logged.used))
        else:
            # Without MySQL's list, a trigger of another database that changes this one is not
            # noticed here. The comparison with the source's checksums finds that.
            is_ours = wanted.is_here(logged.database) or (
                wanted.fold(wanted.database) in wanted.fold(logged.sql)
            )
        if not is_ours or not wanted.tables:
            return None
        # All tables, whatever the text names: an UPDATE of a view or a trigger changes others
        # (dbtrail#776, apache/flink-cdc#1454), and a user who only reads does not see triggers.
        verb = logged.sql.split(maxsplit=1)[0].upper()
        return Unreadable(
            tuple(wanted.tables),
            f"Its rows may have been changed by a statement that the binary log holds as text "
            f"({verb} behind {behind}), so which rows is not known. Such a statement can change "
            "any table of its database, through views and triggers.",
            _no_session("binlog_format = ROW"),
        )

    def unknown_table(self, table_id: bytes) -> None:
        """Refuse rows of a table that the log has not described before."""
        # A log describes each table in its transaction before its rows. Without that, reading began
        # in the middle of one, as it could after a restart in flink-cdc (apache/flink-cdc#2217).
        if table_id not in _EMPTY_TABLE_IDS:
            raise PositionPurged(f"position {self.requested} lies within a transaction")

    def event(
        self,
        kind: int,
        data: bytes,
        start: int,
        table: TableMap | Unreadable | None,
        behind: Position,
    ) -> Unreadable | None:
        """Refuse an event with changes that cannot be read.

        `table`: the wanted table that it belongs to.
        """
        where = f"Source {self.source!r}: behind {behind} the binary log has"
        if kind == events.PARTIAL_UPDATE:
            if isinstance(table, TableMap):
                return Unreadable(
                    (table.table,),
                    f"Behind {behind} the binary log has updates of it with parts of JSON values.",
                    _no_session("binlog_row_value_options = ''"),
                )
            return table
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
        return None


def partial(table: TableMap, beginning: bytes, behind: Position) -> Unreadable | None:
    """Refuse rows without some of their columns.

    `beginning`: the start of a rows event's body, with its bitmaps of present columns.
    """
    if beginning in table.whole:
        return None
    count = len(table.columns)
    reader = Bytes(beginning)
    is_whole = reader.number() == count
    while is_whole and reader.at < len(beginning):
        bitmap = int.from_bytes(reader.take((count + 7) // 8), "little")
        is_whole = bitmap & (1 << count) - 1 == (1 << count) - 1
    if is_whole:
        table.whole.add(beginning)
        return None
    return Unreadable(
        (table.table,),
        f"Behind {behind} the binary log has rows of it without some of their columns.",
        _no_session("binlog_row_image = FULL"),
    )


def _no_session(setting: str) -> str:
    return f"Run SET GLOBAL {setting} on the server, and see that no session sets it otherwise."
