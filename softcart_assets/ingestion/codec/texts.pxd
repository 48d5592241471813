# cython: language_level=3, cdivision=True
"""Values from their text, as MySQL's protocol and the codec's own slow ways have it."""

from libc.stdint cimport uint8_t

from softcart_assets.ingestion.codec.builders cimport Builder, Outcome


cdef Outcome put_text(Builder* b, size_t row, const uint8_t* text, size_t length) noexcept nogil
