"""What IBM's documentation of Db2 11.5 allows, for SQL that no Db2 server here can judge.

sqlglot has no dialect of Db2. Its general one takes the statements apart. What it finds has to be
among what is listed here: the kinds of statements and expressions, the types with their limits, the
length of names, and words that need quotation marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import sqlglot
from sqlglot import exp

RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
    ACTIVATE ADD AFTER ALIAS ALL ALLOCATE ALLOW ALTER AND ANY AS ASENSITIVE ASSOCIATE AT ATTRIBUTES
    AUDIT AUTHORIZATION AUX AUXILIARY BEFORE BEGIN BETWEEN BINARY BUFFERPOOL BY CACHE CALL CALLED
    CAPTURE CARDINALITY CASCADED CASE CAST CCSID CHAR CHARACTER CHECK CLONE CLOSE CLUSTER COLLECTION
    COLLID COLUMN COMMENT COMMIT CONCAT CONDITION CONNECT CONNECTION CONSTRAINT CONTAINS CONTINUE
    COUNT COUNT_BIG CREATE CROSS CURRENT CURSOR CYCLE DATA DATABASE DATE DAY DAYS DBINFO DEALLOCATE
    DECLARE DEFAULT DEFAULTS DEFINITION DELETE DESCRIBE DESCRIPTOR DETERMINISTIC DIAGNOSTICS DISABLE
    DISALLOW DISCONNECT DISTINCT DO DOCUMENT DOUBLE DROP DSSIZE DYNAMIC EACH EDITPROC ELSE ELSEIF
    ENABLE ENCODING ENCRYPTION END ENDING ERASE ESCAPE EVERY EXCEPT EXCEPTION EXCLUDING EXCLUSIVE
    EXECUTE EXISTS EXIT EXPLAIN EXTENDED EXTERNAL EXTRACT FENCED FETCH FIELDPROC FILE FINAL FIRST
    FOR FOREIGN FREE FROM FULL FUNCTION GENERAL GENERATED GET GLOBAL GO GOTO GRANT GRAPHIC GROUP
    HANDLER HASH HAVING HINT HOLD HOUR HOURS IDENTITY IF IMMEDIATE IMPORT IN INCLUDING INCLUSIVE
    INCREMENT INDEX INDICATOR INDICATORS INF INFINITY INHERIT INNER INOUT INSENSITIVE INSERT
    INTEGRITY INTERSECT INTO IS ISOBID ISOLATION ITERATE JAR JAVA JOIN KEEP KEY LABEL LANGUAGE LAST
    LATERAL LEAVE LEFT LIKE LIMIT LINKTYPE LOCAL LOCALE LOCALTIME LOCATOR LOCATORS LOCK LOCKMAX
    LOCKSIZE LONG LOOP MAINTAINED MATERIALIZED MAXVALUE MICROSECOND MICROSECONDS MINUTE MINUTES
    MINVALUE MODE MODIFIES MONTH MONTHS NAN NEW NEXTVAL NO NONE NORMALIZED NOT NULL NULLS NUMPARTS
    OBID OF OFF OFFSET OLD ON OPEN OPTIMIZATION OPTIMIZE OPTION OR ORDER OUT OUTER OVER OVERRIDING
    PACKAGE PADDED PAGESIZE PARAMETER PART PARTITION PARTITIONED PARTITIONING PARTITIONS PASSWORD
    PATH PERCENT PIECESIZE PLAN POSITION PRECISION PREPARE PREVVAL PRIMARY PRIQTY PRIVILEGES
    PROCEDURE PROGRAM PSID PUBLIC QUERY QUERYNO RANGE RANK READ READS RECOVERY REFERENCES
    REFERENCING REFRESH RELEASE RENAME REPEAT RESET RESIGNAL RESTART RESTRICT RESULT RETURN RETURNS
    REVOKE RIGHT ROLE ROLLBACK ROW ROWNUMBER ROWS ROWSET RRN RUN SAVEPOINT SCHEMA SCROLL SEARCH
    SECOND SECONDS SECURITY SELECT SENSITIVE SEQUENCE SESSION SET SIGNAL SIMPLE SOME SOURCE SPECIFIC
    SQL SQLID STACKED STANDARD START STARTING STATEMENT STATIC STAY STOGROUP STORES STYLE SUBSTRING
    SUMMARY SYNONYM SYSTEM TABLE TABLESPACE THEN TIME TIMESTAMP TO TRANSACTION TRIGGER TRIM TRUNCATE
    TYPE UNDO UNION UNIQUE UNTIL UPDATE USAGE USER USING VALUE VALUES VARIABLE VARIANT VCAT VERSION
    VIEW VOLATILE VOLUMES WHEN WHENEVER WHERE WHILE WITH WITHOUT WLM WRITE YEAR YEARS
    """,
    )
)
"""Names that need quotation marks."""

