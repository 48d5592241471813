"""Messages of the fitness application on real databases: planned, sent, answered, returned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import psutil
import pytest
from pymysql.cursors import DictCursor
from support.fitness import PASSWORD, Fitness, fitness, wait_for, wait_until_locked_out
from support.messages import (
    TOKEN,
    Reached,
    add_people,
    always,
    outbox,
    phone,
    providers,
    put,
    reminder,
    wish,
)
from support.smsc import Smsc

from softcart_assets.inspire_app.accounts import confirmation
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import (
    MAX_ATTEMPTS,
    Accepted,
    Channel,
    Lasting,
    Message,
    Refused,
    Unavailable,
)
from softcart_assets.inspire_app.planning import Planner
from softcart_assets.inspire_app.preferences import Notifications
from softcart_assets.inspire_app.providers import Providers
from softcart_assets.inspire_app.sender import run
from softcart_assets.inspire_app.senders.twilio import signature
from softcart_assets.inspire_app.sending import send_due
from softcart_assets.inspire_app.storage.outbox import _QUEUES, address_digest
from softcart_assets.inspire_app.storage.people import PeopleTables
from softcart_assets.inspire_app.storage.rows import naive
from softcart_assets.inspire_app.storage.wishes import Wishes
from softcart_assets.stack import Stack
from softcart_assets.stack.server import free_port

HOOK_TOKEN = "h" * 32


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[Fitness]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "SMS": "twilio",
            "SMS_FROM": "+4930123456",
            "TWILIO_ACCOUNT": "AC1",
            "TWILIO_TOKEN": TOKEN,
            "HOOK_TOKEN": HOOK_TOKEN,
        }.items():
            patch.setenv(f"SOFTCART_INSPIRE_APP_{name}", value)
        with fitness() as made:
            yield made


@pytest.fixture(scope="module")
def reached(app: Fitness) -> Iterator[Reached]:
    with providers() as found:
        yield found


@pytest.fixture
def people(app: Fitness) -> Callable[..., list[int]]:
    """Adds people with ids of their own. What other tests left in the outbox is not due, and their
    people want nothing more.
    """
    app.rows("UPDATE messages SET state = 'dropped' WHERE state IN ('waiting', 'sending')")
    app.rows("UPDATE consents SET withdrawn_at = '2026-01-01' WHERE withdrawn_at IS NULL")
    [(last,)] = app.rows("SELECT COALESCE(max(id), 0) FROM users")

    def add(*zones: str, wishes: Notifications | None = None) -> list[int]:
        return add_people(app, last + 1, list(zones) or [noon()], wishes)

    return add


def noon() -> str:
    """A zone whose clocks show between 12 and 1 p.m. now. It has the date of UTC.

    At no other hour might the senders under test plan messages of the day themselves.
    """
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+}"


def states(app: Fitness, user_id: int) -> list[tuple[str, str | None]]:
    return [*app.rows("SELECT state, reason FROM messages WHERE user_id = %s ORDER BY id", user_id)]


def events(app: Fitness, user_id: int) -> set[str]:
    rows = app.rows(
        "SELECT event FROM message_events e JOIN messages m ON m.id = message_id "
        "WHERE user_id = %s",
        user_id,
    )
    return {event for (event,) in rows}


def consents(app: Fitness, user_id: int) -> set[tuple[str, str]]:
    return {
        *app.rows(
            "SELECT channel, purpose FROM consents WHERE user_id = %s AND withdrawn_at IS NULL",
            user_id,
        )
    }


class Steps:
    """A provider that answers one thing after another. `prepared`: is called before each."""

    def __init__(self, *outcomes: Accepted | Refused | Unavailable) -> None:
        self.outcomes = [*outcomes]
        self.sent: list[tuple[str, str]] = []
        self.prepared: Callable[[], object] = lambda: None

    def prepare(self) -> None:
        self.prepared()

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        self.sent.append((message.key, address))
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


def ask(app: Fitness, email: str) -> None:
    """Somebody asks for a link."""
    app.site.limits._limiter.storage.reset()
    assert app.visitor().post("/start", email=email).status_code == 200


def send(app: Fitness, provider: Steps, now: datetime) -> int:
    letter = Letter("A walk", "A walk.", {})
    with outbox(app) as table:
        return send_due(table, dict.fromkeys(Channel, provider), lambda _: letter, "a", lambda: now)


def test_an_account_begins_with_a_mail(app: Fitness, reached: Reached) -> None:
    visitor, email = app.visitor(), "eve@example.com"
    ask(app, email)
    assert run(reached.work, once=True) >= 1
    [mail] = [each for each in reached.mails if each.receiver == email]
    assert mail.subject == "Welcome. Finish your account"
    found = re.search(r"http://127.0.0.1:8091(/finish/\S+)", mail.text)
    assert found
    assert "List-Unsubscribe" not in dict(mail.fields)
    assert visitor.get(found[1]).status_code == 200
    profile = {"full_name": "Eve", "time_zone": "Europe/Berlin", "region": "Bavaria"}
    assert visitor.post(found[1], password="correct horse", **profile).status_code == 303
    app.clock.pass_by(minutes=6)
    ask(app, email)
    app.rows("UPDATE messages SET due_at = '2026-01-01' WHERE address = %s", email)
    run(reached.work, once=True)
    subjects = [each.subject for each in reached.mails if each.receiver == email]
    assert subjects == ["Choose a new password", "Welcome. Finish your account"]


def test_a_day_is_planned_sent_and_ended_by_one_click(
    app: Fitness, reached: Reached, people: Callable[..., list[int]]
) -> None:
    """Reminder and quote, by mail and text, once: whoever plans again, in whichever process."""
    [user_id] = people(zone := noon())
    local = datetime.now(ZoneInfo(zone)) - timedelta(minutes=2)
    at = local.time().replace(second=0, microsecond=0)
    quiet = replace(always().quiet, starts=at, ends=at)
    wish(app, [user_id], replace(always(), reminder_at=at, quiet=quiet))
    for _ in range(2):
        with app.mysql.connect() as connection, reached.work.mongo.connect() as client:
            wishes = Wishes(client, reached.work.mongo.database)
            planner = Planner(PeopleTables(connection), wishes.of_all, dict)
            planner.plan(datetime.now(UTC))
        run(reached.work, once=True)
    mine = [each for each in reached.mails if each.receiver == f"{user_id}@example.com"]
    texts = [each for each in reached.texts if each.receiver == phone(user_id)]
    [mail] = [each for each in mine if "Log it here" in each.text]
    assert all("STOP" in each.text for each in texts)
    assert len(texts) == len(mine)
    # What the page of the day shows is what was sent.
    day = local.date()
    [(item,)] = app.rows(
        "SELECT item FROM choices WHERE user_id = %s AND local_date = %s AND kind = 'workout'",
        user_id,
        day,
    )
    assert item
    fields = dict(mail.fields)
    assert fields["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    path = fields["List-Unsubscribe"].strip("<>").removeprefix("http://127.0.0.1:8091")
    browser = app.visitor()
    # Programs that look at links unsubscribe nobody.
    assert "No more reminders by e-mail?" in browser.get(path).text
    assert ("email", "reminder") in consents(app, user_id)
    assert browser.client.post(path[:-1]).status_code == 404
    done = browser.client.post(path, data={"List-Unsubscribe": "One-Click"})
    assert done.status_code == 200
    assert "Set-Cookie" not in done.headers
    assert consents(app, user_id) == {("email", "quote"), ("sms", "reminder"), ("sms", "quote")}
    assert "unsubscribed" in events(app, user_id)


def test_nobody_who_unsubscribed_a_second_ago_gets_anything(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    """Neither what waits nor what a sender has claimed, and is connecting for."""
    [user_id] = people()
    now = datetime.now(UTC)
    messages = [reminder(user_id, now - timedelta(minutes=number)) for number in (3, 2, 1)]
    put(app, messages)
    provider = Steps(Accepted("1"))

    def unsubscribe() -> None:
        with outbox(app) as table:
            table.unsubscribe(messages[0], now)

    provider.prepared = unsubscribe
    assert send(app, provider, now) == 3
    assert provider.sent == []
    assert set(states(app, user_id)) == {("dropped", "There is no consent.")}


def test_who_turns_a_channel_off_gets_nothing(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    [user_id] = people()
    now = datetime.now(UTC)
    put(app, [reminder(user_id, now)])
    wish(app, [user_id], Notifications(frozenset({"sms"})))
    provider = Steps(Accepted("1"))
    send(app, provider, now)
    assert provider.sent == []


def test_it_is_tried_again_and_again_and_then_not_any_more(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    first, second = people(*[noon()] * 2)
    now = datetime.now(UTC)
    put(app, [reminder(first, now)])
    provider = Steps(Unavailable("busy"), Unavailable("busy", timedelta(hours=1)), Accepted("7"))
    assert send(app, provider, now) == 1
    assert states(app, first) == [("waiting", "busy")]
    assert send(app, provider, now + timedelta(seconds=10)) == 0
    assert send(app, provider, now + timedelta(minutes=2)) == 1
    # The provider has asked for an hour.
    assert send(app, provider, now + timedelta(minutes=50)) == 0
    assert send(app, provider, now + timedelta(hours=2)) == 1
    assert app.rows("SELECT state, attempts FROM messages WHERE user_id = %s", first) == [
        ("sent", 3)
    ]
    assert events(app, first) == {"accepted"}
    put(app, [reminder(second, now)])
    away = Steps(Unavailable("away"))
    for minutes in range(0, 1_200, 30):
        send(app, away, now + timedelta(minutes=minutes))
    assert len(away.sent) == MAX_ATTEMPTS
    assert states(app, second) == [("failed", "away")]


def test_an_address_that_is_refused_for_good_gets_nothing_more(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    [user_id] = people()
    now = datetime.now(UTC)
    put(app, [reminder(user_id, now - timedelta(minutes=number)) for number in (2, 1)])
    provider = Steps(Refused("550 5.1.1", Lasting.BOUNCE))
    send(app, provider, now)
    assert len(provider.sent) == 1
    assert states(app, user_id) == [
        ("failed", "550 5.1.1"),
        ("dropped", "The address takes no messages."),
    ]
    assert events(app, user_id) == {"bounced"}
    assert consents(app, user_id) == {("sms", "reminder"), ("sms", "quote")}


def sent_to(app: Fitness, user_id: int, channel: Channel, name: str) -> Message:
    now = datetime.now(UTC)
    message = reminder(user_id, now, channel)
    put(app, [message])
    send(app, Steps(Accepted(name)), now)
    return message


def twilio(app: Fitness, path: str, form: dict[str, str], token: str = TOKEN) -> int:
    signed = signature(token, f"http://127.0.0.1:8091{path}", form)
    headers = {"X-Twilio-Signature": signed}
    return int(app.visitor().client.post(path, data=form, headers=headers).status_code)


def test_stop_by_text(app: Fitness, people: Callable[..., list[int]]) -> None:
    [user_id] = people()
    sent_to(app, user_id, Channel.SMS, "SM1")
    path, form = "/hooks/twilio/incoming", {"From": f"+{phone(user_id)}", "Body": " Stop! "}
    # Somebody else, and a request that was changed on its way.
    assert twilio(app, path, form, "x" * 32) == 403
    assert app.visitor().client.post(path, data=form).status_code == 403
    assert len(consents(app, user_id)) == 4
    assert twilio(app, path, form | {"Body": "Please do not stop"}) == 200
    assert len(consents(app, user_id)) == 4
    assert twilio(app, path, form) == 200
    assert consents(app, user_id) == {("email", "reminder"), ("email", "quote")}
    assert events(app, user_id) == {"accepted", "stopped"}
    # A consent alone does not let messages come again: the number has to say so.
    app.rows("UPDATE consents SET withdrawn_at = NULL WHERE user_id = %s", user_id)
    now, provider = datetime.now(UTC) + timedelta(seconds=1), Steps(Accepted("SM2"))
    put(app, [reminder(user_id, now, Channel.SMS)])
    send(app, provider, now)
    assert provider.sent == []
    assert twilio(app, path, form | {"Body": "START"}) == 200
    put(app, [reminder(user_id, now + timedelta(seconds=1), Channel.SMS)])
    send(app, provider, now + timedelta(seconds=2))
    assert len(provider.sent) == 1


def test_stop_counts_for_a_number_that_was_gone(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    """After some days, such a number is asked again whether it is somebody's. Not after STOP."""
    [user_id] = people()
    number, path = phone(user_id), "/hooks/twilio/incoming"
    sent_to(app, user_id, Channel.SMS, f"SM-{user_id}")
    gone = {"MessageSid": f"SM-{user_id}", "MessageStatus": "undelivered", "ErrorCode": "30005"}
    assert twilio(app, "/hooks/twilio/status", gone) == 204
    assert twilio(app, path, {"From": f"+{number}", "Body": "STOP"}) == 200
    app.rows("UPDATE suppressions SET since = since - INTERVAL 4 DAY")
    now, provider = datetime.now(UTC), Steps(Accepted("1"))
    put(app, [confirmation(user_id, number, now)])
    send(app, provider, now)
    assert provider.sent == []
    # Whoever has the number now takes it back.
    assert twilio(app, path, {"From": f"+{number}", "Body": "START"}) == 200
    later = now + timedelta(days=1)
    put(app, [confirmation(user_id, number, later)])
    send(app, provider, later)
    assert [address for _, address in provider.sent] == [number]


