"""What `softcart serve pages` answers, without a server or a database."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from softcart_assets.assembly import LINES
from softcart_assets.connections import ServerUnreachable, SettingError, address_of_page
from softcart_assets.extracts import dictionary
from softcart_assets.pages import server
from softcart_assets.pages.kit import STATE_MARK
from softcart_assets.pages.kit.cube import Content
from softcart_assets.pages.kit.render import html
from softcart_assets.pages.server import State, application, serve
from softcart_assets.stack import guard
from softcart_assets.stack.guard import Guard
from softcart_assets.stack.server import StackError

PAGE, EXTRACT, LINKED = LINES.dashboards[0], LINES.extracts[0], LINES.extracts[-1]
SOURCE = next(source.name for line in LINES if PAGE in line.dashboards for source in line.sources)
BODY = f"<header>{STATE_MARK}</header><h1>the page</h1>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What two runs have written, our own records, and what somebody else put there."""
    (tmp_path / f"{PAGE.name}.html").write_text(BODY)
    (tmp_path / f"{EXTRACT.name}.parquet").write_bytes(b"PAR1")
    (tmp_path / f"{EXTRACT.name}.csv").write_text("a,b\n")
    (tmp_path / f".{PAGE.name}.json").write_text("{}")
    (tmp_path / ".extracts-x").mkdir()
    (tmp_path / ".extracts-x" / "half.csv").write_text("a")
    (tmp_path.parent / "secret.txt").write_text("secret")
    (tmp_path / dictionary.NAME).write_text("{}")
    (tmp_path / "notes.csv").write_text("private")
    (tmp_path / "notes.html").write_text("private")
    (tmp_path / f"{LINKED.name}.csv").symlink_to(tmp_path.parent / "secret.txt")
    return tmp_path


def client(folder: Path, state: Callable[[], State] = lambda: State({}, {})) -> TestClient:
    return TestClient(application(folder, LINES, state), base_url="http://127.0.0.1")


def test_files_are_served_as_what_they_are(folder: Path) -> None:
    names = f"{EXTRACT.name}.csv", f"{EXTRACT.name}.parquet", "datapackage.json"
    answers = [client(folder).get(f"/{name}") for name in ("", f"{PAGE.name}.html", *names)]
    assert [answer.headers["Content-Type"] for answer in answers] == [
        "text/html; charset=utf-8",
        "text/html; charset=utf-8",
        "text/csv; charset=utf-8",
        "application/vnd.apache.parquet",
        "application/json",
    ]
    for answer in answers:
        # Browsers ask each time, and nothing in between keeps what was for one who had logged in.
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
    again = {"If-None-Match": answers[2].headers["ETag"]}
    assert client(folder).get(f"/{names[0]}", headers=again).status_code == 304


def test_the_report_on_a_model_is_a_page(folder: Path) -> None:
    name = LINES.models[0].report
    assert client(folder).get(f"/{name}.html").status_code == 404
    (folder / f"{name}.html").write_text("the report")
    assert client(folder).get(f"/{name}.html").text == "the report"
    assert f'<a href="{name}.html">' in client(folder).get("/").text


def test_a_part_of_a_file_is_served(folder: Path) -> None:
    """A Parquet reader asks for the end of a file first, and for the columns that it needs."""
    (folder / f"{EXTRACT.name}.parquet").write_bytes(b"PAR1 columns PAR1")

    def part(which: str) -> tuple[int, bytes]:
        asked = {"Range": f"bytes={which}"}
        answer = client(folder).get(f"/{EXTRACT.name}.parquet", headers=asked)
        return answer.status_code, answer.content

    assert part("-4") == (206, b"PAR1")
    assert part("5-11") == (206, b"columns")
    assert part("17-")[0] == 416
    # As many parts as an attacker likes would take long to put in order.
    assert part(",".join("0-" for _ in range(50_000)))[0] in (200, 206, 400)


@pytest.mark.parametrize(
    "path",
    [
        f"/.{PAGE.name}.json",
        "/.extracts-x/half.csv",
        "/.extracts-x",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        f"/{LINKED.name}.csv",
        "/notes.csv",
        "/notes.html",
        f"/{PAGE.name}.html/",
        f"/x/{PAGE.name}.html",
        "/%2e%2e/secret.html",
        "/nothing.csv",
        "//etc/passwd",
        "/%00",
    ],
)
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    assert client(folder).get(path).status_code == 404


