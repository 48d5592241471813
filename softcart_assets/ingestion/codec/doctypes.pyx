# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which types the values of documents have, field by field; `doctypes.pyi` describes what is public."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t, uint8_t
from libc.string cimport memcmp, memset

from softcart_assets.ingestion.codec.bson cimport (
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    Element,
    INT32,
    INT64,
    NULL_,
    OBJECT_ID,
    STRING,
    SYMBOL,
    UNDEFINED,
    double_at,
    is_sound,
    next_element,
    size_of,
)

cdef enum:
    TARGETS = 8
TARGET_TYPES = ("boolean", "bigint", "whole double", "double precision", "numeric(38,18)", "text", "timestamptz", "jsonb")
"""What `Types.counts` counts values as, in its order."""


cdef extern from "<math.h>" nogil:
    double _floor "floor"(double)


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
        cdef double value
        cdef int target
        while at < end:
            next_element(&at, end, &element)
            if element.type in (NULL_, UNDEFINED):
                continue
            slot = -1
            if number < len(self.order):
                slot = <object>self.order[number]
                name = <bytes>self.names[slot]
                if len(name) != element.name_size or memcmp(PyBytes_AS_STRING(name), element.name, element.name_size):
                    slot = -1
            if slot < 0:
                slot = self._slot(PyBytes_FromStringAndSize(element.name, element.name_size))
                if number < len(self.order):
                    self.order[number] = slot
                else:
                    self.order.append(slot)
            number += 1
            if element.type == BOOLEAN:
                target = 0
            elif element.type in (INT32, INT64):
                target = 1
            elif element.type == DOUBLE:
                value = double_at(element.value)
                # JavaScript writes every whole number as a double. Infinity and NaN are no whole
                # numbers, and only for them is the difference not 0.
                target = 2 if value - value == 0 and value == _floor(value) else 3
            elif element.type == DECIMAL:
                target = 4
            elif element.type in (STRING, SYMBOL, OBJECT_ID):
                target = 5
            elif element.type == DATE:
                target = 6
            else:
                target = 7
            self.numbers[slot * TARGETS + target] += 1
        return 0

    cdef Py_ssize_t _slot(self, bytes name) except -1:
        cdef Py_ssize_t slot
        cdef uint64_t *numbers
        found = self.slots.get(name)
        if found is not None:
            return found
        slot = len(self.names)
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