def test_wishes_that_nobody_can_read_hold_up_no_other(
    app: Fitness, reached: Reached, people: Callable[..., list[int]]
) -> None:
    """Such a person gets nothing: nobody knows at which hours."""
    first, second = people(*[noon()] * 2)
    app.site.documents._preferences.update_one(
        {"_id": first}, {"$set": {"notifications.quiet_from": "nine"}}
    )
    now = datetime.now(UTC)
    put(app, [reminder(each, now) for each in (first, second)])
    assert run(reached.work, once=True) >= 2
    assert states(app, first)[0] == ("dropped", "There is no consent.")
    assert states(app, second)[0] == ("sent", None)


def test_a_number_is_confirmed_by_an_answer(app: Fitness) -> None:
    person, path = app.person(), "/hooks/twilio/incoming"
    # The link, and what other tests have left.
    app.rows("UPDATE messages SET state = 'dropped' WHERE state = 'waiting'")
    number = phone(person.id)
    form = {"From": f"+{number}", "Body": "Yes!"}

    def is_confirmed() -> bool:
        found = "SELECT phone_confirmed_at IS NOT NULL FROM users WHERE id = %s"
        return bool(app.rows(found, person.id)[0][0])

    kept = person.post("/phone", phone=f"+{number}", password=PASSWORD)
    assert kept.status_code == 303
    # Nobody has asked there yet.
    assert twilio(app, path, form) == 200
    assert not is_confirmed()
    provider = Steps(Accepted("SM20"))
    send(app, provider, app.clock() + timedelta(seconds=1))
    assert [address for _, address in provider.sent] == [number]
    assert twilio(app, path, form | {"Body": "who is this"}) == 200
    assert not is_confirmed()
    assert twilio(app, path, form) == 200
    assert is_confirmed()
    # Another number has to be asked anew.
    person.post("/phone", phone=f"+{number}9", password=PASSWORD)
    assert not is_confirmed()