def test_nothing_is_changed(folder: Path) -> None:
    for method in ("POST", "PUT", "DELETE"):
        for name in ("", f"{PAGE.name}.html", f"{EXTRACT.name}.csv"):
            assert client(folder).request(method, f"/{name}").status_code == 405


def test_the_list_tells_how_old_everything_is(folder: Path) -> None:
    now = datetime.now(UTC)
    state = State({"till": now - timedelta(hours=3)}, {"till.receipts": 1, "till.<b>": 1_200})
    os.utime(folder / f"{PAGE.name}.html", ((now - timedelta(days=2)).timestamp(),) * 2)
    text = " ".join(client(folder, lambda: state).get("/").text.split())
    assert f'<a href="{PAGE.name}.html">' in text
    assert f'<a href="{EXTRACT.name}.parquet">' in text
    assert "UTC</time>, 2 days ago" in text
    assert "UTC</time>, just now" in text
    assert f'till: last load <time datetime="{state.loaded["till"].isoformat()}"' in text
    assert "3 hours ago" in text
    assert "till.receipts: 1 row in quarantine" in text
    assert "till.&lt;b&gt;: 1,200 rows in quarantine, missing in all figures" in text
    # An extract that no run has written yet is named all the same.
    assert LINES.extracts[1].name in text
    assert "Not written yet." in text


def test_a_page_tells_how_old_it_is(folder: Path) -> None:
    """The file is not written again while nothing changes, so it cannot say it itself."""
    now = datetime.now(UTC)
    state = State(
        {SOURCE: now - timedelta(hours=3), "other": now},
        {f"{SOURCE}.receipts": 1_200, "other.calls": 7, f"{SOURCE}2.receipts": 3},
    )
    text = " ".join(client(folder, lambda: state).get(f"/{PAGE.name}.html").text.split())
    assert text.startswith('<header><p class="note" id="state"')
    assert text.endswith("</p></header><h1>the page</h1>")
    assert f"Loaded from {SOURCE}: <time" in text
    assert "3 hours ago" in text
    assert f"{SOURCE}.receipts: 1,200 rows in quarantine, missing in all figures" in text
    # Another line's sources say nothing about this page.
    assert text.count("<time") == 1
    assert text.count("in quarantine") == 1
    sound = client(folder, lambda: State({SOURCE: now}, {})).get(f"/{PAGE.name}.html").text
    assert "No row is in quarantine" in sound
    (folder / f"{PAGE.name}.html").unlink()
    assert client(folder).get(f"/{PAGE.name}.html").status_code == 404


def test_a_page_of_a_source_itself_waits_for_no_load(folder: Path) -> None:
    name = LINES.own_dashboards[0].name
    (folder / f"{name}.html").write_text(BODY)
    report = LINES.own_reports[0].name
    (folder / f"{report}.csv").write_text("a")
    state = State({SOURCE: datetime.now(UTC)}, {f"{SOURCE}.receipts": 7})
    assert client(folder, lambda: state).get(f"/{name}.html").text == BODY
    assert client(folder).get(f"/{report}.csv").text == "a"
    assert f'<a href="{name}.html">' in client(folder).get("/").text


def test_the_kit_leaves_a_place_for_it() -> None:
    assert html(PAGE.page, Content("", None, None, {}, None)).count(STATE_MARK) == 1


def test_files_are_listed_when_the_warehouse_does_not_answer(folder: Path) -> None:
    def fails() -> State:
        raise ServerUnreachable("down")

    text = client(folder, fails).get("/").text
    assert "Nobody can say when it was loaded" in text
    assert f"{PAGE.name}.html" in text
    assert "quarantine" not in text
    text = client(folder, fails).get(f"/{PAGE.name}.html").text
    assert "Nobody can say when this was loaded" in text
    assert "the page" in text
    assert "quarantine" not in text


