"""The parts of the call centre that need no server: limits, the login, what a page is made of."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import re
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from apiflask import HTTPError

from softcart_assets.assembly import LINES
from softcart_assets.serving import screen, server, tokens
from softcart_assets.serving.app import create_app
from softcart_assets.serving.asking import Answer
from softcart_assets.serving.desk import NoDesk, find
from softcart_assets.serving.telecom import DESK
from softcart_assets.serving.telecom.standard import USAGE
from softcart_assets.serving.tokens import SCOPES, Token
from softcart_assets.stack.server import StackError
from softcart_assets.web import limits
from softcart_assets.web.gunicorn import Masked
from softcart_assets.web.limits import Limits, SharedMemory
from softcart_assets.web.live import OpenPages

_AT = "2026-03-01T10:00:00+00:00"
_WINDOW = {"starts_at": _AT, "ends_at": _AT, "calls": 2, "call_seconds": 90, "sms": 1}
_WINDOW |= {"megabytes": "1.501", "charged": [{"amount": "9.09", "currency": "EUR"}]}
_CALLER = {
    "subscriber": {"id": 7, "number": "4915112345678", "kind": "prepaid", "state": "active"}
    | {"region": None, "time_zone": "UTC", "activated_at": _AT},
    "customer": {"name": "Ada <b>", "kind": "private", "since": _AT},
    "plan": None,
    "totals": dict.fromkeys(("day", "cycle", "life"), _WINDOW),
    "account": None,
    "balance": {"amount": "12.30", "currency": "EUR", "last_top_up": None},
    "bill": None,
    "open_complaints": 0,
    "complaints": [],
    "last_calls": [],
    "churn": {"month": "2026-04-01", "probability_pct": "6.4321", "decile": 1}
    | {"reasons": ["Dropped calls: 5"], "cut_off_date": "2026-03-01", "model_version": 3},
}
_SECRET = "s" * 43


class Asking:
    """Knows one token and one caller."""

    desk = DESK

    def __init__(self) -> None:
        self.read = 0

    def tokens(self) -> list[Token]:
        self.read += 1
        digest = hashlib.sha256(_SECRET.encode()).digest()
        now = datetime.now(UTC)
        return [Token("0" * 12, digest, "Agent", [*SCOPES], "service", 1000, now, None, None)]

    def about(self, by: str, wanted: str, token: Token, resource: str) -> Answer | None:
        assert len(wanted) < 20
        if (by, wanted) not in (("key", "7"), ("number", "4915112345678")):
            return None
        body = {"as_of": _AT, "age_ms": 300, "sources": [], "caller": _CALLER}
        return Answer(7, datetime.fromisoformat(_AT), 300, json.dumps(body))

    def named(self, part: str, token: Token, resource: str) -> list[tuple[Any, ...]]:
        assert "\0" not in part
        return [(7, "Ada <b>", "Berlin", "Free", "active", "…678")]

    def positions(self) -> object:
        return None


@pytest.fixture
def app() -> Any:
    return create_app(Asking(), Limits(), b"secret" * 8)  # type: ignore[arg-type]


@pytest.fixture
def token() -> str:
    return f"softcart_{'0' * 12}_{_SECRET}"


def _logged_in(app: Any, token: str, **more: Any) -> Any:
    """A client with a session."""
    client = app.test_client()
    page = client.get("/login", **more)
    client.post("/login", data={"token": token, "csrf_token": form_value(page.text)}, **more)
    return client


def form_value(page: str) -> str:
    """What a page gives along with its forms."""
    return page.partition('name="csrf_token" value="')[2].partition('"')[0]


def test_processes_count_together() -> None:
    storage = SharedMemory()

    def hit() -> None:
        for number in range(200):
            storage.incr("a", 60)
            storage.incr(f"other {number}", 60)

    processes = [multiprocessing.get_context("fork").Process(target=hit) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert storage.get("a") == 800
    assert storage.get("other 7") == 4
    assert storage.incr("short", 0.05) == 1
    time.sleep(0.06)
    assert storage.incr("short", 60) == 1
    assert storage.get_expiry("short") > time.time() + 50


def test_counters_are_right_and_found_at_once_however_many_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = SharedMemory()
    for number in range(10_000):
        storage.incr(f"key {number}", 600)
    assert {storage.get(f"key {number}") for number in range(10_000)} == {1}
    read: list[int] = []

    class Counting:
        size, pack_into = limits._SLOT.size, limits._SLOT.pack_into

        def unpack_from(self, memory: Any, place: int) -> Any:
            read.append(place)
            return slot.unpack_from(memory, place)

    slot = limits._SLOT
    monkeypatch.setattr(limits, "_SLOT", Counting())
    # All of it is taken once, and stays so after the windows have ended.
    storage._memory[:] = slot.pack(b"12345678", 1.0, 1) * limits._SLOTS
    assert [storage.incr("new", 600), storage.incr("new", 600), storage.get("new")] == [1, 2, 2]
    assert len(read) < 50


def test_a_process_that_is_killed_gives_the_lock_back() -> None:
    storage, fork = SharedMemory(), multiprocessing.get_context("fork")
    holds = fork.Event()

    def hold() -> None:
        with storage._alone():
            holds.set()
            time.sleep(60)

    process = fork.Process(target=hold)
    process.start()
    assert holds.wait(30)
    process.kill()
    process.join()
    assert storage.incr("a", 60) == 1


def test_the_screen_needs_a_login_and_its_own_forms(app: Any, token: str) -> None:
    client = app.test_client()
    for path in ("/", "/people/7", "/people/7/events"):
        assert client.get(path).headers["Location"] == "/login"
    # Without the form's own value, a form of another page may have sent it. Or the server was
    # started anew since.
    refused = client.post("/login", data={"token": token})
    assert (refused.status_code, "Load it again" in refused.text) == (400, True)
    page = client.get("/login")
    value = form_value(page.text)
    wrong = client.post("/login", data={"token": "x", "csrf_token": value})
    assert (wrong.status_code, "not valid" in wrong.text) == (401, True)
    right = client.post("/login", data={"token": token, "csrf_token": value})
    assert right.status_code == 303
    cookie = right.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert token not in cookie
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # Another name for this machine could be another site's.
    assert client.get("/login", headers={"Host": "evil.example"}).status_code == 400


def test_it_works_behind_a_proxy_with_tls(token: str) -> None:
    """The proxy hands on the public name and the scheme. Our policy keeps out the `Referer`."""
    public = "calls.example.com"
    app = create_app(Asking(), Limits(), b"secret" * 8, [public])  # type: ignore[arg-type]
    before = {"base_url": f"https://{public}"}
    client = _logged_in(app, token, **before)
    page = client.get("/", **before)
    assert page.headers["Referrer-Policy"] == "no-referrer"
    form = {"wanted": "4915112345678", "csrf_token": form_value(page.text)}
    assert client.post("/", data=form, **before).headers["Location"] == "/people/7"
    # Who knows the session's value may not leave it out.
    assert client.post("/", data={"wanted": "4915112345678"}, **before).status_code == 400
    login = client.get("/login", **before)
    form = {"token": token, "csrf_token": form_value(login.text)}
    cookie = client.post("/login", data=form, **before).headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
    assert client.get("/login", base_url="https://evil.example").status_code == 400


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "calls.example.com"])
def test_it_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(StackError, match="SOFTCART_CALL_CENTRE_HOSTS"):
        server.serve(DESK, None, host, 3200, 1)  # type: ignore[arg-type]


def test_the_log_has_an_error_under_its_instance(
    app: Any, token: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("softcart.requests"), "propagate", True)
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(Masked())
    client = _logged_in(app, token)
    monkeypatch.setattr(Asking, "about", lambda *_: int("4915112345678x"))
    monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
    page = client.get("/people/7")
    headers = {"Authorization": f"Bearer {token}"}
    body = client.get(USAGE, query_string={"logicalResource.id": "4915112345678"}, headers=headers)
    [shown] = re.findall("urn:uuid:[0-9a-f-]{36}", page.text)
    for answer, instance in ((page, shown), (body, body.get_json()["instance"])):
        assert answer.status_code == 500
        # Once with the traceback, once with the request.
        assert caplog.text.count(instance) == 2
    assert "ValueError" in caplog.text
    assert "4915112345678" not in caplog.text


def test_tokens_that_are_made_up_cost_few_queries(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.5
    monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: now))
    asking = Asking()
    client = create_app(asking, Limits(), b"secret" * 8).test_client()  # type: ignore[arg-type]
    number = {"logicalResource.id": "4900000000"}

    def status(shown: str) -> int:
        headers = {"Authorization": f"Bearer {shown}"}
        return int(client.get(USAGE, query_string=number, headers=headers).status_code)

    made_up = [f"softcart_{n:012}_{'x' * 43}" for n in range(1, 31)]
    allowed = 1 + tokens.UNKNOWN_PER_SECOND
    assert [status(each) for each in made_up] == [401] * allowed + [429] * (30 - allowed)
    assert asking.read == allowed
    page = client.get("/login").text
    form = {"token": made_up[0], "csrf_token": form_value(page)}
    refused = client.post("/login", data=form)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    # Those who have one are known. Nobody has the number.
    assert status(token) == 404
    assert asking.read == allowed
    now += 1
    assert status(made_up[0]) == 401


def test_only_so_many_pages_stay_open(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = OpenPages(12, 4)
    ids = [f"{n}" for n in range(12) for _ in range(4)]
    for each in ids[:4]:
        pages.enter(each)
    with pytest.raises(HTTPError, match="Close one"):
        pages.enter("0")
    for each in ids[4:12]:
        pages.enter(each)
    with pytest.raises(HTTPError, match="--workers"):
        pages.enter("another")
    pages.leave("0")
    pages.enter("another")

    monkeypatch.setattr(screen, "OpenPages", lambda: OpenPages(48, 1))
    app = create_app(Asking(), Limits(), b"secret" * 8)  # type: ignore[arg-type]
    client = _logged_in(app, token)
    first = client.get("/people/7/events", buffered=False)
    assert first.status_code == 200
    refused = client.get("/people/7/events")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    # Other requests are answered.
    assert client.get("/people/7").status_code == 200
    first.close()
    # Who is nobody takes no place.
    assert [client.get("/people/8/events").status_code for _ in range(2)] == [404, 404]
    second = client.get("/people/7/events", buffered=False)
    next(iter(second.response))
    second.close()
    assert client.get("/people/8/events").status_code == 404


def test_a_desk_is_that_of_a_line() -> None:
    assert find([line.name for line in LINES]) is DESK
    with pytest.raises(NoDesk, match="nothing"):
        find(["nothing"])


def test_a_person_is_found_and_shown(app: Any, token: str) -> None:
    client = _logged_in(app, token)

    def search(wanted: str) -> Any:
        value = form_value(client.get("/").text)
        return client.post("/", data={"wanted": wanted, "csrf_token": value})

    assert search("+49 (151) 123-45678").headers["Location"] == "/people/7"
    assert "Nobody" in search("4900000000").text
    assert "Ada &lt;b&gt;" in search("a\0da").text
    # A key that no table can have.
    assert client.get(f"/people/{10**20}").status_code == 404
    assert "three letters" in search("ad").text
    assert "Ada &lt;b&gt;" in search("ada").text
    page = client.get("/people/7").text
    told = ("Ada &lt;b&gt;", "12.30 EUR", "9.09 EUR", "1.501", "As of 10:00:00 UTC")
    for text in (*told, "6.4%", "Dropped calls: 5", "highest risk"):
        assert text in page
    assert client.get("/people/8").status_code == 404
    events = client.get("/people/7/events", buffered=False)
    assert events.mimetype == "text/event-stream"
    parts = json.loads(next(iter(events.response)).removeprefix(b"data: "))
    assert {"state", *DESK.sections} == parts.keys()
    events.close()
    value = form_value(client.get("/").text)
    client.post("/logout", data={"csrf_token": value})
    assert client.get("/people/7").headers["Location"] == "/login"
