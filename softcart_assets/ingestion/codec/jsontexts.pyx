# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Documents as JSON text, as PostgreSQL prints jsonb: keys by length, then bytes; a blank after commas and colons."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint32_t, uint8_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy

from softcart_assets.ingestion.codec.bson cimport (
    FIRST_DATE,
    LAST_DATE,
    ARRAY,
    BINARY,
    BOOLEAN,
    Buffer,
    DATE,
    DECIMAL,
    DEEPEST,
    DOUBLE,
    Element,
    INT32,
    INT64,
    NULL_,
    OBJECT,
    OBJECT_ID,
    STRING,
    double_at,
    int32_at,
    int64_at,
    is_text,
    next_element,
    put,
)
from softcart_assets.ingestion.codec.decimals cimport (
    Decimal,
    decimal_at,
    digits_of,
    plain_decimal,
)


cdef extern from "Python.h":
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind)
    int Py_DTSF_ADD_DOT_0


cdef int json_text(Buffer *out, const char *text, Py_ssize_t size) except -1:
    """Write a text as JSON. The caller has checked for NULs, which jsonb cannot hold."""
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
    # Relaxed Extended JSON writes dates before 1970 as numbers.
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


cdef bint json_decimal(Buffer *out, const uint8_t *at) except -1:
    """Write a Decimal128 as JSON. False if it is of a rare form."""
    cdef Decimal decimal
    cdef char text[64]
    cdef char digits[40]
    if not decimal_at(at, &decimal) or decimal.exponent > 0:
        return False
    # Smaller numbers are written with an exponent.
    if digits_of(decimal.digits, digits) - 1 + decimal.exponent < -6:
        return False
    put(out, b'{"$numberDecimal": "', 20)
    put(out, text, plain_decimal(decimal, text))
    put(out, b'"}', 2)
    return True


cdef bint json_value(Buffer *out, Element *element, int depth) except -1:
    """Write a value as relaxed Extended JSON. False if its kind is not handled here, or it is not UTF-8."""
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
        # Infinity or NaN, which JSON does not have as numbers.
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
        # Plain bytes and UUIDs. Other subtypes are rare, and some have forms of their own.
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
            # Sorted by insertion: most objects have few fields.
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
