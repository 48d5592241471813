# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows between a source's own bytes, Arrow and PostgreSQL's binary COPY; `codec.pyi` describes what is public."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

import MySQLdb
import pyarrow as pa


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
        pass
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
        if point == length - 1 or fraction > b.scale or whole > b.precision - b.scale:
            return UNFIT
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
        if point == length - 1 or fraction > b.scale or whole > b.precision - b.scale:
            return UNFIT
    fraction = b.scale - fraction
    while fraction > 0:
        pending = fraction if fraction < 19 else 19
        limbs_multiply_add(limbs, 4, _TENS[pending], 0)
        fraction -= pending
    _put_decimal256(b, row, negative, limbs)
    return FIT


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
    if length - index >= sizeof(copy):
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
        if self._result:
            # Not reading the rest: that could take long. MySQLdb says "commands out of sync" if the connection is used.
            self._result.handle = NULL
            mysql_free_result(self._result)

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
            self._result.handle = NULL
            self.close()
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
        if result:
            self._result = NULL
            if not self._db.open:
                result.handle = NULL
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
