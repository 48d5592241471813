# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Documents from BSON to Arrow, compiled: one pass to learn the types of their fields, one to make columns of them.

Here belongs what is done to every single value of a document. A document with anything rare in it (a type that is seldom
used, a number that may not fit, bytes that are no text) is handed back as it came: `mongodb` knows what becomes of it.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memcpy, memset

import pyarrow as pa

cdef extern from *:
    """
    #include <Python.h>
    typedef __int128 softcart_int128;
    typedef unsigned __int128 softcart_uint128;
    """
    # Wider than Cython knows; never converted from or to Python.
    ctypedef long long int128 "softcart_int128"
    ctypedef unsigned long long uint128 "softcart_uint128"
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind)
    int Py_DTSF_ADD_DOT_0

cdef extern from "<openssl/evp.h>":
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    ctypedef struct ENGINE:
        pass
    const EVP_MD *EVP_sha256()
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    EVP_MD_CTX *EVP_MD_CTX_new()
    int EVP_DigestInit_ex(EVP_MD_CTX *context, const EVP_MD *kind, ENGINE *engine)
    int EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t size)
    int EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *digest, unsigned int *size)

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

# What a column takes.
cdef enum:
    INTO_NOTHING
    INTO_ID
    INTO_ID_TYPE
    INTO_DOCUMENT
    INTO_TEXT
    INTO_BIGINT
    INTO_DOUBLE
    INTO_DECIMAL
    INTO_BOOLEAN
    INTO_INSTANT
    INTO_JSON

DEF MOST_FIELDS = 1024
DEF DEEPEST = 90
DEF TARGETS = 8
TARGET_TYPES = ("boolean", "bigint", "whole double", "double precision", "numeric(38,18)", "text", "timestamptz", "jsonb")
"""What `Types.counts` counts values as, in its order."""

cdef uint64_t COEFFICIENT = 0x1FFFFFFFFFFFF  # the bits of the first half of a Decimal128 that belong to its digits

cdef int64_t FIRST_DATE = -62135596800000
cdef int64_t LAST_DATE = 253402300799999
cdef double EXACT_WHOLE = 9007199254740992.0


cdef struct Buffer:
    char *data
    size_t size
    size_t room


cdef int grow(Buffer *buffer, size_t more) except -1:
    cdef size_t room = buffer.room * 2 if buffer.room else 4096
    while room < buffer.size + more:
        room *= 2
    cdef char *data = <char *>PyMem_Realloc(buffer.data, room)
    if data == NULL:
        raise MemoryError()
    buffer.data, buffer.room = data, room
    return 0


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
            if not eight & <uint64_t>0x8080808080808080:
                at += 8
                continue
        first = at[0]
        at += 1
        if first < 0x80:
            continue
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


cdef struct Element:
    const char *name
    Py_ssize_t name_size
    uint8_t type
    const uint8_t *value
    Py_ssize_t size


cdef bint next_element(const uint8_t **at, const uint8_t *end, Element *element) noexcept nogil:
    """Read the element at `at`, before `end` (the document's closing NUL); False if it is not sound."""
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


