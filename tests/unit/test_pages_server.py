"""What `softcart serve pages` answers, without a server or a database."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from softcart_assets.assembly import LINES
from softcart_assets.connections import ServerUnreachable, address_of_page
from softcart_assets.stack import pages
from softcart_assets.stack.guard import Guard
from softcart_assets.stack.pages import State, application, serve
from softcart_assets.stack.server import StackError

PAGE, EXTRACT = LINES.dashboards[0], LINES.extracts[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What two runs have written, and our own records."""
    (tmp_path / f"{PAGE.name}.html").write_text("<h1>the page</h1>")
    (tmp_path / f"{EXTRACT.name}.parquet").write_bytes(b"PAR1")
    (tmp_path / f"{EXTRACT.name}.csv").write_text("a,b\n")
    (tmp_path / f".{PAGE.name}.json").write_text("{}")
    (tmp_path / ".extracts-x").mkdir()
    (tmp_path / ".extracts-x" / "half.csv").write_text("a")
    (tmp_path.parent / "secret.txt").write_text("secret")
    (tmp_path / "link.txt").symlink_to(tmp_path.parent / "secret.txt")
    return tmp_path


def client(folder: Path, state: Callable[[], State] = lambda: State({}, {})) -> TestClient:
    return TestClient(application(folder, LINES, state), base_url="http://127.0.0.1")


def test_files_are_served_as_what_they_are(folder: Path) -> None:
    answers = {
        end: client(folder).get(f"/{name}.{end}")
        for name, end in ((PAGE.name, "html"), (EXTRACT.name, "csv"), (EXTRACT.name, "parquet"))
    }
    assert {end: answer.headers["Content-Type"] for end, answer in answers.items()} == {
        "html": "text/html; charset=utf-8",
        "csv": "text/csv; charset=utf-8",
        "parquet": "application/vnd.apache.parquet",
    }
    assert answers["html"].text == "<h1>the page</h1>"
    # Browsers ask each time, and get the file only if it is another one.
    assert answers["html"].headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": answers["html"].headers["ETag"]}
    assert client(folder).get(f"/{PAGE.name}.html", headers=again).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        f"/.{PAGE.name}.json",
        "/.extracts-x/half.csv",
        "/.extracts-x",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/link.txt",
        "/nothing.csv",
        "//etc/passwd",
        "/%00",
    ],
)
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    assert client(folder).get(path).status_code == 404


def test_nothing_is_changed(folder: Path) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client(folder).request(method, f"/{PAGE.name}.html").status_code == 405


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


def test_files_are_listed_when_the_warehouse_does_not_answer(folder: Path) -> None:
    def fails() -> State:
        raise ServerUnreachable("down")

    text = client(folder, fails).get("/").text
    assert "Nobody can say when it was loaded" in text
    assert f"{PAGE.name}.html" in text
    assert "quarantine" not in text


def test_a_login_and_hosts_are_set_by_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCART_PAGES_PASSWORD", "open sesame")
    monkeypatch.setenv("SOFTCART_PAGES_HOSTS", "reports.example.com")
    unguarded = application(folder, LINES, lambda: State({}, {}))
    guarded = TestClient(
        Guard.by_settings(unguarded, pages.SETTINGS, "192.0.2.7"), base_url="http://127.0.0.1"
    )
    right = {"Authorization": "Basic " + base64.b64encode(b"softcart:open sesame").decode()}
    for host in ("127.0.0.1", "reports.example.com", "192.0.2.7:3100"):
        assert guarded.get("/", headers={**right, "Host": host}).status_code == 200
    refused = guarded.get(f"/{EXTRACT.name}.csv")
    assert refused.status_code == 401
    assert "SOFTCART_PAGES_PASSWORD" in refused.text
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    unknown = guarded.get("/", headers={**right, "Host": "evil.example"})
    assert (unknown.status_code, "SOFTCART_PAGES_HOSTS" in unknown.text) == (421, True)


def test_without_a_password_only_this_machine_is_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOFTCART_PAGES_PASSWORD", raising=False)
    served = []
    monkeypatch.setattr(pages.uvicorn, "run", lambda app, **options: served.append(options["host"]))
    monkeypatch.setattr(pages, "port_is_free", lambda port: True)

    def start(host: str) -> None:
        serve(folder, LINES, lambda: None, host, 3100)  # type: ignore[arg-type, return-value]

    for host in ("0.0.0.0", "192.0.2.7", "::"):
        with pytest.raises(StackError, match="SOFTCART_PAGES_PASSWORD"):
            start(host)
    start("127.0.0.1")
    monkeypatch.setenv("SOFTCART_PAGES_PASSWORD", "open sesame")
    start("0.0.0.0")
    assert served == ["127.0.0.1", "0.0.0.0"]
    monkeypatch.setattr(pages, "port_is_free", lambda port: False)
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
