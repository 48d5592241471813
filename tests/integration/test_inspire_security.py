"""Who gets in, for how long, and what nobody learns. docs/inspire-security.md names these tests."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.fitness import PASSWORD, QUICK, SECRET, Fitness, Visitor, fitness

from softcart_assets.inspire_app.accounts import NotAccepted, Profile, check_password
from softcart_assets.inspire_app.links import kept_form
from softcart_assets.inspire_app.passwords import Argon2
from softcart_assets.inspire_app.server import make
from softcart_assets.inspire_app.site import NoAccount, open_site, sign_out_everywhere
from softcart_assets.stack import Stack

NEW = "another horse and battery"


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
    app.clock.pass_by(seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(app.site.sessions, "_of", lambda user_id: [])
        person.post("/sign-out-everywhere", form_of="/settings")
    assert not is_in(thief)
    thief = sign_in(app, person.email)
    assert is_in(thief)
    app.clock.pass_by(seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(app.site.sessions, "_of", lambda user_id: [])
        assert sign_out_everywhere(app.site, person.email) == 0
    assert not is_in(thief)


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
    assert app.rows("SELECT COUNT(*) FROM users WHERE email NOT LIKE '%%@example.com'") == [(0,)]
    app.site.limits._limiter.storage.reset()
    for email in ("admin", "admin@localhost", "softcart@localhost"):
        assert not is_in(sign_in(app, email, "softcart"))
