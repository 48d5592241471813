# cython: language_level=3, cdivision=True
"""Columns that grow value by value, and become Arrow arrays without a copy."""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy, memset

import pyarrow as pa


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
cdef size_t[13] WIDTHS = [2, 4, 8, 16, 32, 8, 1, 0, 0, 0, 4, 8, 8]
"""Bytes of a form's value while it is collected; 0: offsets and data."""


cdef Form form_of(column) except *:
    decimal = column.decimal
    if decimal:
        return DECIMAL128 if decimal[0] <= 38 else DECIMAL256
    return _FORMS[column.target_type]


@cython.final
cdef class _Memory:
    """Memory that an Arrow buffer looks at; freed with it."""

    cdef void* address

    def __dealloc__(self):
        free(self.address)


cdef object buffer_of(void* address, size_t size):
    """An Arrow buffer that owns the memory."""
    cdef _Memory memory = _Memory.__new__(_Memory)
    memory.address = address
    return pa.foreign_buffer(<uintptr_t>address, size, memory) if address else pa.py_buffer(b"")


cdef void* _packed(uint8_t* flags, size_t count) except NULL:
    """Pack bytes of 0 and 1 into bits. The memory of `flags` must reach to a multiple of 8."""
    cdef uint8_t* bits = <uint8_t*>malloc((count + 7) // 8 + 1)
    cdef uint64_t eight
    cdef size_t index
    if not bits:
        raise MemoryError
    memset(flags + count, 0, -count & 7)
    for index in range((count + 7) // 8):
        memcpy(&eight, flags + 8 * index, 8)
        # The product moves the lowest bits of eight bytes next to each other: eight flags in one
        # step.
        bits[index] = <uint8_t>((eight * 0x0102040810204080ULL) >> 56)
    return bits


cdef class Builders:
    """A batch that grows row by row. Put a value into each column at row `rows`, then increase `rows`."""

    def __cinit__(self, columns):
        self.columns = list(columns)
        self.count = len(self.columns)
        self.each = <Builder*>calloc(max(self.count, 1), sizeof(Builder))
        if not self.each:
            raise MemoryError
        for index, column in enumerate(self.columns):
            self.each[index].form = form_of(column)
            self.each[index].width = WIDTHS[<int>self.each[index].form]
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
        # Doubled, so that adding a row costs the same on average however many there are.
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
            # There is one offset more than rows. The first one is 0.
            if not b.width and not self.capacity:
                (<int32_t*>b.values)[0] = 0
        self.capacity = capacity
        return FIT

    cdef void cut(self, size_t rows) noexcept nogil:
        """Drop everything after the first `rows` rows, including a row that was only begun."""
        cdef Builder* b
        self.rows = rows
        for b in self.each[: self.count]:
            if not b.width and b.values:
                b.used = (<int32_t*>b.values)[rows]

    cdef object take(self):
        """Return the rows as a RecordBatch. The builders are empty afterwards."""
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
                buffers[0] = buffer_of(_packed(b.valid, rows), (rows + 7) // 8)
            if b.form == BOOLEAN:
                buffers.append(buffer_of(_packed(b.values, rows), (rows + 7) // 8))
            elif b.width:
                buffers.append(buffer_of(b.values, rows * b.width))
                # The memory belongs to the Arrow array now, and is freed with it.
                b.values = NULL
            else:
                buffers.append(buffer_of(b.values, (rows + 1) * 4))
                buffers.append(buffer_of(b.data, b.used))
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


cdef int raise_outcome(Outcome outcome, object columns) except -1:
    """Raise what a negative outcome means."""
    if outcome == NO_MEMORY:
        raise MemoryError
    raise OverflowError(
        f"more than 2 GiB of one column's values in one batch ({', '.join(column.name for column in columns)}): "
        "take smaller batches"
    )
