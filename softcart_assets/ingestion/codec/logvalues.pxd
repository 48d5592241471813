# cython: language_level=3, cdivision=True
"""Values of the binary log's row images: where they lie, what they mean. Inline, as it happens to every single value."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from softcart_assets.ingestion.codec.builders cimport (
    FIT,
    INT64,
    TENS,
    UNFIT,
    Builder,
    Outcome,
    days_of,
    is_date,
    isfinite,
    limbs_multiply_add,
    put_decimal64,
    put_int64,
)
from softcart_assets.ingestion.codec.texts cimport put_text


cdef extern from "primitives.h":
    const int[10] DIGIT_BYTES


cdef enum Code:
    """MySQL's numbers of types, as far as they matter here."""
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT32 = 4
    FLOAT64 = 5
    TIMESTAMP_OLD = 7
    LONGLONG = 8
    INT24 = 9
    DATE_OLD = 10
    TIME_OLD = 11
    DATETIME_OLD = 12
    YEAR = 13
    NEWDATE = 14
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    BLOB_COMPRESSED = 140
    VARCHAR_COMPRESSED = 141
    VECTOR = 242
    JSON_BINARY = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


cdef enum Way:
    """How a value gets from the image into its builder."""
    SLOW  # as text, which Python makes
    WHOLE  # bits and years, too
    DIGITS
    FLOATING
    DAY
    MOMENT
    SPAN
    PLAIN  # UTF-8 or bytes as they are
    SEVEN_BITS
    ONE_BYTE  # a character set of one byte per character
    PADDED
    LABEL
    LABELS



cdef struct Piece:
    const uint8_t* data
    size_t length


cdef struct LogField:
    int code
    Way way
    int target  # the builder's index, -1 if nobody wants it
    size_t size  # bytes in the image; 0: told by a prefix
    int prefix  # bytes of that
    bint is_unsigned
    int precision, scale  # of a decimal; fractional digits of a time
    size_t padded  # bytes of a BINARY
    Piece* labels
    int label_count
    uint8_t* characters  # of a character set of one byte: length and up to three bytes of UTF-8 each