cdef class Types:
    """Counts, per field of the documents' top level, the values of each type. Documents that are not sound are left out."""

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
        """Count in the documents that stand end to end in `raw`; how many they are. `ValueError` if they do not."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(raw)
        cdef const uint8_t *end = at + len(raw)
        cdef Py_ssize_t size, documents = 0
        while at < end:
            size = _size_of(at, end)
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
        """Per field, in the order of their first appearance, how many values of each of `TARGET_TYPES`, zeros left out."""
        return {
            name.decode(): {
                TARGET_TYPES[n]: self.numbers[slot * TARGETS + n]
                for n in range(TARGETS)
                if self.numbers[slot * TARGETS + n]
            }
            for slot, name in enumerate(self.names)
        }


cdef extern from "<math.h>" nogil:
    double _floor "floor"(double)


cdef Py_ssize_t _size_of(const uint8_t *at, const uint8_t *end) except -1:
    cdef Py_ssize_t size = int32_at(at) if end - at >= 5 else 0
    if size < 5 or size > end - at or at[size - 1] != 0:
        raise ValueError("the bytes are not whole BSON documents")
    return size


# JSON text as PostgreSQL prints jsonb: keys by length, then bytes; a blank after commas and colons.

cdef int json_text(Buffer *out, const char *text, Py_ssize_t size) except -1:
    """A text as JSON's. Whether it has a NUL, which jsonb cannot hold, was looked at before."""
    cdef Py_ssize_t start = 0, at
    cdef uint8_t character
    cdef char escape[8]
    put(out, '"', 1)
    for at in range(size):
        character = <uint8_t>text[at]
        if character >= 0x20 and character != 0x22 and character != 0x5C:
            continue
        put(out, text + start, at - start)
        start = at + 1
        escape[0] = 0x5C
        if character == 0x22 or character == 0x5C:
            escape[1] = character
        elif character == 0x08:
            escape[1] = 0x62
        elif character == 0x0C:
            escape[1] = 0x66
        elif character == 0x0A:
            escape[1] = 0x6E
        elif character == 0x0D:
            escape[1] = 0x72
        elif character == 0x09:
            escape[1] = 0x74
        else:
            snprintf(escape, 8, b"\\u%04x", <int>character)
            put(out, escape, 6)
            continue
        put(out, escape, 2)
    put(out, text + start, size - start)
    put(out, '"', 1)
    return 0


