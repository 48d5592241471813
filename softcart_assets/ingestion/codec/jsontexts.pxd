# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Documents as JSON text."""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

from softcart_assets.ingestion.codec.bson cimport Buffer, Element


cdef int json_text(Buffer *out, const char *text, Py_ssize_t size) except -1
cdef int json_date(Buffer *out, int64_t milliseconds) except -1
cdef bint json_value(Buffer *out, Element *element, int depth) except -1
cdef bint json_object(Buffer *out, const uint8_t *document, Py_ssize_t size, int depth) except -1


cdef inline bint is_before(Element *one, Element *other) noexcept nogil:
    if one.name_size != other.name_size:
        return one.name_size < other.name_size
    return memcmp(one.name, other.name, one.name_size) < 0


cdef inline bint is_named_alike(Element *one, Element *other) noexcept nogil:
    return one.name_size == other.name_size and memcmp(one.name, other.name, one.name_size) == 0


cdef inline void hex_of(const uint8_t *data, char *out) noexcept nogil:
    cdef int at
    for at in range(12):
        out[2 * at] = b"0123456789abcdef"[data[at] >> 4]
        out[2 * at + 1] = b"0123456789abcdef"[data[at] & 15]
