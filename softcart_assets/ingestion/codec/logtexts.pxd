# cython: language_level=3, cdivision=True
"""Values of row images as text, made by Python."""

from libc.stdint cimport uint8_t

from softcart_assets.ingestion.codec.logvalues cimport LogField


cdef bytes text_of(const LogField* field, column, json_text, const uint8_t* data, size_t length)
cdef str decoded(bytes value, charset)
