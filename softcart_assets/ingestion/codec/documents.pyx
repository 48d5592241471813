# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Documents to Arrow arrays; `documents.pyi` describes what is public."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memset

import pyarrow as pa

from softcart_assets.ingestion.codec.bson cimport (
    FIRST_DATE,
    LAST_DATE,
    BOOLEAN,
    Buffer,
    DATE,
    DECIMAL,
    DOUBLE,
    Element,
    INT32,
    INT64,
    NULL_,
    OBJECT_ID,
    STRING,
    double_at,
    int128,
    int32_at,
    int64_at,
    is_text,
    next_element,
    put,
    size_of,
    uint128,
)
from softcart_assets.ingestion.codec.decimals cimport (
    Decimal,
    decimal_at,
    decimal_of_double,
    scaled_decimal,
)
from softcart_assets.ingestion.codec.jsontexts cimport (
    hex_of,
    is_before,
    is_named_alike,
    json_text,
    json_value,
)

cdef extern from "<math.h>" nogil:
    double _floor "floor"(double)

cdef extern from "<string.h>" nogil:
    size_t _length "strlen"(const char *)

# What a column takes.
cdef enum:
    INTO_NOTHING
    INTO_ID
    INTO_ID_TYPE
    INTO_DOCUMENT
    INTO_TEXT
    INTO_BIGINT
    INTO_DOUBLE
    INTO_DECIMAL
    INTO_BOOLEAN
    INTO_INSTANT
    INTO_JSON


cdef enum:
    MOST_FIELDS = 1024

cdef double EXACT_WHOLE = 9007199254740992.0


cdef struct Slot:
    int into
    int precision
    int scale
    Py_ssize_t others  # the column of text that takes what does not fit here, or -1
    bint is_there
    int64_t whole
    double broken
    int128 wide
    const char *text
    Py_ssize_t text_size
    Py_ssize_t json_start
    Py_ssize_t json_end
    Buffer values
    Buffer offsets
    Buffer validity
    Py_ssize_t nulls


