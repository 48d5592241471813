"""What MySQL's catalog says of tables, as far as copying and following need it."""

from __future__ import annotations

from softcart_assets.ingestion.connectors.mysql.session import Session

TRANSACTIONAL_ENGINES = {"InnoDB", "RocksDB", "ROCKSDB"}
"""Engines whose tables can be read as of one moment."""


def cascaded_tables(session: Session) -> set[str]:
    """Return the database's tables whose rows change or go when other tables' rows do, by foreign
    keys.
    """
    rows = session.query(
        "SELECT table_name FROM information_schema.referential_constraints WHERE constraint_schema "
        "= DATABASE()"
        " AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))"
    )
    return {str(name) for (name,) in rows}


def logs_cascades(session: Session) -> bool:
    """Return whether the binary log has the changes that cascades of foreign keys make.

    MySQL makes them itself from 9.6 on, and logs them. The storage engine's cascades are not
    logged.
    """
    rows = session.query("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'")
    return bool(rows) and rows[0][1] == "OFF"
