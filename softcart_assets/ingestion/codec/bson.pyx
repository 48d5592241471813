# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Walking along documents: each element in turn, with what must hold for the bytes to be sound."""

from cpython.mem cimport PyMem_Realloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy


cdef int grow(Buffer *buffer, size_t more) except -1:
    cdef size_t room = buffer.room * 2 if buffer.room else 4096
    while room < buffer.size + more:
        room *= 2
    cdef char *data = <char *>PyMem_Realloc(buffer.data, room)
    if data == NULL:
        raise MemoryError()
    buffer.data, buffer.room = data, room
    return 0


cdef bint is_text(const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """Whether the bytes are UTF-8: no overlong form, no surrogate, nothing beyond U+10FFFF."""
    cdef const uint8_t *end = at + size
    cdef uint64_t eight
    cdef uint8_t first
    cdef int more
    cdef uint32_t code, least
    while at < end:
        if end - at >= 8:
            memcpy(&eight, at, 8)
            # Eight ASCII characters in one step.
            if not eight & <uint64_t>0x8080808080808080:
                at += 8
                continue
        first = at[0]
        at += 1
        if first < 0x80:
            continue
        # 0xC0 and 0xC1 would only begin overlong forms.
        if 0xC2 <= first <= 0xDF:
            more, code, least = 1, first & 0x1F, 0x80
        elif 0xE0 <= first <= 0xEF:
            more, code, least = 2, first & 0x0F, 0x800
        elif 0xF0 <= first <= 0xF4:
            more, code, least = 3, first & 0x07, 0x10000
        else:
            return False
        if end - at < more:
            return False
        while more:
            if at[0] & 0xC0 != 0x80:
                return False
            code = code << 6 | (at[0] & 0x3F)
            at += 1
            more -= 1
        if code < least or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            return False
    return True


cdef bint next_element(const uint8_t **at, const uint8_t *end, Element *element) noexcept nogil:
    """Read the element at `at`, before `end` (the document's closing NUL). False if it is damaged."""
    cdef const uint8_t *here = at[0]
    cdef const uint8_t *nul
    cdef Py_ssize_t left, size, part
    element.type = here[0]
    here += 1
    nul = <const uint8_t *>memchr(here, 0, end - here)
    if nul == NULL:
        return False
    element.name, element.name_size = <const char *>here, nul - here
    here = nul + 1
    left = end - here
    if element.type in (DOUBLE, DATE, INT64, TIMESTAMP):
        size = 8
    elif element.type == INT32:
        size = 4
    elif element.type == BOOLEAN:
        size = 1
    elif element.type in (NULL_, UNDEFINED, MIN_KEY, MAX_KEY):
        size = 0
    elif element.type == OBJECT_ID:
        size = 12
    elif element.type == DECIMAL:
        size = 16
    elif element.type in (STRING, SYMBOL, CODE):
        if left < 5:
            return False
        size = int32_at(here)
        # Every length comes from the document and may be wrong. Reading past its end would end the
        # process.
        if size < 1 or size > left - 4 or here[4 + size - 1] != 0:
            return False
        size += 4
    elif element.type in (OBJECT, ARRAY, SCOPED_CODE):
        if left < 5:
            return False
        size = int32_at(here)
        if size < 5 or size > left or element.type != SCOPED_CODE and here[size - 1] != 0:
            return False
    elif element.type == BINARY:
        if left < 5:
            return False
        size = int32_at(here)
        if size < 0 or size > left - 5:
            return False
        size += 5
    elif element.type == POINTER:
        if left < 5:
            return False
        size = int32_at(here)
        if size < 1 or size > left - 16:
            return False
        size += 16
    elif element.type == REGEX:
        nul = <const uint8_t *>memchr(here, 0, left)
        if nul == NULL:
            return False
        nul = <const uint8_t *>memchr(nul + 1, 0, end - nul - 1)
        if nul == NULL:
            return False
        size = nul + 1 - here
    else:
        return False
    if size > left:
        return False
    element.value, element.size = here, size
    at[0] = here + size
    return True


cdef bint is_sound(const uint8_t *document, Py_ssize_t size, int depth) noexcept nogil:
    """Whether a document is whole and its names and texts are UTF-8."""
    cdef const uint8_t *at = document + 4
    cdef const uint8_t *end = document + size - 1
    cdef Element element
    # The recursion must not exceed the stack, whatever the bytes say.
    if depth > DEEPEST:
        return False
    while at < end:
        if not next_element(&at, end, &element) or not is_text(<const uint8_t *>element.name, element.name_size):
            return False
        if element.type in (STRING, SYMBOL, CODE):
            if not is_text(element.value + 4, element.size - 5):
                return False
        elif element.type in (OBJECT, ARRAY):
            if not is_sound(element.value, element.size, depth + 1):
                return False
    return True


cdef Py_ssize_t size_of(const uint8_t *at, const uint8_t *end) except -1:
    cdef Py_ssize_t size = int32_at(at) if end - at >= 5 else 0
    if size < 5 or size > end - at or at[size - 1] != 0:
        raise ValueError("the bytes are not whole BSON documents")
    return size
