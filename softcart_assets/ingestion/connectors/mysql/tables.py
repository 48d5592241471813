"""What MySQL's catalog says of tables, as far as it matters for copying and following them."""

from __future__ import annotations

from softcart_assets.ingestion.connectors.mysql.session import Session

TRANSACTIONAL_ENGINES = {"InnoDB", "RocksDB", "ROCKSDB"}
"""Engines whose tables can be read as of one moment."""


def cascaded_tables(session: Session) -> set[str]:
    """The database's tables whose rows change or go with those of other tables, by foreign keys."""
    rows = session.query(
        "SELECT table_name FROM information_schema.referential_constraints WHERE constraint_schema "
        "= DATABASE()"
        " AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))"
    )
    return {str(name) for (name,) in rows}


def logs_cascades(session: Session) -> bool:
    """Whether the binary log has the changes that foreign keys' cascades make.

    It has them if MySQL makes them itself, from 9.6 on. It lacks those of the storage engine.
    """
    rows = session.query("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'")
    return bool(rows) and rows[0][1] == "OFF"
