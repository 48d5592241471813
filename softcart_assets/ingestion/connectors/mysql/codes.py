"""Which errors of MySQL and MariaDB may pass by themselves."""

from __future__ import annotations

from typing import Any

_SERVERS_OWN = (range(1000, 2000), range(3000, 5000))
"""The errors of the servers. Others come from client libraries and proxies: the server was not
reached.
"""
_TRANSIENT = {
    1020,  # row changed since the snapshot (MariaDB)
    1021,  # disk full
    1026,  # a temporary file cannot be written
    1028,  # sort aborted
    1037,  # out of memory
    1040,  # too many connections
    1041,  # out of memory
    1047,  # a Galera node that is not in its cluster at the moment
    1053,  # shutdown
    1079,  # shutdown
    1080,  # forced end of a session
    1105,  # unknown error: the one code of many proxies
    1114,  # temporary table full
    1135,  # no thread for a connection
    1152,  # connection aborted
    1158,  # network: read
    1159,  # network: read timeout
    1160,  # network: write
    1161,  # network: write timeout
    1184,  # connection aborted
    1189,  # network: replication, read
    1190,  # network: replication, write
    1203,  # too many connections of the user
    1205,  # lock wait timeout
    1206,  # too many locks
    1213,  # deadlock
    1226,  # the user's share of the server is used up
    1236,  # any error of sending the log; `Dump` tells those of a log that is gone
    1317,  # statement interrupted
    1637,  # too many transactions
    1927,  # connection killed (MariaDB)
    1969,  # statement took too long (MariaDB)
    3024,  # statement took too long
    3168,  # server not ready
    3169,  # session killed
    4031,  # session idle for too long
}


def is_transient(code: Any) -> bool:
    """Return whether the same statement may succeed later, though nobody changes anything."""
    is_server = isinstance(code, int) and any(code in codes for codes in _SERVERS_OWN)
    return not is_server or code in _TRANSIENT
