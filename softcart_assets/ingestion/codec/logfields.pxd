# cython: language_level=3, cdivision=True
"""How the columns of a table lie in its row images."""

from softcart_assets.ingestion.codec.builders cimport Builder
from softcart_assets.ingestion.codec.logvalues cimport LogField


cdef int describe(LogField* field, column, Builder* b, list kept) except -1
