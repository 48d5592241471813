# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decimals of documents: read, scaled to a column's type, written."""

from cpython.mem cimport PyMem_Free
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from softcart_assets.ingestion.codec.bson cimport int64_at


cdef extern from "Python.h":
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind)


cdef uint64_t COEFFICIENT = 0x1FFFFFFFFFFFF  # the bits of the first half of a Decimal128 that belong to its digits


cdef bint decimal_at(const uint8_t *at, Decimal *decimal) noexcept nogil:
    """Read a Decimal128. False for infinities, NaN and forms that nobody writes."""
    cdef uint64_t low = <uint64_t>int64_at(at), high = <uint64_t>int64_at(at + 8)
    cdef uint128 largest = <uint64_t>10000000000000000
    if high >> 61 & 3 == 3:
        return False
    decimal.is_negative = high >> 63
    # Decimal128 stores the exponent with 6176 added.
    decimal.exponent = <int>(high >> 49 & 0x3FFF) - 6176
    decimal.digits = <uint128>(high & COEFFICIENT) << 64 | low
    largest = largest * <uint64_t>1000000000000000000  # 10^34
    return decimal.digits < largest


cdef int digits_of(uint128 number, char *out) noexcept nogil:
    """Write a number's digits. Returns how many."""
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


cdef bint scaled_decimal(Decimal decimal, int precision, int scale, int128 *out) noexcept nogil:
    """Express a decimal in units of the scale. False if it does not fit exactly."""
    cdef uint128 limit = 1, number = decimal.digits
    cdef int shift, at
    # More digits do not fit into 128 bits.
    if precision > 38:
        return False
    for at in range(precision):
        limit *= 10
    shift = decimal.exponent + scale
    if number:
        while shift < 0:
            # A digit would be lost.
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


cdef int decimal_of_double(double value, Decimal *decimal) except -1:
    """Return in `decimal` what a finite double is printed as."""
    # The shortest text that gives the same double: 0.1 stays 0.1, and not its 55 binary digits.
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
    return 0
