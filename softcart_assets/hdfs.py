"""HDFS as a file system of Arrow's, without a JVM, on the library `hdfs-native`."""

from __future__ import annotations

import ctypes
import io
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from hdfs_native.fsspec import HdfsFileSystem
from pyarrow import fs

SETTINGS = {
    # Otherwise a call to a NameNode that is down takes minutes.
    "dfs.client.failover.max.attempts": "1",
}
"""Settings of Hadoop's names, which override those in `HADOOP_CONF_DIR`."""


class _Told:
    """A client of HDFS or a file there. What the NameNode refuses is an `OSError`, and one line."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*of: Any, **named: Any) -> Any:
            try:
                result = found(*of, **named)
            except RuntimeError as error:
                raise OSError(_reason(str(error))) from None
            return _Told(result) if isinstance(result, io.RawIOBase) else result

        return call


def _reason(text: str) -> str:
    """What an error of the library says, without the NameNode's list of Java's calls."""
    refused = re.match(r'RPCError\("[\w.$]*?(\w+)", "(.*?)(?:\\n|"\)$)', text, re.DOTALL)
    return f"{refused[1]}: {refused[2]}" if refused else text.partition("\n")[0]


class _Hdfs(HdfsFileSystem):
    """What `hdfs-native` offers, with some differences.

    It takes names apart as if they were URIs, and would cut them at `#`, `?` and `;`. And a folder
    that cannot be listed is an error: fsspec would leave it out, as if it had no files.
    """

    # fsspec drops the instances that it knows after each fork, see `_opened`.
    cachable = False

    def __init__(self, *of: Any, **named: Any) -> None:
        super().__init__(*of, **named)
        # Dropping it waits for its threads. In a forked process, which has none, that is for ever.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.client.inner))
        self.client: Any = _Told(self.client)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path or "/"

    def walk(self, path: str, *of: Any, **named: Any) -> Iterator[Any]:
        """See fsspec."""

        def failed(error: OSError) -> None:
            # Others may delete folders meanwhile.
            if not isinstance(error, FileNotFoundError):
                raise error

        return super().walk(path, *of, **named | {"on_error": failed})  # type: ignore[no-any-return]


def open_hdfs(host: str | None, port: int | None) -> fs.FileSystem:
    """The file system of a NameNode, or of a name in Hadoop's settings (`HADOOP_CONF_DIR`).

    Raises `OSError`.
    """
    try:
        return _opened(host, port, os.environ.get("HADOOP_CONF_DIR", ""), os.getpid())
    except RuntimeError as error:
        raise OSError(_reason(str(error))) from None


@cache
def _opened(host: str | None, port: int | None, settings: str, process: int) -> fs.FileSystem:
    """One for each process and NameNode, because it is never dropped."""
    return fs.PyFileSystem(fs.FSSpecHandler(_Hdfs(host, port, **SETTINGS)))
