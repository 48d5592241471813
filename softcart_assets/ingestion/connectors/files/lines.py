"""Cuts text into records, with the line where each begins, and finds the lines that are no record.

Nothing here may swallow lines. A quoted field that does not end would take all lines up to the next
quote. So such a line is broken, and the next one is tried as the beginning of a record.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from softcart_assets.ingestion.connectors.files.content import Readable, Unreadable
from softcart_assets.lines.model import FileFormat

_BLOCK_BYTES = 4 << 20
_LINES_A_RECORD = 100
"""A record with more lines is none: a quote was forgotten somewhere."""
_BYTES_A_RECORD = 1 << 20
csv.field_size_limit(_BYTES_A_RECORD)


@dataclass(frozen=True)
class BrokenLine:
    """A line that is no record."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Records:
    """Some records: an array of texts (binary) per field, and the line where each begins."""

    fields: Sequence[pa.Array]
    lines: np.ndarray
    broken: Sequence[BrokenLine]

    def __len__(self) -> int:
        return len(self.lines)


class Lines:
    """The records of a text, in order."""

    def __init__(self, text: Readable, form: FileFormat) -> None:
        self._text, self._form = text, form
        self._rest = b""
        self._line = 1
        self._is_end = self._is_begun = False
        self._dialect: dict[str, Any] = {
            "delimiter": form.separator,
            "quotechar": form.quote or None,
            "quoting": csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
            # Otherwise a forgotten quote would be taken for a part of the value.
            "strict": True,
        }

    def header(self) -> list[str]:
        """Take the first record. Raises `Unreadable` if there is none."""
        while True:
            texts = self._rest.decode("utf-8", "surrogateescape").split("\n")
            blank = next((n for n, text in enumerate(texts) if text.strip("\r")), len(texts))
            fields, used, reason = self._record(texts, blank)
            is_whole = fields and blank + used < len(texts)
            if is_whole or self._is_end:
                break
            if len(self._rest) > _BYTES_A_RECORD:
                reason = reason or "it does not end"
                break
            self._read_on(_BYTES_A_RECORD // 4)
        if not fields:
            raise Unreadable(f"line {self._line + blank}: no header ({reason or 'nothing there'})")
        used += blank
        self._rest = b"\n".join(self._rest.split(b"\n")[used:])
        self._line += used
        return fields

    def records(self, width: int) -> Iterator[Records]:
        """Yield the rest of the text in blocks. Records have `width` fields."""
        while self._rest or not self._is_end:
            before = len(self._rest)
            while not self._is_end and len(self._rest) < before + _BLOCK_BYTES:
                self._read_on(_BLOCK_BYTES)
            # Up to the last line break: what follows may go on in the next block.
            end = len(self._rest) if self._is_end else self._rest.rfind(b"\n") + 1
            block, self._rest = self._rest[:end], self._rest[end:]
            if block:
                found, left = self._plain(block, width) or self._careful(block, width)
                self._rest = left + self._rest
                yield found
            elif len(self._rest) > 16 * _BYTES_A_RECORD:
                raise Unreadable(f"line {self._line}: it is longer than {len(self._rest):,} bytes")

    def _read_on(self, size: int) -> None:
        piece = self._text.read(size)
        self._rest += piece
        self._is_end = not piece
        if not self._is_begun and (len(self._rest) >= len(codecs.BOM_UTF8) or self._is_end):
            self._is_begun = True
            self._rest = self._rest.removeprefix(codecs.BOM_UTF8)

    def _plain(self, block: bytes, width: int) -> tuple[Records, bytes] | None:
        """Cut lines without quotes, by Arrow. None: this block has to be looked at by line."""
        # Without these, a line break is the end of a record, and nothing can be mistaken.
        if self._form.quote and self._form.quote.encode() in block:
            return None
        if block.count(b"\r") != block.count(b"\r\n"):
            return None
        # Arrow takes a blank line for a record without values.
        if b"\n\n" in block or b"\n\r" in block or block[:1] in b"\r\n":
            return None
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        names = [str(place) for place in range(width)]
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(block),
                arrow_csv.ReadOptions(
                    use_threads=False, column_names=names, block_size=len(block) + 1
                ),
                arrow_csv.ParseOptions(
                    delimiter=self._form.separator, quote_char=False, ignore_empty_lines=False
                ),
                arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary())),
            )
        except pa.ArrowInvalid:
            return None
        if len(table) != lines:
            return None
        numbers = np.arange(self._line, self._line + lines, dtype=np.int64)
        self._line += lines
        fields = [pa.concat_arrays(column.chunks) for column in table.columns]
        return Records(fields, numbers, []), b""

    def _careful(self, block: bytes, width: int) -> tuple[Records, bytes]:
        """Cut lines one by one. What follows the last whole record is returned, too."""
        texts = block.decode("utf-8", "surrogateescape").split("\n")
        if not texts[-1]:
            texts.pop()
        rows, lines, broken, at = self._all_alike(texts, width)
        while at < len(texts):
            fields, used, reason = self._record(texts, at)
            if not fields and not reason:  # a blank line
                at += 1
                continue
            if reason and not self._is_end and len(texts) - at < _LINES_A_RECORD:
                # The block may end within a record.
                rest = "\n".join(texts[at:]) + ("\n" if block.endswith(b"\n") else "")
                if len(rest) < _BYTES_A_RECORD:
                    break
            if not reason and len(fields) != width:
                reason = f"{len(fields)} fields instead of {width}"
            if reason:
                text = _shown(texts[at].rstrip("\r"))
                broken.append(BrokenLine(self._line + at, text, reason))
                at += 1
                continue
            rows.append(fields)
            lines.append(self._line + at)
            at += used
        else:
            rest = ""
        self._line += at
        columns = zip(*rows, strict=True) if rows else [()] * width
        fields_ = [
            pa.array([v.encode("utf-8", "surrogateescape") for v in column], pa.binary())
            for column in columns
        ]
        found = Records(fields_, np.array(lines, np.int64), broken)
        return found, rest.encode("utf-8", "surrogateescape")

    def _all_alike(
        self, texts: Sequence[str], width: int
    ) -> tuple[list[list[str]], list[int], list[BrokenLine], int]:
        """Return the records of lines that each are one. Nothing, if any of them is something else.

        This takes a third of the time of looking at each line.
        """
        reader = csv.reader((f"{text}\n" for text in texts), **self._dialect)
        try:
            rows = list(reader)
        except csv.Error:
            return [], [], [], 0
        if len(rows) != len(texts) or any(len(row) != width for row in rows):
            return [], [], [], 0
        return rows, list(range(self._line, self._line + len(rows))), [], len(rows)

    def _record(self, texts: Sequence[str], at: int) -> tuple[list[str], int, str]:
        """Return the record that begins at a line, the number of its lines, or what is wrong."""
        if at >= len(texts):
            return [], 0, ""
        # By index: a slice from the iterator would walk over all lines before, for each record.
        places = range(at, min(at + _LINES_A_RECORD, len(texts)))
        reader = csv.reader((f"{texts[place]}\n" for place in places), **self._dialect)
        try:
            fields = next(reader)
        except csv.Error as error:
            reason = "a quoted field does not end" if "end of data" in str(error) else str(error)
            return [], 0, reason
        return fields, reader.line_num, ""


def _shown(text: str) -> str:
    """Return a line as PostgreSQL can keep it."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return readable.replace("\0", "\\x00")
