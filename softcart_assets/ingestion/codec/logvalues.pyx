# cython: language_level=3, cdivision=True
"""Values of the binary log's row images into Arrow, each by the shortest way."""

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from softcart_assets.ingestion.codec.builders cimport (
    FIT,
    UNFIT,
    Builder,
    Outcome,
    no_room,
    put_bytes,
    put_decimal64,
    put_decimal256,
    room,
)
from softcart_assets.ingestion.codec.logvalues cimport (
    DIGITS,
    LABEL,
    ONE_BYTE,
    PADDED,
    SEVEN_BITS,
    LogField,
    digits_of,
    little,
)
from softcart_assets.ingestion.codec.texts cimport put_text


cdef Outcome put_longer(const LogField* field, Builder* b, size_t row, const uint8_t* data, size_t length) noexcept nogil:
    cdef uint64_t[4] limbs
    cdef int used
    cdef bint negative
    if field.way == DIGITS:
        negative = digits_of(field, data, limbs, &used)
        if used == 1:
            put_decimal64(b, row, negative, limbs[0])
        else:
            put_decimal256(b, row, negative, limbs)
        return FIT
    if field.way == SEVEN_BITS:
        return _put_seven_bits(field, b, row, data, length)
    if field.way == ONE_BYTE:
        return _put_characters(field, b, row, data, length)
    if field.way == PADDED:
        return _put_padded(field, b, row, data, length)
    if field.way == LABEL:
        return _put_label(field, b, row, little(data, length))
    return _put_labels(field, b, row, little(data, length))


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
    """Text of a character set in which each byte is a character."""
    cdef const uint8_t* character
    cdef size_t at
    cdef uint8_t* to = room(b, 3 * length)
    if not to:
        return no_room(b, 3 * length)
    for at in range(length):
        # PostgreSQL's text cannot hold a NUL.
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
        # Not to be named, so the row is handed back, and the slow way says what is wrong with it.
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