def test_nobody_can_have_texts_sent_to_many_numbers(app: Fitness) -> None:
    person = app.person()
    numbers = [f"4915{person.id:06}{digit}" for digit in range(4)]

    def give(number: str) -> int:
        app.site.limits._limiter.storage.reset()
        return int(person.post("/phone", phone=f"+{number}", password=PASSWORD).status_code)

    def texts() -> list[tuple[str]]:
        found = "SELECT message_key FROM messages WHERE user_id = %s AND template = 'phone'"
        return app.rows(found, person.id)

    assert [give(number) for number in numbers] == [303, 303, 303, 422]
    assert len(texts()) == 3
    assert app.rows("SELECT phone FROM users WHERE id = %s", person.id) == [(numbers[2],)]
    app.rows(
        "UPDATE messages SET expires_at = expires_at - INTERVAL 1 DAY WHERE user_id = %s", person.id
    )
    assert give(numbers[3]) == 303
    assert len(texts()) == 4


def test_an_answer_confirms_the_number_of_who_asked_last(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    """Somebody else may have given the same number, or an own one before."""
    first, second, third = people(*[noon()] * 3)
    number, now = phone(first), datetime.now(UTC)
    app.rows(
        "UPDATE users SET phone = %s, phone_confirmed_at = NULL WHERE id IN (%s, %s, %s)",
        number,
        first,
        second,
        third,
    )
    minute = timedelta(minutes=1)
    for user_id, asked, at in (
        (second, number, now),
        (first, number, now + minute),
        (third, phone(third), now + 2 * minute),
    ):
        put(app, [confirmation(user_id, asked, at)])
        send(app, Steps(Accepted(f"SM-{user_id}")), at)
    form = {"From": f"+{number}", "Body": "yes"}
    assert twilio(app, "/hooks/twilio/incoming", form) == 200
    assert [
        *app.rows(
            "SELECT id FROM users WHERE phone = %s AND phone_confirmed_at IS NOT NULL", number
        )
    ] == [(first,)]


def test_what_became_of_a_text(app: Fitness, people: Callable[..., list[int]]) -> None:
    first, second = people(*[noon()] * 2)
    path = "/hooks/twilio/status"
    sent_to(app, first, Channel.SMS, "SM11")
    sent_to(app, second, Channel.SMS, "SM12")
    assert twilio(app, path, {"MessageSid": "SM11", "MessageStatus": "delivered"}) == 204
    gone = {"MessageSid": "SM12", "MessageStatus": "undelivered", "ErrorCode": "30005"}
    # Twilio tells some things twice.
    assert twilio(app, path, gone) == twilio(app, path, gone) == 204
    assert twilio(app, path, gone | {"MessageSid": "SM13"}) == 204
    assert events(app, first) == {"accepted", "delivered"}
    assert events(app, second) == {"accepted", "bounced"}
    assert consents(app, second) == {("email", "reminder"), ("email", "quote")}


def test_a_text_that_arrives_before_its_sender_has_saved_it(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    first, second = people(*[noon()] * 2)
    now = datetime.now(UTC)
    messages = [reminder(each, now, Channel.SMS) for each in (first, second)]
    put(app, messages)
    app.rows("UPDATE messages SET state = 'sending' WHERE user_id IN (%s, %s)", first, second)
    path = "/hooks/twilio/status?key="
    form = {"MessageSid": "SM-none", "MessageStatus": "delivered"}
    assert twilio(app, path + messages[0].key, form) == 204
    gone = form | {"MessageStatus": "undelivered", "ErrorCode": "30005"}
    assert twilio(app, path + messages[1].key, gone) == 204
    assert events(app, first) == {"delivered"}
    assert consents(app, second) == {("email", "reminder"), ("email", "quote")}
    # A key that somebody has changed on its way.
    client = app.visitor().client
    headers = {"X-Twilio-Signature": signature(TOKEN, "http://127.0.0.1:8091" + path, form)}
    assert client.post(path + messages[1].key, data=form, headers=headers).status_code == 403


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_a_number_that_is_gone_says_nothing_about_the_next_one(
    app: Fitness, people: Callable[..., list[int]], is_confirmed: bool
) -> None:
    [user_id] = people()
    old, new, path = phone(user_id), phone(user_id + 50_000_000), "/hooks/twilio/status"
    name = f"SM-{user_id}"
    if is_confirmed:
        sent_to(app, user_id, Channel.SMS, name)
    else:
        now = datetime.now(UTC)
        put(app, [confirmation(user_id, old, now)])
        send(app, Steps(Accepted(name)), now)
    app.rows(
        "UPDATE users SET phone = %s, phone_confirmed_at = %s WHERE id = %s",
        new,
        datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1) if is_confirmed else None,
        user_id,
    )
    gone = {"MessageSid": name, "MessageStatus": "undelivered", "ErrorCode": "30005"}
    assert twilio(app, path, gone) == 204
    assert events(app, user_id) == {"accepted", "bounced"}
    assert len(consents(app, user_id)) == 4
    digest = address_digest(Channel.SMS, new)
    assert not app.rows("SELECT 1 FROM suppressions WHERE address_digest = %s", digest)


@pytest.mark.parametrize(
    ("kind", "fields", "event"),
    [
        ("delivery-status", "Reporting-MTA: dns; a\n\nAction: failed\nStatus: 5.1.1\n", "bounced"),
        ("feedback-report", "Feedback-Type: abuse\n", "complained"),
    ],
)
def test_a_mail_about_a_mail(
    app: Fitness, people: Callable[..., list[int]], kind: str, fields: str, event: str
) -> None:
    [user_id] = people()
    message = sent_to(app, user_id, Channel.EMAIL, "<1@x>")
    content = (
        'MIME-Version: 1.0\nContent-Type: multipart/report; boundary="b"\n\n'
        f"--b\nContent-Type: message/{kind}\n\n{fields}\n"
        "--b\nContent-Type: text/rfc822-headers\n\n"
        f"Message-ID: <{message.key}@example.com>\n\n--b--\n"
    )
    client = app.visitor().client
    for token, status in (("x" * 32, 403), (HOOK_TOKEN, 204), (HOOK_TOKEN, 204)):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "message/rfc822"}
        answer = client.post("/hooks/mail", data=content, headers=headers)
        assert answer.status_code == status
    assert events(app, user_id) == {"accepted", event}
    assert consents(app, user_id) == {("sms", "reminder"), ("sms", "quote")}
    # Mail about the account still comes to who complained, and not to an address that is gone.
    email = f"{user_id}@example.com"
    ask(app, email)
    provider = Steps(Accepted("2"))
    send(app, provider, app.clock() + timedelta(minutes=1))
    assert [address for _, address in provider.sent] == [email] * (event == "complained")
    # After some days, it is tried again, should the mail server have been wrong.
    app.rows("UPDATE suppressions SET since = since - INTERVAL 4 DAY")
    app.clock.pass_by(minutes=6)
    ask(app, email)
    provider = Steps(Accepted("3"))
    send(app, provider, app.clock() + timedelta(minutes=1))
    assert [address for _, address in provider.sent] == [email]


