# cython: language_level=3, cdivision=True
"""Rows of MySQL's text protocol, from a connection to Arrow; `textrows.pyi` describes what is public."""

cimport cython
from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from pymysql.constants.CR import CR_MALFORMED_PACKET
from pymysql.err import OperationalError, raise_mysql_exception

from softcart_assets.ingestion.codec.builders cimport FIT, Builder, Builders, Outcome, put_null, raise_outcome
from softcart_assets.ingestion.codec.texts cimport put_text

cdef enum:
    RECEIVE = 1 << 19
    LONGEST = 0xFFFFFF
    HEADER = 4


@cython.final
cdef class TextReader:
    cdef readonly bint is_open
    # Whether the server broke the protocol. Then nobody knows where its next answer begins.
    cdef bint _is_broken
    cdef object _receive
    cdef Builders _builders
    # What was received: from `_at` to `_have`, it is still to be read.
    cdef uint8_t* _memory
    cdef size_t _size, _at, _have
    # The payload of the present packet.
    cdef const uint8_t* _payload
    cdef size_t _length

    def __init__(self, receive, columns):
        if self._receive is not None:
            raise RuntimeError("this reader has a result already")
        self._receive = receive
        self._builders = Builders(columns)
        self.is_open = True

    def __dealloc__(self):
        free(self._memory)

    cdef int _need(self, size_t length) except -1 nogil:
        """Receive until there are at least `length` bytes from `_at` on."""
        if self._have - self._at < length:
            with gil:
                self._fill(length)
        return 0

    cdef int _fill(self, size_t length) except -1:
        cdef uint8_t* memory
        cdef size_t size
        if self._at:
            memmove(self._memory, self._memory + self._at, self._have - self._at)
            self._have -= self._at
            self._at = 0
        if self._size < length:
            size = max(RECEIVE, 2 * length)
            memory = <uint8_t*>realloc(self._memory, size)
            if not memory:
                raise MemoryError
            self._memory = memory
            self._size = size
        while self._have < length:
            self._have += <size_t>self._receive(
                PyMemoryView_FromMemory(<char*>self._memory + self._have, self._size - self._have, PyBUF_WRITE)
            )
        return 0

    cdef int _next(self) except -1 nogil:
        """Find the payload of the next packet. Returns 0 at the end of the rows."""
        cdef size_t head = 0, length
        self._length = 0
        while True:
            self._need(head + HEADER)
            length = _number(self._memory + self._at + head, 3)
            self._need(head + HEADER + length)
            if head:
                # A row of 16 MB or more comes in several packets. The payloads are moved together.
                memmove(
                    self._memory + self._at + HEADER + self._length,
                    self._memory + self._at + head + HEADER,
                    length,
                )
            self._length += length
            head += HEADER + length
            if length < LONGEST:
                break
        self._payload = self._memory + self._at + HEADER
        self._at += head
        # Rows never begin with 0xFF. With 0xFE begins the length of a huge value, too.
        if self._length and (self._payload[0] == 0xFF or (self._payload[0] == 0xFE and self._length < 9)):
            with gil:
                self._end()
            return 0
        return 1

    cdef int _end(self) except -1:
        if self._at != self._have:
            self._break_off("the server sent more than the rows of the query")
        self.is_open = False
        self._at = self._have = 0
        if self._payload[0] == 0xFF:
            raise_mysql_exception(PyBytes_FromStringAndSize(<const char*>self._payload, self._length))
        return 0

    cdef int _malformed(self) except -1:
        self._break_off("the server sent a row with another number of values than the query has")

    cdef int _break_off(self, str reason) except -1:
        self._is_broken = True
        raise OperationalError(CR_MALFORMED_PACKET, reason)

    def read(self, size_t max_rows, size_t max_bytes):
        cdef Builders builders = self._builders
        cdef Builder* b
        cdef Outcome outcome = FIT
        cdef size_t rows = 0, size = 0, length = 0
        cdef const uint8_t* value
        cdef const uint8_t* end
        cdef bint is_end = False
        cdef int index
        cdef list unfit = []
        if self._is_broken:
            self._break_off("the server broke the protocol before")
        if not self.is_open:
            return None
        with nogil:
            # At least one row, however large, or the reader would never get past it.
            while rows < max_rows and (size < max_bytes or not rows):
                if not self._next():
                    is_end = True
                    break
                outcome = builders.make_room()
                if outcome != FIT:
                    break
                value, end = self._payload, self._payload + self._length
                for index in range(builders.count):
                    b = &builders.each[index]
                    if value < end and value[0] == 0xFB:
                        put_null(b, builders.rows)
                        size += b.width
                        value += 1
                        continue
                    value = _begin(value, end, &length)
                    if not value:
                        with gil:
                            self._malformed()
                    outcome = put_text(b, builders.rows, value, length)
                    if outcome != FIT:
                        break
                    size += b.width if b.width else length + 4
                    value += length
                rows += 1
                if outcome == FIT:
                    if value != end:
                        with gil:
                            self._malformed()
                    builders.rows += 1
                    continue
                # The row's first values are in their columns already.
                builders.cut(builders.rows)
                if outcome < 0:
                    break
                with gil:
                    unfit.append(self._raw_row())
                size += self._length
                outcome = FIT
        if outcome < 0:
            raise_outcome(outcome, builders.columns)
        return None if is_end and not rows else (builders.take(), unfit)

    cdef tuple _raw_row(self):
        cdef const uint8_t* value = self._payload
        cdef const uint8_t* end = value + self._length
        cdef size_t length = 0
        cdef list row = []
        while value < end:
            if value[0] == 0xFB:
                row.append(None)
                value += 1
                continue
            value = _begin(value, end, &length)
            if not value:
                self._malformed()
            row.append(PyBytes_FromStringAndSize(<const char*>value, length))
            value += length
        if len(row) != self._builders.count:
            self._malformed()
        return tuple(row)

    def close(self):
        try:
            while self.is_open and not self._is_broken and self._next():
                pass
        except OperationalError:
            # The end of a query that was killed, or of the connection, which the next query tells.
            self.is_open = self._is_broken


cdef inline size_t _number(const uint8_t* at, int width) noexcept nogil:
    cdef uint64_t number = 0
    cdef int index
    for index in range(width):
        number |= <uint64_t>at[index] << 8 * index
    return number


cdef inline const uint8_t* _begin(const uint8_t* at, const uint8_t* end, size_t* length) noexcept nogil:
    """Read the length of a value. Returns where the value begins. NULL: it is not whole."""
    cdef int width
    if at >= end:
        return NULL
    if at[0] < 0xFB:
        length[0] = at[0]
        at += 1
    else:
        # 0xFC, 0xFD and 0xFE stand before a length of 2, 3 and 8 bytes.
        width = 2 if at[0] == 0xFC else 3 if at[0] == 0xFD else 8
        if at[0] == 0xFF or end - at <= width:
            return NULL
        length[0] = _number(at + 1, width)
        at += 1 + width
    return at if length[0] <= <size_t>(end - at) else NULL
