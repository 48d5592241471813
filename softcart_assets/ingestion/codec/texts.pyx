# cython: language_level=3, cdivision=True
"""Values from their text: what `types.parse` reads is read here alike, and what it refuses is refused."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from softcart_assets.ingestion.codec.builders cimport (
    BOOLEAN,
    BYTES,
    DATE,
    DECIMAL128,
    DECIMAL256,
    DOUBLE,
    EXACT_TENS,
    FIT,
    INT64,
    INTERVAL,
    JSON,
    TENS,
    TEXT,
    TIMESTAMP,
    UNFIT,
    Builder,
    Outcome,
    days_of,
    is_date,
    isfinite,
    limbs_multiply_add,
    memmem,
    number_of,
    put_bytes,
    put_decimal64,
    put_decimal256,
    put_int64,
)


cdef inline uint32_t _digits(const uint8_t* text, int count) noexcept nogil:
    """Return the number of `count` digits, or one that is greater than any part of a date or time."""
    cdef uint32_t value = 0, digit
    cdef int index
    for index in range(count):
        digit = <uint32_t>text[index] - 48
        if digit > 9:
            return 1000000
        value = value * 10 + digit
    return value


cdef inline int32_t _days_of_text(const uint8_t* text) noexcept nogil:
    """Days since 1970-01-01 from ten characters; see `days_of`."""
    cdef uint32_t year = _digits(text, 4)
    if text[4] != b"-" or text[7] != b"-" or year > 9999:
        return <int32_t>0x80000000
    return days_of(year, _digits(text + 5, 2), _digits(text + 8, 2))


cdef inline Outcome _put_timestamp_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef uint32_t hour, minute, second, fraction = 0
    cdef int32_t days
    if length != 19 and (length < 21 or length > 26 or text[19] != b"."):
        return UNFIT
    days = _days_of_text(text)
    hour = _digits(text + 11, 2)
    minute = _digits(text + 14, 2)
    second = _digits(text + 17, 2)
    if not is_date(days) or hour > 23 or minute > 59 or second > 59:
        return UNFIT
    if text[10] != b" " or text[13] != b":" or text[16] != b":":
        return UNFIT
    if length > 19:
        fraction = _digits(text + 20, <int>length - 20)
        if fraction > 999999:
            return UNFIT
        fraction *= <uint32_t>TENS[26 - length]
    b.valid[row] = 1
    (<int64_t*>b.values)[row] = (
        (<int64_t>days * 86400 + hour * 3600 + minute * 60 + second) * 1000000 + fraction
    )
    return FIT


cdef inline Outcome _put_integer_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef size_t index = 0
    cdef bint negative = length > 0 and text[0] == b"-"
    if negative:
        index = 1
    if index == length:
        return UNFIT
    while length - index > 19 and text[index] == b"0":
        index += 1
    if length - index > 19:
        return UNFIT
    for index in range(index, length):
        digit = <uint32_t>text[index] - 48
        if digit > 9:
            return UNFIT
        value = value * 10 + digit
    # The lowest number has no positive counterpart.
    if value > 0x7FFFFFFFFFFFFFFFULL + negative:
        return UNFIT
    return put_int64(b, row, <int64_t>(0 - value if negative else value))


cdef Outcome _put_decimal_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef uint64_t[4] limbs
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef size_t index = 0, point, at
    cdef int whole, fraction, pending
    cdef bint negative = length > 0 and text[0] == b"-"
    if negative:
        index = 1
    while length - index > 1 and text[index] == b"0" and text[index + 1] != b".":
        index += 1
    # Short numbers in one go
    if length - index <= 18:
        point = length
        for at in range(index, length):
            digit = <uint32_t>text[at] - 48
            if digit <= 9:
                value = value * 10 + digit
            elif text[at] == b"." and point == length and at > index:
                point = at
            else:
                return UNFIT
        whole = <int>(point - index)
        if whole == 1 and text[index] == b"0":
            whole = 0
        elif not whole:
            return UNFIT
        fraction = <int>(length - point - 1) if point < length else 0
        if point == length - 1 or whole > b.precision - b.scale:
            return UNFIT
        if fraction > b.scale:
            return _put_longer_fraction(b, row, text, length, point)
        if whole + b.scale <= 19:
            put_decimal64(b, row, negative, value * TENS[b.scale - fraction])
            return FIT
        memset(limbs, 0, sizeof(limbs))
        limbs[0] = value
    else:
        memset(limbs, 0, sizeof(limbs))
        point = length
        pending = 0
        for at in range(index, length):
            digit = <uint32_t>text[at] - 48
            if digit <= 9:
                value = value * 10 + digit
                pending += 1
                if pending == 19:
                    limbs_multiply_add(limbs, 4, TENS[19], value)
                    value = pending = 0
            elif text[at] == b"." and point == length and at > index:
                point = at
            else:
                return UNFIT
            if at - index > 100:
                return UNFIT
        limbs_multiply_add(limbs, 4, TENS[pending], value)
        whole = <int>(point - index)
        if whole == 1 and text[index] == b"0":
            whole = 0
        fraction = <int>(length - point - 1) if point < length else 0
        if point == length - 1 or whole > b.precision - b.scale:
            return UNFIT
        if fraction > b.scale:
            return _put_longer_fraction(b, row, text, length, point)
    fraction = b.scale - fraction
    while fraction > 0:
        pending = fraction if fraction < 19 else 19
        limbs_multiply_add(limbs, 4, TENS[pending], 0)
        fraction -= pending
    put_decimal256(b, row, negative, limbs)
    return FIT


cdef Outcome _put_longer_fraction(
    Builder* b, size_t row, const uint8_t* text, size_t length, size_t point
) noexcept nogil:
    """Put a decimal with more fractional digits than the column has. It is fit if these are zeros."""
    cdef size_t end = point + 1 + b.scale
    while length > end:
        length -= 1
        if text[length] != b"0":
            return UNFIT
    return _put_decimal_text(b, row, text, end if b.scale else point)


cdef Outcome _put_double_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    cdef char[512] copy
    cdef uint64_t mantissa = 0
    cdef uint32_t digit
    cdef size_t index = 0
    cdef int digits = 0, exponent = 0, written = 0, written_digits = 0
    cdef bint negative = length > 0 and text[0] == b"-", point = False, less = False
    cdef double value
    if negative:
        index = 1
    if length >= sizeof(copy):
        return UNFIT
    while index < length:
        digit = <uint32_t>text[index] - 48
        if digit <= 9:
            digits += 1
            if mantissa < 100000000000000000ULL:
                mantissa = mantissa * 10 + digit
                exponent -= point
            else:
                mantissa = 0xFFFFFFFFFFFFFFFFULL  # too many digits for the short way
        elif text[index] == b"." and not point:
            point = True
        else:
            break
        index += 1
    if not digits:
        return UNFIT
    if index < length:
        if text[index] != b"e" and text[index] != b"E":
            return UNFIT
        index += 1
        if index < length and (text[index] == b"-" or text[index] == b"+"):
            less = text[index] == b"-"
            index += 1
        while index < length:
            digit = <uint32_t>text[index] - 48
            written_digits += 1
            if digit > 9 or written_digits > 4:
                return UNFIT
            written = written * 10 + <int>digit
            index += 1
        if not written_digits:
            return UNFIT
        exponent += -written if less else written
    if mantissa <= 0x20000000000000ULL and -22 <= exponent <= 22:
        # Both are exact doubles, so one rounding makes the nearest one.
        value = <double>mantissa
        value = value * EXACT_TENS[exponent] if exponent >= 0 else value / EXACT_TENS[-exponent]
        if negative:
            value = -value
    else:
        memcpy(copy, text, length)
        copy[length] = 0
        value = number_of(copy)
        if not isfinite(value):
            return UNFIT
    b.valid[row] = 1
    (<double*>b.values)[row] = value
    return FIT


cdef bint is_text(const uint8_t* text, size_t length) noexcept nogil:
    """Whether it is UTF-8 without NUL characters."""
    cdef size_t index = 0
    cdef uint64_t word
    cdef uint8_t lead, second
    while index < length:
        if length - index >= 8:
            memcpy(&word, text + index, 8)
            # No byte has its high bit, none is zero.
            if not ((word | ((word - 0x0101010101010101ULL) & ~word)) & 0x8080808080808080ULL):
                index += 8
                continue
        lead = text[index]
        if lead < 0x80:
            if not lead:
                return False
            index += 1
            continue
        if length - index < 2:
            return False
        second = text[index + 1]
        if lead < 0xE0:
            if lead < 0xC2 or second & 0xC0 != 0x80:
                return False
            index += 2
        elif lead < 0xF0:
            if length - index < 3 or second & 0xC0 != 0x80 or text[index + 2] & 0xC0 != 0x80:
                return False
            # Overlong forms and surrogates, which PostgreSQL refuses.
            if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F):
                return False
            index += 3
        else:
            if length - index < 4 or lead > 0xF4:
                return False
            if second & 0xC0 != 0x80 or text[index + 2] & 0xC0 != 0x80 or text[index + 3] & 0xC0 != 0x80:
                return False
            if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F):
                return False
            index += 4
    return True


cdef bint has_escaped_nul(const uint8_t* text, size_t length) noexcept nogil:
    """Whether a JSON text has a NUL, which it writes as an escape."""
    cdef const uint8_t* end = text + length
    cdef const uint8_t* found = text
    cdef const uint8_t* at
    while True:
        found = <const uint8_t*>memmem(found, end - found, b"\\u0000", 6)
        if found == NULL:
            return False
        # After an odd number of backslashes, this one is escaped itself: a backslash and `u0000`.
        at = found
        while at > text and at[-1] == 0x5C:
            at -= 1
        if (found - at) % 2 == 0:
            return True
        found += 1


cdef Outcome put_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil:
    """Put a value that is given as text."""
    cdef int32_t days
    if b.form == TEXT:
        return put_bytes(b, row, text, length) if is_text(text, length) else UNFIT
    if b.form <= INT64 or b.form == INTERVAL:
        return _put_integer_text(b, row, text, length)
    if b.form == DECIMAL128 or b.form == DECIMAL256:
        return _put_decimal_text(b, row, text, length)
    if b.form == TIMESTAMP:
        return _put_timestamp_text(b, row, text, length)
    if b.form == DATE:
        days = _days_of_text(text) if length == 10 else <int32_t>0x80000000
        b.valid[row] = 1
        (<int32_t*>b.values)[row] = days
        return FIT if is_date(days) else UNFIT
    if b.form == DOUBLE:
        return _put_double_text(b, row, text, length)
    if b.form == JSON:
        if not is_text(text, length) or has_escaped_nul(text, length):
            return UNFIT
        return put_bytes(b, row, text, length)
    if b.form == BYTES:
        return put_bytes(b, row, text, length)
    # BOOLEAN
    if length != 1 or (text[0] != b"0" and text[0] != b"1"):
        return UNFIT
    b.valid[row] = 1
    b.values[row] = text[0] == b"1"
    return FIT
