"""Who gets in, for how long, and what nobody learns. docs/inspire-security.md names these tests."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import cache
from hashlib import sha1
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyotp
import pytest
from support.fitness import (
    PASSWORD,
    QUICK,
    SECRET,
    Fitness,
    Visitor,
    fitness,
    wait_until_locked_out,
)
from typer.testing import CliRunner

from softcart_assets.connections import SettingError
from softcart_assets.inspire_app import leaks, letters, server
from softcart_assets.inspire_app.accounts import NotAccepted, Profile, check_password
from softcart_assets.inspire_app.commands import commands
from softcart_assets.inspire_app.leaks import leaked_passwords
from softcart_assets.inspire_app.links import kept_form
from softcart_assets.inspire_app.outbox import Channel
from softcart_assets.inspire_app.passwords import Argon2
from softcart_assets.inspire_app.second_factor import MOST_WRONG, Vault
from softcart_assets.inspire_app.server import make
from softcart_assets.inspire_app.site import (
    NoAccount,
    open_site,
    sign_out_everywhere,
    turn_off_second_factor,
)
from softcart_assets.inspire_app.storage.factors import Factors
from softcart_assets.inspire_app.storage.mysql import Tables
from softcart_assets.stack import Stack

NEW = "another horse and battery"
LEAKED = "eleven purple ladders"
_SETTING = "SOFTCART_INSPIRE_APP_LEAKED_PASSWORDS"


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[Fitness]:
    with fitness() as made:
        yield made


def sign_in(app: Fitness, email: str, password: str = PASSWORD) -> Visitor:
    visitor = app.visitor()
    visitor.post("/sign-in", email=email, password=password)
    return visitor


def is_in(visitor: Visitor) -> bool:
    return bool(visitor.get("/log").status_code == 200)


def cookie_of(visitor: Visitor) -> str:
    found = visitor.client.get_cookie("softcart_inspire")
    return found.value if found else ""


# Passwords.


@pytest.mark.parametrize(
    "password",
    [
        *("correct horse battery", "ααββγγδδεεζζηη", "  two  spaces  12 ", "Tr0ub4dour&3xyz!"),
        "a long sentence of sixty-four characters and a few more of them, indeed",
    ],
)
def test_any_signs_and_up_to_128_characters_are_allowed(password: str) -> None:
    check_password(password, "ada@example.com")
    check_password(password + "x" * (128 - len(password)), "ada@example.com")


@pytest.mark.parametrize(
    "password",
    [
        *("password1234", "Passw0rd2026", "123456789012", "qwertyuiop123", "1q2w3e4r5t6y"),
        *("abcdefghijkl", "iloveyou1234", "administrator1", "aaaaaaaaaaaaaa", "1qaz2wsx3edc"),
        *("inspire2026!", "softcart-1234", "adalovelace1", "welcome12345", "0987654321098"),
    ],
)
def test_common_passwords_and_our_own_words_are_refused(password: str) -> None:
    with pytest.raises(NotAccepted):
        check_password(password, "adalovelace@example.com")


def test_a_password_is_taken_as_it_is(app: Fitness) -> None:
    person = app.person()
    for wrong in (PASSWORD.upper(), f"{PASSWORD} ", PASSWORD[:-1], PASSWORD + "x" * 200):
        app.site.limits._limiter.storage.reset()
        assert not is_in(sign_in(app, person.email, wrong))
    app.site.limits._limiter.storage.reset()
    assert is_in(sign_in(app, person.email.upper()))
    [(kept,)] = app.rows("SELECT password_hash FROM credentials WHERE user_id = %s", person.id)
    assert kept.startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_passwords_are_hashed_slowly(app: Fitness) -> None:
    site = open_site(app.site.settings, app.site.limits, app.clock)
    site.close()
    assert site.passwords.hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_password_fields_let_programs_fill_them_in(app: Fitness) -> None:
    person = app.person()
    person.post("/start", email="somebody@example.com")
    for path in (
        "/password",
        "/delete",
        "/phone",
        "/sessions",
        "/apps",
        app.link("somebody@example.com"),
    ):
        fields = re.findall(r"<input id=\"(?:password|new)\"[^>]*>", person.get(path).text)
        assert fields, path
        for field in fields:
            assert 'type="password"' in field
            assert re.search('autocomplete="(current|new)-password"', field)
            assert "onpaste" not in field


def test_a_change_of_password_needs_the_old_one_and_ends_other_sessions(app: Fitness) -> None:
    person = app.person()
    other = sign_in(app, person.email)
    assert person.post("/password", password="wrong" * 3, new=NEW).status_code == 422
    assert person.post("/password", password=PASSWORD, new="short").status_code == 422
    assert is_in(other)
    before = cookie_of(person)
    assert person.post("/password", password=PASSWORD, new=NEW).status_code == 303
    assert "Your password is changed" in person.get("/settings").text
    assert is_in(person)
    assert cookie_of(person) != before
    assert not is_in(other)
    assert not is_in(sign_in(app, person.email))
    assert is_in(sign_in(app, person.email, NEW))


# Links.


def test_a_link_is_good_once_and_for_two_hours(app: Fitness) -> None:
    person = app.person()
    person.post("/start", email=person.email)
    path = app.link(person.email)
    assert len(path.removeprefix("/finish/")) == 43
    app.clock.pass_by(hours=2)
    assert person.get(path).status_code == 410
    person.post("/start", email=person.email)
    path = app.link(person.email)
    # To look at it does not use it up: programs that check mail do so.
    assert [person.get(path).status_code for _ in range(2)] == [200, 200]
    stranger = app.visitor()
    assert stranger.post(path, password=NEW).status_code == 303
    assert stranger.post(path, form_of="/start", password=PASSWORD).status_code == 410


def test_two_links_of_a_new_address_at_once_make_one_account(app: Fitness) -> None:
    person = app.person()
    # As it is for the second one: when it looked, there was no account.
    with app.site.tables() as tables, tables.transaction():
        profile = Profile("Somebody else", "UTC", "Ohio", "US")
        made = tables.add_user(person.email, person.email, profile, app.clock())
    assert made is None
    assert app.rows("SELECT full_name FROM users WHERE id = %s", person.id) == [("Ada L.",)]


def test_a_reset_ends_all_sessions(app: Fitness) -> None:
    person = app.person()
    other = sign_in(app, person.email)
    stranger = app.visitor()
    stranger.post("/start", email=person.email)
    path = app.link(person.email)
    assert "New password" in stranger.get(path).text or "new password" in stranger.get(path).text
    assert stranger.post(path, password=NEW).status_code == 303
    assert [is_in(each) for each in (stranger, person, other)] == [True, False, False]


def test_known_and_unknown_addresses_get_the_same(app: Fitness) -> None:
    person, stranger = app.person(), app.visitor()
    unknown = "unknown@example.com"
    texts = []
    for email in (person.email, unknown):
        page = stranger.post("/start", email=email).text
        texts.append(re.sub('value="[^"]*"', "", page.replace(email, "…")))
        [(user_id, template)] = app.rows(
            "SELECT user_id, template FROM messages WHERE address = %s ORDER BY id DESC LIMIT 1",
            email,
        )
        assert (user_id, template) == (None, "link")
    assert texts[0] == texts[1]
    verified: list[bool] = []

    class Counting(Argon2):
        def verify(self, kept: str | None, password: str) -> bool:
            verified.append(kept is None)
            return super().verify(kept, password)

    client = Visitor(make(replace(app.site, passwords=Counting(QUICK))).test_client())
    answers = [
        client.post("/sign-in", email=email, password="wrong password!")
        for email in (person.email, unknown, "no address")
    ]
    assert {each.status_code for each in answers} == {401}
    # As slow for nobody as for somebody.
    assert verified == [False, True, True]
    assert len({re.sub('value="[^"]*"', "", each.text) for each in answers}) == 1


# Attempts.


def test_attempts_are_limited_by_account_and_by_address(app: Fitness) -> None:
    person = app.person()
    app.site.limits._limiter.storage.reset()
    visitor = app.visitor()

    def attempt(email: str) -> Any:
        return visitor.post("/sign-in", email=email, password="wrong password!")

    codes = [attempt(person.email).status_code for _ in range(6)]
    assert codes == [401] * 5 + [429]
    # The right password does not help meanwhile, nor does another way of writing the address.
    assert visitor.post("/sign-in", email=person.email, password=PASSWORD).status_code == 429
    assert attempt(f" {person.email.upper()}").status_code == 429
    # Who is signed in stays so, and the link by mail is a way in.
    assert is_in(person)
    person.post("/start", email=person.email)
    stranger = app.visitor()
    assert stranger.post(app.link(person.email), password=NEW).status_code == 303
    assert is_in(stranger)
    app.site.limits._limiter.storage.reset()
    codes = [attempt(f"{n}@example.com").status_code for n in range(21)]
    assert codes == [401] * 20 + [429]
    app.site.limits._limiter.storage.reset()
    codes = [visitor.post("/start", email=f"{n}@example.com").status_code for n in range(6)]
    assert codes == [200] * 5 + [429]
    assert "Retry-After" in visitor.post("/start", email="a@example.com").headers
    app.site.limits._limiter.storage.reset()


def test_behind_a_proxy_each_person_has_an_address(app: Fitness) -> None:
    def codes(proxies: int, *told: str) -> list[int]:
        app.site.limits._limiter.storage.reset()
        settings = replace(app.site.settings, proxies=proxies)
        visitor = Visitor(make(replace(app.site, settings=settings)).test_client())
        found = []
        for each in told:
            visitor.client.environ_base["HTTP_X_FORWARDED_FOR"] = each
            found.append(visitor.post("/start", email="unknown@example.com").status_code)
        return found

    one, other = "203.0.113.1", "203.0.113.2"
    # The proxy adds the last address. What stands before it anybody can make up.
    forged = [f"203.0.113.{n}, {one}" for n in range(3, 6)]
    assert codes(1, one, one, *forged, f"{other}, {one}", other) == [200] * 5 + [429, 200]
    assert codes(0, *forged, *forged) == [200] * 5 + [429]


# Leaked passwords.


def digest_of(password: str) -> str:
    return sha1(password.encode()).hexdigest().upper()


@cache
def hashes() -> list[str]:
    """Those of passwords that were leaked, sorted."""
    return sorted(digest_of(each) for each in (LEAKED, *(f"leaked {n}" for n in range(2_000))))


class Ranges:
    """The service, as Have I Been Pwned describes it. `asked`: paths and headers."""

    def __init__(self, status: int = 200) -> None:
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers["Add-Padding"]))
                start = self.path.removeprefix("/range/")
                lines = [f"{each[5:]}:3" for each in hashes() if each.startswith(start)]
                # Padding, which says of another password that nobody has leaked it.
                lines.append(f"{digest_of(NEW)[5:]}:0")
                body = "\r\n".join(lines).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *values: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/range"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has much to do answers late."""
    monkeypatch.setattr(leaks, "_TIMEOUT_SECONDS", 60)


