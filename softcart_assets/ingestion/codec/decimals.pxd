# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decimals of documents."""

from libc.stdint cimport uint8_t

from softcart_assets.ingestion.codec.bson cimport int128, uint128


cdef struct Decimal:
    bint is_negative
    uint128 digits
    int exponent


cdef bint decimal_at(const uint8_t *at, Decimal *decimal) noexcept nogil
cdef int digits_of(uint128 number, char *out) noexcept nogil
cdef int plain_decimal(Decimal decimal, char *out) noexcept nogil
cdef bint scaled_decimal(Decimal decimal, int precision, int scale, int128 *out) noexcept nogil
cdef int decimal_of_double(double value, Decimal *decimal) except -1
