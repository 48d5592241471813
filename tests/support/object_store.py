"""An object store for tests: as much of Amazon's S3 as Arrow needs to list, read and write files.

The objects are files in a folder, so that tests can look at them, and a test can age one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        assert bucket == BUCKET
        return key, query

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        key, _ = self._asked()
        path = self.root / key
        if not key:
            self._answer(200)
        elif path.is_file():
            self._answer(200, **_about(path), Content_Length=str(path.stat().st_size))
        else:
            self._answer(404)

    def do_GET(self) -> None:
        key, query = self._asked()
        if not key:
            return self._answer(200, self._listing(query), Content_Type="application/xml")
        path = self.root / key
        if not path.is_file():
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        data, about = path.read_bytes(), _about(path)
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last), len(data) - 1) if last else len(data) - 1
            about["Content_Range"] = f"bytes {first}-{end}/{len(data)}"
            return self._answer(206, data[int(first) : end + 1], **about)
        return self._answer(200, data, **about)

    def _listing(self, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        found, folders = [], set()
        for path in sorted(each for each in self.root.rglob("*") if each.is_file()):
            key = path.relative_to(self.root).as_posix()
            below = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in below:
                folders.add(prefix + below.partition(delimiter)[0] + delimiter)
                continue
            found.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size>"
                f"<LastModified>{_moment(path):%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
            )
        found += [
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>"
            for each in sorted(folders)
        ]
        count = len(found)
        return (
            f"<?xml version='1.0'?><ListBucketResult><Name>{BUCKET}</Name>"
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>"
        ).encode()


def _moment(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _about(path: Path) -> dict[str, str]:
    return {
        "ETag": f'"{hashlib.md5(path.read_bytes()).hexdigest()}"',
        "Last_Modified": f"{_moment(path):%a, %d %b %Y %H:%M:%S GMT}",
    }


@contextmanager
def object_store(root: Path) -> Iterator[str]:
    """Serve the files of a folder as objects. Yields the URI of the bucket's folder `in`, with `{}`
    in the place of its path.
    """
    handler = type("Handler", (_Handler,), {"root": root})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    try:
        yield (
            f"s3://key:secret@{BUCKET}/{{}}?scheme=http&region=eu-west-1"
            f"&endpoint_override={host}%3A{port}"
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
