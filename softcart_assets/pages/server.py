"""Serves pages and extracts to people without an account on this machine.

Their files stay readable for their owner only. Whoever reaches this server reads all of them, so it
listens on loopback, or asks for a password. It serves what the lines declare and nothing else, as
the folder may have other files of its owner. It makes nothing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import psycopg
import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from softcart_assets.assembly import Lines
from softcart_assets.connections import (
    EXTRACTS,
    LOOPBACK,
    PostgresConnection,
    ServerUnreachable,
    make_folder,
    setting,
)
from softcart_assets.pages.kit import STATE_MARK
from softcart_assets.stack.guard import Guard
from softcart_assets.stack.server import StackError, port_is_free

SETTINGS = "SOFTCART_PAGES_HOSTS", "SOFTCART_PAGES_PASSWORD"
"""The guard's."""


@dataclass(frozen=True)
class State:
    """How old what people see may be. `loaded`: source → its last load. `quarantined`: table → rows
    that are missing in all figures, because a value could not be copied.
    """

    loaded: dict[str, datetime]
    quarantined: dict[str, int]

    def of(self, sources: Collection[str]) -> State:
        """The part about these sources."""
        return State(
            {name: at for name, at in self.loaded.items() if name in sources},
            {name: n for name, n in self.quarantined.items() if name.split(".")[0] in sources},
        )


KEPT_SECONDS = 5
"""So long an answer is told to others, too, also that there is none."""


def state_of(staging: PostgresConnection) -> State:
    """The last load of each source, and what is in quarantine.

    Raises `ServerUnreachable`, or an error of psycopg's if there is no answer in time.
    """
    with staging.connect() as session:
        # Another session may keep a lock for hours, and people wait for their page.
        session.execute("SET statement_timeout = '2s'")
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
    """The server's list of files, at `/`, and the files beside it. `state` is asked for the age of
    what they show, by one request at a time.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    sources = {
        page.name: [s.name for s in line.sources] for line in lines for page in line.dashboards
    }
    dashboards = (*lines.dashboards, *lines.own_dashboards)
    pages = {
        **{page.name: page.description for page in dashboards},
        **{model.report: model.description for model in lines.models},
    }
    extracts = (*lines.extracts, *lines.own_reports)

    asking, asked_at = Lock(), -math.inf
    found: State | None = None

    def asked() -> State | None:
        nonlocal found, asked_at
        # Requests that wait for PostgreSQL one by one would take all threads of the server.
        with asking:
            if time.monotonic() - asked_at > KEPT_SECONDS:
                try:
                    found = state()
                # The files are there all the same. That nothing is known of their age must be seen.
                except (ServerUnreachable, psycopg.Error):
                    found = None
                asked_at = time.monotonic()
            return found

    def index(_: Request) -> HTMLResponse:
        html = templates.get_template("pages.html.j2").render(
            now=datetime.now(UTC),
            state=asked(),
            age=_age,
            pages=[(*each, _files(folder, each[0], _PAGE)) for each in pages.items()],
            extracts=[
                (each.name, each.description, _files(folder, each.name, _DATA)) for each in extracts
            ],
            dictionary=_files(folder, _DICTIONARY[0], _DICTIONARY[1:]),
        )
        return HTMLResponse(html, headers=_HEADERS | {"Content-Security-Policy": _LIST_POLICY})

    def page(request: Request) -> HTMLResponse:
        """A page as it is in the folder, and how old it may be. The file is the same for days if
        nothing changes, so it cannot say that itself.
        """
        name = request.path_params["name"]
        try:
            text = (folder / f"{name}.html").read_text("utf-8") if name in pages else None
        except FileNotFoundError:
            text = None
        if text is None:
            raise HTTPException(404)
        # A page of a source itself, or about a model, says when it was made.
        if name not in sources:
            return HTMLResponse(text, headers=_HEADERS)
        known = asked()
        told = templates.get_template("state.html.j2").render(
            now=datetime.now(UTC), state=known and known.of(sources[name]), age=_age
        )
        return HTMLResponse(text.replace(STATE_MARK, told, 1), headers=_HEADERS)

    data = [f"{each.name}{end}" for each in extracts for end in _DATA]
    files = _Files(folder, frozenset([*data, "".join(_DICTIONARY)]))
    return Starlette(
        routes=[Route("/", index), Route("/{name}.html", page), Mount("/", files)],
        # A page is text. A phone waits a fifth less for it so.
        middleware=[Middleware(GZipMiddleware, compresslevel=6)],
    )


_PAGE, _DATA = (".html",), (".csv", ".parquet")
_DICTIONARY = "datapackage", ".json"
"""Of all extracts. The standard Data Package gives it this name."""

_HEADERS = {
    # No proxy may keep what was sent to somebody who had logged in.
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_LIST_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Pages bring a policy of their own."""


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
    """The files of these names in a folder."""

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        super().__init__(directory=folder)
        self._names = names

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """See `StaticFiles`."""
        return super().lookup_path(path) if path in self._names else ("", None)

    def file_response(self, full_path: str, *arguments: object, **options: object) -> Response:  # type: ignore[override]
        """See `StaticFiles`. A browser asks each time whether it has the newest file."""
        answer = super().file_response(full_path, *arguments, **options)  # type: ignore[arg-type]
        answer.headers.update(_HEADERS)
        # Python does not know this type. Where it is told, another library may make it forget.
        if full_path.endswith(".parquet") and "Content-Type" in answer.headers:
            answer.headers["Content-Type"] = "application/vnd.apache.parquet"
        return answer


def serve(
    folder: Path, lines: Lines, staging: Callable[[], PostgresConnection], host: str, port: int
) -> None:
    """Serve until a signal.

    Raises `StackError` if that would be open to all, or if the port is taken, and `SettingError` if
    the folder cannot be used.
    """
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
    make_folder(folder, EXTRACTS)
    guarded = Guard.by_settings(
        application(folder, lines, lambda: state_of(staging())), SETTINGS, host
    )
    # A download that goes on does not keep the server from ending.
    uvicorn.run(
        guarded,
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