cdef int json_date(Buffer *out, int64_t milliseconds) except -1:
    cdef char text[64]
    cdef int64_t days, seconds, era, year, of_era, of_year, month, day
    if milliseconds < 0:
        put(out, text, snprintf(text, 64, b'{"$date": {"$numberLong": "%lld"}}', <long long>milliseconds))
        return 0
    days, milliseconds = milliseconds // 86400000, milliseconds % 86400000
    seconds, milliseconds = milliseconds // 1000, milliseconds % 1000
    # Days since 0000-03-01 in eras of 400 years.
    days += 719468
    era, days = days // 146097, days % 146097
    of_era = (days - days // 1460 + days // 36524 - days // 146096) // 365
    of_year = days - (365 * of_era + of_era // 4 - of_era // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year = of_era + era * 400 + (1 if month <= 2 else 0)
    put(out, text, snprintf(
        text, 64, b'{"$date": "%04d-%02d-%02dT%02d:%02d:%02d', <int>year, <int>month, <int>day,
        <int>(seconds // 3600), <int>(seconds // 60 % 60), <int>(seconds % 60)))
    if milliseconds:
        put(out, text, snprintf(text, 64, b".%03d", <int>milliseconds))
    put(out, b'Z"}', 3)
    return 0


cdef inline void hex_of(const uint8_t *data, char *out) noexcept nogil:
    cdef int at
    for at in range(12):
        out[2 * at] = b"0123456789abcdef"[data[at] >> 4]
        out[2 * at + 1] = b"0123456789abcdef"[data[at] & 15]


cdef int json_binary(Buffer *out, const uint8_t *data, Py_ssize_t size, uint8_t subtype) except -1:
    cdef const char *letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef char four[4]
    cdef char end[32]
    cdef uint32_t three
    cdef Py_ssize_t at = 0
    put(out, b'{"$binary": {"base64": "', 24)
    while at < size:
        three = data[at] << 16 | (data[at + 1] << 8 if at + 1 < size else 0) | (data[at + 2] if at + 2 < size else 0)
        four[0], four[1] = letters[three >> 18], letters[three >> 12 & 63]
        four[2] = letters[three >> 6 & 63] if at + 1 < size else b"="
        four[3] = letters[three & 63] if at + 2 < size else b"="
        put(out, four, 4)
        at += 3
    put(out, end, snprintf(end, 32, b'", "subType": "%02x"}}', <int>subtype))
    return 0


cdef struct Decimal:
    bint is_negative
    uint128 digits
    int exponent


cdef bint decimal_at(const uint8_t *at, Decimal *decimal) noexcept nogil:
    """Read a Decimal128; False for infinities, NaN and the forms that nobody writes."""
    cdef uint64_t low = <uint64_t>int64_at(at), high = <uint64_t>int64_at(at + 8)
    cdef uint128 largest = <uint64_t>10000000000000000
    if high >> 61 & 3 == 3:
        return False
    decimal.is_negative = high >> 63
    decimal.exponent = <int>(high >> 49 & 0x3FFF) - 6176
    decimal.digits = <uint128>(high & COEFFICIENT) << 64 | low
    largest = largest * <uint64_t>1000000000000000000  # 10^34
    return decimal.digits < largest


cdef int digits_of(uint128 number, char *out) noexcept nogil:
    """Write a number's digits; how many."""
    cdef char reverse[40]
    cdef int size = 0, at
    while True:
        reverse[size] = <char>(48 + <int>(number % 10))
        number //= 10
        size += 1
        if not number:
            break
    for at in range(size):
        out[at] = reverse[size - 1 - at]
    return size


cdef int plain_decimal(Decimal decimal, char *out) noexcept nogil:
    """Write a decimal without an exponent, as it is written when that is not above 0 and there are few leading zeros."""
    cdef char digits[40]
    cdef int count = digits_of(decimal.digits, digits), size = 0, at, whole = count + decimal.exponent
    if decimal.is_negative:
        out[0] = 45
        size = 1
    if whole <= 0:
        out[size] = 48
        size += 1
    for at in range(whole):
        out[size] = digits[at]
        size += 1
    if decimal.exponent < 0:
        out[size] = 46
        size += 1
        for at in range(whole, 0):
            out[size] = 48
            size += 1
        for at in range(max(whole, 0), count):
            out[size] = digits[at]
            size += 1
    return size


cdef bint json_decimal(Buffer *out, const uint8_t *at) except -1:
    """A Decimal128 as JSON; False if it is of a rare form."""
    cdef Decimal decimal
    cdef char text[64]
    cdef char digits[40]
    if not decimal_at(at, &decimal) or decimal.exponent > 0:
        return False
    if digits_of(decimal.digits, digits) - 1 + decimal.exponent < -6:
        return False
    put(out, b'{"$numberDecimal": "', 20)
    put(out, text, plain_decimal(decimal, text))
    put(out, b'"}', 2)
    return True


cdef bint json_value(Buffer *out, Element *element, int depth) except -1:
    """A value as relaxed extended JSON; False if it is of a kind that is not handled here, or no text."""
    cdef char text[64]
    cdef char *number
    cdef double value
    cdef const char *name
    if element.type == STRING:
        name = <const char *>element.value + 4
        if memchr(name, 0, element.size - 5) != NULL or not is_text(<const uint8_t *>name, element.size - 5):
            return False
        json_text(out, name, element.size - 5)
    elif element.type == INT32:
        put(out, text, snprintf(text, 64, b"%d", int32_at(element.value)))
    elif element.type == INT64:
        put(out, text, snprintf(text, 64, b"%lld", <long long>int64_at(element.value)))
    elif element.type == DOUBLE:
        value = double_at(element.value)
        if value - value != 0:
            return False
        number = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
        if number == NULL:
            raise MemoryError()
        try:
            put(out, number, _length(number))
        finally:
            PyMem_Free(number)
    elif element.type == BOOLEAN:
        if element.value[0]:
            put(out, b"true", 4)
        else:
            put(out, b"false", 5)
    elif element.type == NULL_:
        put(out, b"null", 4)
    elif element.type == DATE:
        if not FIRST_DATE <= int64_at(element.value) <= LAST_DATE:
            return False
        json_date(out, int64_at(element.value))
    elif element.type == OBJECT_ID:
        put(out, b'{"$oid": "', 10)
        hex_of(element.value, text)
        put(out, text, 24)
        put(out, b'"}', 2)
    elif element.type == DECIMAL:
        return json_decimal(out, element.value)
    elif element.type == BINARY:
        if not (element.value[4] == 0 or element.value[4] == 4 and element.size == 21):
            return False
        json_binary(out, element.value + 5, element.size - 5, element.value[4])
    elif element.type == OBJECT:
        return json_object(out, element.value, element.size, depth + 1)
    elif element.type == ARRAY:
        return json_array(out, element.value, element.size, depth + 1)
    else:
        return False
    return True


cdef extern from "<string.h>" nogil:
    size_t _length "strlen"(const char *)


cdef inline bint is_before(Element *one, Element *other) noexcept nogil:
    if one.name_size != other.name_size:
        return one.name_size < other.name_size
    return memcmp(one.name, other.name, one.name_size) < 0


cdef inline bint is_named_alike(Element *one, Element *other) noexcept nogil:
    return one.name_size == other.name_size and memcmp(one.name, other.name, one.name_size) == 0


cdef bint json_object(Buffer *out, const uint8_t *document, Py_ssize_t size, int depth) except -1:
    cdef Element few[32]
    cdef Element *elements = few
    cdef Element element
    cdef const uint8_t *at = document + 4
    cdef const uint8_t *end = document + size - 1
    cdef Py_ssize_t count = 0, room = 32, place
    if depth > DEEPEST:
        return False
    try:
        while at < end:
            if not next_element(&at, end, &element):
                return False
            # Names with a dollar sign may be a reference, which is written in a way of its own.
            if element.name_size and element.name[0] == b"$":
                return False
            if not is_text(<const uint8_t *>element.name, element.name_size):
                return False
            if count == room:
                elements = more_elements(elements, few, count, room * 2)
                room *= 2
            place = count
            while place and is_before(&element, &elements[place - 1]):
                elements[place] = elements[place - 1]
                place -= 1
            if place and is_named_alike(&element, &elements[place - 1]):
                return False
            elements[place] = element
            count += 1
        put(out, b"{", 1)
        for place in range(count):
            if place:
                put(out, b", ", 2)
            json_text(out, elements[place].name, elements[place].name_size)
            put(out, b": ", 2)
            if not json_value(out, &elements[place], depth):
                return False
        put(out, b"}", 1)
    finally:
        if elements != few:
            PyMem_Free(elements)
    return True


cdef Element *more_elements(Element *elements, Element *few, Py_ssize_t count, Py_ssize_t room) except NULL:
    cdef Element *more
    if elements == few:
        more = <Element *>PyMem_Malloc(room * sizeof(Element))
        if more != NULL:
            memcpy(more, few, count * sizeof(Element))
    else:
        more = <Element *>PyMem_Realloc(elements, room * sizeof(Element))
    if more == NULL:
        raise MemoryError()
    return more


cdef bint json_array(Buffer *out, const uint8_t *document, Py_ssize_t size, int depth) except -1:
    cdef Element element
    cdef const uint8_t *at = document + 4
    cdef const uint8_t *end = document + size - 1
    cdef bint is_first = True
    if depth > DEEPEST:
        return False
    put(out, b"[", 1)
    while at < end:
        if not next_element(&at, end, &element):
            return False
        if not is_first:
            put(out, b", ", 2)
        is_first = False
        if not json_value(out, &element, depth):
            return False
    put(out, b"]", 1)
    return True


cdef bint scaled_decimal(Decimal decimal, int precision, int scale, int128 *out) noexcept nogil:
    """A decimal as so many units of the scale; False if it does not fit exactly."""
    cdef uint128 limit = 1, number = decimal.digits
    cdef int shift, at
    if precision > 38:
        return False
    for at in range(precision):
        limit *= 10
    shift = decimal.exponent + scale
    if number:
        while shift < 0:
            if number % 10:
                return False
            number //= 10
            shift += 1
        while shift > 0:
            if number >= limit:
                return False
            number *= 10
            shift -= 1
    if number >= limit:
        return False
    out[0] = -<int128>number if decimal.is_negative else <int128>number
    return True


cdef bint decimal_of_double(double value, Decimal *decimal) except -1:
    """The decimal that a finite double is printed as; False if its exponent is extreme."""
    cdef char *text = PyOS_double_to_string(value, b"r", 0, 0, NULL)
    cdef const char *at = text
    cdef int after_point = 0, exponent = 0, sign = 1
    cdef bint is_after = False
    if text == NULL:
        raise MemoryError()
    decimal.is_negative, decimal.digits = False, 0
    if at[0] == b"-":
        decimal.is_negative = True
        at += 1
    while at[0] and at[0] != b"e":
        if at[0] == b".":
            is_after = True
        else:
            decimal.digits = decimal.digits * 10 + (at[0] - 48)
            after_point += is_after
        at += 1
    if at[0] == b"e":
        at += 1
        if at[0] == b"-":
            sign = -1
        if at[0] == b"-" or at[0] == b"+":
            at += 1
        while at[0]:
            exponent = exponent * 10 + (at[0] - 48)
            at += 1
    PyMem_Free(text)
    decimal.exponent = sign * exponent - after_point
    return True


cdef struct Slot:
    int into
    int precision
    int scale
    bint is_there
    int64_t whole
    double broken
    int128 wide
    const char *text
    Py_ssize_t text_size
    Py_ssize_t json_start
    Py_ssize_t json_end
    Buffer values
    Buffer offsets
    Buffer validity
    Py_ssize_t nulls


cdef class Decoder:
    """Makes Arrow arrays of documents, for columns of `mongodb`; holds the values of the documents added since `take`."""

    cdef list columns
    cdef dict by_name
    cdef Slot *slots
    cdef Py_ssize_t count
    cdef Py_ssize_t rows
    cdef Buffer scratch
    cdef Buffer document
    cdef Element elements[MOST_FIELDS]
    # What was found out of the document before: the names' bytes end to end, their order, their columns.
    cdef bytes known_names
    cdef Py_ssize_t known_count
    cdef Py_ssize_t known_sizes[MOST_FIELDS]
    cdef Py_ssize_t order[MOST_FIELDS]
    cdef Py_ssize_t places[MOST_FIELDS]
    cdef Py_ssize_t starts[MOST_FIELDS]
    cdef Py_ssize_t ends[MOST_FIELDS]
    cdef Py_ssize_t id_place

    def __cinit__(self, columns):
        cdef Py_ssize_t number
        kinds = {
            "text": INTO_TEXT, "bigint": INTO_BIGINT, "double precision": INTO_DOUBLE, "boolean": INTO_BOOLEAN,
            "timestamptz": INTO_INSTANT, "jsonb": INTO_JSON,
        }
        own = {"_id": INTO_ID, "_id_type": INTO_ID_TYPE, "document": INTO_DOCUMENT}
        self.columns = list(columns)
        self.count = len(self.columns)
        self.by_name = {}
        self.known_count = -1
        self.slots = <Slot *>PyMem_Malloc(max(self.count, 1) * sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        memset(self.slots, 0, self.count * sizeof(Slot))
        memset(&self.scratch, 0, sizeof(Buffer))
        memset(&self.document, 0, sizeof(Buffer))
        for number, column in enumerate(self.columns):
            if column.name in own:
                self.slots[number].into = own[column.name]
                continue
            self.by_name[column.name.encode()] = number
            if column.decimal and column.decimal[0] <= 38:
                self.slots[number].into = INTO_DECIMAL
                self.slots[number].precision, self.slots[number].scale = column.decimal
            else:
                self.slots[number].into = kinds.get(column.target_type, INTO_NOTHING)

    def __dealloc__(self):
        cdef Py_ssize_t number
        for number in range(self.count):
            PyMem_Free(self.slots[number].values.data)
            PyMem_Free(self.slots[number].offsets.data)
            PyMem_Free(self.slots[number].validity.data)
        PyMem_Free(self.slots)
        PyMem_Free(self.scratch.data)
        PyMem_Free(self.document.data)

    def add(self, bytes raw not None):
        """Take in the documents that stand end to end in `raw`; those that are not for here, each by itself, as they came."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(raw)
        cdef const uint8_t *end = at + len(raw)
        cdef Py_ssize_t size
        others = []
        while at < end:
            size = _size_of(at, end)
            if self._read(at, size):
                self._append()
            else:
                others.append(PyBytes_FromStringAndSize(<const char *>at, size))
            at += size
        return others

    cdef bint _read(self, const uint8_t *document, Py_ssize_t size) except -1:
        """Set the slots to a document's values; False if it is not for here."""
        cdef const uint8_t *at = document + 4
        cdef const uint8_t *end = document + size - 1
        cdef Py_ssize_t count = 0, number, place, column
        cdef Element *element
        cdef Slot *slot
        cdef Buffer *out = &self.document
        while at < end:
            if count == MOST_FIELDS or not next_element(&at, end, &self.elements[count]):
                return False
            count += 1
        if not self._is_known(count) and not self._learn(count):
            return False
        out.size = 0
        put(out, b"{", 1)
        for number in range(count):
            place = self.order[number]
            element = &self.elements[place]
            if number:
                put(out, b", ", 2)
            json_text(out, element.name, element.name_size)
            put(out, b": ", 2)
            self.starts[place] = out.size
            if not json_value(out, element, 0):
                return False
            self.ends[place] = out.size
        put(out, b"}", 1)
        for column in range(self.count):
            self.slots[column].is_there = False
        for number in range(count):
            column = self.places[number]
            if column >= 0 and not self._set(&self.slots[column], &self.elements[number], number):
                return False
        return self.id_place >= 0 and self._set_id(&self.elements[self.id_place])

    cdef bint _is_known(self, Py_ssize_t count) noexcept:
        """Whether the document has the same fields, in the same order, as the one before."""
        cdef Py_ssize_t number
        cdef const char *name
        if count != self.known_count:
            return False
        name = PyBytes_AS_STRING(self.known_names)
        for number in range(count):
            if self.elements[number].name_size != self.known_sizes[number]:
                return False
            if memcmp(name, self.elements[number].name, self.known_sizes[number]):
                return False
            name += self.known_sizes[number]
        return True

    cdef bint _learn(self, Py_ssize_t count) except -1:
        """Find the order and the columns of the fields; False if a name is no text, or is there twice."""
        cdef Py_ssize_t number, place
        names = []
        self.known_count = -1
        self.id_place = -1
        for number in range(count):
            if not is_text(<const uint8_t *>self.elements[number].name, self.elements[number].name_size):
                return False
            if self.elements[number].name_size and self.elements[number].name[0] == b"$":
                return False
            name = PyBytes_FromStringAndSize(self.elements[number].name, self.elements[number].name_size)
            names.append(name)
            self.known_sizes[number] = len(name)
            self.places[number] = self.by_name.get(name, -1)
            if name == b"_id":
                self.id_place = number
            place = number
            while place and is_before(&self.elements[number], &self.elements[self.order[place - 1]]):
                self.order[place] = self.order[place - 1]
                place -= 1
            if place and is_named_alike(&self.elements[number], &self.elements[self.order[place - 1]]):
                return False
            self.order[place] = number
        self.known_names = b"".join(names)
        self.known_count = count
        return True

    cdef bint _set_id(self, Element *element) except -1:
        """Set the columns that every document has."""
        cdef Slot *slot
        cdef Py_ssize_t column
        cdef char text[32]
        cdef const char *name = text
        cdef const char *type
        cdef Py_ssize_t size
        if element.type == STRING:
            name, size, type = <const char *>element.value + 4, element.size - 5, b"string"
        elif element.type == OBJECT_ID:
            hex_of(element.value, text)
            size, type = 24, b"objectId"
        elif element.type == INT32 or element.type == INT64:
            size = snprintf(
                text, 32, b"%lld",
                <long long>(int32_at(element.value) if element.type == INT32 else int64_at(element.value)))
            type = b"int"
        else:
            return False
        for column in range(self.count):
            slot = &self.slots[column]
            if slot.into == INTO_ID:
                self.scratch.size = 0
                put(&self.scratch, name, size)
                slot.text, slot.text_size = self.scratch.data, size
            elif slot.into == INTO_ID_TYPE:
                slot.text, slot.text_size = type, _length(type)
            elif slot.into == INTO_DOCUMENT:
                slot.text, slot.text_size = self.document.data, self.document.size
            else:
                continue
            slot.is_there = True
        return True

    cdef bint _set(self, Slot *slot, Element *element, Py_ssize_t number) except -1:
        """Set a slot to a value; False if that might not fit."""
        cdef Decimal decimal
        cdef int64_t whole = 0
        cdef double broken = 0
        cdef bint is_whole = False
        if element.type == NULL_:
            return True
        slot.is_there = True
        if slot.into == INTO_JSON:
            slot.text, slot.text_size = self.document.data + self.starts[number], self.ends[number] - self.starts[number]
            return True
        if slot.into == INTO_TEXT:
            if element.type == STRING:
                slot.text, slot.text_size = <const char *>element.value + 4, element.size - 5
                return True
            if element.type == OBJECT_ID:
                # Its JSON is {"$oid": "…"}.
                slot.text, slot.text_size = self.document.data + self.starts[number] + 10, 24
                return True
            return False
        if slot.into == INTO_BOOLEAN:
            slot.whole = element.type == BOOLEAN and element.value[0] != 0
            return element.type == BOOLEAN
        if slot.into == INTO_INSTANT:
            slot.whole = int64_at(element.value) * 1000 if element.type == DATE else 0
            return element.type == DATE
        if element.type == INT32 or element.type == INT64:
            is_whole = True
            whole = int32_at(element.value) if element.type == INT32 else int64_at(element.value)
        elif element.type == DOUBLE:
            broken = double_at(element.value)
        elif element.type != DECIMAL:
            return False
        if slot.into == INTO_BIGINT:
            if element.type == DOUBLE:
                if broken != _floor(broken) or not -EXACT_WHOLE < broken < EXACT_WHOLE:
                    return False
                whole = <int64_t>broken
            elif not is_whole:
                return False
            slot.whole = whole
            return True
        if slot.into == INTO_DOUBLE:
            if is_whole:
                if not -(<int64_t>EXACT_WHOLE) < whole < <int64_t>EXACT_WHOLE:
                    return False
                broken = <double>whole
            elif element.type != DOUBLE:
                return False
            slot.broken = broken
            return True
        if slot.into == INTO_DECIMAL:
            if is_whole:
                decimal.is_negative = whole < 0
                decimal.digits = <uint128>(-<int128>whole if whole < 0 else <int128>whole)
                decimal.exponent = 0
            elif element.type == DOUBLE:
                decimal_of_double(broken, &decimal)
            elif not decimal_at(element.value, &decimal):
                return False
            return scaled_decimal(decimal, slot.precision, slot.scale, &slot.wide)
        return False

    cdef int _append(self) except -1:
        cdef Slot *slot
        cdef Py_ssize_t column
        cdef int32_t offset
        cdef int128 wide
        cdef int64_t whole
        cdef double broken
        cdef char flag
        for column in range(self.count):
            slot = &self.slots[column]
            flag = slot.is_there
            put(&slot.validity, &flag, 1)
            slot.nulls += not flag
            if slot.into in (INTO_TEXT, INTO_JSON, INTO_ID, INTO_ID_TYPE, INTO_DOCUMENT):
                if not slot.offsets.size:
                    offset = 0
                    put(&slot.offsets, <const char *>&offset, 4)
                if flag:
                    if slot.values.size + slot.text_size > 0x7FFFFFFF:
                        raise OverflowError("more than 2 GiB of text in a column: take what there is first")
                    put(&slot.values, slot.text, slot.text_size)
                offset = <int32_t>slot.values.size
                put(&slot.offsets, <const char *>&offset, 4)
            elif slot.into == INTO_DECIMAL:
                wide = slot.wide if flag else 0
                put(&slot.values, <const char *>&wide, 16)
            elif slot.into == INTO_DOUBLE:
                broken = slot.broken if flag else 0
                put(&slot.values, <const char *>&broken, 8)
            elif slot.into == INTO_BOOLEAN:
                flag = flag and slot.whole
                put(&slot.values, &flag, 1)
            elif slot.into != INTO_NOTHING:
                whole = slot.whole if flag else 0
                put(&slot.values, <const char *>&whole, 8)
        self.rows += 1
        return 0

    @property
    def nbytes(self):
        """How much memory the values take, about."""
        cdef Py_ssize_t column, size = 0
        for column in range(self.count):
            size += self.slots[column].values.size + self.slots[column].offsets.size
        return size

    def __len__(self):
        return self.rows

    def take(self):
        """The rows added since the last time, as a batch."""
        cdef Py_ssize_t column
        arrays = []
        for column in range(self.count):
            arrays.append(self._array(&self.slots[column], self.columns[column].arrow_type))
        batch = pa.RecordBatch.from_arrays(arrays, names=[each.name for each in self.columns])
        self.rows = 0
        return batch

    cdef object _array(self, Slot *slot, type):
        cdef bytes values = PyBytes_FromStringAndSize(slot.values.data, slot.values.size)
        cdef Py_ssize_t rows = self.rows, nulls = slot.nulls
        validity = None
        if nulls:
            validity = pa.py_buffer(_bits(slot.validity.data, rows))
        if slot.into == INTO_NOTHING:
            array = pa.nulls(rows, type)
        elif slot.into in (INTO_TEXT, INTO_JSON, INTO_ID, INTO_ID_TYPE, INTO_DOCUMENT):
            offsets = PyBytes_FromStringAndSize(slot.offsets.data, slot.offsets.size) or b"\0\0\0\0"
            array = pa.Array.from_buffers(type, rows, [validity, pa.py_buffer(offsets), pa.py_buffer(values)], nulls)
        elif slot.into == INTO_BOOLEAN:
            array = pa.Array.from_buffers(
                type, rows, [validity, pa.py_buffer(_bits(slot.values.data, rows))], nulls)
        else:
            array = pa.Array.from_buffers(type, rows, [validity, pa.py_buffer(values)], nulls)
        slot.values.size = slot.offsets.size = slot.validity.size = slot.nulls = 0
        return array


cdef bytes _bits(const char *flags, Py_ssize_t count):
    cdef bytes bits = PyBytes_FromStringAndSize(NULL, (count + 7) // 8)
    cdef char *out = PyBytes_AS_STRING(bits)
    cdef Py_ssize_t at
    memset(out, 0, len(bits))
    for at in range(count):
        if flags[at]:
            out[at >> 3] |= 1 << (at & 7)
    return bits


cdef EVP_MD_CTX *_context = EVP_MD_CTX_new()
cdef EVP_MD *_sha256 = EVP_MD_fetch(NULL, b"SHA256", NULL)


cdef inline uint64_t hash_of(const char *data, Py_ssize_t size) except? 0:
    """The first 56 bits of the SHA-256."""
    cdef unsigned char digest[32]
    cdef uint64_t number = 0
    cdef int at
    if not (
        EVP_DigestInit_ex(_context, _sha256, NULL)
        and EVP_DigestUpdate(_context, data, size)
        and EVP_DigestFinal_ex(_context, digest, NULL)
    ):
        raise RuntimeError("the cryptographic library computes no SHA-256")
    for at in range(7):
        number = number << 8 | digest[at]
    return number


def hash_sum(array, bint without_numbers=False):
    """The sum of the first 56 bits of the SHA-256 of each text of a string array, NULLs left out.

    `without_numbers`: after leaving out every character that a number in JSON may be written with.
    """
    cdef Py_ssize_t rows = len(array), row, first = array.offset, at
    cdef const int32_t *offsets
    cdef const char *data = NULL
    cdef const uint8_t *validity = NULL
    cdef uint64_t number, low = 0, high = 0
    cdef Buffer kept
    cdef char character
    if not rows:
        return 0
    buffers = array.buffers()
    offsets = <const int32_t *><size_t>buffers[1].address + first
    if buffers[2] is not None:
        data = <const char *><size_t>buffers[2].address
    if buffers[0] is not None and array.null_count:
        validity = <const uint8_t *><size_t>buffers[0].address
    memset(&kept, 0, sizeof(Buffer))
    try:
        for row in range(rows):
            if validity != NULL and not validity[(first + row) >> 3] >> ((first + row) & 7) & 1:
                continue
            if without_numbers:
                kept.size = 0
                if kept.room < <size_t>(offsets[row + 1] - offsets[row]):
                    grow(&kept, offsets[row + 1] - offsets[row])
                for at in range(offsets[row], offsets[row + 1]):
                    character = data[at]
                    kept.data[kept.size] = character
                    kept.size += not is_of_number[<uint8_t>character]
                number = hash_of(kept.data, kept.size)
            else:
                number = hash_of(data + offsets[row], offsets[row + 1] - offsets[row])
            low += number & 0xFFFFFFF
            high += number >> 28
    finally:
        PyMem_Free(kept.data)
    return (<object>high << 28) + low


cdef bint is_of_number[256]
memset(is_of_number, 0, sizeof(is_of_number))
for _character in map(ord, "-+.0123456789eE"):
    is_of_number[<int>_character] = True