cdef class Decoder:
    """Makes batches of documents. Holds the rows that were added since the last `take`."""

    cdef list columns
    cdef dict by_name
    cdef Slot *slots
    cdef Py_ssize_t count
    cdef Py_ssize_t rows
    cdef Buffer scratch
    cdef Buffer document
    cdef Element elements[MOST_FIELDS]
    # What was found out of the document before: the names' bytes end to end, their order, their columns.
    cdef bytes known_names
    cdef Py_ssize_t known_count
    cdef Py_ssize_t known_sizes[MOST_FIELDS]
    cdef Py_ssize_t order[MOST_FIELDS]
    cdef Py_ssize_t places[MOST_FIELDS]
    cdef Py_ssize_t starts[MOST_FIELDS]
    cdef Py_ssize_t ends[MOST_FIELDS]
    cdef Py_ssize_t id_place

    def __cinit__(self, columns, others):
        cdef Py_ssize_t number
        kinds = {
            "text": INTO_TEXT, "bigint": INTO_BIGINT, "double precision": INTO_DOUBLE, "boolean": INTO_BOOLEAN,
            "timestamptz": INTO_INSTANT, "jsonb": INTO_JSON,
        }
        own = {"_id": INTO_ID, "_id_type": INTO_ID_TYPE, "document": INTO_DOCUMENT}
        self.columns = list(columns)
        self.count = len(self.columns)
        self.by_name = {}
        self.known_count = -1
        self.slots = <Slot *>PyMem_Malloc(max(self.count, 1) * sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        memset(self.slots, 0, self.count * sizeof(Slot))
        memset(&self.scratch, 0, sizeof(Buffer))
        memset(&self.document, 0, sizeof(Buffer))
        numbers = {column.name: number for number, column in enumerate(self.columns)}
        for number, column in enumerate(self.columns):
            self.slots[number].others = -1
            if column.name in own:
                self.slots[number].into = own[column.name]
                continue
            if column.name in others:
                self.slots[number].others = numbers[others[column.name]]
            # No field has such a column as its own.
            if column.name not in others.values():
                self.by_name[column.name.encode()] = number
            if column.decimal and column.decimal[0] <= 38:
                self.slots[number].into = INTO_DECIMAL
                self.slots[number].precision, self.slots[number].scale = column.decimal
            else:
                self.slots[number].into = kinds.get(column.target_type, INTO_NOTHING)

    def __dealloc__(self):
        cdef Py_ssize_t number
        for number in range(self.count):
            PyMem_Free(self.slots[number].values.data)
            PyMem_Free(self.slots[number].offsets.data)
            PyMem_Free(self.slots[number].validity.data)
        PyMem_Free(self.slots)
        PyMem_Free(self.scratch.data)
        PyMem_Free(self.document.data)

    def add(self, bytes raw not None):
        """Add the documents that stand end to end in `raw`. Returns those that cannot be handled here."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(raw)
        cdef const uint8_t *end = at + len(raw)
        cdef Py_ssize_t size
        others = []
        while at < end:
            size = size_of(at, end)
            if self._read(at, size):
                self._append()
            else:
                others.append(PyBytes_FromStringAndSize(<const char *>at, size))
            at += size
        return others

    cdef bint _read(self, const uint8_t *document, Py_ssize_t size) except -1:
        """Set the slots to a document's values. False if it cannot be handled here."""
        cdef const uint8_t *at = document + 4
        cdef const uint8_t *end = document + size - 1
        cdef Py_ssize_t count = 0, number, place, column
        cdef Element *element
        cdef Slot *slot
        cdef Buffer *out = &self.document
        while at < end:
            if count == MOST_FIELDS or not next_element(&at, end, &self.elements[count]):
                return False
            count += 1
        # Documents of a collection mostly have the same fields. Then order and columns need not be
        # found again.
        if not self._is_known(count) and not self._learn(count):
            return False
        out.size = 0
        put(out, b"{", 1)
        for number in range(count):
            place = self.order[number]
            element = &self.elements[place]
            if number:
                put(out, b", ", 2)
            json_text(out, element.name, element.name_size)
            put(out, b": ", 2)
            self.starts[place] = out.size
            if not json_value(out, element, 0):
                return False
            self.ends[place] = out.size
        put(out, b"}", 1)
        for column in range(self.count):
            self.slots[column].is_there = False
        for number in range(count):
            column = self.places[number]
            if column >= 0 and not self._set(&self.slots[column], &self.elements[number], number):
                return False
        return self.id_place >= 0 and self._set_id(&self.elements[self.id_place])

    cdef bint _is_known(self, Py_ssize_t count) noexcept:
        """Whether the document has the same fields, in the same order, as the one before."""
        cdef Py_ssize_t number
        cdef const char *name
        if count != self.known_count:
            return False
        name = PyBytes_AS_STRING(self.known_names)
        for number in range(count):
            if self.elements[number].name_size != self.known_sizes[number]:
                return False
            if memcmp(name, self.elements[number].name, self.known_sizes[number]):
                return False
            name += self.known_sizes[number]
        return True

    cdef bint _learn(self, Py_ssize_t count) except -1:
        """Find the order and the columns of the fields. False if a name is not UTF-8 or occurs twice."""
        cdef Py_ssize_t number, place
        names = []
        self.known_count = -1
        self.id_place = -1
        for number in range(count):
            if not is_text(<const uint8_t *>self.elements[number].name, self.elements[number].name_size):
                return False
            # It may be a reference (DBRef), whose JSON has a form of its own.
            if self.elements[number].name_size and self.elements[number].name[0] == b"$":
                return False
            name = PyBytes_FromStringAndSize(self.elements[number].name, self.elements[number].name_size)
            names.append(name)
            self.known_sizes[number] = len(name)
            self.places[number] = self.by_name.get(name, -1)
            if name == b"_id":
                self.id_place = number
            place = number
            while place and is_before(&self.elements[number], &self.elements[self.order[place - 1]]):
                self.order[place] = self.order[place - 1]
                place -= 1
            if place and is_named_alike(&self.elements[number], &self.elements[self.order[place - 1]]):
                return False
            self.order[place] = number
        self.known_names = b"".join(names)
        self.known_count = count
        return True

    cdef bint _set_id(self, Element *element) except -1:
        """Set the columns that every document has."""
        cdef Slot *slot
        cdef Py_ssize_t column
        cdef char text[32]
        cdef const char *name = text
        cdef const char *type
        cdef Py_ssize_t size
        if element.type == STRING:
            name, size, type = <const char *>element.value + 4, element.size - 5, b"string"
        elif element.type == OBJECT_ID:
            hex_of(element.value, text)
            size, type = 24, b"objectId"
        elif element.type == INT32 or element.type == INT64:
            size = snprintf(
                text, 32, b"%lld",
                <long long>(int32_at(element.value) if element.type == INT32 else int64_at(element.value)))
            type = b"int"
        else:
            return False
        for column in range(self.count):
            slot = &self.slots[column]
            if slot.into == INTO_ID:
                self.scratch.size = 0
                put(&self.scratch, name, size)
                slot.text, slot.text_size = self.scratch.data, size
            elif slot.into == INTO_ID_TYPE:
                slot.text, slot.text_size = type, _length(type)
            elif slot.into == INTO_DOCUMENT:
                slot.text, slot.text_size = self.document.data, self.document.size
            else:
                continue
            slot.is_there = True
        return True

    cdef bint _set(self, Slot *slot, Element *element, Py_ssize_t number) except -1:
        """Set a slot to a value. False if it might not fit."""
        cdef Decimal decimal
        cdef int64_t whole = 0
        cdef double broken = 0
        cdef bint is_whole = False
        if element.type == NULL_:
            return True
        if slot.others >= 0 and not _may_fit(slot.into, element.type):
            self._set_text(&self.slots[slot.others], element, number)
            return True
        slot.is_there = True
        if slot.into == INTO_JSON:
            slot.text, slot.text_size = self.document.data + self.starts[number], self.ends[number] - self.starts[number]
            return True
        if slot.into == INTO_TEXT:
            self._set_text(slot, element, number)
            return True
        if slot.into == INTO_BOOLEAN:
            slot.whole = element.type == BOOLEAN and element.value[0] != 0
            return element.type == BOOLEAN
        if slot.into == INTO_INSTANT:
            slot.whole = int64_at(element.value) * 1000 if element.type == DATE else 0
            return element.type == DATE
        if element.type == INT32 or element.type == INT64:
            is_whole = True
            whole = int32_at(element.value) if element.type == INT32 else int64_at(element.value)
        elif element.type == DOUBLE:
            broken = double_at(element.value)
        elif element.type != DECIMAL:
            return False
        if slot.into == INTO_BIGINT:
            if element.type == DOUBLE:
                # From 2^53 on, not every whole number is a double. The value may not be the one
                # that was written.
                if broken != _floor(broken) or not -EXACT_WHOLE < broken < EXACT_WHOLE:
                    return False
                whole = <int64_t>broken
            elif not is_whole:
                return False
            slot.whole = whole
            return True
        if slot.into == INTO_DOUBLE:
            if is_whole:
                if not -(<int64_t>EXACT_WHOLE) < whole < <int64_t>EXACT_WHOLE:
                    return False
                broken = <double>whole
            elif element.type != DOUBLE:
                return False
            slot.broken = broken
            return True
        if slot.into == INTO_DECIMAL:
            if is_whole:
                decimal.is_negative = whole < 0
                decimal.digits = <uint128>(-<int128>whole if whole < 0 else <int128>whole)
                decimal.exponent = 0
            elif element.type == DOUBLE:
                decimal_of_double(broken, &decimal)
            elif not decimal_at(element.value, &decimal):
                return False
            return scaled_decimal(decimal, slot.precision, slot.scale, &slot.wide)
        return False

    cdef void _set_text(self, Slot *slot, Element *element, Py_ssize_t number) noexcept:
        """Set a column of text to any value: a text as it is, another value as its JSON."""
        cdef const char *start = self.document.data + self.starts[number]
        cdef Py_ssize_t size = self.ends[number] - self.starts[number], before
        slot.is_there = True
        if element.type == STRING:
            slot.text, slot.text_size = <const char *>element.value + 4, element.size - 5
            return
        # Their JSON has one text, as in {"$oid": "…"}, or {"$numberLong": …} for early dates.
        if element.type == OBJECT_ID or element.type == DECIMAL or element.type == DATE:
            before = <const char *>memchr(start, b":", size) - start + 3
            if start[before - 1] == b'"':
                start, size = start + before, size - before - 2
        slot.text, slot.text_size = start, size

    cdef int _append(self) except -1:
        cdef Slot *slot
        cdef Py_ssize_t column
        cdef int32_t offset
        cdef int128 wide
        cdef int64_t whole
        cdef double broken
        cdef char flag
        for column in range(self.count):
            slot = &self.slots[column]
            flag = slot.is_there
            put(&slot.validity, &flag, 1)
            slot.nulls += not flag
            if slot.into in (INTO_TEXT, INTO_JSON, INTO_ID, INTO_ID_TYPE, INTO_DOCUMENT):
                if not slot.offsets.size:
                    offset = 0
                    put(&slot.offsets, <const char *>&offset, 4)
                if flag:
                    # Arrow's offsets have 32 bits.
                    if slot.values.size + slot.text_size > 0x7FFFFFFF:
                        raise OverflowError("more than 2 GiB of text in a column: take what there is first")
                    put(&slot.values, slot.text, slot.text_size)
                offset = <int32_t>slot.values.size
                put(&slot.offsets, <const char *>&offset, 4)
            elif slot.into == INTO_DECIMAL:
                wide = slot.wide if flag else 0
                put(&slot.values, <const char *>&wide, 16)
            elif slot.into == INTO_DOUBLE:
                broken = slot.broken if flag else 0
                put(&slot.values, <const char *>&broken, 8)
            elif slot.into == INTO_BOOLEAN:
                flag = flag and slot.whole
                put(&slot.values, &flag, 1)
            elif slot.into != INTO_NOTHING:
                whole = slot.whole if flag else 0
                put(&slot.values, <const char *>&whole, 8)
        self.rows += 1
        return 0

    def __len__(self):
        return self.rows

    def take(self):
        """Return the rows added since the last call, as a batch."""
        cdef Py_ssize_t column
        arrays = []
        for column in range(self.count):
            arrays.append(self._array(&self.slots[column], self.columns[column].arrow_type))
        batch = pa.RecordBatch.from_arrays(arrays, names=[each.name for each in self.columns])
        self.rows = 0
        return batch

    cdef object _array(self, Slot *slot, type):
        cdef bytes values = PyBytes_FromStringAndSize(slot.values.data, slot.values.size)
        cdef Py_ssize_t rows = self.rows, nulls = slot.nulls
        validity = None
        if nulls:
            validity = pa.py_buffer(_bits(slot.validity.data, rows))
        if slot.into == INTO_NOTHING:
            array = pa.nulls(rows, type)
        elif slot.into in (INTO_TEXT, INTO_JSON, INTO_ID, INTO_ID_TYPE, INTO_DOCUMENT):
            offsets = PyBytes_FromStringAndSize(slot.offsets.data, slot.offsets.size) or b"\0\0\0\0"
            array = pa.Array.from_buffers(type, rows, [validity, pa.py_buffer(offsets), pa.py_buffer(values)], nulls)
        elif slot.into == INTO_BOOLEAN:
            array = pa.Array.from_buffers(
                type, rows, [validity, pa.py_buffer(_bits(slot.values.data, rows))], nulls)
        else:
            array = pa.Array.from_buffers(type, rows, [validity, pa.py_buffer(values)], nulls)
        slot.values.size = slot.offsets.size = slot.validity.size = slot.nulls = 0
        return array


cdef bint _may_fit(int into, uint8_t type) noexcept nogil:
    """Whether some value of a document's type fits a column."""
    if into == INTO_BOOLEAN:
        return type == BOOLEAN
    if into == INTO_INSTANT:
        return type == DATE
    return type in (INT32, INT64, DOUBLE, DECIMAL)


cdef bytes _bits(const char *flags, Py_ssize_t count):
    cdef bytes bits = PyBytes_FromStringAndSize(NULL, (count + 7) // 8)
    cdef char *out = PyBytes_AS_STRING(bits)
    cdef Py_ssize_t at
    memset(out, 0, len(bits))
    for at in range(count):
        if flags[at]:
            out[at >> 3] |= 1 << (at & 7)
    return bits
