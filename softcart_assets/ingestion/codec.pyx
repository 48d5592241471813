# cython: language_level=3, cdivision=True
"""Rows between a source's own bytes, Arrow and PostgreSQL's binary COPY; `codec.pyi` describes what is public."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

import operator
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from itertools import takewhile

import MySQLdb
import pyarrow as pa

from softcart_assets.ingestion import types


cdef extern from *:
    """
    #include <locale.h>
    #include <math.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>

    /* Numbers of n limbs of 64 bits, the lowest first. */
    static inline void limbs_multiply_add(uint64_t *limbs, int n, uint64_t factor, uint64_t addend)
    {
        unsigned __int128 carry = addend;
        for (int i = 0; i < n; i++) {
            carry += (unsigned __int128)limbs[i] * factor;
            limbs[i] = (uint64_t)carry;
            carry >>= 64;
        }
    }

    static inline uint64_t limbs_divide(uint64_t *limbs, int n, uint64_t divisor)
    {
        unsigned __int128 rest = 0;
        for (int i = n; i-- > 0;) {
            rest = rest << 64 | limbs[i];
            limbs[i] = (uint64_t)(rest / divisor);
            rest %= divisor;
        }
        return (uint64_t)rest;
    }

    static inline void limbs_negate(uint64_t *limbs, int n)
    {
        uint64_t carry = 1;
        for (int i = 0; i < n; i++) {
            limbs[i] = ~limbs[i] + carry;
            carry = carry && limbs[i] == 0;
        }
    }

    static inline uint8_t *put16(uint8_t *to, uint16_t value)
    {
        value = __builtin_bswap16(value);
        memcpy(to, &value, 2);
        return to + 2;
    }

    static inline uint8_t *put32(uint8_t *to, uint32_t value)
    {
        value = __builtin_bswap32(value);
        memcpy(to, &value, 4);
        return to + 4;
    }

    static inline uint8_t *put64(uint8_t *to, uint64_t value)
    {
        value = __builtin_bswap64(value);
        memcpy(to, &value, 8);
        return to + 8;
    }

    /* The nearest double, whatever the program's locale. */
    static double number_of(const char *text)
    {
        static locale_t neutral = (locale_t)0;
        if (!neutral)
            neutral = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        return strtod_l(text, NULL, neutral);
    }
    """
    void limbs_multiply_add(uint64_t* limbs, int n, uint64_t factor, uint64_t addend) noexcept nogil
    uint64_t limbs_divide(uint64_t* limbs, int n, uint64_t divisor) noexcept nogil
    void limbs_negate(uint64_t* limbs, int n) noexcept nogil
    uint8_t* put16(uint8_t* to, uint16_t value) noexcept nogil
    uint8_t* put32(uint8_t* to, uint32_t value) noexcept nogil
    uint8_t* put64(uint8_t* to, uint64_t value) noexcept nogil
    double number_of(const char* text) noexcept nogil
    bint isfinite(double value) noexcept nogil
    void* memmem(const void* text, size_t length, const void* part, size_t part_length) noexcept nogil


cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* value, Py_ssize_t size) except NULL
    char* bytes_of "PyBytes_AS_STRING"(PyObject* value)
    int resize_bytes "_PyBytes_Resize"(PyObject** value, Py_ssize_t size) except -1


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


cdef enum Form:
    """How values lie in memory and in COPY BINARY."""
    INT16, INT32, INT64, DECIMAL128, DECIMAL256, DOUBLE, BOOLEAN, TEXT, BYTES, JSON, DATE, TIMESTAMP, INTERVAL


cdef enum Outcome:
    """What became of a value."""
    FAILED = -3
    TOO_LONG = -2
    NO_MEMORY = -1
    FIT = 0
    UNFIT = 1


cdef dict _FORMS = {
    "smallint": INT16,
    "integer": INT32,
    "bigint": INT64,
    "double precision": DOUBLE,
    "boolean": BOOLEAN,
    "text": TEXT,
    "bytea": BYTES,
    "date": DATE,
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMP,
    "interval": INTERVAL,
    "jsonb": JSON,
}
cdef size_t[13] _WIDTHS = [2, 4, 8, 16, 32, 8, 1, 0, 0, 0, 4, 8, 8]
"""Bytes of a form's value while it is collected; 0: offsets and data."""

cdef uint64_t[20] _TENS
_TENS[0] = 1
for _power in range(1, 20):
    _TENS[_power] = _TENS[_power - 1] * 10
cdef double[23] _EXACT_TENS
for _power in range(23):
    _EXACT_TENS[_power] = 10.0**_power


cdef Form _form_of(column) except *:
    decimal = column.decimal
    if decimal:
        return DECIMAL128 if decimal[0] <= 38 else DECIMAL256
    return _FORMS[column.target_type]


# Builders: values on their way into Arrow arrays


cdef struct Builder:
    Form form
    size_t width
    int precision, scale
    uint8_t* valid  # one byte a row
    uint8_t* values  # of `width` bytes each, or int32 offsets into `data`
    uint8_t* data
    size_t used, size  # of `data`


@cython.final
cdef class _Memory:
    """Memory that an Arrow buffer looks at; freed with it."""

    cdef void* address

    def __dealloc__(self):
        free(self.address)


cdef object _buffer(void* address, size_t size):
    """An Arrow buffer that owns the memory."""
    cdef _Memory memory = _Memory.__new__(_Memory)
    memory.address = address
    return pa.foreign_buffer(<uintptr_t>address, size, memory) if address else pa.py_buffer(b"")


