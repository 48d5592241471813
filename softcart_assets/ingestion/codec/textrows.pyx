# cython: language_level=3, cdivision=True
"""Rows of MySQL's text protocol, from the client library's memory to Arrow; `textrows.pyi` describes what is public."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

import MySQLdb

from softcart_assets.ingestion.codec.builders cimport FIT, Builder, Builders, Outcome, put_null, raise_outcome
from softcart_assets.ingestion.codec.texts cimport put_text


cdef extern from "mysql.h":
    ctypedef struct MYSQL:
        void* unbuffered_fetch_owner
    ctypedef struct MYSQL_RES:
        MYSQL* handle
    ctypedef char** MYSQL_ROW
    MYSQL_RES* mysql_use_result(MYSQL*) nogil
    MYSQL_ROW mysql_fetch_row(MYSQL_RES*) nogil
    unsigned long* mysql_fetch_lengths(MYSQL_RES*) nogil
    void mysql_free_result(MYSQL_RES*) nogil
    unsigned int mysql_num_fields(MYSQL_RES*) nogil
    unsigned int mysql_errno(MYSQL*) nogil
    const char* mysql_error(MYSQL*) nogil
    unsigned long mysql_thread_id(MYSQL*) nogil


@cython.final
cdef class TextReader:
    cdef object _db
    cdef MYSQL* _mysql
    cdef MYSQL_RES* _result
    cdef Builders _builders

    def __init__(self, db, columns):
        if self._result:
            raise RuntimeError("this reader has a result already")
        self._db = db
        self._builders = Builders(columns)
        if not isinstance(db, MySQLdb._mysql.connection):
            raise TypeError(f"a MySQLdb connection is needed, not {type(db).__name__}")
        # MySQLdb's connection object is Python's header, then the client library's MYSQL structure.
        self._mysql = <MYSQL*>(<char*><PyObject*>db + sizeof(PyObject))
        if mysql_thread_id(self._mysql) != <unsigned long>db.thread_id():
            raise RuntimeError(
                "this version of mysqlclient lays its connections out in another way than the codec expects: "
                "install the version that requirements.lock names"
            )
        with nogil:
            self._result = mysql_use_result(self._mysql)
        if not self._result:
            if mysql_errno(self._mysql):
                self._fail()
            raise ValueError("the statement gave no rows to read: it is not a query")
        if mysql_num_fields(self._result) != <unsigned int>self._builders.count:
            given = mysql_num_fields(self._result)
            self.close()
            raise ValueError(f"the query gives {given} columns, not {self._builders.count}")

    def __dealloc__(self):
        # Not reading the rest: that could take long. MySQLdb says "commands out of sync" if the connection is used.
        self._abandon()

    cdef void _abandon(self) noexcept:
        """Free the result without touching its connection."""
        if self._result:
            self._mysql.unbuffered_fetch_owner = NULL
            # Without a handle, freeing reads nothing from the server: on a closed connection it
            # would fail.
            self._result.handle = NULL
            mysql_free_result(self._result)
            self._result = NULL

    cdef int _fail(self) except -1:
        raise MySQLdb.OperationalError(mysql_errno(self._mysql), mysql_error(self._mysql).decode(errors="replace"))

    def read(self, size_t max_rows, size_t max_bytes):
        cdef Builders builders = self._builders
        cdef Builder* b
        cdef MYSQL_ROW row
        cdef unsigned long* lengths
        cdef Outcome outcome = FIT
        cdef size_t rows = 0, size = 0
        cdef bint is_end = False
        cdef int index
        cdef list unfit = []
        if not self._result:
            return None
        if not self._db.open:
            self._abandon()
            raise MySQLdb.OperationalError(2006, "the connection was closed before all rows were read")
        with nogil:
            # At least one row, however large, or the reader would never get past it.
            while rows < max_rows and (size < max_bytes or not rows):
                row = mysql_fetch_row(self._result)
                if not row:
                    is_end = True
                    break
                lengths = mysql_fetch_lengths(self._result)
                outcome = builders.make_room()
                if outcome != FIT:
                    break
                for index in range(builders.count):
                    b = &builders.each[index]
                    if not row[index]:
                        put_null(b, builders.rows)
                        size += b.width
                        continue
                    outcome = put_text(b, builders.rows, <const uint8_t*>row[index], lengths[index])
                    if outcome != FIT:
                        break
                    size += b.width if b.width else lengths[index] + 4
                rows += 1
                if outcome == FIT:
                    builders.rows += 1
                    continue
                # The row's first values are in their columns already.
                builders.cut(builders.rows)
                if outcome < 0:
                    break
                with gil:
                    unfit.append(_raw_row(row, lengths, builders.count))
                    for index in range(builders.count):
                        size += lengths[index]
                outcome = FIT
        if outcome < 0:
            raise_outcome(outcome, builders.columns)
        if is_end:
            if mysql_errno(self._mysql):
                try:
                    self._fail()
                finally:
                    self.close()
            self.close()
            if not rows:
                return None
        return builders.take(), unfit

    def close(self):
        cdef MYSQL_RES* result = self._result
        if result and not self._db.open:
            self._abandon()
        elif result:
            self._result = NULL
            with nogil:
                mysql_free_result(result)


cdef tuple _raw_row(MYSQL_ROW row, unsigned long* lengths, int count):
    return tuple([PyBytes_FromStringAndSize(row[index], lengths[index]) if row[index] else None for index in range(count)])
