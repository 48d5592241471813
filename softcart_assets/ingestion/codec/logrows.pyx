# cython: language_level=3, cdivision=True
"""Rows events of the binary log to Arrow; `logrows.pyi` describes what is public."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int8_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp

from datetime import datetime

import pyarrow as pa

from softcart_assets.ingestion import types

from softcart_assets.ingestion.codec.builders cimport (
    BYTES,
    FAILED,
    FIT,
    NO_MEMORY,
    UNFIT,
    Builder,
    Builders,
    Outcome,
    buffer_of,
    put_null,
    raise_outcome,
)
from softcart_assets.ingestion.codec.logvalues cimport (
    SET,
    SLOW,
    LogField,
    little,
    put_logged,
)
from softcart_assets.ingestion.codec.logfields cimport describe
from softcart_assets.ingestion.codec.logtexts cimport text_of
from softcart_assets.ingestion.codec.texts cimport put_text


cdef enum:
    NONE = -1  # no operation: the image is that before a change, which is kept apart


@cython.final
cdef class RowsDecoder:
    cdef Builders _builders, _before
    cdef list _log_columns, _key, _sources, _kept, _unfit
    cdef object _json_text, _error
    cdef LogField* _fields
    cdef int _count
    cdef int* _key_indexes
    cdef int _key_count
    cdef int* _absent  # builders for which the log has nothing
    cdef int _absent_count
    cdef const uint8_t** _starts  # of the values of the image before, then of the one after; NULL for NULL
    cdef size_t* _lengths
    cdef int8_t* _operations
    cdef size_t _operations_size
    cdef int _failed  # the field whose value was not fit
    cdef list _last  # the last value of each field that Python made a text of, and the text

    def __cinit__(self, log_columns, key_indexes, columns, json_text=None):
        cdef int index
        cdef Builder* b
        self._log_columns = list(log_columns)
        self._builders = Builders(columns)
        self._before = Builders(columns)
        self._json_text = json_text
        self._kept = []
        self._unfit = []
        key = [self._log_columns[index].name for index in key_indexes]
        self._key = key if {*key} <= {column.name for column in columns} else []
        self._count = len(self._log_columns)
        self._last = [(None, None)] * self._count
        self._key_count = len(key)
        self._fields = <LogField*>calloc(max(self._count, 1), sizeof(LogField))
        self._key_indexes = <int*>calloc(max(self._key_count, 1), sizeof(int))
        self._absent = <int*>calloc(max(self._builders.count, 1), sizeof(int))
        self._starts = <const uint8_t**>calloc(2 * self._count + 1, sizeof(uint8_t*))
        self._lengths = <size_t*>calloc(2 * self._count + 1, sizeof(size_t))
        if not (self._fields and self._key_indexes and self._absent and self._starts and self._lengths):
            raise MemoryError
        for index in range(self._key_count):
            self._key_indexes[index] = key_indexes[index]
        targets = {column.name: index for index, column in enumerate(self._builders.columns)}
        for index, column in enumerate(self._log_columns):
            self._fields[index].target = targets.get(column.name, -1)
            b = &self._builders.each[self._fields[index].target] if self._fields[index].target >= 0 else NULL
            describe(&self._fields[index], column, b, self._kept)
        by_name = {column.name: index for index, column in enumerate(self._log_columns)}
        self._sources = [by_name.get(column.name) for column in self._builders.columns]
        for index, source in enumerate(self._sources):
            if source is None:
                self._absent[self._absent_count] = index
                self._absent_count += 1

    def __dealloc__(self):
        cdef int index
        if self._fields:
            for index in range(self._count):
                free(self._fields[index].labels)
                free(self._fields[index].characters)
        free(self._fields)
        free(self._key_indexes)
        free(self._absent)
        free(self._starts)
        free(self._lengths)
        free(self._operations)

    cdef const uint8_t* _split(self, const uint8_t* at, const uint8_t* end, int image) noexcept nogil:
        """Find the values of the image at `at`. Returns its end, or NULL if it reaches beyond `end`."""
        cdef const uint8_t* nulls = at
        cdef const uint8_t** starts = self._starts + image * self._count
        cdef size_t* lengths = self._lengths + image * self._count
        cdef LogField* field
        cdef size_t length
        cdef int index
        if end - at < (self._count + 7) // 8:
            return NULL
        at += (self._count + 7) // 8
        for index in range(self._count):
            if (nulls[index >> 3] >> (index & 7)) & 1:
                starts[index] = NULL
                continue
            field = &self._fields[index]
            length = field.size
            if not length:
                if end - at < field.prefix:
                    return NULL
                length = little(at, field.prefix)
                at += field.prefix
            if <size_t>(end - at) < length:
                return NULL
            starts[index] = at
            lengths[index] = length
            at += length
        return at

    cdef bint _key_changes(self) noexcept nogil:
        """Whether the keys of the images before and after differ."""
        cdef const uint8_t* old
        cdef const uint8_t* new
        cdef int index, column
        for index in range(self._key_count):
            column = self._key_indexes[index]
            old = self._starts[column]
            new = self._starts[self._count + column]
            # A key column is never NULL in MySQL, but a declared key may be of other columns.
            if not old or not new:
                if old != new:
                    return True
                continue
            if self._lengths[column] != self._lengths[self._count + column]:
                return True
            # Bytes, not collations: 'a' and 'A' are two keys in raw, though one key at the source.
            if memcmp(old, new, self._lengths[column]):
                return True
        return False

    cdef Outcome _append(self, Builders builders, int image, int operation) noexcept nogil:
        """Put an image's values into the builders."""
        cdef const uint8_t** starts = self._starts + image * self._count
        cdef size_t* lengths = self._lengths + image * self._count
        cdef LogField* field
        cdef Outcome outcome
        cdef size_t row = builders.rows
        cdef int index
        cdef void* memory
        outcome = builders.make_room()
        if outcome != FIT:
            return outcome
        if operation != NONE and self._operations_size < builders.capacity:
            memory = realloc(self._operations, builders.capacity)
            if not memory:
                return NO_MEMORY
            self._operations = <int8_t*>memory
            self._operations_size = builders.capacity
        for index in range(self._count):
            field = &self._fields[index]
            if field.target < 0:
                continue
            if not starts[index]:
                put_null(&builders.each[field.target], row)
                continue
            if field.way == SLOW:
                outcome = self._put_slowly(&builders.each[field.target], row, index, starts[index], lengths[index])
            else:
                outcome = put_logged(field, &builders.each[field.target], row, starts[index], lengths[index])
            if outcome != FIT:
                self._failed = index
                builders.cut(row)
                return outcome
        for index in range(self._absent_count):
            put_null(&builders.each[self._absent[index]], row)
        if operation != NONE:
            self._operations[row] = <int8_t>operation
        builders.rows += 1
        return FIT

    cdef Outcome _put_slowly(self, Builder* b, size_t row, int index, const uint8_t* data, size_t length) noexcept with gil:
        cdef bytes value, text
        try:
            # Most values are the same before and after an update.
            value = PyBytes_FromStringAndSize(<const char*>data, length)
            last, text = self._last[index]
            if last != value:
                text = text_of(&self._fields[index], self._log_columns[index], self._json_text, data, length)
                self._last[index] = (value, text)
        except ValueError:
            return UNFIT
        except BaseException as error:
            self._error = error
            return FAILED
        return put_text(b, row, <const uint8_t*><char*>text, len(text))

    cdef int _reconsider(self, Builders builders, int image, int operation) except -1:
        """Append an unfit image after all if its texts are only unusual for their types.

        Otherwise keep it as text. An image before a change is not kept: it was told when it came.
        """
        cdef const uint8_t** starts = self._starts + image * self._count
        cdef size_t* lengths = self._lengths + image * self._count
        cdef int source
        columns = self._builders.columns
        texts, bad = [], {}
        for column, given in zip(columns, self._sources):
            texts.append(None)
            if given is None:
                continue
            source = given
            if starts[source]:
                try:
                    texts[-1] = text_of(
                        &self._fields[source], self._log_columns[source], self._json_text, starts[source], lengths[source]
                    )
                except ValueError as error:
                    bad[column.name] = str(error)
        raw = [pa.array([text], pa.binary()) for text in texts]
        parsed = types.parse_rows(columns, raw, self._key, None)
        rejected = parsed.rejected
        if not rejected and not bad and self._append_parsed(builders, parsed.rows, operation):
            return 0
        if operation == NONE:
            return 0
        if rejected and not bad:
            rejection = rejected[0]
        else:
            if rejected:
                bad.setdefault(rejected[0].column, rejected[0].reason)
            elif not bad:
                column = columns[self._fields[self._failed].target]
                bad[column.name] = f"no usual text of {column.target_type}"
            row = {}
            for column, given, text in zip(columns, self._sources, texts):
                if column.name in bad and text is None and given is not None:
                    source = given
                    row[column.name] = "\\x" + PyBytes_FromStringAndSize(<const char*>starts[source], lengths[source]).hex()
                else:
                    row[column.name] = types._printable(column, text)
            keys = tuple([row[name] for name in self._key])
            rejection = types.Rejected(
                None if not keys or None in keys or bad.keys() & set(self._key) else keys,
                None,
                next(iter(bad)),
                "; ".join(bad.values()) if len(bad) == 1 else "; ".join([f"{name}: {why}" for name, why in bad.items()]),
                row,
            )
        self._unfit.append((self._builders.rows, operation, rejection))
        return 0

    cdef bint _append_parsed(self, Builders builders, batch, int operation) except -1:
        """Append a batch's only row. Returns False if a value cannot be appended."""
        cdef size_t row = builders.rows
        cdef bytes text
        cdef int index
        for index, column in enumerate(builders.columns):
            value = batch.column(index)[0].as_py()
            if value is None:
                put_null(&builders.each[index], row)
                continue
            if column.kind is types.Kind.BYTES:
                text = value
            elif column.kind is types.Kind.DECIMAL:
                text = format(value, "f").encode()
            elif isinstance(value, datetime):
                text = str(value.replace(tzinfo=None)).encode()
            else:
                text = str(value).encode()
            if put_text(&builders.each[index], row, <const uint8_t*><char*>text, len(text)) != FIT:
                builders.cut(row)
                return False
        if operation != NONE:
            self._operations[row] = <int8_t>operation
        builders.rows += 1
        return True

    def decode(self, body, int kind):
        cdef Py_buffer view
        if kind < 0 or kind > 2:
            raise ValueError(f"a rows event's kind is 0 (delete), 1 (insert) or 2 (update), not {kind}")
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            return self._decode(<const uint8_t*>view.buf, view.len, kind)
        finally:
            PyBuffer_Release(&view)

    cdef size_t _decode(self, const uint8_t* at, Py_ssize_t size, int kind) except? 0:
        cdef Builders builders = self._builders
        cdef const uint8_t* end = at + size
        cdef const uint8_t* start
        cdef Builders before = self._before
        cdef size_t rows = builders.rows, rows_before = before.rows, changes = 0
        cdef Py_ssize_t unfit = len(self._unfit), at_bitmap
        cdef Outcome outcome = FIT
        cdef int index, images = 2 if kind == 2 else 1, image, first, last, operation, bitmap = (self._count + 7) // 8
        cdef bint whole = True
        number, at_bitmap = _length_encoded(PyBytes_FromStringAndSize(<const char*>at, min(size, 9)))
        if number != self._count:
            raise ValueError(f"the rows event has {number} columns, its table map {self._count}")
        if size < at_bitmap + images * bitmap:
            raise ValueError("the rows event is too short")
        at += at_bitmap
        for index in range(self._count):
            for image in range(images):
                whole &= (at[image * bitmap + (index >> 3)] >> (index & 7)) & 1
        if not whole:
            raise ValueError(
                "the rows event does not hold whole rows: run SET GLOBAL binlog_row_image = FULL on the server (MySQL: "
                "binlog_row_value_options = '', too), and set it in its configuration"
            )
        at += images * bitmap
        try:
            with nogil:
                # To the end of the body: an event has as many rows as fit. Elsewhere only the first
                # one was taken (Altinity/clickhouse-sink-connector#1391).
                while at < end:
                    start = at
                    at = self._split(at, end, 0)
                    if at and kind == 2:
                        at = self._split(at, end, 1)
                    # An image without columns has no length, and the loop would never end.
                    if not at or at == start:
                        at = NULL
                        break
                    # Images: 0 of an insertion, a deletion, or before an update; 1 after an update.
                    first = last = 0
                    if kind == 2:
                        last = 1
                        # An update of the key is a deletion and an insertion: otherwise the old key
                        # would stay in raw.
                        first = 0 if not self._key_count or self._key_changes() else 1
                    for image in range(first, last + 1):
                        operation = kind if first == last else image
                        outcome = self._append(builders, image, operation)
                        if outcome == UNFIT:
                            with gil:
                                self._reconsider(builders, image, operation)
                            outcome = FIT
                        if outcome != FIT:
                            break
                        changes += 1
                    if outcome == FIT and kind != 1:
                        outcome = self._append(before, 0, NONE)
                        if outcome == UNFIT:
                            with gil:
                                self._reconsider(before, 0, NONE)
                            outcome = FIT
                    if outcome != FIT:
                        break
            if not at:
                raise ValueError("the rows event ends within a row: it is not what its table map describes")
            if outcome == FAILED:
                error, self._error = self._error, None
                raise error
            if outcome != FIT:
                raise_outcome(outcome, builders.columns)
        except BaseException:
            # All of an event or nothing: the caller may read it again.
            builders.cut(rows)
            before.cut(rows_before)
            del self._unfit[unfit:]
            raise
        return changes

    def take(self):
        cdef size_t rows = self._builders.rows
        operations = pa.array([], pa.int8())
        batch = self._builders.take()
        if rows:
            operations = pa.Array.from_buffers(pa.int8(), rows, [None, buffer_of(self._operations, rows)])
            self._operations = NULL
            self._operations_size = 0
        unfit, self._unfit = self._unfit, []
        return batch, operations, unfit

    def take_before(self):
        return self._before.take()

    @property
    def before(self):
        return self._before.rows

    def __len__(self):
        return self._builders.rows + len(self._unfit)


cdef tuple _length_encoded(bytes data):
    """A length-encoded integer and its size."""
    first = data[0] if data else 0
    size = {252: 2, 253: 3, 254: 8}.get(first, 0)
    return (int.from_bytes(data[1 : 1 + size], "little") if size else first), 1 + size