cdef void* _packed(uint8_t* flags, size_t count) except NULL:
    """Bytes of 0 and 1 as bits; the memory of `flags` reaches to a multiple of 8."""
    cdef uint8_t* bits = <uint8_t*>malloc((count + 7) // 8 + 1)
    cdef uint64_t eight
    cdef size_t index
    if not bits:
        raise MemoryError
    memset(flags + count, 0, -count & 7)
    for index in range((count + 7) // 8):
        memcpy(&eight, flags + 8 * index, 8)
        bits[index] = <uint8_t>((eight * 0x0102040810204080ULL) >> 56)
    return bits


cdef class _Builders:
    """A batch that grows row by row: put a value into each column at row `rows`, then add one to `rows`."""

    cdef Builder* each
    cdef int count
    cdef size_t rows, capacity
    cdef list columns

    def __cinit__(self, columns):
        self.columns = list(columns)
        self.count = len(self.columns)
        self.each = <Builder*>calloc(max(self.count, 1), sizeof(Builder))
        if not self.each:
            raise MemoryError
        for index, column in enumerate(self.columns):
            self.each[index].form = _form_of(column)
            self.each[index].width = _WIDTHS[<int>self.each[index].form]
            if column.decimal:
                self.each[index].precision, self.each[index].scale = column.decimal

    def __dealloc__(self):
        cdef int index
        if self.each:
            for index in range(self.count):
                free(self.each[index].valid)
                free(self.each[index].values)
                free(self.each[index].data)
            free(self.each)

    cdef Outcome make_room(self) noexcept nogil:
        """Make sure that there is memory for one more row, variable data apart."""
        cdef size_t capacity
        cdef void* memory
        cdef Builder* b
        if self.rows < self.capacity:
            return FIT
        capacity = 2 * self.capacity if self.capacity else 256
        for b in self.each[: self.count]:
            memory = realloc(b.valid, capacity)
            if not memory:
                return NO_MEMORY
            b.valid = <uint8_t*>memory
            memory = realloc(b.values, capacity * b.width if b.width else (capacity + 1) * 4)
            if not memory:
                return NO_MEMORY
            b.values = <uint8_t*>memory
            if not b.width and not self.capacity:
                (<int32_t*>b.values)[0] = 0
        self.capacity = capacity
        return FIT

    cdef void cut(self, size_t rows) noexcept nogil:
        """Forget what lies after the first `rows` rows, a row begun included."""
        cdef Builder* b
        self.rows = rows
        for b in self.each[: self.count]:
            if not b.width and b.values:
                b.used = (<int32_t*>b.values)[rows]

    cdef size_t nbytes(self) noexcept nogil:
        cdef size_t total = 0
        cdef Builder* b
        for b in self.each[: self.count]:
            total += self.rows * (1 + (b.width if b.width else 4)) + b.used
        return total

    cdef object take(self):
        """The rows as a RecordBatch; the builders are empty again."""
        cdef size_t rows = self.rows, nulls
        cdef Builder* b
        arrays = []
        for index, column in enumerate(self.columns):
            b = &self.each[index]
            if not rows:
                arrays.append(pa.array([], column.arrow_type))
                continue
            buffers = [None]
            if memchr(b.valid, 0, rows):
                buffers[0] = _buffer(_packed(b.valid, rows), (rows + 7) // 8)
            if b.form == BOOLEAN:
                buffers.append(_buffer(_packed(b.values, rows), (rows + 7) // 8))
            elif b.width:
                buffers.append(_buffer(b.values, rows * b.width))
                b.values = NULL
            else:
                buffers.append(_buffer(b.values, (rows + 1) * 4))
                buffers.append(_buffer(b.data, b.used))
                b.values = b.data = NULL
                b.used = b.size = 0
            arrays.append(pa.Array.from_buffers(column.arrow_type, rows, buffers))
        if rows:
            self.rows = self.capacity = 0
            for b in self.each[: self.count]:
                free(b.valid)
                free(b.values)
                b.valid = b.values = NULL
        return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in self.columns])


cdef inline void _put_null(Builder* b, size_t row) noexcept nogil:
    b.valid[row] = 0
    if b.width:
        memset(b.values + row * b.width, 0, b.width)
    else:
        (<int32_t*>b.values)[row + 1] = <int32_t>b.used


cdef inline uint8_t* _room(Builder* b, size_t length) noexcept nogil:
    """Where `length` more bytes of data may be written; NULL: see `_no_room`."""
    cdef size_t size
    cdef void* memory
    if b.used + length > b.size or not b.data:
        if b.used + length > 0x7FFFFFFF:
            return NULL
        size = b.size + b.size // 2 + length + 1024
        memory = realloc(b.data, size)
        if not memory:
            return NULL
        b.data = <uint8_t*>memory
        b.size = size
    return b.data + b.used


cdef inline Outcome _no_room(Builder* b, size_t length) noexcept nogil:
    return TOO_LONG if b.used + length > 0x7FFFFFFF else NO_MEMORY


cdef inline Outcome _put_bytes(Builder* b, size_t row, const uint8_t* data, size_t length) noexcept nogil:
    cdef uint8_t* to = _room(b, length)
    if not to:
        return _no_room(b, length)
    memcpy(to, data, length)
    b.used += length
    b.valid[row] = 1
    (<int32_t*>b.values)[row + 1] = <int32_t>b.used
    return FIT


cdef inline Outcome _put_int64(Builder* b, size_t row, int64_t value) noexcept nogil:
    """A whole number into a column of whole numbers."""
    b.valid[row] = 1
    if b.form == INT64 or b.form == INTERVAL:
        (<int64_t*>b.values)[row] = value
    elif b.form == INT32:
        if value != <int32_t>value:
            return UNFIT
        (<int32_t*>b.values)[row] = <int32_t>value
    else:
        if value != <int16_t>value:
            return UNFIT
        (<int16_t*>b.values)[row] = <int16_t>value
    return FIT


cdef inline void _put_decimal64(Builder* b, size_t row, bint negative, uint64_t magnitude) noexcept nogil:
    """Unscaled digits into a decimal column."""
    cdef int64_t* to = <int64_t*>(b.values + row * b.width)
    cdef int64_t sign = -1 if negative and magnitude else 0
    b.valid[row] = 1
    to[0] = <int64_t>(0 - magnitude if negative else magnitude)
    to[1] = sign
    if b.width == 32:
        to[2] = sign
        to[3] = sign


cdef inline void _put_decimal256(Builder* b, size_t row, bint negative, uint64_t* limbs) noexcept nogil:
    """Unscaled digits into a decimal column; four limbs, which are spoilt."""
    if negative:
        limbs_negate(limbs, 4)
    memcpy(b.values + row * b.width, limbs, b.width)
    b.valid[row] = 1


cdef inline int32_t _days(int64_t year, uint32_t month, uint32_t day) noexcept nogil:
    """Days since 1970-01-01; -2147483648 if there is no such date."""
    cdef uint32_t last, era, year_of_era
    if year < 1 or month < 1 or month > 12 or day < 1:
        return <int32_t>0x80000000
    if month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    else:
        last = 30 + ((month + (month >> 3)) & 1)
    if day > last:
        return <int32_t>0x80000000
    # Years that begin in March have their leap day at the end.
    if month <= 2:
        year -= 1
        month += 12
    era = <uint32_t>year // 400
    year_of_era = <uint32_t>year - era * 400
    return <int32_t>(
        era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + (153 * (month - 3) + 2) // 5 + day - 1
    ) - 719468


cdef inline bint _is_date(int32_t days) noexcept nogil:
    return days != <int32_t>0x80000000


cdef inline uint32_t _digits(const uint8_t* text, int count) noexcept nogil:
    """The number that `count` digits are, or one that is greater than any date or time has."""
    cdef uint32_t value = 0, digit
    cdef int index
    for index in range(count):
        digit = <uint32_t>text[index] - 48
        if digit > 9:
            return 1000000
        value = value * 10 + digit
    return value


cdef inline int32_t _days_of_text(const uint8_t* text) noexcept nogil:
    """Days since 1970-01-01 from ten characters; see `_days`."""
    cdef uint32_t year = _digits(text, 4)
    if text[4] != b"-" or text[7] != b"-" or year > 9999:
        return <int32_t>0x80000000
    return _days(year, _digits(text + 5, 2), _digits(text + 8, 2))


cdef inline Outcome _put_timestamp_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef uint32_t hour, minute, second, fraction = 0
    cdef int32_t days
    if length != 19 and (length < 21 or length > 26 or text[19] != b"."):
        return UNFIT
    days = _days_of_text(text)
    hour = _digits(text + 11, 2)
    minute = _digits(text + 14, 2)
    second = _digits(text + 17, 2)
    if not _is_date(days) or hour > 23 or minute > 59 or second > 59:
        return UNFIT
    if text[10] != b" " or text[13] != b":" or text[16] != b":":
        return UNFIT
    if length > 19:
        fraction = _digits(text + 20, <int>length - 20)
        if fraction > 999999:
            return UNFIT
        fraction *= <uint32_t>_TENS[26 - length]
    b.valid[row] = 1
    (<int64_t*>b.values)[row] = (
        (<int64_t>days * 86400 + hour * 3600 + minute * 60 + second) * 1000000 + fraction
    )
    return FIT


cdef inline Outcome _put_integer_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef size_t index = 0
    cdef bint negative = length > 0 and text[0] == b"-"
    if negative:
        index = 1
    if index == length:
        return UNFIT
    while length - index > 19 and text[index] == b"0":
        index += 1
    if length - index > 19:
        return UNFIT
    for index in range(index, length):
        digit = <uint32_t>text[index] - 48
        if digit > 9:
            return UNFIT
        value = value * 10 + digit
    if value > 0x7FFFFFFFFFFFFFFFULL + negative:
        return UNFIT
    return _put_int64(b, row, <int64_t>(0 - value if negative else value))


cdef Outcome _put_decimal_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef uint64_t[4] limbs
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef size_t index = 0, point, at
    cdef int whole, fraction, pending
    cdef bint negative = length > 0 and text[0] == b"-"
    if negative:
        index = 1
    while length - index > 1 and text[index] == b"0" and text[index + 1] != b".":
        index += 1
    # Short numbers in one go
    if length - index <= 18:
        point = length
        for at in range(index, length):
            digit = <uint32_t>text[at] - 48
            if digit <= 9:
                value = value * 10 + digit
            elif text[at] == b"." and point == length and at > index:
                point = at
            else:
                return UNFIT
        whole = <int>(point - index)
        if whole == 1 and text[index] == b"0":
            whole = 0
        elif not whole:
            return UNFIT
        fraction = <int>(length - point - 1) if point < length else 0
        if point == length - 1 or whole > b.precision - b.scale:
            return UNFIT
        if fraction > b.scale:
            return _put_longer_fraction(b, row, text, length, point)
        if whole + b.scale <= 19:
            _put_decimal64(b, row, negative, value * _TENS[b.scale - fraction])
            return FIT
        memset(limbs, 0, sizeof(limbs))
        limbs[0] = value
    else:
        memset(limbs, 0, sizeof(limbs))
        point = length
        pending = 0
        for at in range(index, length):
            digit = <uint32_t>text[at] - 48
            if digit <= 9:
                value = value * 10 + digit
                pending += 1
                if pending == 19:
                    limbs_multiply_add(limbs, 4, _TENS[19], value)
                    value = pending = 0
            elif text[at] == b"." and point == length and at > index:
                point = at
            else:
                return UNFIT
            if at - index > 100:
                return UNFIT
        limbs_multiply_add(limbs, 4, _TENS[pending], value)
        whole = <int>(point - index)
        if whole == 1 and text[index] == b"0":
            whole = 0
        fraction = <int>(length - point - 1) if point < length else 0
        if point == length - 1 or whole > b.precision - b.scale:
            return UNFIT
        if fraction > b.scale:
            return _put_longer_fraction(b, row, text, length, point)
    fraction = b.scale - fraction
    while fraction > 0:
        pending = fraction if fraction < 19 else 19
        limbs_multiply_add(limbs, 4, _TENS[pending], 0)
        fraction -= pending
    _put_decimal256(b, row, negative, limbs)
    return FIT


cdef Outcome _put_longer_fraction(
    Builder* b, size_t row, const uint8_t* text, size_t length, size_t point
) noexcept nogil:
    """A decimal with more fractional digits than the column has: fit if they are zeros."""
    cdef size_t end = point + 1 + b.scale
    while length > end:
        length -= 1
        if text[length] != b"0":
            return UNFIT
    return _put_decimal_text(b, row, text, end if b.scale else point)


cdef Outcome _put_double_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef char[512] copy
    cdef uint64_t mantissa = 0
    cdef uint32_t digit
    cdef size_t index = 0
    cdef int digits = 0, exponent = 0, written = 0, written_digits = 0
    cdef bint negative = length > 0 and text[0] == b"-", point = False, less = False
    cdef double value
    if negative:
        index = 1
    if length >= sizeof(copy):
        return UNFIT
    while index < length:
        digit = <uint32_t>text[index] - 48
        if digit <= 9:
            digits += 1
            if mantissa < 100000000000000000ULL:
                mantissa = mantissa * 10 + digit
                exponent -= point
            else:
                mantissa = 0xFFFFFFFFFFFFFFFFULL  # too many digits for the short way
        elif text[index] == b"." and not point:
            point = True
        else:
            break
        index += 1
    if not digits:
        return UNFIT
    if index < length:
        if text[index] != b"e" and text[index] != b"E":
            return UNFIT
        index += 1
        if index < length and (text[index] == b"-" or text[index] == b"+"):
            less = text[index] == b"-"
            index += 1
        while index < length:
            digit = <uint32_t>text[index] - 48
            written_digits += 1
            if digit > 9 or written_digits > 4:
                return UNFIT
            written = written * 10 + <int>digit
            index += 1
        if not written_digits:
            return UNFIT
        exponent += -written if less else written
    if mantissa <= 0x20000000000000ULL and -22 <= exponent <= 22:
        # Both are exact doubles, so one rounding makes the nearest one.
        value = <double>mantissa
        value = value * _EXACT_TENS[exponent] if exponent >= 0 else value / _EXACT_TENS[-exponent]
        if negative:
            value = -value
    else:
        memcpy(copy, text, length)
        copy[length] = 0
        value = number_of(copy)
        if not isfinite(value):
            return UNFIT
    b.valid[row] = 1
    (<double*>b.values)[row] = value
    return FIT


cdef bint _is_text(const uint8_t* text, size_t length) noexcept nogil:
    """Whether it is UTF-8 without NUL characters."""
    cdef size_t index = 0
    cdef uint64_t word
    cdef uint8_t lead, second
    while index < length:
        if length - index >= 8:
            memcpy(&word, text + index, 8)
            # No byte has its high bit, none is zero.
            if not ((word | ((word - 0x0101010101010101ULL) & ~word)) & 0x8080808080808080ULL):
                index += 8
                continue
        lead = text[index]
        if lead < 0x80:
            if not lead:
                return False
            index += 1
            continue
        if length - index < 2:
            return False
        second = text[index + 1]
        if lead < 0xE0:
            if lead < 0xC2 or second & 0xC0 != 0x80:
                return False
            index += 2
        elif lead < 0xF0:
            if length - index < 3 or second & 0xC0 != 0x80 or text[index + 2] & 0xC0 != 0x80:
                return False
            if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F):
                return False
            index += 3
        else:
            if length - index < 4 or lead > 0xF4:
                return False
            if second & 0xC0 != 0x80 or text[index + 2] & 0xC0 != 0x80 or text[index + 3] & 0xC0 != 0x80:
                return False
            if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F):
                return False
            index += 4
    return True


cdef Outcome _put_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    """A value from its text."""
    cdef int32_t days
    if b.form == TEXT:
        return _put_bytes(b, row, text, length) if _is_text(text, length) else UNFIT
    if b.form <= INT64 or b.form == INTERVAL:
        return _put_integer_text(b, row, text, length)
    if b.form == DECIMAL128 or b.form == DECIMAL256:
        return _put_decimal_text(b, row, text, length)
    if b.form == TIMESTAMP:
        return _put_timestamp_text(b, row, text, length)
    if b.form == DATE:
        days = _days_of_text(text) if length == 10 else <int32_t>0x80000000
        b.valid[row] = 1
        (<int32_t*>b.values)[row] = days
        return FIT if _is_date(days) else UNFIT
    if b.form == DOUBLE:
        return _put_double_text(b, row, text, length)
    if b.form == JSON:
        if not _is_text(text, length) or memmem(text, length, b"\\u0000", 6):
            return UNFIT
        return _put_bytes(b, row, text, length)
    if b.form == BYTES:
        return _put_bytes(b, row, text, length)
    # BOOLEAN
    if length != 1 or (text[0] != b"0" and text[0] != b"1"):
        return UNFIT
    b.valid[row] = 1
    b.values[row] = text[0] == b"1"
    return FIT


cdef int _raise(Outcome outcome, object columns) except -1:
    """Raise what a negative outcome means."""
    if outcome == NO_MEMORY:
        raise MemoryError
    raise OverflowError(
        f"more than 2 GiB of one column's values in one batch ({', '.join(column.name for column in columns)}): "
        "take smaller batches"
    )


# MySQL's text protocol


@cython.final
cdef class TextReader:
    cdef object _db
    cdef MYSQL* _mysql
    cdef MYSQL_RES* _result
    cdef _Builders _builders

    def __init__(self, db, columns):
        if self._result:
            raise RuntimeError("this reader has a result already")
        self._db = db
        self._builders = _Builders(columns)
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
        """Free the result without its connection."""
        if self._result:
            self._mysql.unbuffered_fetch_owner = NULL
            self._result.handle = NULL
            mysql_free_result(self._result)
            self._result = NULL

    cdef int _fail(self) except -1:
        raise MySQLdb.OperationalError(mysql_errno(self._mysql), mysql_error(self._mysql).decode(errors="replace"))

    def read(self, size_t max_rows, size_t max_bytes):
        cdef _Builders builders = self._builders
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
                        _put_null(b, builders.rows)
                        size += b.width
                        continue
                    outcome = _put_text(b, builders.rows, <const uint8_t*>row[index], lengths[index])
                    if outcome != FIT:
                        break
                    size += b.width if b.width else lengths[index] + 4
                rows += 1
                if outcome == FIT:
                    builders.rows += 1
                    continue
                builders.cut(builders.rows)
                if outcome < 0:
                    break
                with gil:
                    unfit.append(_raw_row(row, lengths, builders.count))
                    for index in range(builders.count):
                        size += lengths[index]
                outcome = FIT
        if outcome < 0:
            _raise(outcome, builders.columns)
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


# PostgreSQL's COPY BINARY


COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

cdef size_t[13] _COPY_WIDTHS = [2, 4, 8, 32, 56, 8, 1, 0, 0, 1, 4, 8, 16]
"""The most bytes that a form's value takes besides its data."""


cdef struct Field:
    Form form
    size_t first  # row in the buffers
    const uint8_t* valid  # bits; NULL if all are
    const uint8_t* values
    const uint8_t* data
    uint32_t pad  # a power of ten that makes a decimal's fraction whole groups of four digits
    int scale, fraction_groups


cdef inline uint8_t* _copy_numeric(uint8_t* to, const Field* field, const uint8_t* value, int limb_count) noexcept nogil:
    """Length and value: digits of base 10,000."""
    cdef uint64_t[5] limbs
    cdef uint16_t[24] groups
    cdef int count = 0, first = 0, top, index
    cdef uint64_t rest
    cdef int64_t high
    cdef bint negative
    memset(limbs, 0, sizeof(limbs))
    memcpy(limbs, value, limb_count * 8)
    high = <int64_t>limbs[limb_count - 1]
    negative = high < 0
    if negative:
        limbs_negate(limbs, limb_count)
    top = limb_count - 1
    while top > 0 and not limbs[top]:
        top -= 1
    if top == 0 and limbs[0] < 1000000000000000ULL:
        rest = limbs[0] * field.pad
        while rest:
            groups[count] = <uint16_t>(rest % 10000)
            rest //= 10000
            count += 1
    else:
        top = top + 2 if field.pad > 1 else top + 1
        limbs_multiply_add(limbs, top, field.pad, 0)
        while top:
            rest = limbs_divide(limbs, top, 10000000000000000ULL)
            for index in range(4):
                groups[count] = <uint16_t>(rest % 10000)
                rest //= 10000
                count += 1
            while top and not limbs[top - 1]:
                top -= 1
        while count and not groups[count - 1]:
            count -= 1
    while first < count and not groups[first]:
        first += 1
    to = put32(to, 8 + 2 * (count - first))
    to = put16(to, <uint16_t>(count - first))
    to = put16(to, <uint16_t>(count - field.fraction_groups - 1 if count else 0))
    to = put16(to, 0x4000 if negative else 0)
    to = put16(to, <uint16_t>field.scale)
    for index in range(count - 1, first - 1, -1):
        to = put16(to, groups[index])
    return to


cdef inline uint8_t* _copy_value(uint8_t* to, const Field* field, size_t row) noexcept nogil:
    """Length and value."""
    cdef uint64_t word
    cdef uint32_t half
    cdef uint16_t quarter
    cdef int32_t start, length
    row += field.first
    if field.valid and not (field.valid[row >> 3] >> (row & 7)) & 1:
        return put32(to, 0xFFFFFFFF)
    if field.form == INT64 or field.form == DOUBLE:
        memcpy(&word, field.values + 8 * row, 8)
        return put64(put32(to, 8), word)
    if field.form == INT32:
        memcpy(&half, field.values + 4 * row, 4)
        return put32(put32(to, 4), half)
    if field.form == INT16:
        memcpy(&quarter, field.values + 2 * row, 2)
        return put16(put32(to, 2), quarter)
    if field.form == TEXT or field.form == BYTES or field.form == JSON:
        start = (<const int32_t*>field.values)[row]
        length = (<const int32_t*>field.values)[row + 1] - start
        if field.form == JSON:
            to = put32(to, length + 1)
            to[0] = 1
            to += 1
        else:
            to = put32(to, length)
        memcpy(to, field.data + start, length)
        return to + length
    if field.form == TIMESTAMP:
        memcpy(&word, field.values + 8 * row, 8)
        return put64(put32(to, 8), word - 946684800000000ULL)
    if field.form == DATE:
        memcpy(&half, field.values + 4 * row, 4)
        return put32(put32(to, 4), half - 10957)
    if field.form == DECIMAL128:
        return _copy_numeric(to, field, field.values + 16 * row, 2)
    if field.form == DECIMAL256:
        return _copy_numeric(to, field, field.values + 32 * row, 4)
    if field.form == INTERVAL:
        memcpy(&word, field.values + 8 * row, 8)
        return put64(put64(put32(to, 16), word), 0)
    # BOOLEAN
    to = put32(to, 1)
    to[0] = (field.values[row >> 3] >> (row & 7)) & 1
    return to + 1


def copy_rows(columns, batch):
    cdef size_t rows = batch.num_rows, bound = 2, row, first
    cdef int count = len(columns), index
    cdef Field* fields
    cdef Field* field
    cdef uint8_t* to
    cdef uint8_t* start
    cdef PyObject* result
    cdef const int32_t* offsets
    if not rows:
        return b""
    fields = <Field*>calloc(max(count, 1), sizeof(Field))
    if not fields:
        raise MemoryError
    try:
        for index, column in enumerate(columns):
            array = batch.column(column.name)
            if array.type != column.arrow_type:
                raise TypeError(f"column {column.name!r} is {array.type} where {column.target_type} needs {column.arrow_type}")
            field = &fields[index]
            field.form = _form_of(column)
            field.first = array.offset
            buffers = array.buffers()
            if array.null_count:
                field.valid = <const uint8_t*><uintptr_t>buffers[0].address
            if buffers[1] is not None:
                field.values = <const uint8_t*><uintptr_t>buffers[1].address
            bound += 4 + _COPY_WIDTHS[<int>field.form]
            if field.form in (TEXT, BYTES, JSON):
                if buffers[2] is not None:
                    field.data = <const uint8_t*><uintptr_t>buffers[2].address
            elif column.decimal:
                field.scale = column.decimal[1]
                field.pad = <uint32_t>_TENS[-field.scale & 3]
                field.fraction_groups = (field.scale + 3) // 4
        bound *= rows
        for field in fields[:count]:
            if field.form in (TEXT, BYTES, JSON):
                offsets = <const int32_t*>field.values
                bound += offsets[field.first + rows] - offsets[field.first]
        result = new_bytes(NULL, bound)
        start = to = <uint8_t*>bytes_of(result)
        with nogil:
            for row in range(rows):
                to = put16(to, <uint16_t>count)
                for index in range(count):
                    to = _copy_value(to, &fields[index], row)
        resize_bytes(&result, to - start)
        copied = <object>result
        Py_DECREF(copied)
        return copied
    finally:
        free(fields)


# The binary log's row images


cdef enum Code:
    """MySQL's numbers of types, as far as they matter here."""
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT32 = 4
    FLOAT64 = 5
    TIMESTAMP_OLD = 7
    LONGLONG = 8
    INT24 = 9
    DATE_OLD = 10
    TIME_OLD = 11
    DATETIME_OLD = 12
    YEAR = 13
    NEWDATE = 14
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    BLOB_COMPRESSED = 140
    VARCHAR_COMPRESSED = 141
    VECTOR = 242
    JSON_BINARY = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


cdef enum Way:
    """How a value gets from the image into its builder."""
    SLOW  # as text, which Python makes
    WHOLE  # bits and years, too
    DIGITS
    FLOATING
    DAY
    MOMENT
    SPAN
    PLAIN  # UTF-8 or bytes as they are
    SEVEN_BITS
    ONE_BYTE  # a character set of one byte per character
    PADDED
    LABEL
    LABELS


cdef dict _SIZES = {
    TINY: 1, SHORT: 2, INT24: 3, LONG: 4, LONGLONG: 8, FLOAT32: 4, FLOAT64: 8, YEAR: 1,
    DATE_OLD: 3, NEWDATE: 3, TIME_OLD: 3, DATETIME_OLD: 8, TIMESTAMP_OLD: 4,
}
cdef dict _FRACTIONAL_SIZES = {TIMESTAMP2: 4, DATETIME2: 5, TIME2: 3}
cdef tuple _TEXTS = (VARCHAR, VAR_STRING, STRING, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB)
cdef int[10] _DIGIT_BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


cdef struct Piece:
    const uint8_t* data
    size_t length


cdef struct LogField:
    int code
    Way way
    int target  # the builder's index, -1 if nobody wants it
    size_t size  # bytes in the image; 0: told by a prefix
    int prefix  # bytes of that
    bint is_unsigned
    int precision, scale  # of a decimal; fractional digits of a time
    size_t padded  # bytes of a BINARY
    Piece* labels
    int label_count
    uint8_t* characters  # of a character set of one byte: length and up to three bytes of UTF-8 each


cdef inline uint64_t _little(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t value = 0
    memcpy(&value, data, size)
    return value


cdef inline uint64_t _big(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t value = 0
    cdef size_t index
    for index in range(size):
        value = value << 8 | data[index]
    return value


cdef inline int64_t _signed(const uint8_t* data, size_t size) noexcept nogil:
    cdef int shift = 64 - 8 * <int>size
    return <int64_t>(_little(data, size) << shift) >> shift


cdef inline uint64_t _fraction(const uint8_t* data, int digits) noexcept nogil:
    """Microseconds."""
    cdef int size = (digits + 1) // 2
    return _big(data, size) * _TENS[6 - 2 * size]


cdef inline int64_t _span(const LogField* field, const uint8_t* data) noexcept nogil:
    """Microseconds of a TIME."""
    cdef int64_t value, whole
    cdef bint negative
    if field.code == TIME_OLD:
        value = _signed(data, 3)
        negative = value < 0
        if negative:
            value = -value
        whole = ((value // 10000) * 3600 + value // 100 % 100 * 60 + value % 100) * 1000000
        return -whole if negative else whole
    # Whole seconds and fraction as one number, biased; negative ones count the fraction upwards.
    value = <int64_t>_big(data, field.size) - (<int64_t>1 << (8 * field.size - 1))
    negative = value < 0
    if negative:
        value = -value
    whole = value >> (8 * (field.size - 3))
    value -= whole << (8 * (field.size - 3))
    value *= <int64_t>_TENS[6 - 2 * (field.size - 3)]
    value += (((whole >> 12) & 1023) * 3600 + ((whole >> 6) & 63) * 60 + (whole & 63)) * 1000000
    return -value if negative else value


cdef struct Moment:
    int64_t year
    uint32_t month, day, hour, minute, second, microsecond


cdef inline Moment _moment(const LogField* field, const uint8_t* data) noexcept nogil:
    """A DATE's or DATETIME's parts."""
    cdef Moment moment
    cdef uint64_t value
    memset(&moment, 0, sizeof(moment))
    if field.code == DATETIME2:
        value = _big(data, 5) & 0x7FFFFFFFFFULL
        moment.microsecond = <uint32_t>_fraction(data + 5, field.scale)
        moment.year = <int64_t>((value >> 22) // 13)
        moment.month = <uint32_t>((value >> 22) % 13)
        moment.day = (value >> 17) & 31
        moment.hour = (value >> 12) & 31
        moment.minute = (value >> 6) & 63
        moment.second = value & 63
    elif field.code == DATETIME_OLD:
        value = _little(data, 8)
        moment.second = <uint32_t>(value % 100)
        moment.minute = <uint32_t>(value // 100 % 100)
        moment.hour = <uint32_t>(value // 10000 % 100)
        moment.day = <uint32_t>(value // 1000000 % 100)
        moment.month = <uint32_t>(value // 100000000 % 100)
        moment.year = <int64_t>(value // 10000000000ULL)
    else:
        value = _little(data, 3)
        moment.day = value & 31
        moment.month = (value >> 5) & 15
        moment.year = <int64_t>(value >> 9)
    return moment


cdef inline uint64_t _instant(const LogField* field, const uint8_t* data) noexcept nogil:
    """Microseconds of a TIMESTAMP; 0 is its zero date."""
    if field.code == TIMESTAMP_OLD:
        return _little(data, 4) * 1000000
    return _big(data, 4) * 1000000 + _fraction(data + 4, field.scale)


cdef inline bint _digits_of(const LogField* field, const uint8_t* data, uint64_t* limbs, int* used) noexcept nogil:
    """A decimal's unscaled digits in up to four limbs, of which `used` are in use; whether it is negative."""
    cdef int whole = field.precision - field.scale
    cdef bint negative = not data[0] & 0x80
    cdef uint8_t flip = 0xFF if negative else 0
    cdef uint8_t first = 0x80
    cdef uint64_t value, collected = 0
    cdef int digits, size, index, part, total = 0
    cdef int parts = 2 + whole // 9 + field.scale // 9
    limbs[0] = 0
    used[0] = 1
    for part in range(parts):
        if part == 0:
            digits = whole % 9
        elif part == parts - 1:
            digits = field.scale % 9
        else:
            digits = 9
        size = _DIGIT_BYTES[digits]
        value = 0
        for index in range(size):
            value = value << 8 | (data[index] ^ flip ^ first)
            first = 0
        data += size
        total += digits
        if total <= 18:
            limbs[0] = limbs[0] * _TENS[digits] + value
        else:
            if used[0] == 1:
                limbs[1] = limbs[2] = limbs[3] = 0
                used[0] = 4
            limbs_multiply_add(limbs, 4, _TENS[digits], value)
    return negative


@cython.final
cdef class RowsDecoder:
    cdef _Builders _builders
    cdef list _log_columns, _key, _sources, _kept, _unfit
    cdef object _json_text, _error
    cdef LogField* _fields
    cdef int _count
    cdef int* _key_indexes
    cdef int _key_count
    cdef int* _absent  # builders for which the log has nothing
    cdef int _absent_count
    cdef const uint8_t** _starts  # of the values of the image before, then of the one after; NULL for NULL
    cdef size_t* _lengths
    cdef int8_t* _operations
    cdef size_t _operations_size, _unfit_bytes
    cdef int _failed  # the field whose value was not fit

    def __cinit__(self, log_columns, key_indexes, columns, json_text=None):
        cdef int index
        self._log_columns = list(log_columns)
        self._builders = _Builders(columns)
        self._json_text = json_text
        self._kept = []
        self._unfit = []
        key = [self._log_columns[index].name for index in key_indexes]
        self._key = key if {*key} <= {column.name for column in columns} else []
        self._count = len(self._log_columns)
        self._key_count = len(key)
        self._fields = <LogField*>calloc(max(self._count, 1), sizeof(LogField))
        self._key_indexes = <int*>calloc(max(self._key_count, 1), sizeof(int))
        self._absent = <int*>calloc(max(self._builders.count, 1), sizeof(int))
        self._starts = <const uint8_t**>calloc(2 * self._count + 1, sizeof(uint8_t*))
        self._lengths = <size_t*>calloc(2 * self._count + 1, sizeof(size_t))
        if not (self._fields and self._key_indexes and self._absent and self._starts and self._lengths):
            raise MemoryError
        for index in range(self._key_count):
            self._key_indexes[index] = key_indexes[index]
        targets = {column.name: index for index, column in enumerate(self._builders.columns)}
        for index, column in enumerate(self._log_columns):
            self._fields[index].target = targets.get(column.name, -1)
            self._describe(&self._fields[index], column)
        by_name = {column.name: index for index, column in enumerate(self._log_columns)}
        self._sources = [by_name.get(column.name) for column in self._builders.columns]
        for index, source in enumerate(self._sources):
            if source is None:
                self._absent[self._absent_count] = index
                self._absent_count += 1

    def __dealloc__(self):
        cdef int index
        if self._fields:
            for index in range(self._count):
                free(self._fields[index].labels)
                free(self._fields[index].characters)
        free(self._fields)
        free(self._key_indexes)
        free(self._absent)
        free(self._starts)
        free(self._lengths)
        free(self._operations)

    cdef int _describe(self, LogField* field, column) except -1:
        """Work out how a column's values lie in the image, and how they get from there to where they belong."""
        cdef Builder* b = NULL
        cdef int code = column.type_code, meta = column.meta
        cdef bint is_text
        field.code = code
        field.is_unsigned = column.unsigned
        if code in _SIZES:
            field.size = _SIZES[code]
        elif code in _FRACTIONAL_SIZES:
            field.scale = meta
            field.size = _FRACTIONAL_SIZES[code] + (meta + 1) // 2
        elif code == NEWDECIMAL:
            field.precision, field.scale = divmod(meta, 256)
            for digits in (field.precision - field.scale, field.scale):
                field.size += digits // 9 * 4 + _DIGIT_BYTES[<int>(digits % 9)]
        elif code == BIT:
            field.size = (meta + 7) // 8
        elif code in (ENUM, SET):
            field.size = meta
        elif code in (VARCHAR, VAR_STRING, STRING, VARCHAR_COMPRESSED):
            field.prefix = 1 if meta < 256 else 2
        elif code in (BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED, GEOMETRY, JSON_BINARY, VECTOR):
            field.prefix = meta
        else:
            raise ValueError(f"column {column.name!r} has type number {code}, whose values the binary log's reader does not know")
        fraction = field.scale if code in _FRACTIONAL_SIZES else 0
        if field.prefix > 4 or fraction > 6 or field.precision > 76 or (code in (BIT, ENUM, SET) and not 1 <= meta <= 64):
            raise ValueError(f"column {column.name!r} of type number {code} cannot have the metadata {meta}")
        if field.target < 0:
            return 0
        b = &self._builders.each[field.target]
        if code in (TINY, SHORT, INT24, LONG, LONGLONG, BIT, YEAR):
            if b.form <= INT64 or (b.scale == 0 and b.precision >= 20):
                field.way = WHOLE
        elif code == NEWDECIMAL:
            if b.precision and b.scale == field.scale and b.precision >= field.precision:
                field.way = DIGITS
        elif code in (FLOAT32, FLOAT64):
            if b.form == DOUBLE:
                field.way = FLOATING
        elif code in (DATE_OLD, NEWDATE):
            if b.form == DATE:
                field.way = DAY
        elif code in (TIMESTAMP_OLD, TIMESTAMP2, DATETIME_OLD, DATETIME2):
            if b.form == TIMESTAMP:
                field.way = MOMENT
        elif code in (TIME_OLD, TIME2):
            if b.form == INTERVAL:
                field.way = SPAN
        elif code in (GEOMETRY, VECTOR):
            field.way = PLAIN
        elif code in (ENUM, SET):
            if b.form == TEXT:
                field.way = LABEL if code == ENUM else LABELS
                self._keep_labels(field, column.labels)
        elif code in _TEXTS and column.form not in ("uuid", "inet4", "inet6"):
            if column.charset == "binary":
                field.padded = meta if code == STRING else 0
                field.way = PLAIN if not field.padded else PADDED if b.form == BYTES else SLOW
            elif column.charset == "utf-8":
                field.way = PLAIN
            elif b.form == TEXT and self._keep_characters(field, column.charset):
                field.way = SEVEN_BITS if column.charset == "ascii" else ONE_BYTE
        return 0

    cdef int _keep_labels(self, LogField* field, labels) except -1:
        """Put an ENUM's or SET's labels where they can be read without Python's lock."""
        cdef int index
        cdef bytes text
        field.label_count = len(labels)
        field.labels = <Piece*>calloc(max(field.label_count, 1), sizeof(Piece))
        if not field.labels:
            raise MemoryError
        for index in range(field.label_count):
            text = labels[index].encode()
            if 0 in text:
                field.way = SLOW
            self._kept.append(text)
            field.labels[index].data = <const uint8_t*><char*>text
            field.labels[index].length = len(text)
        return 0

    cdef bint _keep_characters(self, LogField* field, charset) except -1:
        """Make the table of a character set in which each byte is a character, if it is such a one."""
        cdef int index
        cdef bytes text
        try:
            characters = _decoded(bytes(range(256)), charset)
        except UnicodeError:
            return False
        if len(characters) != 256 or not characters.isascii() and max(characters) > "\uffff":
            return False
        field.characters = <uint8_t*>calloc(256, 4)
        if not field.characters:
            raise MemoryError
        for index in range(256):
            text = characters[index].encode()
            field.characters[4 * index] = len(text)
            memcpy(field.characters + 4 * index + 1, <const char*>text, len(text))
        return True

    cdef const uint8_t* _split(self, const uint8_t* at, const uint8_t* end, int image) noexcept nogil:
        """Find the values of the image that begins at `at`; its end, or NULL if that lies behind `end`."""
        cdef const uint8_t* nulls = at
        cdef const uint8_t** starts = self._starts + image * self._count
        cdef size_t* lengths = self._lengths + image * self._count
        cdef LogField* field
        cdef size_t length
        cdef int index
        if end - at < (self._count + 7) // 8:
            return NULL
        at += (self._count + 7) // 8
        for index in range(self._count):
            if (nulls[index >> 3] >> (index & 7)) & 1:
                starts[index] = NULL
                continue
            field = &self._fields[index]
            length = field.size
            if not length:
                if end - at < field.prefix:
                    return NULL
                length = _little(at, field.prefix)
                at += field.prefix
            if <size_t>(end - at) < length:
                return NULL
            starts[index] = at
            lengths[index] = length
            at += length
        return at

    cdef bint _key_changes(self) noexcept nogil:
        """Whether the key of the image before is another than that of the image after."""
        cdef const uint8_t* old
        cdef const uint8_t* new
        cdef int index, column
        for index in range(self._key_count):
            column = self._key_indexes[index]
            old = self._starts[column]
            new = self._starts[self._count + column]
            if not old or not new:
                if old != new:
                    return True
                continue
            if self._lengths[column] != self._lengths[self._count + column]:
                return True
            if memcmp(old, new, self._lengths[column]):
                return True
        return False

    cdef Outcome _append(self, _Builders builders, int image, int operation) noexcept nogil:
        """Put an image's values into the builders."""
        cdef const uint8_t** starts = self._starts + image * self._count
        cdef size_t* lengths = self._lengths + image * self._count
        cdef LogField* field
        cdef Outcome outcome
        cdef size_t row = builders.rows
        cdef int index
        cdef void* memory
        outcome = builders.make_room()
        if outcome != FIT:
            return outcome
        if self._operations_size < builders.capacity:
            memory = realloc(self._operations, builders.capacity)
            if not memory:
                return NO_MEMORY
            self._operations = <int8_t*>memory
            self._operations_size = builders.capacity
        for index in range(self._count):
            field = &self._fields[index]
            if field.target < 0:
                continue
            if not starts[index]:
                _put_null(&builders.each[field.target], row)
                continue
            if field.way == SLOW:
                outcome = self._put_slowly(&builders.each[field.target], row, index, starts[index], lengths[index])
            else:
                outcome = _put_logged(field, &builders.each[field.target], row, starts[index], lengths[index])
            if outcome != FIT:
                self._failed = index
                builders.cut(row)
                return outcome
        for index in range(self._absent_count):
            _put_null(&builders.each[self._absent[index]], row)
        self._operations[row] = <int8_t>operation
        builders.rows += 1
        return FIT

    cdef Outcome _put_slowly(self, Builder* b, size_t row, int index, const uint8_t* data, size_t length) noexcept with gil:
        cdef bytes text
        try:
            text = self._text(index, data, length)
        except ValueError:
            return UNFIT
        except BaseException as error:
            self._error = error
            return FAILED
        return _put_text(b, row, <const uint8_t*><char*>text, len(text))

    cdef bytes _text(self, int index, const uint8_t* data, size_t length):
        """A value as MySQL's text protocol gives it; ValueError says why there is none."""
        cdef LogField* field = &self._fields[index]
        cdef Moment moment
        cdef uint64_t[4] limbs
        cdef int used
        cdef bint negative
        cdef float single
        cdef double wide
        column = self._log_columns[index]
        code = field.code
        if code in (TINY, SHORT, INT24, LONG, LONGLONG):
            return b"%d" % _little(data, length) if field.is_unsigned else b"%d" % _signed(data, length)
        if code == BIT:
            return b"%d" % _big(data, length)
        if code == YEAR:
            return b"%04d" % (data[0] + 1900 if data[0] else 0)
        if code == NEWDECIMAL:
            negative = _digits_of(field, data, limbs, &used)
            number = sum([<object>limbs[limb] << 64 * limb for limb in range(used)])
            digits = f"{number:0{field.scale + 1}}"
            point = len(digits) - field.scale
            text = ("-" if negative else "") + digits[:point] + ("." + digits[point:] if field.scale else "")
            return text.encode()
        if code == FLOAT32:
            memcpy(&single, data, 4)
            return _double_text(single)
        if code == FLOAT64:
            memcpy(&wide, data, 8)
            return _double_text(wide)
        if code in (TIME_OLD, TIME2):
            return b"%d" % _span(field, data)
        if code in (DATE_OLD, NEWDATE, DATETIME_OLD, DATETIME2):
            moment = _moment(field, data)
            text = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
            if code in (DATE_OLD, NEWDATE):
                return text.encode()
            text += f" {moment.hour:02}:{moment.minute:02}:{moment.second:02}"
            return (text + (f".{moment.microsecond:06}"[: field.scale + 1] if field.scale else "")).encode()
        if code in (TIMESTAMP_OLD, TIMESTAMP2):
            instant = _instant(field, data)
            text = str(datetime.fromtimestamp(instant // 1000000, UTC))[:19] if instant else "0000-00-00 00:00:00"
            return (text + (f".{instant % 1000000:06}"[: field.scale + 1] if field.scale else "")).encode()
        if code in (ENUM, SET):
            number = _little(data, length)
            if code == ENUM:
                chosen = [number - 1] if number else []
            else:
                chosen = [bit for bit in range(64) if number >> bit & 1]
            if chosen and chosen[-1] >= len(column.labels):
                raise ValueError(f"number {number} of {'an ENUM' if code == ENUM else 'a SET'} without such a label")
            return ",".join([column.labels[each] for each in chosen]).encode()
        value = PyBytes_FromStringAndSize(<const char*>data, length)
        if code == JSON_BINARY:
            return self._json_text(value)
        if code in (BLOB_COMPRESSED, VARCHAR_COMPRESSED):
            value = _inflated(value)
        if code == STRING and column.charset == "binary":
            value = value.ljust(column.meta, b"\0")
        if column.form == "uuid" and len(value) == 16:
            return _uuid_text(value)
        if column.form == "inet4" and len(value) == 4:
            return b"%d.%d.%d.%d" % tuple(value)
        if column.form == "inet6" and len(value) == 16:
            return _inet6_text(value)
        if column.charset in ("binary", "utf-8"):
            return value
        try:
            return _decoded(value, column.charset).encode()
        except UnicodeError:
            raise ValueError(f"invalid {column.charset}") from None

    cdef int _reconsider(self, int image, int operation) except -1:
        """Keep an image that was not fit, as text; or append it after all, if its texts are but unusual for their types."""
        cdef const uint8_t** starts = self._starts + image * self._count
        cdef size_t* lengths = self._lengths + image * self._count
        cdef int source
        columns = self._builders.columns
        texts, bad = [], {}
        for column, given in zip(columns, self._sources):
            texts.append(None)
            if given is None:
                continue
            source = given
            if starts[source]:
                self._unfit_bytes += lengths[source]
                try:
                    texts[-1] = self._text(source, starts[source], lengths[source])
                except ValueError as error:
                    bad[column.name] = str(error)
        raw = [pa.array([text], pa.binary()) for text in texts]
        parsed = types.parse_rows(columns, raw, self._key, None)
        rejected = parsed.rejected
        if not rejected and not bad and self._append_parsed(parsed.rows, operation):
            return 0
        if rejected and not bad:
            rejection = rejected[0]
        else:
            if rejected:
                bad.setdefault(rejected[0].column, rejected[0].reason)
            elif not bad:
                column = columns[self._fields[self._failed].target]
                bad[column.name] = f"no usual text of {column.target_type}"
            row = {}
            for column, given, text in zip(columns, self._sources, texts):
                if column.name in bad and text is None and given is not None:
                    source = given
                    row[column.name] = "\\x" + PyBytes_FromStringAndSize(<const char*>starts[source], lengths[source]).hex()
                else:
                    row[column.name] = types._printable(column, text)
            keys = tuple([row[name] for name in self._key])
            rejection = types.Rejected(
                None if not keys or None in keys or bad.keys() & set(self._key) else keys,
                None,
                next(iter(bad)),
                "; ".join(bad.values()) if len(bad) == 1 else "; ".join([f"{name}: {why}" for name, why in bad.items()]),
                row,
            )
        self._unfit.append((self._builders.rows, operation, rejection))
        return 0

    cdef bint _append_parsed(self, batch, int operation) except -1:
        """Append a batch's only row, if that can be."""
        cdef _Builders builders = self._builders
        cdef size_t row = builders.rows
        cdef bytes text
        cdef int index
        for index, column in enumerate(builders.columns):
            value = batch.column(index)[0].as_py()
            if value is None:
                _put_null(&builders.each[index], row)
                continue
            if column.kind is types.Kind.BYTES:
                text = value
            elif column.kind is types.Kind.DECIMAL:
                text = format(value, "f").encode()
            elif isinstance(value, datetime):
                text = str(value.replace(tzinfo=None)).encode()
            else:
                text = str(value).encode()
            if _put_text(&builders.each[index], row, <const uint8_t*><char*>text, len(text)) != FIT:
                builders.cut(row)
                return False
        self._operations[row] = <int8_t>operation
        builders.rows += 1
        return True

    def decode(self, body, int kind):
        cdef Py_buffer view
        if kind < 0 or kind > 2:
            raise ValueError(f"a rows event's kind is 0 (delete), 1 (insert) or 2 (update), not {kind}")
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            return self._decode(<const uint8_t*>view.buf, view.len, kind)
        finally:
            PyBuffer_Release(&view)

    cdef size_t _decode(self, const uint8_t* at, Py_ssize_t size, int kind) except? 0:
        cdef _Builders builders = self._builders
        cdef const uint8_t* end = at + size
        cdef const uint8_t* start
        cdef size_t rows = builders.rows, changes = 0, unfit_bytes = self._unfit_bytes
        cdef Py_ssize_t unfit = len(self._unfit), at_bitmap
        cdef Outcome outcome = FIT
        cdef int index, images = 2 if kind == 2 else 1, image, first, last, operation, bitmap = (self._count + 7) // 8
        cdef bint whole = True
        number, at_bitmap = _length_encoded(PyBytes_FromStringAndSize(<const char*>at, min(size, 9)))
        if number != self._count:
            raise ValueError(f"the rows event has {number} columns, its table map {self._count}")
        if size < at_bitmap + images * bitmap:
            raise ValueError("the rows event is too short")
        at += at_bitmap
        for index in range(self._count):
            for image in range(images):
                whole &= (at[image * bitmap + (index >> 3)] >> (index & 7)) & 1
        if not whole:
            raise ValueError(
                "the rows event does not hold whole rows: run SET GLOBAL binlog_row_image = FULL on the server (MySQL: "
                "binlog_row_value_options = '', too), and set it in its configuration"
            )
        at += images * bitmap
        try:
            with nogil:
                while at < end:
                    start = at
                    at = self._split(at, end, 0)
                    if at and kind == 2:
                        at = self._split(at, end, 1)
                    if not at or at == start:
                        at = NULL
                        break
                    # Images: 0 of an insertion, a deletion, or before an update; 1 after an update.
                    first = last = 0
                    if kind == 2:
                        last = 1
                        first = 0 if not self._key_count or self._key_changes() else 1
                    for image in range(first, last + 1):
                        operation = kind if first == last else image
                        outcome = self._append(builders, image, operation)
                        if outcome == UNFIT:
                            with gil:
                                self._reconsider(image, operation)
                            outcome = FIT
                        if outcome != FIT:
                            break
                        changes += 1
                    if outcome != FIT:
                        break
            if not at:
                raise ValueError("the rows event ends within a row: it is not what its table map describes")
            if outcome == FAILED:
                error, self._error = self._error, None
                raise error
            if outcome != FIT:
                _raise(outcome, builders.columns)
        except BaseException:
            builders.cut(rows)
            del self._unfit[unfit:]
            self._unfit_bytes = unfit_bytes
            raise
        return changes

    def take(self):
        cdef size_t rows = self._builders.rows
        operations = pa.array([], pa.int8())
        batch = self._builders.take()
        if rows:
            operations = pa.Array.from_buffers(pa.int8(), rows, [None, _buffer(self._operations, rows)])
            self._operations = NULL
            self._operations_size = 0
        unfit, self._unfit = self._unfit, []
        self._unfit_bytes = 0
        return batch, operations, unfit

    def __len__(self):
        return self._builders.rows + len(self._unfit)

    @property
    def nbytes(self):
        return self._builders.nbytes() + self._builders.rows + 2 * self._unfit_bytes


cdef Outcome _put_logged(const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length) noexcept nogil:
    """A value of an image into its builder, by any way but the slow one."""
    cdef uint64_t[4] limbs
    cdef uint64_t number
    cdef int64_t signed_number
    cdef int32_t days
    cdef Moment moment
    cdef float single
    cdef double wide
    cdef bint negative, more = False
    cdef int used, index
    cdef size_t at
    cdef uint8_t* to
    cdef const uint8_t* character
    cdef Way way = field.way
    if way == WHOLE:
        if field.code == BIT:
            number = _big(data, length)
        elif field.code == YEAR:
            number = data[0] + 1900 if data[0] else 0
        elif field.is_unsigned:
            number = _little(data, length)
        else:
            signed_number = _signed(data, length)
            if b.form <= INT64:
                return _put_int64(b, row, signed_number)
            negative = signed_number < 0
            _put_decimal64(b, row, negative, 0 - <uint64_t>signed_number if negative else <uint64_t>signed_number)
            return FIT
        if b.form > INT64:
            _put_decimal64(b, row, False, number)
            return FIT
        return UNFIT if number > 0x7FFFFFFFFFFFFFFFULL else _put_int64(b, row, <int64_t>number)
    if way == PLAIN:
        return _put_text(b, row, data, length)
    if way == DIGITS:
        negative = _digits_of(field, data, limbs, &used)
        if used == 1:
            _put_decimal64(b, row, negative, limbs[0])
        else:
            _put_decimal256(b, row, negative, limbs)
        return FIT
    if way == MOMENT:
        b.valid[row] = 1
        if field.code == TIMESTAMP_OLD or field.code == TIMESTAMP2:
            (<int64_t*>b.values)[row] = <int64_t>_instant(field, data)
            return FIT if (<int64_t*>b.values)[row] else UNFIT
        moment = _moment(field, data)
        days = _days(moment.year, moment.month, moment.day)
        if not _is_date(days) or moment.year > 9999 or moment.hour > 23 or moment.minute > 59 or moment.second > 59:
            return UNFIT
        (<int64_t*>b.values)[row] = (
            (<int64_t>days * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second) * 1000000 + moment.microsecond
        )
        return FIT
    if way == DAY:
        moment = _moment(field, data)
        days = _days(moment.year, moment.month, moment.day)
        b.valid[row] = 1
        (<int32_t*>b.values)[row] = days
        return FIT if _is_date(days) and moment.year <= 9999 else UNFIT
    if way == FLOATING:
        if field.code == FLOAT32:
            memcpy(&single, data, 4)
            wide = single
        else:
            memcpy(&wide, data, 8)
        b.valid[row] = 1
        (<double*>b.values)[row] = wide
        return FIT if isfinite(wide) else UNFIT
    if way == SPAN:
        return _put_int64(b, row, _span(field, data))
    if way == SEVEN_BITS:
        way = PLAIN
        for at in range(length):
            if data[at] & 0x80:
                way = ONE_BYTE
        if way == PLAIN:
            return _put_text(b, row, data, length)
    if way == ONE_BYTE:
        to = _room(b, 3 * length)
        if not to:
            return _no_room(b, 3 * length)
        for at in range(length):
            if not data[at]:
                return UNFIT
            character = field.characters + 4 * data[at]
            memcpy(to, character + 1, 3)
            to += character[0]
        b.used = to - b.data
    elif way == PADDED:
        to = _room(b, field.padded)
        if not to:
            return _no_room(b, field.padded)
        if length > field.padded:
            length = field.padded
        memcpy(to, data, length)
        memset(to + length, 0, field.padded - length)
        b.used += field.padded
    else:
        number = _little(data, length)
        if way == LABEL:
            if number > <uint64_t>field.label_count:
                return UNFIT
            if not number:
                return _put_bytes(b, row, data, 0)
            return _put_bytes(b, row, field.labels[number - 1].data, field.labels[number - 1].length)
        for index in range(64):
            if not (number >> index) & 1:
                continue
            if index >= field.label_count:
                return UNFIT
            at = field.labels[index].length
            to = _room(b, at + 1)
            if not to:
                return _no_room(b, at + 1)
            if more:
                to[0] = b","
                to += 1
                b.used += 1
            more = True
            memcpy(to, field.labels[index].data, at)
            b.used += at
    b.valid[row] = 1
    (<int32_t*>b.values)[row + 1] = <int32_t>b.used
    return FIT


cdef tuple _length_encoded(bytes data):
    """A length-encoded integer and its size."""
    first = data[0] if data else 0
    size = {252: 2, 253: 3, 254: 8}.get(first, 0)
    return (int.from_bytes(data[1 : 1 + size], "little") if size else first), 1 + size


cdef str _decoded(bytes value, charset):
    """Text as MySQL converts it: what is no ASCII in an ASCII column becomes question marks."""
    return value.decode(charset, "replace").replace("\ufffd", "?") if charset == "ascii" else value.decode(charset)


cdef bytes _double_text(double value):
    """A double as MySQL prints it."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + exponent if text != "0" else 1
    if not -15 < point <= 15:
        text = text[0] + ("." + text[1:] if text[1:] else "") + f"e{point - 1}"
    elif point <= 0:
        text = "0." + "0" * -point + text
    elif len(text) <= point:
        text = text.ljust(point, "0")
    else:
        text = text[:point] + "." + text[point:]
    return ("-" * sign + text).encode()


cdef bytes _inflated(bytes value):
    """The content of one of MariaDB's compressed columns."""
    if not value or not value[0]:
        return value[1:]
    if value[0] >> 4 != 8:
        raise ValueError(f"compressed by an unknown method ({value[0] >> 4})")
    try:
        return zlib.decompress(value[1 + (value[0] & 7) :], -15 if value[0] & 8 else 15)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed: {error}") from None


cdef bytes _uuid_text(bytes value):
    """One of MariaDB's uuids; those that begin with a time are stored with their parts the other way round."""
    if value[6] & 0x80 and 0 < value[8] < 0x60:
        value = value[12:] + value[10:12] + value[8:10] + value[6:8] + value[:6]
    text = value.hex()
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]]).encode()


cdef bytes _inet6_text(bytes value):
    """An address as MariaDB prints it: the first of the longest runs of zeros is `::`, even if it is but one."""
    words = [value[at] << 8 | value[at + 1] for at in range(0, 16, 2)]
    length, begin = max([(len(list(takewhile(operator.not_, words[at:]))), -at) for at in range(8)])
    tail = [f"{word:x}" for word in words]
    if not begin and (length == 6 or (length == 5 and words[5] == 0xFFFF)):
        tail[6:] = [".".join(map(str, value[12:]))]
    if not length:
        return ":".join(tail).encode()
    return f"{':'.join(tail[:-begin])}::{':'.join(tail[length - begin :])}".encode()