def test_one_request_asks_for_all_that_come_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock in the warehouse made each request wait. Soon all threads did, and no page came."""
    asked = []

    def waits() -> State:
        asked.append(time.monotonic())
        time.sleep(0.1)
        raise ServerUnreachable("no answer in time")

    app = application(folder, LINES, waits)

    async def answers() -> list[str]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as browser:
            paths = ["/", f"/{PAGE.name}.html"] * 50
            return [each.text for each in await asyncio.gather(*map(browser.get, paths))]

    assert all("Nobody can say when" in text for text in asyncio.run(answers()))
    assert len(asked) == 1
    monkeypatch.setattr(server, "KEPT_SECONDS", -1)
    client(folder, waits).get("/")
    again = TestClient(app)
    assert [again.get("/").status_code for _ in range(2)] == [200, 200]
    assert len(asked) == 4


def test_a_login_and_hosts_are_set_by_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCART_PAGES_PASSWORD", "open sesame")
    monkeypatch.setenv("SOFTCART_PAGES_HOSTS", "reports.example.com")
    unguarded = application(folder, LINES, lambda: State({}, {}))
    guarded = TestClient(
        Guard.by_settings(unguarded, server.SETTINGS, "192.0.2.7"), base_url="http://127.0.0.1"
    )
    right = {"Authorization": "Basic " + base64.b64encode(b"softcart:open sesame").decode()}
    for host in ("127.0.0.1", "reports.example.com", "192.0.2.7:3100"):
        assert guarded.get("/", headers={**right, "Host": host}).status_code == 200
    refused = guarded.get(f"/{EXTRACT.name}.csv")
    assert refused.status_code == 401
    assert "SOFTCART_PAGES_PASSWORD" in refused.text
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    for broken in ("http://[", "null", "http://127.0.0.1:1"):
        assert guarded.get("/", headers={**right, "Origin": broken}).status_code == 403
    unknown = guarded.get("/", headers={**right, "Host": "evil.example"})
    assert (unknown.status_code, "SOFTCART_PAGES_HOSTS" in unknown.text) == (421, True)


async def _guess(guarded: Guard, passwords: list[str]) -> tuple[list[int], float]:
    """The answers to guesses that come at once, and the seconds until the last of them."""
    transport = httpx.ASGITransport(app=guarded)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as browser:
        began = time.monotonic()
        answers = await asyncio.gather(
            *(browser.get("/", auth=("softcart", password)) for password in passwords)
        )
    return [answer.status_code for answer in answers], time.monotonic() - began


def test_guesses_are_answered_one_after_the_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the right password does not wait for them."""
    monkeypatch.setenv("SOFTCART_PAGES_PASSWORD", "open sesame")
    monkeypatch.setattr(guard, "GUESS_SECONDS", 0.2)
    guarded = Guard.by_settings(application(folder, LINES, lambda: State({}, {})), server.SETTINGS)
    answers, seconds = asyncio.run(_guess(guarded, ["a", "b", "c"]))
    assert answers == [401] * 3
    assert seconds >= 0.6
    answers, seconds = asyncio.run(_guess(guarded, ["open sesame"] * 3))
    assert answers == [200] * 3
    assert seconds < 0.6


def test_without_a_password_only_this_machine_is_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOFTCART_PAGES_PASSWORD", raising=False)
    served = []
    monkeypatch.setattr(
        server.uvicorn, "run", lambda app, **options: served.append(options["host"])
    )
    monkeypatch.setattr(server, "port_is_free", lambda port: True)

    def start(host: str) -> None:
        serve(folder, LINES, lambda: None, host, 3100)  # type: ignore[arg-type, return-value]

    for host in ("0.0.0.0", "192.0.2.7", "::"):
        with pytest.raises(StackError, match="SOFTCART_PAGES_PASSWORD"):
            start(host)
    with pytest.raises(SettingError, match="SOFTCART_EXTRACTS_DIR"):
        serve(Path("/proc/none"), LINES, lambda: None, "127.0.0.1", 3100)  # type: ignore[arg-type, return-value]
    start("127.0.0.1")
    monkeypatch.setenv("SOFTCART_PAGES_PASSWORD", "open sesame")
    start("0.0.0.0")
    assert served == ["127.0.0.1", "0.0.0.0"]
    monkeypatch.setattr(server, "port_is_free", lambda port: False)
    with pytest.raises(StackError, match="--port"):
        start("127.0.0.1")


def test_links_lead_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were `file://`, which no browser opens for a page that a server sent."""
    monkeypatch.delenv("SOFTCART_PAGES_URL", raising=False)
    assert address_of_page("dashboard.html") == "http://127.0.0.1:3100/dashboard.html"
    monkeypatch.setenv("SOFTCART_PAGES_URL", "https://reports.example.com/")
    assert address_of_page("dashboard.html") == "https://reports.example.com/dashboard.html"


def test_a_page_that_nobody_declares_is_not_listed(folder: Path) -> None:
    (folder / "other.html").write_text("")
    lines = type(LINES)([replace(line, dashboards=()) for line in LINES])
    listed = TestClient(application(folder, lines, lambda: State({}, {}))).get("/").text
    assert "other.html" not in listed
    assert f"{PAGE.name}.html" not in listed
