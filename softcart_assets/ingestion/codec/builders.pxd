# cython: language_level=3, cdivision=True
"""Values on their way into Arrow arrays: what the compiled modules share. Inline, as it happens to every single value."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset


cdef extern from "primitives.h":
    void limbs_multiply_add(uint64_t* limbs, int n, uint64_t factor, uint64_t addend) noexcept nogil
    uint64_t limbs_divide(uint64_t* limbs, int n, uint64_t divisor) noexcept nogil
    void limbs_negate(uint64_t* limbs, int n) noexcept nogil
    uint8_t* put16(uint8_t* to, uint16_t value) noexcept nogil
    uint8_t* put32(uint8_t* to, uint32_t value) noexcept nogil
    uint8_t* put64(uint8_t* to, uint64_t value) noexcept nogil
    double number_of(const char* text) noexcept nogil
    bint isfinite(double value) noexcept nogil
    void* memmem(const void* text, size_t length, const void* part, size_t part_length) noexcept nogil
    const uint64_t[20] TENS
    const double[23] EXACT_TENS


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


cdef struct Builder:
    Form form
    size_t width
    int precision, scale
    uint8_t* valid  # one byte a row
    uint8_t* values  # of `width` bytes each, or int32 offsets into `data`
    uint8_t* data
    size_t used, size  # of `data`


cdef Form form_of(column) except *
cdef object buffer_of(void* address, size_t size)
cdef int raise_outcome(Outcome outcome, object columns) except -1


cdef class Builders:
    cdef Builder* each
    cdef int count
    cdef size_t rows, capacity
    cdef list columns

    cdef Outcome make_room(self) noexcept nogil
    cdef void cut(self, size_t rows) noexcept nogil
    cdef object take(self)


cdef inline void put_null(Builder* b, size_t row) noexcept nogil:
    b.valid[row] = 0
    if b.width:
        memset(b.values + row * b.width, 0, b.width)
    else:
        (<int32_t*>b.values)[row + 1] = <int32_t>b.used


cdef inline uint8_t* room(Builder* b, size_t length) noexcept nogil:
    """Return where `length` more bytes of data may be written. NULL: see `no_room`."""
    cdef size_t size
    cdef void* memory
    if b.used + length > b.size or not b.data:
        # Arrow's offsets have 32 bits.
        if b.used + length > 0x7FFFFFFF:
            return NULL
        size = b.size + b.size // 2 + length + 1024
        memory = realloc(b.data, size)
        if not memory:
            return NULL
        b.data = <uint8_t*>memory
        b.size = size
    return b.data + b.used


cdef inline Outcome no_room(Builder* b, size_t length) noexcept nogil:
    return TOO_LONG if b.used + length > 0x7FFFFFFF else NO_MEMORY


cdef inline Outcome put_bytes(Builder* b, size_t row, const uint8_t* data, size_t length) noexcept nogil:
    cdef uint8_t* to = room(b, length)
    if not to:
        return no_room(b, length)
    memcpy(to, data, length)
    b.used += length
    b.valid[row] = 1
    (<int32_t*>b.values)[row + 1] = <int32_t>b.used
    return FIT


cdef inline Outcome put_int64(Builder* b, size_t row, int64_t value) noexcept nogil:
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


cdef inline void put_decimal64(Builder* b, size_t row, bint negative, uint64_t magnitude) noexcept nogil:
    """Unscaled digits into a decimal column."""
    cdef int64_t* to = <int64_t*>(b.values + row * b.width)
    # Without the check, a negative zero would get a sign that no other zero has.
    cdef int64_t sign = -1 if negative and magnitude else 0
    b.valid[row] = 1
    to[0] = <int64_t>(0 - magnitude if negative else magnitude)
    to[1] = sign
    if b.width == 32:
        to[2] = sign
        to[3] = sign


cdef inline void put_decimal256(Builder* b, size_t row, bint negative, uint64_t* limbs) noexcept nogil:
    """Put unscaled digits into a decimal column. The four limbs are changed."""
    if negative:
        limbs_negate(limbs, 4)
    memcpy(b.values + row * b.width, limbs, b.width)
    b.valid[row] = 1


cdef inline int32_t days_of(int64_t year, uint32_t month, uint32_t day) noexcept nogil:
    """Return the days since 1970-01-01, or -2147483648 if there is no such date."""
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


cdef inline bint is_date(int32_t days) noexcept nogil:
    return days != <int32_t>0x80000000