cdef inline uint64_t little(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t value = 0
    memcpy(&value, data, size)
    return value


cdef inline uint64_t big(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t value = 0
    cdef size_t index
    for index in range(size):
        value = value << 8 | data[index]
    return value


cdef inline int64_t signed_of(const uint8_t* data, size_t size) noexcept nogil:
    # Shifted to the top and back, so that the sign of a number of three bytes is right.
    cdef int shift = 64 - 8 * <int>size
    return <int64_t>(little(data, size) << shift) >> shift


cdef inline uint64_t fraction_of(const uint8_t* data, int digits) noexcept nogil:
    """Microseconds."""
    cdef int size = (digits + 1) // 2
    return big(data, size) * TENS[6 - 2 * size]


cdef inline int64_t span_of(const LogField* field, const uint8_t* data) noexcept nogil:
    """Microseconds of a TIME."""
    cdef int64_t value, whole
    cdef bint negative
    if field.code == TIME_OLD:
        value = signed_of(data, 3)
        negative = value < 0
        if negative:
            value = -value
        whole = ((value // 10000) * 3600 + value // 100 % 100 * 60 + value % 100) * 1000000
        return -whole if negative else whole
    # Whole seconds and fraction as one number, biased; negative ones count the fraction upwards.
    value = <int64_t>big(data, field.size) - (<int64_t>1 << (8 * field.size - 1))
    negative = value < 0
    if negative:
        value = -value
    whole = value >> (8 * (field.size - 3))
    value -= whole << (8 * (field.size - 3))
    value *= <int64_t>TENS[6 - 2 * (field.size - 3)]
    value += (((whole >> 12) & 1023) * 3600 + ((whole >> 6) & 63) * 60 + (whole & 63)) * 1000000
    return -value if negative else value


cdef struct Moment:
    int64_t year
    uint32_t month, day, hour, minute, second, microsecond


cdef inline Moment moment_of(const LogField* field, const uint8_t* data) noexcept nogil:
    """A DATE's or DATETIME's parts."""
    cdef Moment moment
    cdef uint64_t value
    memset(&moment, 0, sizeof(moment))
    if field.code == DATETIME2:
        # The highest bit is a sign that no date has. Year and month are one number, in years of 13
        # months.
        value = big(data, 5) & 0x7FFFFFFFFFULL
        moment.microsecond = <uint32_t>fraction_of(data + 5, field.scale)
        moment.year = <int64_t>((value >> 22) // 13)
        moment.month = <uint32_t>((value >> 22) % 13)
        moment.day = (value >> 17) & 31
        moment.hour = (value >> 12) & 31
        moment.minute = (value >> 6) & 63
        moment.second = value & 63
    elif field.code == DATETIME_OLD:
        value = little(data, 8)
        moment.second = <uint32_t>(value % 100)
        moment.minute = <uint32_t>(value // 100 % 100)
        moment.hour = <uint32_t>(value // 10000 % 100)
        moment.day = <uint32_t>(value // 1000000 % 100)
        moment.month = <uint32_t>(value // 100000000 % 100)
        moment.year = <int64_t>(value // 10000000000ULL)
    else:
        value = little(data, 3)
        moment.day = value & 31
        moment.month = (value >> 5) & 15
        moment.year = <int64_t>(value >> 9)
    return moment


cdef inline uint64_t instant_of(const LogField* field, const uint8_t* data) noexcept nogil:
    """Return the microseconds of a TIMESTAMP. 0 is its zero date."""
    if field.code == TIMESTAMP_OLD:
        return little(data, 4) * 1000000
    return big(data, 4) * 1000000 + fraction_of(data + 4, field.scale)


cdef inline bint digits_of(const LogField* field, const uint8_t* data, uint64_t* limbs, int* used) noexcept nogil:
    """Read a decimal's unscaled digits into up to four limbs (`used`). Returns whether it is negative."""
    cdef int whole = field.precision - field.scale
    cdef bint negative = not data[0] & 0x80
    # MySQL inverts the bits of negative numbers, so that their bytes compare like the numbers.
    cdef uint8_t flip = 0xFF if negative else 0
    cdef uint8_t first = 0x80
    cdef uint64_t value, collected = 0
    cdef int digits, size, index, part, total = 0
    cdef int parts = 2 + whole // 9 + field.scale // 9
    limbs[0] = 0
    used[0] = 1
    for part in range(parts):
        if part == 0:
            digits = whole % 9
        elif part == parts - 1:
            digits = field.scale % 9
        else:
            digits = 9
        size = DIGIT_BYTES[digits]
        value = 0
        for index in range(size):
            value = value << 8 | (data[index] ^ flip ^ first)
            first = 0
        data += size
        total += digits
        # Up to 18 digits fit into 64 bits, as nearly all decimals do.
        if total <= 18:
            limbs[0] = limbs[0] * TENS[digits] + value
        else:
            if used[0] == 1:
                limbs[1] = limbs[2] = limbs[3] = 0
                used[0] = 4
            limbs_multiply_add(limbs, 4, TENS[digits], value)
    return negative


cdef inline Outcome put_whole(
    const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length
) noexcept nogil:
    """Whole numbers, bits and years."""
    cdef uint64_t number
    cdef int64_t signed_number
    cdef bint negative
    if field.code == BIT:
        number = big(data, length)
    elif field.code == YEAR:
        number = data[0] + 1900 if data[0] else 0
    elif field.is_unsigned:
        number = little(data, length)
    else:
        signed_number = signed_of(data, length)
        if b.form <= INT64:
            return put_int64(b, row, signed_number)
        negative = signed_number < 0
        put_decimal64(b, row, negative, 0 - <uint64_t>signed_number if negative else <uint64_t>signed_number)
        return FIT
    if b.form > INT64:
        put_decimal64(b, row, False, number)
        return FIT
    return UNFIT if number > 0x7FFFFFFFFFFFFFFFULL else put_int64(b, row, <int64_t>number)


cdef inline Outcome put_moment(const LogField* field, Builder* b, size_t row, const uint8_t* data) noexcept nogil:
    cdef Moment moment
    cdef int32_t days
    b.valid[row] = 1
    if field.code == TIMESTAMP_OLD or field.code == TIMESTAMP2:
        (<int64_t*>b.values)[row] = <int64_t>instant_of(field, data)
        return FIT if (<int64_t*>b.values)[row] else UNFIT
    moment = moment_of(field, data)
    days = days_of(moment.year, moment.month, moment.day)
    if not is_date(days) or moment.year > 9999 or moment.hour > 23 or moment.minute > 59 or moment.second > 59:
        return UNFIT
    (<int64_t*>b.values)[row] = (
        (<int64_t>days * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second) * 1000000 + moment.microsecond
    )
    return FIT


cdef inline Outcome put_day(const LogField* field, Builder* b, size_t row, const uint8_t* data) noexcept nogil:
    cdef Moment moment = moment_of(field, data)
    cdef int32_t days = days_of(moment.year, moment.month, moment.day)
    b.valid[row] = 1
    (<int32_t*>b.values)[row] = days
    return FIT if is_date(days) and moment.year <= 9999 else UNFIT


cdef inline Outcome put_floating(const LogField* field, Builder* b, size_t row, const uint8_t* data) noexcept nogil:
    cdef float single
    cdef double wide
    if field.code == FLOAT32:
        memcpy(&single, data, 4)
        wide = single
    else:
        memcpy(&wide, data, 8)
    b.valid[row] = 1
    (<double*>b.values)[row] = wide
    return FIT if isfinite(wide) else UNFIT


cdef Outcome put_longer(const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length) noexcept nogil


cdef inline Outcome put_logged(
    const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length
) noexcept nogil:
    """A value of an image into its builder, by any way but the slow one; those for which a call would count are inline."""
    if field.way == WHOLE:
        return put_whole(field, b, row, data, length)
    if field.way == PLAIN:
        return put_text(b, row, data, length)
    if field.way == MOMENT:
        return put_moment(field, b, row, data)
    if field.way == DAY:
        return put_day(field, b, row, data)
    if field.way == FLOATING:
        return put_floating(field, b, row, data)
    if field.way == SPAN:
        return put_int64(b, row, span_of(field, data))
    return put_longer(field, b, row, data, length)