def test_a_link_goes_to_the_address_of_the_account_alone(app: Fitness, reached: Reached) -> None:
    """Whoever has a domain that is written almost alike must not get it."""
    own, other = "zoe@strasse.example", "zoe@straße.example"
    app.person(own)
    app.rows("UPDATE messages SET state = 'dropped' WHERE state IN ('waiting', 'sending')")
    app.clock.pass_by(minutes=6)
    ask(app, other)
    app.rows("UPDATE messages SET due_at = '2026-01-01' WHERE address = %s", other)
    run(reached.work, once=True)
    assert [each.subject for each in reached.mails if each.receiver == other] == []
    [mail] = [each for each in reached.mails if each.receiver == own]
    assert mail.subject == "Choose a new password"
    # MySQL may take both for the same.
    assert {*app.rows("SELECT email FROM links WHERE email LIKE 'zoe@stra%%'")} == {(own,)}


@pytest.mark.usefixtures("people")
def test_addresses_of_people_without_an_account_are_forgotten(
    app: Fitness, reached: Reached
) -> None:
    old, new = "old@example.com", "new@example.com"
    for email in (old, new):
        ask(app, email)
        app.link(email)
    app.rows("UPDATE messages SET state = 'sent' WHERE address IN (%s, %s)", old, new)
    app.rows("UPDATE messages SET expires_at = '2026-01-01' WHERE address = %s", old)
    app.rows("UPDATE links SET expires_at = '2026-01-01' WHERE email = %s", old)
    run(reached.work, once=True)
    for table, column in (("messages", "address"), ("links", "email")):
        found = f"SELECT {column} FROM {table} WHERE {column} IN (%s, %s)"
        assert [*app.rows(found, old, new)] == [(new,)]


