# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Documents as MongoDB sends them: their elements, and buffers that grow."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <Python.h>
    typedef __int128 softcart_int128;
    typedef unsigned __int128 softcart_uint128;
    /* The first and the last millisecond of the years 1 to 9999. */
    #define SOFTCART_FIRST_DATE (-62135596800000LL)
    #define SOFTCART_LAST_DATE 253402300799999LL
    """
    # Wider than Cython knows; never converted from or to Python.
    ctypedef long long int128 "softcart_int128"
    ctypedef unsigned long long uint128 "softcart_uint128"
    const int64_t FIRST_DATE "SOFTCART_FIRST_DATE"
    const int64_t LAST_DATE "SOFTCART_LAST_DATE"


# BSON's types of elements, as far as they are handled here.
cdef enum:
    DOUBLE = 0x01
    STRING = 0x02
    OBJECT = 0x03
    ARRAY = 0x04
    BINARY = 0x05
    UNDEFINED = 0x06
    OBJECT_ID = 0x07
    BOOLEAN = 0x08
    DATE = 0x09
    NULL_ = 0x0A
    REGEX = 0x0B
    POINTER = 0x0C
    CODE = 0x0D
    SYMBOL = 0x0E
    SCOPED_CODE = 0x0F
    INT32 = 0x10
    TIMESTAMP = 0x11
    INT64 = 0x12
    DECIMAL = 0x13
    MAX_KEY = 0x7F
    MIN_KEY = 0xFF


cdef enum:
    DEEPEST = 90  # levels of documents in documents; MongoDB allows 100


cdef struct Buffer:
    char *data
    size_t size
    size_t room


cdef struct Element:
    const char *name
    Py_ssize_t name_size
    uint8_t type
    const uint8_t *value
    Py_ssize_t size


cdef int grow(Buffer *buffer, size_t more) except -1
cdef bint is_text(const uint8_t *at, Py_ssize_t size) noexcept nogil
cdef bint next_element(const uint8_t **at, const uint8_t *end, Element *element) noexcept nogil
cdef bint is_sound(const uint8_t *document, Py_ssize_t size, int depth) noexcept nogil
cdef Py_ssize_t size_of(const uint8_t *at, const uint8_t *end) except -1


cdef inline int put(Buffer *buffer, const char *data, size_t size) except -1:
    if buffer.size + size > buffer.room:
        grow(buffer, size)
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef inline int32_t int32_at(const uint8_t *at) noexcept nogil:
    cdef int32_t value
    memcpy(&value, at, 4)
    return value


cdef inline int64_t int64_at(const uint8_t *at) noexcept nogil:
    cdef int64_t value
    memcpy(&value, at, 8)
    return value


cdef inline double double_at(const uint8_t *at) noexcept nogil:
    cdef double value
    memcpy(&value, at, 8)
    return value
