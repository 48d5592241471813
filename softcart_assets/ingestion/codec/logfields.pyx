# cython: language_level=3, cdivision=True
"""How the columns of a table lie in its row images, worked out once for each definition."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy

from softcart_assets.ingestion.codec.builders cimport (
    BYTES,
    DATE,
    DOUBLE,
    INT64,
    INTERVAL,
    TEXT,
    TIMESTAMP,
    Builder,
)
from softcart_assets.ingestion.codec.logvalues cimport (
    DIGIT_BYTES,
    TINY,
    SHORT,
    LONG,
    FLOAT32,
    FLOAT64,
    TIMESTAMP_OLD,
    LONGLONG,
    INT24,
    DATE_OLD,
    TIME_OLD,
    DATETIME_OLD,
    YEAR,
    NEWDATE,
    VARCHAR,
    BIT,
    TIMESTAMP2,
    DATETIME2,
    TIME2,
    BLOB_COMPRESSED,
    VARCHAR_COMPRESSED,
    VECTOR,
    JSON_BINARY,
    NEWDECIMAL,
    ENUM,
    SET,
    TINY_BLOB,
    MEDIUM_BLOB,
    LONG_BLOB,
    BLOB,
    VAR_STRING,
    STRING,
    GEOMETRY,
    SLOW,
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
    LABELS,
    LogField,
    Piece,
)
from softcart_assets.ingestion.codec.logtexts cimport decoded


cdef dict _SIZES = {
    TINY: 1, SHORT: 2, INT24: 3, LONG: 4, LONGLONG: 8, FLOAT32: 4, FLOAT64: 8, YEAR: 1,
    DATE_OLD: 3, NEWDATE: 3, TIME_OLD: 3, DATETIME_OLD: 8, TIMESTAMP_OLD: 4,
}
cdef dict _FRACTIONAL_SIZES = {TIMESTAMP2: 4, DATETIME2: 5, TIME2: 3}
cdef tuple _TEXTS = (VARCHAR, VAR_STRING, STRING, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB)


cdef int describe(LogField* field, column, Builder* b, list kept) except -1:
    """Work out how a column's values lie in the image, and how they get from there to where they belong.

    `b`: where they belong, NULL if nobody wants them. `kept`: takes what the field points at.
    """
    _measure(field, column)
    if b:
        _choose_way(field, column, b, kept)
    return 0


cdef int _measure(LogField* field, column) except -1:
    """Note how long a value is in the image, or how many bytes its length takes."""
    cdef int code = column.type_code, meta = column.meta
    field.code = code
    field.is_unsigned = column.unsigned
    if code in _SIZES:
        field.size = _SIZES[code]
    elif code in _FRACTIONAL_SIZES:
        field.scale = meta
        field.size = _FRACTIONAL_SIZES[code] + (meta + 1) // 2
    elif code == NEWDECIMAL:
        field.precision, field.scale = divmod(meta, 256)
        for digits in (field.precision - field.scale, field.scale):
            field.size += digits // 9 * 4 + DIGIT_BYTES[<int>(digits % 9)]
    elif code == BIT:
        field.size = (meta + 7) // 8
    elif code in (ENUM, SET):
        field.size = meta
    elif code in (VARCHAR, VAR_STRING, STRING, VARCHAR_COMPRESSED):
        # The log itself does not say how long a length is. It follows from the column's greatest
        # length.
        field.prefix = 1 if meta < 256 else 2
    elif code in (BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED, GEOMETRY, JSON_BINARY, VECTOR):
        field.prefix = meta
    else:
        raise ValueError(f"column {column.name!r} has type number {code}, whose values the binary log's reader does not know")
    fraction = field.scale if code in _FRACTIONAL_SIZES else 0
    if field.prefix > 4 or fraction > 6 or field.precision > 76 or (code in (BIT, ENUM, SET) and not 1 <= meta <= 64):
        raise ValueError(f"column {column.name!r} of type number {code} cannot have the metadata {meta}")
    return 0


cdef int _choose_way(LogField* field, column, Builder* b, list kept) except -1:
    """Choose the way from the image into a builder. SLOW if no fast one fits."""
    cdef int code = field.code, meta = column.meta
    if code in (TINY, SHORT, INT24, LONG, LONGLONG, BIT, YEAR):
        # Twenty digits hold the largest unsigned bigint.
        if b.form <= INT64 or (b.scale == 0 and b.precision >= 20):
            field.way = WHOLE
    elif code == NEWDECIMAL:
        # A narrower target could lose digits. Then the text is parsed, which refuses such values.
        if b.precision and b.scale == field.scale and b.precision >= field.precision:
            field.way = DIGITS
    elif code in (FLOAT32, FLOAT64):
        if b.form == DOUBLE:
            field.way = FLOATING
    elif code in (DATE_OLD, NEWDATE):
        if b.form == DATE:
            field.way = DAY
    elif code in (TIMESTAMP_OLD, TIMESTAMP2, DATETIME_OLD, DATETIME2):
        if b.form == TIMESTAMP:
            field.way = MOMENT
    elif code in (TIME_OLD, TIME2):
        if b.form == INTERVAL:
            field.way = SPAN
    elif code in (GEOMETRY, VECTOR):
        field.way = PLAIN
    elif code in (ENUM, SET):
        if b.form == TEXT:
            field.way = LABEL if code == ENUM else LABELS
            _keep_labels(field, column.labels, kept)
    elif code in _TEXTS and column.form not in ("uuid", "inet4", "inet6"):
        if column.charset == "binary":
            field.padded = meta if code == STRING else 0
            field.way = PLAIN if not field.padded else PADDED if b.form == BYTES else SLOW
        elif column.charset == "utf-8":
            field.way = PLAIN
        elif b.form == TEXT and _keep_characters(field, column.charset):
            field.way = SEVEN_BITS if column.charset == "ascii" else ONE_BYTE
    return 0


cdef int _keep_labels(LogField* field, labels, list kept) except -1:
    """Store the labels of an ENUM or SET where they can be read without Python's lock."""
    cdef int index
    cdef bytes text
    field.label_count = len(labels)
    field.labels = <Piece*>calloc(max(field.label_count, 1), sizeof(Piece))
    if not field.labels:
        raise MemoryError
    for index in range(field.label_count):
        text = labels[index].encode()
        if 0 in text:
            field.way = SLOW
        kept.append(text)
        field.labels[index].data = <const uint8_t*><char*>text
        field.labels[index].length = len(text)
    return 0


cdef bint _keep_characters(LogField* field, charset) except -1:
    """Make the table of a character set in which each byte is a character, if it is such a one."""
    cdef int index
    cdef bytes text
    try:
        characters = decoded(bytes(range(256)), charset)
    except UnicodeError:
        return False
    # The table has three bytes of UTF-8 per character, which reach to U+FFFF.
    if len(characters) != 256 or not characters.isascii() and max(characters) > "\uffff":
        return False
    field.characters = <uint8_t*>calloc(256, 4)
    if not field.characters:
        raise MemoryError
    for index in range(256):
        text = characters[index].encode()
        field.characters[4 * index] = len(text)
        memcpy(field.characters + 4 * index + 1, <const char*>text, len(text))
    return True
