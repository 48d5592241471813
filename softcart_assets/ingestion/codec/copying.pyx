# cython: language_level=3, cdivision=True
"""Arrow to PostgreSQL's COPY BINARY; `copying.pyi` describes what is public."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from softcart_assets.ingestion.codec.builders cimport (
    BYTES,
    DATE,
    DECIMAL128,
    DECIMAL256,
    DOUBLE,
    INT16,
    INT32,
    INT64,
    INTERVAL,
    JSON,
    TENS,
    TEXT,
    TIMESTAMP,
    Form,
    form_of,
    limbs_divide,
    limbs_multiply_add,
    limbs_negate,
    put16,
    put32,
    put64,
)


cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* value, Py_ssize_t size) except NULL
    char* bytes_of "PyBytes_AS_STRING"(PyObject* value)
    int resize_bytes "_PyBytes_Resize"(PyObject** value, Py_ssize_t size) except -1


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
    """Write length and value of a numeric: digits of base 10,000."""
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
    # Padded, it still fits into 64 bits. Nearly all numbers do, and need no long division.
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
    """Write length and value."""
    cdef uint64_t word
    cdef uint32_t half
    cdef uint16_t quarter
    cdef int32_t start, length
    row += field.first
    if field.valid and not (field.valid[row >> 3] >> (row & 7)) & 1:
        # A length of -1 stands for NULL.
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
            # jsonb comes with the number of its format, 1, in front of its text.
            to = put32(to, length + 1)
            to[0] = 1
            to += 1
        else:
            to = put32(to, length)
        memcpy(to, field.data + start, length)
        return to + length
    if field.form == TIMESTAMP:
        memcpy(&word, field.values + 8 * row, 8)
        # PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01.
        return put64(put32(to, 8), word - 946684800000000ULL)
    if field.form == DATE:
        memcpy(&half, field.values + 4 * row, 4)
        # The same in days.
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
            field.form = form_of(column)
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
                field.pad = <uint32_t>TENS[-field.scale & 3]
                field.fraction_groups = (field.scale + 3) // 4
        bound *= rows
        for field in fields[:count]:
            if field.form in (TEXT, BYTES, JSON):
                offsets = <const int32_t*>field.values
                bound += offsets[field.first + rows] - offsets[field.first]
        # One allocation of the greatest possible size, shortened at the end: no check for each
        # value.
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
