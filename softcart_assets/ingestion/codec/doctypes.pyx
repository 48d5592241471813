# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which types the values of documents have, field by field; `doctypes.pyi` describes what is public."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t, uint8_t
from libc.string cimport memcmp, memset

from softcart_assets.ingestion.codec.bson cimport (
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    Element,
    INT32,
    FIRST_DATE,
    INT64,
    LAST_DATE,
    NULL_,
    OBJECT_ID,
    STRING,
    SYMBOL,
    UNDEFINED,
    double_at,
    int128,
    int64_at,
    is_sound,
    next_element,
    size_of,
)
from softcart_assets.ingestion.codec.decimals cimport (
    Decimal,
    decimal_at,
    decimal_of_double,
    scaled_decimal,
)

# In the order of `TARGET_TYPES`.
cdef enum:
    IS_BOOLEAN
    IS_BIGINT
    IS_WIDE_BIGINT
    IS_WHOLE_DOUBLE
    IS_DOUBLE
    IS_WIDE_DOUBLE
    IS_DECIMAL
    IS_WIDE_DECIMAL
    IS_TEXT
    IS_INSTANT
    IS_JSON
    TARGETS

TARGET_TYPES = (
    "boolean", "bigint", "wide bigint", "whole double", "double precision", "wide double", "numeric(38,18)",
    "wide numeric", "text", "timestamptz", "jsonb",
)
"""What `Types.counts` counts values as, in its order."""

cdef enum:
    MOST_NAMES = 4096

cdef double EXACT_WHOLE = 9007199254740992.0  # 2^53
cdef double BIGINT_END = 9223372036854775808.0  # 2^63


cdef extern from "<math.h>" nogil:
    double _floor "floor"(double)


cdef int _target_of(Element *element) except -1:
    """Return what a value counts as. `wide` ones do not fit every column of numbers."""
    cdef int64_t moment, whole
    cdef Decimal decimal
    cdef int128 scaled
    if element.type == BOOLEAN:
        return IS_BOOLEAN
    if element.type == INT32:
        return IS_BIGINT
    if element.type == INT64:
        whole = int64_at(element.value)
        # From 2^53 on, not every whole number is a double.
        return IS_BIGINT if -EXACT_WHOLE < whole < EXACT_WHOLE else IS_WIDE_BIGINT
    if element.type == DOUBLE:
        return _target_of_double(double_at(element.value))
    if element.type == DECIMAL:
        fits = decimal_at(element.value, &decimal) and scaled_decimal(decimal, 38, 18, &scaled)
        return IS_DECIMAL if fits else IS_WIDE_DECIMAL
    if element.type in (STRING, SYMBOL, OBJECT_ID):
        return IS_TEXT
    if element.type == DATE:
        moment = int64_at(element.value)
        return IS_INSTANT if FIRST_DATE <= moment <= LAST_DATE else IS_JSON
    return IS_JSON


cdef int _target_of_double(double value) except -1:
    cdef Decimal decimal
    cdef int128 scaled
    # Only for infinity and NaN is the difference not 0.
    if value - value != 0:
        return IS_WIDE_DOUBLE
    # JavaScript writes every whole number as a double.
    if value == _floor(value) and -BIGINT_END < value < BIGINT_END:
        return IS_WHOLE_DOUBLE
    # A double has 17 digits at most, so most need no closer look.
    if 0.01 <= value < 1e19 or -1e19 < value <= -0.01:
        return IS_DOUBLE
    decimal_of_double(value, &decimal)
    return IS_DOUBLE if scaled_decimal(decimal, 38, 18, &scaled) else IS_WIDE_DOUBLE


cdef class Types:
    """Counts the values of each type, per field of the documents' top level. Damaged documents are left out."""

    cdef dict slots
    cdef list names
    cdef list counters
    cdef uint64_t *numbers
    cdef Py_ssize_t room
    cdef list order  # the slots of the document before, which the next one mostly has too

    def __cinit__(self):
        self.slots, self.names, self.order = {}, [], []
        self.room = 64
        self.numbers = <uint64_t *>PyMem_Malloc(self.room * TARGETS * sizeof(uint64_t))
        if self.numbers == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.numbers)

    def add(self, bytes raw not None):
        """Count the documents that stand end to end in `raw`. Returns their number. Raises `ValueError`."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(raw)
        cdef const uint8_t *end = at + len(raw)
        cdef Py_ssize_t size, documents = 0
        while at < end:
            size = size_of(at, end)
            if is_sound(at, size, 0):
                self._count(at, size)
            at += size
            documents += 1
        return documents

    cdef int _count(self, const uint8_t *document, Py_ssize_t size) except -1:
        cdef const uint8_t *at = document + 4
        cdef const uint8_t *end = document + size - 1
        cdef Element element
        cdef Py_ssize_t number = 0, slot
        cdef bytes name
        while at < end:
            next_element(&at, end, &element)
            # The id has columns of its own, whatever its type.
            if element.type in (NULL_, UNDEFINED) or element.name_size == 3 and not memcmp(element.name, b"_id", 3):
                continue
            slot = -1
            if number < len(self.order):
                slot = <object>self.order[number]
                name = <bytes>self.names[slot]
                if len(name) != element.name_size or memcmp(PyBytes_AS_STRING(name), element.name, element.name_size):
                    slot = -1
            if slot < 0:
                slot = self._slot(PyBytes_FromStringAndSize(element.name, element.name_size))
                if slot < 0:
                    continue
                if number < len(self.order):
                    self.order[number] = slot
                else:
                    self.order.append(slot)
            number += 1
            self.numbers[slot * TARGETS + _target_of(&element)] += 1
        return 0

    cdef Py_ssize_t _slot(self, bytes name) except -2:
        """Return the place of a field's numbers. -1 for a new field if there are too many."""
        cdef Py_ssize_t slot
        cdef uint64_t *numbers
        found = self.slots.get(name)
        if found is not None:
            return found
        slot = len(self.names)
        # Where keys are data, each document may bring new ones. Columns end long before that.
        if slot == MOST_NAMES:
            return -1
        if slot == self.room:
            numbers = <uint64_t *>PyMem_Realloc(self.numbers, self.room * 2 * TARGETS * sizeof(uint64_t))
            if numbers == NULL:
                raise MemoryError()
            self.numbers, self.room = numbers, self.room * 2
        memset(self.numbers + slot * TARGETS, 0, TARGETS * sizeof(uint64_t))
        self.slots[name] = slot
        self.names.append(name)
        return slot

    @property
    def counts(self):
        """The number of values of each of `TARGET_TYPES` per field, without zeros, in order of appearance."""
        return {
            name.decode(): {
                TARGET_TYPES[n]: self.numbers[slot * TARGETS + n]
                for n in range(TARGETS)
                if self.numbers[slot * TARGETS + n]
            }
            for slot, name in enumerate(self.names)
        }
