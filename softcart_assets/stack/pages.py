"""Serves pages and extracts to people without an account on this machine.

Their files stay readable for their owner only. Whoever reaches this server reads all of them, so it
listens on loopback, or asks for a password. It serves what is in the folder and makes nothing.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath

import psycopg
import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from softcart_assets.assembly import Lines
from softcart_assets.connections import LOOPBACK, PostgresConnection, ServerUnreachable, setting
from softcart_assets.stack.guard import Guard
from softcart_assets.stack.server import StackError, port_is_free

SETTINGS = "SOFTCART_PAGES_HOSTS", "SOFTCART_PAGES_PASSWORD"
"""The guard's."""

# Python does not know it, and a browser would show the bytes as text.
mimetypes.add_type("application/vnd.apache.parquet", ".parquet")


@dataclass(frozen=True)
class State:
    """How old what people see may be. `loaded`: source → its last load. `quarantined`: table → rows
    that are missing in all figures, because a value could not be copied.
    """

    loaded: dict[str, datetime]
    quarantined: dict[str, int]


def state_of(staging: PostgresConnection) -> State:
    """The last load of each source, and what is in quarantine. Raises `ServerUnreachable`."""
    with staging.connect() as session:
        loaded = session.execute(
            # A stream records no loads.
            "SELECT source, max(at) FROM (SELECT source, loaded_at FROM ingestion.loads"
            " UNION ALL SELECT source, updated_at FROM ingestion.streams) AS found (source, at)"
            " GROUP BY source ORDER BY source"
        ).fetchall()
        quarantined = session.execute(
            "SELECT source || '.' || table_name, count(*) FROM ingestion.quarantine"
            " WHERE closed_at IS NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return State(dict(loaded), dict(quarantined))


def application(folder: Path, lines: Lines, state: Callable[[], State]) -> Starlette:
    """The server's list of files, at `/`, and the files beside it. `state` is asked each time."""
    template = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    ).get_template("pages.html.j2")

    def index(_: Request) -> HTMLResponse:
        now = datetime.now(UTC)
        try:
            found = state()
        # The files are there all the same. That nothing is known of their age must be seen.
        except (ServerUnreachable, psycopg.Error):
            found = None
        pages = [(each, _files(folder, each.name, (".html",))) for each in lines.dashboards]
        extracts = [(each, _files(folder, each.name, _DATA)) for each in lines.extracts]
        html = template.render(now=now, state=found, pages=pages, extracts=extracts, age=_age)
        return HTMLResponse(html, headers={"Cache-Control": "no-store"})

    return Starlette(routes=[Route("/", index), Mount("/", _Files(directory=folder))])


_DATA = (".csv", ".parquet")


@dataclass(frozen=True)
class _File:
    name: str
    bytes: int
    written: datetime


def _files(folder: Path, name: str, ends: Iterable[str]) -> list[_File]:
    """The files of an extract or a page, as far as they were written."""
    found = []
    for path in (folder / f"{name}{end}" for end in ends):
        if path.is_file():
            status = path.stat()
            written = datetime.fromtimestamp(status.st_mtime, UTC)
            found.append(_File(path.name, status.st_size, written))
    return found


def _age(now: datetime, then: datetime) -> str:
    """How long ago something was, in words."""
    minutes = int((now - then).total_seconds() // 60)
    for unit, size in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if minutes >= size:
            count = minutes // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


class _Files(StaticFiles):
    """The files of one folder. Our records and what is being written have names with a dot."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """See `StaticFiles`."""
        parts = PurePath(path).parts
        if len(parts) != 1 or parts[0].startswith("."):
            return "", None
        return super().lookup_path(path)

    def file_response(self, *arguments: object, **options: object) -> Response:
        """See `StaticFiles`. A browser asks each time whether it has the newest file."""
        answer = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        answer.headers["Cache-Control"] = "no-cache"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


def serve(
    folder: Path, lines: Lines, staging: Callable[[], PostgresConnection], host: str, port: int
) -> None:
    """Serve until a signal. Raises `StackError` if that would be open to all, or cannot be."""
    password = setting(SETTINGS[1], "")
    if host not in LOOPBACK and not password:
        raise StackError(
            f"Whoever reaches {host} could read every page and extract. Set "
            "SOFTCART_PAGES_PASSWORD, or leave out --host: then only this machine reaches them."
        )
    if host in LOOPBACK and not port_is_free(port):
        raise StackError(
            f"Port {port} is taken. Choose another with --port, and name it in "
            "SOFTCART_PAGES_URL, where the links in the Dagster UI lead."
        )
    folder.mkdir(parents=True, exist_ok=True)
    guarded = Guard.by_settings(
        application(folder, lines, lambda: state_of(staging())), SETTINGS, host
    )
    # A download that goes on does not keep the server from ending.
    uvicorn.run(guarded, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1)