@pytest.fixture
def ranges(patience: None) -> Iterator[Ranges]:
    made = Ranges()
    yield made
    made.close()


def as_file(folder: Path, end: str = "\n") -> Path:
    path = folder / "pwnedpasswords.txt"
    path.write_bytes("".join(f"{each}:{n + 1}{end}" for n, each in enumerate(hashes())).encode())
    return path


def as_folder(folder: Path) -> Path:
    for start in {"00000", digest_of(NEW)[:5], *(each[:5] for each in hashes())}:
        lines = [f"{each[5:]}:3" for each in hashes() if each.startswith(start)]
        (folder / f"{start}.txt").write_text("\r\n".join(lines))
    return folder


@pytest.mark.parametrize("kept", [as_file, as_folder, None])
def test_leaked_passwords_are_refused(
    app: Fitness,
    kept: Callable[[Path], Path] | None,
    ranges: Ranges,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(_SETTING, str(kept(tmp_path)) if kept else ranges.url)
    site = open_site(app.site.settings, app.site.limits, app.clock)
    site.close()
    asking = replace(app.site, is_leaked=site.is_leaked)
    person, careful = app.person(), Visitor(make(asking).test_client())
    person.post("/start", email=person.email)
    path = app.link(person.email)
    refused = careful.post(path, password=LEAKED)
    assert (refused.status_code, "stolen" in refused.text) == (422, True)
    assert careful.post(path, password=NEW).status_code == 303
    assert careful.post("/password", password=NEW, new=LEAKED).status_code == 422
    assert careful.post("/password", password=NEW, new=PASSWORD).status_code == 303
    # Five signs of the hash leave us, and nothing else.
    wanted = [f"/range/{digest_of(each)[:5]}" for each in (LEAKED, NEW, LEAKED, PASSWORD)]
    assert ranges.asked == ([] if kept else [(each, "true") for each in wanted])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_line_of_a_file_is_found(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_SETTING, str(as_file(tmp_path, end)))
    is_leaked = leaked_passwords()
    assert all(is_leaked(each) for each in (LEAKED, *(f"leaked {n}" for n in range(2_000))))
    assert not any(is_leaked(f"other {n}") for n in range(2_000))


def test_without_an_answer_nobody_is_kept_out(
    patience: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Ranges(status=503)
    file = as_file(tmp_path)
    sources = []
    for where in (broken.url, str(file)):
        monkeypatch.setenv(_SETTING, where)
        sources.append(leaked_passwords())
    assert not sources[0](LEAKED)
    assert broken.asked
    # Nobody listens there any more, and the file is gone.
    broken.close()
    file.unlink()
    assert [each(LEAKED) for each in sources] == [False, False]
    assert caplog.text.count("A password was not looked up") == 3
    for each in (LEAKED, digest_of(LEAKED)[:5]):
        assert each not in caplog.text
    # The list of the package holds in any case.
    with pytest.raises(NotAccepted):
        check_password("sonyericsson", "ada@example.com", sources[0])


def test_a_wrong_source_of_leaked_passwords_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hashes = tmp_path / "words.txt"
    no_hashes.write_text("password\n")
    for wrong in ("http://example.com/range", tmp_path, no_hashes, tmp_path / "none"):
        monkeypatch.setenv(_SETTING, str(wrong))
        with pytest.raises(SettingError, match=_SETTING):
            leaked_passwords()


# The second factor.


class Phone:
    """An authenticator application, and the recovery codes on a sheet of paper beside it."""

    def __init__(self, app: Fitness, secret: str, recovery: list[str]) -> None:
        self._app, self._codes, self.recovery = app, pyotp.TOTP(secret), recovery
        self.secret = secret

    def code(self, steps: int = 0) -> str:
        return self._codes.at(self._app.clock(), counter_offset=steps)

    def next_code(self) -> str:
        """A code that nobody has used: time passes until there is another one."""
        self._app.clock.pass_by(seconds=30)
        return self.code()

    def wrong_code(self) -> str:
        near = {self.code(steps) for steps in range(-2, 3)}
        return next(code for n in range(9) if (code := f"{n:06}") not in near)


def set_up(app: Fitness, person: Visitor) -> Phone:
    page = person.post("/second-factor", password=PASSWORD)
    assert page.status_code == 200
    values = {
        "csrf_token": re.findall(r'name="csrf_token" value="([^"]+)"', page.text)[0],
        "sealed": re.findall(r'name="sealed" value="([^"]+)"', page.text)[0],
    }
    [shown] = re.findall(r'class="secret">([A-Z2-7 ]+)<', page.text)
    phone = Phone(app, shown.replace(" ", ""), [])
    wrong = person.client.post("/second-factor", data=values | {"code": phone.wrong_code()})
    # The page is there again, with the same secret.
    assert (wrong.status_code, shown in wrong.text) == (422, True)
    assert app.rows("SELECT 1 FROM second_factors WHERE user_id = %s", person.id) == []
    done = person.client.post("/second-factor", data=values | {"code": phone.code()})
    assert done.status_code == 200
    phone.recovery = re.findall(r"<li>([a-z2-7-]{29})</li>", done.text)
    app.site.limits._limiter.storage.reset()
    return phone


def notices(app: Fitness, person: Visitor) -> list[str]:
    """What mails have told somebody."""
    rows = app.rows(
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(parameters, '$.change')) FROM messages "
        "WHERE user_id = %s AND template = 'security' ORDER BY id",
        person.id,
    )
    return [change for (change,) in rows]


def test_with_a_second_factor_the_password_alone_signs_nobody_in(app: Fitness) -> None:
    person = app.person()
    other = sign_in(app, person.email)
    assert person.post("/second-factor", password="wrong" * 3).status_code == 422
    phone = set_up(app, person)
    assert [is_in(each) for each in (person, other)] == [True, False]
    assert "Code at sign-in</strong>on" in person.get("/settings").text
    visitor, sessions = app.visitor(), app.site.sessions.everything(person.id)
    answer = visitor.post("/sign-in", email=person.email, password=PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in/code")
    assert not is_in(visitor)
    assert app.site.sessions.everything(person.id) == sessions
    page = visitor.get("/sign-in/code").text
    assert 'autocomplete="one-time-code"' in page
    assert visitor.post("/sign-in/code", code=phone.wrong_code()).status_code == 401
    assert not is_in(visitor)
    answer = visitor.post("/sign-in/code", code=phone.next_code())
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert is_in(visitor)
    # The sign-in is over.
    assert visitor.get("/sign-in/code").headers["Location"] == "/sign-in"
    assert app.rows("SELECT 1 FROM sign_ins WHERE user_id = %s", person.id) == []
    assert notices(app, person) == ["on"]


def test_an_application_takes_the_secret_from_the_page(app: Fitness) -> None:
    person = app.person()
    page = person.post("/second-factor", password=PASSWORD).text
    [address] = re.findall(r'href="(otpauth://[^"]+)"', page)
    found = pyotp.parse_uri(unescape(address))
    assert isinstance(found, pyotp.TOTP)
    assert (found.name, found.issuer) == (person.email, "Inspire")
    assert (found.interval, found.digits) == (30, 6)
    [shown] = re.findall(r'class="secret">([A-Z2-7 ]+)<', page)
    # 160 bits, and others each time.
    assert re.fullmatch("[A-Z2-7]{32}", found.secret)
    assert shown.replace(" ", "") == found.secret
    assert found.secret not in person.post("/second-factor", password=PASSWORD).text
    assert 'role="img"' in page
    assert "<svg" in page
    for each in ("<script", " style=", "<style"):
        assert each not in page
    # Who does not go on has to begin again.
    [sealed] = re.findall(r'name="sealed" value="([^"]+)"', page)
    app.clock.pass_by(minutes=16)
    code = found.at(app.clock())
    late = person.post("/second-factor", sealed=sealed, code=code)
    assert (late.status_code, "Begin again" in late.text) == (422, True)
    # And of another account it is no secret.
    other = app.person()
    fresh = person.post("/second-factor", password=PASSWORD).text
    [sealed] = re.findall(r'name="sealed" value="([^"]+)"', fresh)
    [shown] = re.findall(r'class="secret">([A-Z2-7 ]+)<', fresh)
    code = pyotp.TOTP(shown.replace(" ", "")).at(app.clock())
    assert other.post("/second-factor", sealed=sealed, code=code).status_code == 422


def test_nobody_goes_on_without_a_second_factor_where_all_need_one(app: Fitness) -> None:
    person = app.person()
    settings = replace(app.site.settings, needs_second_factor=True)
    strict = Visitor(make(replace(app.site, settings=settings)).test_client())
    answer = strict.post("/sign-in", email=person.email, password=PASSWORD)
    assert answer.status_code == 303
    for path in ("/", "/log", "/settings", "/apps", "/password", "/live"):
        assert strict.get(path).headers["Location"] == "/second-factor", path
    page = strict.get("/second-factor").text
    assert "before you go on" in page
    # What is theirs they may take along, and go.
    for path in ("/sign-out", "/sign-out-everywhere", "/export", "/delete"):
        assert f'"{path}"' in page, path
    assert strict.post("/export", form_of="/second-factor").status_code == 200
    assert strict.get("/delete").status_code == 200
    assert is_in(person)
    answer = strict.post("/sign-out-everywhere", form_of="/second-factor")
    assert answer.headers["Location"] == "/sign-in"
    assert not is_in(person)
    strict.post("/sign-in", email=person.email, password=PASSWORD)
    strict.id = person.id
    set_up(app, strict)
    assert is_in(strict)
    visitor = Visitor(make(replace(app.site, settings=settings)).test_client())
    assert visitor.get("/").status_code == 200
    assert visitor.get("/start").status_code == 200
    assert visitor.get("/s/inspire.css").status_code == 200


def test_a_code_counts_once_and_only_near_its_time(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)

    def attempt(code: str) -> bool:
        app.site.limits._limiter.storage.reset()
        visitor = sign_in(app, person.email)
        visitor.post("/sign-in/code", code=code)
        return is_in(visitor)

    # The one by which it was turned on is used, too.
    assert not attempt(phone.code())
    app.clock.pass_by(minutes=5)
    assert not attempt(phone.code(-2))
    assert not attempt(phone.code(2))
    assert attempt(phone.code(-1))
    assert not attempt(phone.code(-1))
    assert attempt(f"{phone.code()[:3]} {phone.code()[3:]}")
    assert attempt(phone.code(1))
    # One from before the last one does not count any more.
    assert not attempt(phone.code())


def test_codes_are_limited_by_account(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    first, second = sign_in(app, person.email), sign_in(app, person.email)
    app.clock.pass_by(seconds=30)
    codes = [
        each.post("/sign-in/code", code=phone.wrong_code()).status_code
        for each in (first, second, first, second, first, second)
    ]
    assert codes == [401] * 5 + [429]
    assert second.post("/sign-in/code", code=phone.code()).status_code == 429
    for n in range(MOST_WRONG - 5):
        app.site.limits._limiter.storage.reset()
        assert first.post("/sign-in/code", code=phone.wrong_code()).status_code == 401, n
    # Now the right one does not help either, a minute later.
    app.clock.pass_by(minutes=1)
    app.site.limits._limiter.storage.reset()
    refused = first.post("/sign-in/code", code=phone.code())
    assert (refused.status_code, "too many" in refused.text) == (401, True)
    # Whoever has the recovery codes gets in meanwhile, however many codes others try.
    codes = [
        second.post("/sign-in/code", **{field: phone.wrong_code()}).status_code
        for field in ("code", "recovery", "code", "recovery", "code", "recovery")
    ]
    assert codes == [401] * 4 + [429] * 2
    assert first.post("/sign-in/code", recovery=phone.recovery[0]).status_code == 303
    app.clock.pass_by(minutes=1)
    app.site.limits._limiter.storage.reset()
    assert second.post("/sign-in/code", code=phone.code()).status_code == 303


def test_too_many_wrong_codes_are_forgiven_after_an_hour(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    app.rows(
        "UPDATE second_factors SET wrong_codes = %s, wrong_at = %s WHERE user_id = %s",
        MOST_WRONG,
        app.clock().replace(tzinfo=None),
        person.id,
    )
    for minutes, status in ((59, 401), (1, 303)):
        app.clock.pass_by(minutes=minutes)
        visitor = sign_in(app, person.email)
        assert visitor.post("/sign-in/code", code=phone.code()).status_code == status


def test_recovery_codes_count_once_and_are_kept_as_digests(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    # 24 signs of 5 bits each.
    assert len(set(phone.recovery)) == 8
    kept = app.rows("SELECT digest FROM recovery_codes WHERE user_id = %s", person.id)
    plain = [each.replace("-", "") for each in phone.recovery]
    assert {digest for (digest,) in kept} == {kept_form(each) for each in plain}
    visitor, code = sign_in(app, person.email), phone.recovery[0]
    # However it is written down.
    answer = visitor.post("/sign-in/code", recovery=f" {code.upper().replace('-', ' ')} ")
    assert answer.status_code == 303
    assert "7 recovery codes left" in visitor.get("/log").text
    again = sign_in(app, person.email)
    assert again.post("/sign-in/code", recovery=code).status_code == 401
    assert not is_in(again)
    # Other ones take their place.
    wanted = {"what": "codes", "code": phone.next_code()}
    page = visitor.post("/second-factor", password=PASSWORD, **wanted)
    fresh = re.findall(r"<li>([a-z2-7-]{29})</li>", page.text)
    assert len(set(fresh) - set(phone.recovery)) == 8
    again = sign_in(app, person.email)
    assert again.post("/sign-in/code", recovery=phone.recovery[1]).status_code == 401
    assert again.post("/sign-in/code", recovery=fresh[1]).status_code == 303
    assert notices(app, person) == ["on", "recovered", "codes", "recovered"]


def test_a_reset_asks_for_the_code_too(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    stranger = app.visitor()
    stranger.post("/start", email=person.email)
    answer = stranger.post(app.link(person.email), password=NEW)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in/code")
    assert [is_in(each) for each in (stranger, person)] == [False, False]
    assert not is_in(sign_in(app, person.email, NEW))
    assert stranger.post("/sign-in/code", code=phone.next_code()).status_code == 303
    assert is_in(stranger)


def test_a_sign_in_without_its_code_ends(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    for minutes, status in ((9, 303), (10, 400)):
        app.site.limits._limiter.storage.reset()
        visitor = sign_in(app, person.email)
        app.clock.pass_by(minutes=minutes)
        assert visitor.post("/sign-in/code", code=phone.code()).status_code == status
        assert is_in(visitor) is (status == 303)
    # A new password ends it, too, and so does a sign-out everywhere.
    waiting = sign_in(app, person.email)
    app.clock.pass_by(seconds=30)
    stranger = app.visitor()
    stranger.post("/start", email=person.email)
    stranger.post(app.link(person.email), password=NEW)
    for end in (lambda: None, lambda: sign_out_everywhere(app.site, person.email)):
        end()
        answer = waiting.post("/sign-in/code", form_of="/sign-in", code=phone.code())
        assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
        assert not is_in(waiting)
        waiting = sign_in(app, person.email, NEW)
        app.clock.pass_by(seconds=30)


def test_a_change_that_nobody_has_chosen_is_not_made(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    answer = person.post("/second-factor", password=PASSWORD, code=phone.recovery[0])
    assert (answer.status_code, "Choose what you want" in answer.text) == (422, True)
    # Neither is a code used up.
    assert "8 recovery codes left" in person.get("/second-factor").text
    assert notices(app, person) == ["on"]


def test_turning_it_off_needs_password_and_code(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    other = sign_in(app, person.email)
    assert other.post("/sign-in/code", code=phone.next_code()).status_code == 303
    wanted = {"what": "off", "code": phone.next_code()}
    assert person.post("/second-factor", password="wrong" * 3, **wanted).status_code == 422
    wrong = {"what": "off", "code": phone.wrong_code()}
    assert person.post("/second-factor", password=PASSWORD, **wrong).status_code == 422
    assert app.rows("SELECT 1 FROM second_factors WHERE user_id = %s", person.id)
    before = cookie_of(person)
    assert person.post("/second-factor", password=PASSWORD, **wanted).status_code == 303
    assert "It is off" in person.get("/settings").text
    assert [is_in(each) for each in (person, other)] == [True, False]
    assert cookie_of(person) != before
    assert is_in(sign_in(app, person.email))
    for table in ("second_factors", "recovery_codes", "sign_ins"):
        assert app.rows(f"SELECT 1 FROM {table} WHERE user_id = %s", person.id) == [], table
    assert notices(app, person) == ["on", "off"]


def test_wrong_codes_of_others_do_not_keep_it_on(app: Fitness) -> None:
    """Whoever has a recovery code turns it off meanwhile."""
    person = app.person()
    phone = set_up(app, person)
    stranger = sign_in(app, person.email)
    codes = [stranger.post("/sign-in/code", code=phone.wrong_code()).status_code for _ in range(6)]
    assert codes == [401] * 5 + [429]
    wanted = {"what": "off", "password": PASSWORD}
    assert person.post("/second-factor", code=phone.code(), **wanted).status_code == 429
    assert person.post("/second-factor", code=phone.recovery[0], **wanted).status_code == 303
    assert is_in(sign_in(app, person.email))


def test_a_code_that_is_taken_while_it_is_turned_off_fails_neither(app: Fitness) -> None:
    """Both lock in one order, so the server has no deadlock to end."""
    person = app.person()
    digest = kept_form(set_up(app, person).recovery[0].replace("-", ""))
    # Not those of the application, which wait ten seconds only.
    with (
        app.mysql.connect() as first,
        app.mysql.connect() as second,
        ThreadPoolExecutor(1) as other,
    ):
        taking, turning_off = Factors(Tables(first)), Factors(Tables(second))
        with taking._database.transaction():
            assert taking.factor(person.id)
            done = other.submit(turning_off.turn_off, person.id)
            wait_until_locked_out(app, second.thread_id())
            assert taking.use_recovery_code(person.id, digest, app.clock())
        assert done.result()
        second.commit()


def test_a_mail_tells_of_a_changed_second_factor() -> None:
    told = {
        change: letters.write(
            Channel.EMAIL, "security", {"name": "Ada", "link": "https://x/", "change": change}, {}
        )
        for change in ("on", "off", "codes", "recovered")
    }
    assert len({each.subject for each in told.values()}) == 4
    for change, each in told.items():
        assert each.subject
        assert "If it was not you" in each.text
        assert "https://x/start\n" in each.text
        # With a code of somebody else's, a new password alone lets nobody in.
        assert ("we turn the code off" in each.text) is (change == "on")


def test_secrets_of_second_factors_are_encrypted(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    [(sealed,)] = app.rows("SELECT secret FROM second_factors WHERE user_id = %s", person.id)
    assert phone.secret not in sealed
    vault = app.site.vault
    assert vault.opened(person.id, sealed, app.clock()) == phone.secret
    assert vault.opened(person.id + 1, sealed, app.clock()) is None
    later = app.clock() + timedelta(minutes=20)
    assert vault.opened(person.id, sealed, later, timedelta(minutes=15)) is None
    # After the server got another secret, the recovery codes are the way in.
    site = replace(app.site, vault=Vault(b"another secret of the server's own"))
    visitor = Visitor(make(site).test_client())
    visitor.post("/sign-in", email=person.email, password=PASSWORD)
    refused = visitor.post("/sign-in/code", code=phone.next_code())
    assert (refused.status_code, "recovery code" in refused.text) == (401, True)
    assert visitor.post("/sign-in/code", recovery=phone.recovery[0]).status_code == 303


def test_those_who_run_it_can_turn_a_second_factor_off(app: Fitness) -> None:
    person = app.person()
    set_up(app, person)
    waiting = sign_in(app, person.email)
    app.clock.pass_by(seconds=1)
    assert turn_off_second_factor(app.site, person.email.upper())
    assert [is_in(each) for each in (person, waiting)] == [False, False]
    assert waiting.get("/sign-in/code").headers["Location"] == "/sign-in"
    assert is_in(sign_in(app, person.email))
    assert notices(app, person) == ["on", "off"]
    assert not turn_off_second_factor(app.site, person.email)
    with pytest.raises(NoAccount):
        turn_off_second_factor(app.site, "unknown@example.com")


def test_a_second_factor_is_exported_without_its_secret_and_deleted(app: Fitness) -> None:
    person = app.person()
    phone = set_up(app, person)
    sign_in(app, person.email)
    found = person.export()
    assert [each.keys() for each in found["second_factors"]] == [{"since"}]
    assert [each["used_at"] for each in found["recovery_codes"]] == [None] * 8
    assert len(found["sign_ins"]) == 1
    text = str(found)
    for each in (phone.secret, *phone.recovery, *(kept_form(each) for each in phone.recovery)):
        assert each not in text
    assert "is deleted" in person.post("/delete", password=PASSWORD).text
    for table in ("second_factors", "recovery_codes", "sign_ins"):
        assert app.rows(f"SELECT 1 FROM {table} WHERE user_id = %s", person.id) == [], table


# Sessions.


def test_a_sign_in_begins_another_session_and_ends_the_one_before(app: Fitness) -> None:
    person = app.person()
    old = cookie_of(person)
    ids = app.site.sessions.everything(person.id).keys()
    person.post("/sign-in", email=person.email, password=PASSWORD)
    assert cookie_of(person) != old
    assert not ids & app.site.sessions.everything(person.id).keys()
    # What the browser had is of no use to anybody.
    thief = app.visitor()
    thief.client.set_cookie("softcart_inspire", old)
    assert not is_in(thief)
    # The database has no secret, only its digest.
    [id] = app.site.sessions.everything(person.id)
    assert re.fullmatch("[0-9a-f]{64}", id)
    thief.client.set_cookie("softcart_inspire", id)
    assert not is_in(thief)


def test_a_session_from_before_sign_in_is_not_taken_over(app: Fitness) -> None:
    person = app.person()
    visitor = app.visitor()
    visitor.get("/sign-in")
    before = cookie_of(visitor)
    visitor.post("/sign-in", email=person.email, password=PASSWORD)
    planted = app.visitor()
    planted.client.set_cookie("softcart_inspire", before)
    assert is_in(visitor)
    assert not is_in(planted)


def test_signing_out_ends_the_session_for_good(app: Fitness) -> None:
    person = app.person()
    kept = cookie_of(person)
    assert "Sign out" in person.get("/settings").text
    person.post("/sign-out", form_of="/settings")
    assert not is_in(person)
    person.client.set_cookie("softcart_inspire", kept)
    assert not is_in(person)
    assert app.site.sessions.everything(person.id) == {}


def test_a_stolen_session_makes_no_token_and_a_reset_ends_all(app: Fitness) -> None:
    person = app.person()
    wanted = {"name": "My watch", "scopes": "workouts:read", "days": "365"}
    for wrong in ({}, {"password": "wrong" * 3}):
        answer = person.post("/apps", **wanted, **wrong)
        assert (answer.status_code, "inspire_" in answer.text) == (422, False)
    made = re.search(r"inspire_[\w-]{43}", person.post("/apps", password=PASSWORD, **wanted).text)
    assert made
    shown = {"Authorization": f"Bearer {made[0]}"}
    assert person.get("/api/v1/streak", headers=shown).status_code == 200
    stranger = app.visitor()
    stranger.post("/start", email=person.email)
    assert stranger.post(app.link(person.email), password=NEW).status_code == 303
    assert person.get("/api/v1/streak", headers=shown).status_code == 401


def test_signing_out_everywhere(app: Fitness) -> None:
    person = app.person()
    others = [sign_in(app, person.email) for _ in range(2)]
    bystander = app.person()
    others[0].post("/sign-out-everywhere", form_of="/settings")
    assert [is_in(each) for each in (person, *others, bystander)] == [False] * 3 + [True]


def test_a_session_that_the_index_does_not_show_yet_ends_with_the_others(
    app: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = app.person()
    thief = sign_in(app, person.email)
    app.clock.pass_by(microseconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(app.site.sessions, "_of", lambda user_id: [])
        person.post("/sign-out-everywhere", form_of="/settings")
    assert not is_in(thief)
    app.clock.pass_by(microseconds=999_999)
    thief = sign_in(app, person.email)
    assert is_in(thief)
    app.clock.pass_by(seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(app.site.sessions, "_of", lambda user_id: [])
        assert sign_out_everywhere(app.site, person.email) == 0
    assert not is_in(thief)


def test_a_sign_in_while_the_second_factor_is_turned_on_is_over(
    app: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = app.person()
    look = Tables.person

    def meanwhile(self: Tables, user_id: int) -> Any:
        monkeypatch.undo()
        app.clock.pass_by(seconds=1)
        set_up(app, person)
        app.clock.pass_by(seconds=1)
        return look(self, user_id)

    # No code was needed when it was asked for. The session begins afterwards.
    monkeypatch.setattr(Tables, "person", meanwhile)
    stranger = sign_in(app, person.email)
    assert [is_in(stranger), is_in(person)] == [False, True]


def test_a_sign_in_while_the_password_changes_is_over(
    app: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = app.person()
    thief = app.visitor()
    passwords, sessions = app.site.passwords, app.site.sessions
    verify, hash = passwords.verify, passwords.hash

    def after_the_check(kept: str | None, password: str) -> bool:
        monkeypatch.undo()
        is_right = verify(kept, password)
        app.clock.pass_by(seconds=1)
        assert person.post("/password", password=PASSWORD, new=NEW).status_code == 303
        app.clock.pass_by(seconds=1)
        return is_right

    monkeypatch.setattr(passwords, "verify", after_the_check)
    thief.post("/sign-in", email=person.email, password=PASSWORD)
    assert [is_in(thief), is_in(person)] == [False, True]

    def before_it_is_kept(password: str) -> str:
        monkeypatch.setattr(passwords, "hash", hash)
        app.clock.pass_by(seconds=1)
        thief.post("/sign-in", email=person.email, password=NEW)
        assert is_in(thief)
        app.clock.pass_by(seconds=1)
        return hash(password)

    monkeypatch.setattr(passwords, "hash", before_it_is_kept)
    # The index does not show the new session yet.
    monkeypatch.setattr(sessions, "_of", lambda user_id: [])
    assert person.post("/password", password=NEW, new=PASSWORD).status_code == 303
    assert [is_in(thief), is_in(person)] == [False, True]


def test_only_pages_need_the_session(app: Fitness, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(id: str) -> None:
        raise OSError

    person = app.person()
    monkeypatch.setattr(app.site.sessions, "get", is_away)
    paths = ("/settings", "/unsubscribe/a/b", "/api/v1/streak", "/s/inspire.css")
    assert [person.get(path).status_code for path in paths] == [500, 404, 401, 200]


def test_those_who_run_it_can_end_sessions(app: Fitness) -> None:
    person = app.person()
    assert sign_out_everywhere(app.site, person.email) == 1
    assert not is_in(person)
    with pytest.raises(NoAccount):
        sign_out_everywhere(app.site, "unknown@example.com")


def test_sessions_are_shown_and_ended_one_by_one(app: Fitness) -> None:
    person, bystander = app.person(), app.person()
    other = sign_in(app, person.email)
    [foreign] = app.site.sessions.everything(bystander.id)
    page = person.get("/sessions").text
    ids = re.findall(r'name="session" value="(\w+)"', page)
    assert len(ids) == 2
    [mine] = re.findall(r'value="(\w+)"><span><strong>Computer, this one', page)
    [theirs] = set(ids) - {mine}
    ended = {"session": [theirs, foreign]}
    assert person.post("/sessions", password="wrong" * 3, **ended).status_code == 422
    assert is_in(other)
    assert person.post("/sessions", password=PASSWORD, **ended).status_code == 303
    assert [is_in(each) for each in (person, other, bystander)] == [True, False, True]


def test_a_session_ends_when_it_is_idle_and_in_any_case_after_ninety_days(app: Fitness) -> None:
    person, began = app.person(), app.clock.now
    try:
        app.clock.pass_by(days=14, seconds=-1)
        assert is_in(person)
        app.clock.pass_by(days=14)
        [item] = app.site.sessions.everything(person.id).values()
        # The item is there still: the database deletes late.
        assert item["expires_at"] <= app.clock().timestamp()
        assert not is_in(person)
        app.clock.now = began
        person = app.person()
        for _ in range(8):
            app.clock.pass_by(days=11)
            assert is_in(person)
        app.clock.pass_by(days=2)
        assert not is_in(person)
        # The password is as good as on the first day.
        assert is_in(sign_in(app, person.email))
    finally:
        app.clock.now = began


def test_a_number_changes_only_with_the_password(app: Fitness) -> None:
    person = app.person()
    number = "+44 7700 900123"
    assert person.post("/phone", phone=number, password="wrong" * 3).status_code == 422
    assert person.post("/phone", phone="123", password=PASSWORD).status_code == 422
    assert person.post("/phone", phone=number, password=PASSWORD).status_code == 303
    row = "SELECT phone, phone_confirmed_at FROM users WHERE id = %s"
    assert app.rows(row, person.id) == [("447700900123", None)]
    app.rows("UPDATE users SET phone_confirmed_at = NOW() WHERE id = %s", person.id)
    person.post("/phone", phone=number, password=PASSWORD)
    assert app.rows(row, person.id)[0][1] is not None
    person.post("/phone", phone="+44 7700 900124", password=PASSWORD)
    assert app.rows(row, person.id) == [("447700900124", None)]


# Browsers.


def test_no_form_works_without_its_own_value(app: Fitness) -> None:
    person = app.person()
    posts = [
        rule.rule
        for rule in app.app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and rule.endpoint.startswith("pages.")
    ]
    assert len(posts) > 12
    for rule in posts:
        path = re.sub("<[^>]+>", "run", rule)
        assert person.client.post(path, data={"password": PASSWORD}).status_code == 400, path
    assert is_in(person)


def test_headers_keep_pages_to_themselves(app: Fitness) -> None:
    person = app.person()
    headers = person.get("/").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    for path in ("/", "/log/strength", "/settings", "/history"):
        page = person.get(path).text
        assert "<script" not in page
        assert " style=" not in page
    assert person.get("/s/inspire.css").headers["Cache-Control"] != "no-store"


def test_cookies_go_by_https_only_where_people_come_by_https(app: Fitness) -> None:
    settings = replace(app.site.settings, url="https://inspire.example.com")
    client = make(replace(app.site, settings=settings)).test_client()
    page = client.get("/sign-in", base_url="https://inspire.example.com")
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Host-softcart_inspire=")
    parts = set(cookie.split("; "))
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= parts
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in app.visitor().get("/sign-in").headers
    # Another name for this machine could be another site's.
    assert client.get("/", base_url="https://evil.example").status_code == 400


def test_the_log_has_no_secret(app: Fitness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    person = app.person()
    secret = cookie_of(person)
    person.post("/sign-in", email=person.email, password="wrong password!")
    person.post("/start", email=person.email)
    link = app.link(person.email)
    person.get(link)
    person.get(f"/workouts/{person.email}")
    text = caplog.text
    assert "/finish/<secret>" in text
    session = kept_form(secret)
    for each in (PASSWORD, "wrong password!", secret, session, SECRET, link, person.email):
        assert each not in text


def test_there_is_no_account_that_nobody_made(app: Fitness) -> None:
    others = "SELECT COUNT(*) FROM users WHERE state = 'active' AND email NOT LIKE '%%@example.com'"
    assert app.rows(others) == [(0,)]
    app.site.limits._limiter.storage.reset()
    for email in ("admin", "admin@localhost", "softcart@localhost"):
        assert not is_in(sign_in(app, email, "softcart"))


def test_the_commands_of_those_who_run_it(app: Fitness, monkeypatch: pytest.MonkeyPatch) -> None:
    # The application's clock stands still, and the commands' would be ahead of it.
    monkeypatch.setattr(server, "now", app.clock)
    person = app.person()
    set_up(app, person)

    def told(*command: str) -> str:
        done = CliRunner().invoke(commands, [*command, person.email])
        assert done.exit_code == 0, done.output
        return done.output

    assert told("turn-off-second-factor") == "It is off.\n"
    assert not is_in(person)
    app.clock.pass_by(seconds=1)
    assert is_in(sign_in(app, person.email))
    assert told("turn-off-second-factor") == "It was not on.\n"
    assert told("sign-out") == "1 sessions ended.\n"
