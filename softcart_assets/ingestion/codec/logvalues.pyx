# cython: language_level=3, cdivision=True
"""Values of the binary log's row images into Arrow, each by the shortest way."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from softcart_assets.ingestion.codec.builders cimport (
    FIT,
    INT64,
    UNFIT,
    Builder,
    Outcome,
    days_of,
    is_date,
    isfinite,
    no_room,
    put_bytes,
    put_decimal64,
    put_decimal256,
    put_int64,
    room,
)
from softcart_assets.ingestion.codec.logvalues cimport (
    FLOAT32,
    TIMESTAMP_OLD,
    YEAR,
    BIT,
    TIMESTAMP2,
    SET,
    WHOLE,
    DIGITS,
    FLOATING,
    DAY,
    MOMENT,
    SPAN,
    PLAIN,
    SEVEN_BITS,
    ONE_BYTE,
    PADDED,
    LABEL,
    LogField,
    Moment,
    Way,
    big,
    digits_of,
    instant_of,
    little,
    moment_of,
    put_logged,
    signed_of,
    span_of,
)
from softcart_assets.ingestion.codec.texts cimport put_text


cdef Outcome put_logged(const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length) noexcept nogil:
    """A value of an image into its builder, by any way but the slow one."""
    cdef uint64_t[4] limbs
    cdef int used
    cdef bint negative
    cdef Way way = field.way
    # The commonest ways first.
    if way == WHOLE:
        return _put_whole(field, b, row, data, length)
    if way == PLAIN:
        return put_text(b, row, data, length)
    if way == DIGITS:
        negative = digits_of(field, data, limbs, &used)
        if used == 1:
            put_decimal64(b, row, negative, limbs[0])
        else:
            put_decimal256(b, row, negative, limbs)
        return FIT
    if way == MOMENT:
        return _put_moment(field, b, row, data)
    if way == DAY:
        return _put_day(field, b, row, data)
    if way == FLOATING:
        return _put_floating(field, b, row, data)
    if way == SPAN:
        return put_int64(b, row, span_of(field, data))
    if way == SEVEN_BITS:
        return _put_seven_bits(field, b, row, data, length)
    if way == ONE_BYTE:
        return _put_characters(field, b, row, data, length)
    if way == PADDED:
        return _put_padded(field, b, row, data, length)
    if way == LABEL:
        return _put_label(field, b, row, little(data, length))
    return _put_labels(field, b, row, little(data, length))


cdef inline Outcome _put_whole(
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


cdef inline Outcome _put_moment(const LogField* field, Builder* b, size_t row, const uint8_t* data) noexcept nogil:
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


cdef inline Outcome _put_day(const LogField* field, Builder* b, size_t row, const uint8_t* data) noexcept nogil:
    cdef Moment moment = moment_of(field, data)
    cdef int32_t days = days_of(moment.year, moment.month, moment.day)
    b.valid[row] = 1
    (<int32_t*>b.values)[row] = days
    return FIT if is_date(days) and moment.year <= 9999 else UNFIT


cdef inline Outcome _put_floating(const LogField* field, Builder* b, size_t row, const uint8_t* data) noexcept nogil:
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


cdef Outcome _put_seven_bits(
    const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length
) noexcept nogil:
    """ASCII as it is; a byte that is none needs the table of characters."""
    cdef size_t at
    for at in range(length):
        if data[at] & 0x80:
            return _put_characters(field, b, row, data, length)
    return put_text(b, row, data, length)


cdef Outcome _put_characters(
    const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length
) noexcept nogil:
    """Text in which each byte is a character."""
    cdef const uint8_t* character
    cdef size_t at
    cdef uint8_t* to = room(b, 3 * length)
    if not to:
        return no_room(b, 3 * length)
    for at in range(length):
        if not data[at]:
            return UNFIT
        character = field.characters + 4 * data[at]
        memcpy(to, character + 1, 3)
        to += character[0]
    b.used = to - b.data
    return _end_data(b, row)


cdef Outcome _put_padded(
    const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length
) noexcept nogil:
    """A BINARY, whose trailing zeros the log leaves out."""
    cdef uint8_t* to = room(b, field.padded)
    if not to:
        return no_room(b, field.padded)
    if length > field.padded:
        length = field.padded
    memcpy(to, data, length)
    memset(to + length, 0, field.padded - length)
    b.used += field.padded
    return _end_data(b, row)


cdef Outcome _put_label(const LogField* field, Builder* b, size_t row, uint64_t number) noexcept nogil:
    if number > <uint64_t>field.label_count:
        return UNFIT
    if not number:  # what MySQL makes of a label that there is not
        return put_bytes(b, row, <const uint8_t*><const char*>b"", 0)
    return put_bytes(b, row, field.labels[number - 1].data, field.labels[number - 1].length)


cdef Outcome _put_labels(const LogField* field, Builder* b, size_t row, uint64_t number) noexcept nogil:
    """The labels of a SET, with commas between them."""
    cdef bint more = False
    cdef int index
    cdef size_t length
    cdef uint8_t* to
    for index in range(64):
        if not (number >> index) & 1:
            continue
        if index >= field.label_count:
            return UNFIT
        length = field.labels[index].length
        to = room(b, length + 1)
        if not to:
            return no_room(b, length + 1)
        if more:
            to[0] = b","
            to += 1
            b.used += 1
        more = True
        memcpy(to, field.labels[index].data, length)
        b.used += length
    return _end_data(b, row)


cdef inline Outcome _end_data(Builder* b, size_t row) noexcept nogil:
    """A value ends where the data does now."""
    b.valid[row] = 1
    (<int32_t*>b.values)[row + 1] = <int32_t>b.used
    return FIT
