"""The content of one file as it is read: hashed as it is, then unpacked and turned into UTF-8."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from typing import Any, Protocol, cast

import pyarrow as pa

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


class Unfinished(Exception):
    """A file is still being written, or may be. The text says how that shows."""


class Unreadable(Exception):
    """A file as a whole cannot be read. The text says why, and where."""


class Readable(Protocol):
    """What can be read in pieces. An empty piece is the end."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`."""


class Content:
    """The bytes of a file, in order. What was read is in `size` and `digest`."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._ahead = b""
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`."""
        if self._ahead:
            piece, self._ahead = self._ahead, b""
            return piece
        piece = bytes(self._stream.read(size if size >= 0 else None))
        self._hash.update(piece)
        self.size += len(piece)
        return piece

    def begins_with(self, start: bytes) -> bool:
        """Whether these are the first bytes. They stay to be read."""
        while len(self._ahead) < len(start):
            before, self._ahead = self._ahead, b""
            piece = self.read(len(start) - len(before))
            self._ahead = before + piece
            if not piece:
                break
        return self._ahead.startswith(start)

    def drain(self) -> None:
        """Read on to the end."""
        while self.read(_PIECE):
            pass

    @property
    def digest(self) -> str:
        """The SHA-256 of what was read."""
        return self._hash.hexdigest()


class Text:
    """The text of a file as UTF-8.

    Bytes that are no text in the encoding stay as they are. They are no UTF-8 then, so the value in
    which they stand is refused, and not the file.
    """

    def __init__(self, content: Content, encoding: str) -> None:
        self._source: Readable = content
        if content.begins_with(_GZIP):  # whatever its name is
            self._source = gzip.GzipFile(fileobj=cast(Any, content), mode="rb")
        name = codecs.lookup(encoding).name
        is_utf8 = name in ("utf-8", "utf-8-sig", "ascii")
        self._decoder = None if is_utf8 else codecs.getincrementaldecoder(name)("surrogateescape")

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, about `size`. Raises `Unfinished` or `Unreadable`."""
        try:
            piece = self._source.read(size)
        except EOFError:
            raise Unfinished("its gzip data do not end") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise Unreadable(f"its gzip data are damaged: {error}") from None
        if self._decoder:
            try:
                text = self._decoder.decode(piece, final=not piece)
                # A piece may end within a character, and give no text although more follows.
                while piece and not text:
                    piece = self._source.read(size)
                    text = self._decoder.decode(piece, final=not piece)
                piece = text.encode("utf-8", "surrogateescape")
            except UnicodeError as error:
                raise Unreadable(f"it is not in the declared encoding: {error}") from None
        return piece