def test_account_mail_overtakes_reminders(app: Fitness, people: Callable[..., list[int]]) -> None:
    [user_id] = people()
    now = app.clock()
    put(app, [reminder(user_id, now - timedelta(hours=1, minutes=n)) for n in range(5)])
    ask(app, "zoe@example.com")
    provider = Steps(Accepted("1"))
    send(app, provider, now + timedelta(seconds=1))
    assert provider.sent[0][1] == "zoe@example.com"
    assert len(provider.sent) == 6


def test_what_a_dead_sender_has_left_does_not_wait_for_all_others(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    [user_id] = people()
    now = datetime.now(UTC)
    messages = [reminder(user_id, now - timedelta(hours=1, minutes=n)) for n in range(4)]
    put(app, messages)
    app.rows(
        "UPDATE messages SET state = 'sending', claimed_by = 'dead', claimed_until = %s "
        "WHERE message_key = %s",
        now.replace(tzinfo=None) - timedelta(seconds=1),
        messages[0].key,
    )
    with outbox(app) as table:
        claimed = table.claim("a", now)
    assert claimed
    assert claimed.key == messages[0].key


def test_account_mail_is_found_without_reading_the_backlog(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    [user_id] = people()
    now = app.clock()
    put(app, [reminder(user_id, now - timedelta(minutes=n)) for n in range(1, 200)])
    ask(app, "yan@example.com")
    indexes: dict[str, list[str]] = {}
    for name, column in app.rows(
        "SELECT index_name, column_name FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND table_name = 'messages' ORDER BY seq_in_index"
    ):
        indexes.setdefault(name, []).append(column)
    with app.mysql.connect() as session, session.cursor(DictCursor) as cursor:
        [account] = [each for each in _QUEUES if "'account'" in each]
        asked = f"EXPLAIN SELECT * FROM messages WHERE {account} LIMIT 1 FOR UPDATE SKIP LOCKED"
        cursor.execute(asked, (naive(now),))
        [plan] = cursor.fetchall()
    assert indexes[plan["key"]] == ["state", "purpose", "due_at"]
    assert "filesort" not in plan["Extra"]


def test_senders_at_once_take_each_message_once(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    ids = people(*["UTC"] * 60)
    now = datetime.now(UTC)
    put(app, [reminder(each, now) for each in ids])
    provider = Steps(Accepted("1"))
    with ThreadPoolExecutor(4) as senders:
        # None of them fails.
        assert sum(senders.map(lambda _: send(app, provider, now), range(4))) == 60
    assert len(provider.sent) == len(set(provider.sent)) == 60


def test_what_loses_a_deadlock_is_done_again(
    app: Fitness, people: Callable[..., list[int]]
) -> None:
    """Otherwise STOP would be lost, or a message that was sent would be sent again."""
    [user_id] = people()
    number, now = phone(user_id), datetime.now(UTC)
    put(app, [reminder(user_id, now - timedelta(minutes=n)) for n in range(50)])
    with outbox(app) as table, app.mysql.connect() as other, other.cursor() as cursor:
        # The server ends the transaction that has written less.
        cursor.execute("UPDATE messages SET reason = 'x' WHERE user_id = %s", (user_id,))
        cursor.execute("UPDATE consents SET wording = 'x' WHERE user_id = %s", (user_id,))
        stopping = ThreadPoolExecutor(1)
        stopped = stopping.submit(table.stop, number, now)
        wait_until_locked_out(app, table._connection.thread_id())
        cursor.execute(
            "SELECT 1 FROM suppressions WHERE address_digest = %s FOR UPDATE",
            (address_digest(Channel.SMS, number),),
        )
        other.commit()
        stopped.result(60)
        stopping.shutdown()
    assert consents(app, user_id) == {("email", "reminder"), ("email", "quote")}


def test_stop_and_receipts_by_smpp(
    app: Fitness, reached: Reached, people: Callable[..., list[int]]
) -> None:
    """A sender that runs takes what comes while it has nothing to send."""
    first, second = people(*[noon()] * 2)
    now = datetime.now(UTC)
    message = reminder(first, now, Channel.SMS)
    put(app, [message])
    with Smsc() as smsc:
        named = Providers("smtp://127.0.0.1:9", "a@example.com", "smpp", "Inspire")
        named = replace(named, smpp_url=smsc.url)
        stop = threading.Event()
        sender = threading.Thread(
            target=run,
            args=(replace(reached.work, providers=named),),
            kwargs={"workers": 1, "stop": stop},
        )
        sender.start()
        try:
            wait_for(lambda: "accepted" in events(app, first))
            [(name,)] = app.rows(
                "SELECT provider_id FROM messages WHERE message_key = %s", message.key
            )
            receipt = f"id:{name} stat:DELIVRD err:000".encode()
            smsc.deliver(phone(first), receipt, esm_class=4)
            smsc.deliver(phone(second), b"STOP")
            wait_for(lambda: "delivered" in events(app, first))
            wait_for(lambda: consents(app, second) == {("email", "reminder"), ("email", "quote")})
        finally:
            stop.set()
            sender.join()
    assert "Today:" in smsc.texts[phone(first)][0]


def test_the_sender_beside_the_application_ends_with_it(
    app: Fitness, reached: Reached, people: Callable[..., list[int]]
) -> None:
    """Also if the application is killed. If only the sender is, another one begins."""
    first, second = people(*[noon()] * 2)
    put(app, [reminder(first, datetime.now(UTC))])
    named = reached.work.providers
    environment = os.environ | {
        "SOFTCART_INSPIRE_APP_SMTP_URL": named.smtp_url,
        "SOFTCART_INSPIRE_APP_MAIL_FROM": named.mail_from,
        "SOFTCART_INSPIRE_APP_TWILIO_URL": named.twilio_url,
    }
    script = (
        "import time\nfrom softcart_assets.inspire_app import sender\n"
        "sender._BEGIN_AGAIN_SECONDS = 0.1\n"
        "with sender.beside(sender.Work.from_env()):\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        wait_for(lambda: "accepted" in events(app, first))
        [keeper] = psutil.Process(process.pid).children()
        [child] = keeper.children()
        child.kill()
        put(app, [reminder(second, datetime.now(UTC))])
        wait_for(lambda: "accepted" in events(app, second))
        [another] = keeper.children()
        assert another != child
    finally:
        process.kill()
        process.wait()
    for each in (keeper, another):
        wait_for(lambda each=each: not is_at_work(each))


def is_at_work(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_without_providers_a_page_shows_what_was_sent(
    app: Fitness, reached: Reached, people: Callable[..., list[int]]
) -> None:
    [user_id] = people()
    now = datetime.now(UTC)
    put(app, [reminder(user_id, now, channel) for channel in Channel])
    ports = free_port(), free_port()
    work = replace(reached.work, providers=Providers(), ports=ports)
    stop = threading.Event()
    sender = threading.Thread(target=run, args=(work,), kwargs={"workers": 1, "stop": stop})
    sender.start()
    try:
        wait_for(lambda: {state for state, _ in states(app, user_id)} == {"sent"})
        url = f"http://127.0.0.1:{ports[1]}/"
        with urllib.request.urlopen(url) as response:
            shown = response.read().decode()
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        # A page of the internet whose name leads here.
        elsewhere = urllib.request.Request(url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(elsewhere)
    finally:
        stop.set()
        sender.join()
    assert f"To {user_id}@example.com" in shown
    assert f"To +{phone(user_id)}" in shown
    assert f'<a href="{work.url}/unsubscribe/' in shown


@pytest.mark.parametrize("day", ["2026-03-08", "2026-03-29", "2026-10-25"])
def test_no_zone_gets_a_message_in_quiet_hours(
    app: Fitness, people: Callable[..., list[int]], day: str
) -> None:
    """On days of daylight-saving change in all zones that change then, hour after hour."""
    start = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    end = start + timedelta(days=1)
    zones = [
        name
        for name in sorted(available_timezones())
        if start.astimezone(ZoneInfo(name)).utcoffset()
        != end.astimezone(ZoneInfo(name)).utcoffset()
    ]
    assert len(zones) > 20
    wishes = Notifications(frozenset({"email"}))
    ids = dict(zip(people(*zones, wishes=wishes), zones, strict=True))
    put(app, [reminder(each, start + timedelta(minutes=each % 60), hours=40) for each in ids])
    wrong, sent = [], 0
    for minutes in range(0, 30 * 60, 60):
        moment, provider = start + timedelta(minutes=minutes), Steps(Accepted("1"))
        send(app, provider, moment)
        for _, address in provider.sent:
            local = moment.astimezone(ZoneInfo(ids[int(address.partition("@")[0])]))
            wrong += [] if time(8) <= local.time() < time(21) else [(address, local)]
            sent += 1
    assert wrong == []
    assert sent == len(zones)
