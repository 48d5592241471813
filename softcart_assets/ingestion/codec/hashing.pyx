# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Checksums of texts; `hashing.pyi` describes what is public."""

from cpython.mem cimport PyMem_Free
from libc.math cimport fabs, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset, strchr, strlen

from softcart_assets.ingestion.codec.bson cimport Buffer, grow


cdef extern from "<openssl/evp.h>":
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    ctypedef struct ENGINE:
        pass
    const EVP_MD *EVP_sha256()
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    EVP_MD_CTX *EVP_MD_CTX_new()
    int EVP_DigestInit_ex(EVP_MD_CTX *context, const EVP_MD *kind, ENGINE *engine)
    int EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t size)
    int EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *digest, unsigned int *size)


# Fetched once: looking up the algorithm takes longer than hashing a short text.
cdef EVP_MD_CTX *_context = EVP_MD_CTX_new()
cdef EVP_MD *_sha256 = EVP_MD_fetch(NULL, b"SHA256", NULL)


cdef inline uint64_t hash_of(const char *data, Py_ssize_t size) except? 0:
    """Return the first 56 bits of the SHA-256."""
    cdef unsigned char digest[32]
    cdef uint64_t number = 0
    cdef int at
    if not (
        EVP_DigestInit_ex(_context, _sha256, NULL)
        and EVP_DigestUpdate(_context, data, size)
        and EVP_DigestFinal_ex(_context, digest, NULL)
    ):
        raise RuntimeError("the cryptographic library computes no SHA-256")
    for at in range(7):
        number = number << 8 | digest[at]
    return number


cdef extern from "Python.h":
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind) except NULL


cdef class _Sum:
    """A sum of weighted hashes."""

    # Two halves of 28 bits: with a weight of at most 31, neither sum overflows 64 bits, however
    # many rows a batch has.
    cdef uint64_t low, high
    cdef const int64_t[:] weights

    def __cinit__(self, weights):
        self.weights = weights

    cdef int add(self, const char *data, Py_ssize_t size, Py_ssize_t row) except -1:
        cdef uint64_t number = hash_of(data, size)
        cdef uint64_t weight = 1 if self.weights is None else <uint64_t>self.weights[row]
        self.low += (number & 0xFFFFFFF) * weight
        self.high += (number >> 28) * weight
        return 0

    cdef object result(self):
        return (<object>self.high << 28) + self.low


def hash_sum(array, bint without_numbers=False, weights=None):
    """The sum of the first 56 bits of the SHA-256 of each text of a string array, NULLs left out.

    `without_numbers`: after leaving out every character that a number in JSON may be written with.
    """
    cdef _Sum total = _Sum(weights)
    cdef Py_ssize_t rows = len(array), row, first = array.offset, at
    cdef const int32_t *offsets
    cdef const char *data = NULL
    cdef const uint8_t *validity = NULL
    cdef Buffer kept
    cdef char character
    if not rows:
        return 0
    buffers = array.buffers()
    offsets = <const int32_t *><size_t>buffers[1].address + first
    if buffers[2] is not None:
        data = <const char *><size_t>buffers[2].address
    if buffers[0] is not None and array.null_count:
        validity = <const uint8_t *><size_t>buffers[0].address
    memset(&kept, 0, sizeof(Buffer))
    try:
        for row in range(rows):
            if validity != NULL and not validity[(first + row) >> 3] >> ((first + row) & 7) & 1:
                continue
            if without_numbers:
                kept.size = 0
                if kept.room < <size_t>(offsets[row + 1] - offsets[row]):
                    grow(&kept, offsets[row + 1] - offsets[row])
                for at in range(offsets[row], offsets[row + 1]):
                    character = data[at]
                    kept.data[kept.size] = character
                    kept.size += not is_of_number[<uint8_t>character]
                total.add(kept.data, kept.size, row)
            else:
                total.add(data + offsets[row], offsets[row + 1] - offsets[row], row)
    finally:
        PyMem_Free(kept.data)
    return total.result()


def double_hash_sum(array, text_of, weights=None):
    """The same of an array of doubles, each as the text that `text_of` gives for it."""
    cdef _Sum total = _Sum(weights)
    cdef const double[:] values
    cdef const uint8_t[:] valid
    cdef Py_ssize_t row, size
    cdef double value
    cdef char text[64]
    cdef bytes unusual
    if not len(array):
        return 0
    valid = array.is_valid().to_numpy(zero_copy_only=False).view("u1")
    values = array.fill_null(0.0).to_numpy()
    for row in range(len(array)):
        if not valid[row]:
            continue
        value = values[row]
        # Nearly all doubles. Their shortest text needs neither scaling nor rounding.
        if isfinite(value) and 1e-4 <= fabs(value) < 1e15:
            size = _fixed(value, text)
            total.add(text, size, row)
        else:
            unusual = text_of(value).encode()
            total.add(unusual, len(unusual), row)
    return total.result()


cdef Py_ssize_t _fixed(double value, char *text) except -1:
    """Write a double's shortest text with thirty digits behind the point. Returns the length."""
    cdef char *short = PyOS_double_to_string(value, b"r", 0, 2, NULL)
    cdef Py_ssize_t size = strlen(short), whole, at
    try:
        # The text has a point, since flag 2 asks for `.0` behind whole numbers.
        whole = strchr(short, b".") - short + 1
        for at in range(size):
            text[at] = short[at]
        for at in range(size, whole + 30):
            text[at] = b"0"
        return whole + 30
    finally:
        PyMem_Free(short)


cdef bint is_of_number[256]
memset(is_of_number, 0, sizeof(is_of_number))
for _character in map(ord, "-+.0123456789eE"):
    is_of_number[<int>_character] = True