ROW_BYTES, ROW_BYTES_EXTENDED = 32_677, 1_048_319
"""The widest row of a page of 32 KiB, and with extended_row_sz."""
KEY_BYTES = 1_024
"""The longest key of an index, in a page of 4 KiB."""
_NAME_BYTES = 128
_COMMENT_BYTES = 254
_TEXT_BYTES = 32_672

_FIXED = {
    "SMALLINT": 2,
    "INTEGER": 4,
    "BIGINT": 8,
    "DOUBLE": 8,
    "BOOLEAN": 1,
    "DATE": 4,
    "TIMESTAMP": 10,
}
"""Bytes of a value. TIMESTAMP has six decimals."""
_MOST = {"VARCHAR": _TEXT_BYTES, "DECIMAL": 31, "CLOB": 2**30, "BLOB": 2**30}
"""The first number of a type. LOBs of more than a GiB cannot be logged."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}

_STATEMENTS = (exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Drop, exp.Grant)
_PARTS = (
    *(exp.Schema, exp.ColumnDef, exp.ColumnConstraint, exp.NotNullColumnConstraint),
    *(exp.PrimaryKeyColumnConstraint, exp.PrimaryKey, exp.Index, exp.IndexParameters, exp.Ordered),
    *(exp.DataType, exp.DataTypeParam, exp.Var, exp.Identifier, exp.Table, exp.TableAlias),
    *(exp.Column, exp.Literal, exp.Null, exp.Placeholder, exp.Tuple, exp.Values, exp.Star),
    *(exp.From, exp.Where, exp.Subquery, exp.Union, exp.Exists, exp.In, exp.Paren),
    *(exp.And, exp.Not, exp.EQ, exp.NEQ, exp.Count, exp.Sum, exp.Cast, exp.CurrentTimestamp),
    *(exp.GrantPrincipal, exp.GrantPrivilege, exp.Comment),
)
_LOCK = re.compile(r"LOCK TABLE \w+ IN (SHARE|EXCLUSIVE) MODE")
_TYPE = re.compile(r"([A-Z]+)(?:\((\d+)([KMG]?)(?:,(\d+))?\))?")


def faults(statement: str) -> list[str]:
    """What the documentation does not allow in a statement."""
    if _LOCK.fullmatch(statement):
        return []  # sqlglot has no word for it
    tree = sqlglot.parse_one(statement)
    found = []
    for node in tree.walk():
        if not isinstance(node, (*_STATEMENTS, *_PARTS)):
            found.append(f"{type(node).__name__} is not used elsewhere")
        if isinstance(node, exp.Identifier):
            if len(node.name.encode()) > _NAME_BYTES:
                found.append(f"{node.name} is too long")
            if not node.quoted and node.name.upper() in RESERVED:
                found.append(f"{node.name} is reserved")
        if isinstance(node, exp.Literal) and node.is_string:
            most = _COMMENT_BYTES if isinstance(tree, exp.Comment) else _TEXT_BYTES
            if len(node.name.encode()) > most:
                found.append(f"{node.name[:20]}… is too long")
    return found


def row_bytes(types: Iterable[str]) -> int:
    """The bytes of the widest row, by the types of its columns. Raises if one is not allowed."""
    return sum(map(_bytes, types))


def _bytes(kind: str) -> int:
    found = _TYPE.fullmatch(kind)
    assert found, f"{kind} is no type"
    name, number, unit, decimals = found.groups()
    if name in _FIXED:
        assert number is None, kind
        return 1 + _FIXED[name]
    first = int(number or 0) * _UNITS[unit]
    assert 1 <= first <= _MOST[name], kind
    if name == "DECIMAL":
        assert 0 <= int(decimals) <= first, kind
        return 1 + first // 2 + 1
    assert decimals is None, kind
    # Of a LOB, the row has a descriptor.
    return 5 + (first if name == "VARCHAR" else 312)
