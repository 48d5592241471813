"""Reports about mails, short messages, plans of the day, and the page of the receivers."""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.smsc import Smsc

from softcart_assets.inspire_app.hooks.reports import Report, report
from softcart_assets.inspire_app.hours import EVERY_DAY, QuietHours, is_allowed, next_allowed
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import (
    Accepted,
    Channel,
    Lasting,
    Message,
    Purpose,
    Refused,
    Unavailable,
    message_key,
)
from softcart_assets.inspire_app.planning import (
    Person,
    Planner,
    best_hour,
    messages_of,
    moments,
)
from softcart_assets.inspire_app.preferences import Notifications
from softcart_assets.inspire_app.receivers.kept import Kept
from softcart_assets.inspire_app.receivers.page import page
from softcart_assets.inspire_app.senders.smpp import SmppSender, parts
from softcart_assets.inspire_app.senders.twilio import signature

NOON = datetime(2026, 6, 15, 10, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
KEY = message_key("2026-06-15 reminder", 1, Channel.SMS, "reminder")
MESSAGE = Message(
    KEY, 1, Channel.SMS, Purpose.REMINDER, "reminder", NOON, NOON + timedelta(hours=9)
)


def report_of(kind: str, fields: str, returned: str) -> bytes:
    return (
        "From: MAILER-DAEMON@example.org\nTo: hello@example.com\nSubject: About your mail\n"
        f'MIME-Version: 1.0\nContent-Type: multipart/report; boundary="b"\n\n'
        "--b\nContent-Type: text/plain\n\nadá@example.org is not here.\n"
        f"--b\nContent-Type: message/{kind}\n\n{fields}\n"
        f"--b\nContent-Type: {returned}\n\nFrom: hello@example.com\n"
        f"Message-ID: <{KEY}@example.com>\nSubject: x\n\n--b--\n"
    ).encode()


def failed(status: str, action: str = "failed") -> bytes:
    fields = (
        "Reporting-MTA: dns; mx.example.org\n\nFinal-Recipient: rfc822; ada@example.org\n"
        f"Action: {action}\nStatus: {status}\n"
    )
    return report_of("delivery-status", fields, "text/rfc822-headers")


@pytest.mark.parametrize(
    ("status", "lasting"),
    [
        ("5.1.1", Lasting.BOUNCE),
        ("5.1.10 (no mail)", Lasting.BOUNCE),
        ("5.4.4 (no route)", None),
        ("5.1.8", None),
        ("what", None),
        # A mailbox that is full may have room tomorrow, and 5.7 is about us.
        ("5.2.2", None),
        ("5.7.1", None),
        ("4.4.7", None),
    ],
)
def test_a_mail_that_comes_back(status: str, lasting: Lasting | None) -> None:
    found = report(failed(status))
    assert found
    assert (found.key, found.lasting) == (KEY, lasting)
    assert "@" not in found.detail


def test_a_mail_that_is_late_has_not_come_back() -> None:
    assert report(failed("4.4.1", "delayed")) is None


@pytest.mark.parametrize(
    ("kind", "lasting"), [("abuse", Lasting.COMPLAINT), ("fraud", Lasting.COMPLAINT)]
)
def test_a_complaint(kind: str, lasting: Lasting) -> None:
    content = report_of("feedback-report", f"Feedback-Type: {kind}\nVersion: 1\n", "message/rfc822")
    assert report(content) == Report(KEY, kind, lasting)


def test_no_complaint() -> None:
    content = report_of("feedback-report", "Feedback-Type: not-spam\n", "message/rfc822")
    assert report(content) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Subject: Out of office\n\nI am away.",
        failed("5.1.1").replace(KEY.encode(), b"0" * 36),
        failed("5.1.1").replace(b"multipart/report", b"text/plain"),
        failed("5.1.1").replace(b"message/delivery-status", b"text/plain"),
    ],
)
def test_a_mail_that_reports_nothing_of_ours(content: bytes) -> None:
    assert report(content) is None


@given(st.binary())
def test_whatever_comes_is_read_without_an_error(content: bytes) -> None:
    for each in (failed("5.1.1") + content, failed("5.1.1")[:-200] + content, content):
        found = report(each)
        assert found is None or found.key == KEY


def test_a_signature_is_that_of_the_provider() -> None:
    """The example of Twilio's own documentation."""
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    url = "https://example.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, form) == "L/OH5YylLD5NRKLltdqwSvS0BnU="


GSM = "A walk for 20 minutes: {keep} it up [€5]! "


@pytest.mark.parametrize(
    ("text", "coding", "count"),
    [
        ("a" * 160, 0, 1),
        ("a" * 161, 0, 2),
        ("é" * 160, 0, 1),
        # Of an extension, each takes two places.
        ("€" * 80, 0, 1),
        ("€" * 81, 0, 2),
        ("`" * 70, 8, 1),
        ("§" * 160, 0, 1),
        ("日" * 70, 8, 1),
        ("日" * 71, 8, 2),
        ("🏃" * 35, 8, 1),
        ("🏃" * 36, 8, 2),
    ],
)
def test_how_many_short_messages_a_text_takes(text: str, coding: int, count: int) -> None:
    found, bodies = parts(text, 7)
    assert (found, len(bodies)) == (coding, count)


@given(st.text(st.sampled_from("ab€{^é 日🏃"), max_size=900), st.integers(0, 255))
def test_no_character_is_cut_in_two(text: str, reference: int) -> None:
    coding, bodies = parts(text, reference)
    if len(bodies) > 1:
        for number, body in enumerate(bodies, 1):
            assert body[:6] == bytes([5, 0, 3, reference, len(bodies), number])
            assert len(body) - 6 <= (134 if coding else 153)
        bodies = [body[6:] for body in bodies]
    if coding:
        assert "".join(body.decode("utf-16-be") for body in bodies) == text
    else:
        # The escape before a character of the extension is never alone.
        assert not any(body.endswith(b"\x1b") for body in bodies)


class Heard:
    """What came from phones."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.receipts: list[tuple[str, bool]] = []

    def text(self, phone: str, text: str) -> None:
        self.texts.append((phone, text))

    def receipt(self, provider_id: str, is_delivered: bool) -> None:
        self.receipts.append((provider_id, is_delivered))


@contextmanager
def bound(**options: int) -> Iterator[tuple[Smsc, SmppSender, Heard]]:
    heard = Heard()
    with Smsc(**options) as smsc:
        sender = SmppSender(f"{smsc.url}?per_second=1000", "+4930123456", heard)
        yield smsc, sender, heard
        sender.close()


@pytest.mark.parametrize("text", ["Today: a walk.", GSM * 8, "今日は散歩 🏃 " * 30])
def test_a_text_arrives_by_smpp(text: str) -> None:
    with bound() as (smsc, sender, _):
        assert sender.prepare() is None
        outcome = sender.send(MESSAGE, "491701234567", Letter("", text, {}))
        assert isinstance(outcome, Accepted)
        assert smsc.texts == {"491701234567": [text]}
        # The same once more has the same reference: a phone does not mix its parts up.
        sender.send(MESSAGE, "491701234567", Letter("", text, {}))
        assert smsc.texts == {"491701234567": [text, text]}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x58, Unavailable("SMPP 0x58", timedelta(seconds=5))),
        (0x14, Unavailable("SMPP 0x14", timedelta(seconds=5))),
        (0x0B, Refused("SMPP 0xb", Lasting.BOUNCE)),
        (0x45, Refused("SMPP 0x45")),
    ],
)
def test_what_the_smpp_server_says(status: int, outcome: Refused | Unavailable) -> None:
    with bound(status=status) as (_, sender, _):
        assert sender.send(MESSAGE, "491701234567", Letter("", "a", {})) == outcome


def test_answers_and_receipts_come_on_the_same_connection() -> None:
    with bound() as (smsc, sender, heard):
        sent = sender.send(MESSAGE, "491701234567", Letter("", "a", {}))
        assert isinstance(sent, Accepted)
        smsc.deliver("491701234567", b"STOP")
        smsc.deliver("491701234567", "Schluß".encode("utf-16-be"), data_coding=8)
        for state in (b"ACCEPTD", b"DELIVRD", b"UNDELIV"):
            text = b"id:%b sub:001 dlvrd:001 stat:%b err:000 text:a"
            smsc.deliver("491701234567", text % (sent.provider_id.encode(), state), esm_class=4)
        smsc.ask()
        deadline = clock.monotonic() + 60
        while smsc.open_requests:
            assert clock.monotonic() < deadline
            sender.idle()
    assert heard.texts == [("491701234567", "STOP"), ("491701234567", "Schluß")]
    assert heard.receipts == [(sent.provider_id, True), (sent.provider_id, False)]


def test_a_connection_that_was_silent_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softcart_assets.inspire_app.senders.smpp._ASK_AFTER_SECONDS", -1)
    with bound() as (smsc, sender, _):
        assert sender.prepare() is None
        assert "enquire_link" in smsc.commands
        smsc.hang_up()
        assert isinstance(sender.prepare(), Unavailable)
        assert sender.prepare() is None


def test_a_wrong_password_of_the_smpp_server() -> None:
    with Smsc() as smsc:
        url = smsc.url.replace("secret", "wrong")
        away = SmppSender(url, "Inspire", Heard()).prepare()
    assert away == Unavailable("The SMPP server refuses us: 14")


def test_passwords_do_not_cross_a_network_in_plain_text() -> None:
    with pytest.raises(ValueError, match="smpps") as caught:
        SmppSender("smpp://me:hidden@example.com", "Inspire", Heard())
    assert "hidden" not in str(caught.value)


def person(
    zone: ZoneInfo = BERLIN, born: date | None = None, *purposes: Purpose, user_id: int = 1
) -> Person:
    wanted = purposes or (Purpose.REMINDER,)
    consents = frozenset(product((Channel.EMAIL,), wanted))
    return Person(user_id, zone, born, consents)


EMAIL = frozenset({"email"})


def test_a_reminder_comes_at_the_hour_of_its_person() -> None:
    start = datetime(2026, 6, 15, 16, tzinfo=UTC)
    hour = timedelta(hours=1)
    [found] = messages_of(person(), Notifications(EMAIL, time(18, 30)), {}, start, start + hour)
    assert found.due_at == datetime(2026, 6, 15, 16, 30, tzinfo=UTC)
    assert found.parameters == {"day": "2026-06-15"}
    # Tomorrow nobody wants today's plan.
    assert found.expires_at == datetime(2026, 6, 15, 22, tzinfo=UTC)


def test_the_best_hour_is_that_of_the_zone_and_age() -> None:
    hours = {("Europe/Berlin", "30s"): 6, ("all", "30s"): 18, ("all", "all"): 17}
    day, born = date(2026, 6, 15), date(1990, 1, 1)
    assert best_hour(hours, "Europe/Berlin", born, day) == 6
    assert best_hour(hours, "Asia/Tokyo", born, day) == 18
    assert best_hour(hours, "Asia/Tokyo", date(1950, 1, 1), day) == 17
    assert best_hour(hours, "Asia/Tokyo", None, day) == 17
    assert best_hour({}, "Asia/Tokyo", None, day) is None


@pytest.mark.parametrize(("is_best", "hour"), [(True, 6), (False, 18)])
def test_the_best_hour_is_for_those_who_want_it(is_best: bool, hour: int) -> None:
    wishes = Notifications(EMAIL, time(18), is_best, QuietHours(time(21), time(5)))
    start = datetime(2026, 6, 15, 0, tzinfo=UTC)
    found = messages_of(
        person(BERLIN, date(1990, 1, 1)),
        wishes,
        {("all", "30s"): 6},
        start,
        start + timedelta(hours=24),
    )
    assert [each.due_at.astimezone(BERLIN).hour for each in found] == [hour]


def test_who_turned_a_channel_or_a_day_off_gets_nothing() -> None:
    start = datetime(2026, 6, 15, 0, tzinfo=UTC)
    end = start + timedelta(hours=24)
    assert not [*messages_of(person(), Notifications(frozenset({"sms"})), {}, start, end)]
    but_monday = Notifications(EMAIL, days=EVERY_DAY - {0})
    assert not [*messages_of(person(), but_monday, {}, start, end)]


ZONES = [ZoneInfo(name) for name in sorted(available_timezones())]


def changes(year: int) -> set[date]:
    """The days of the year on which a clock somewhere changes, and those around them."""
    found = set()
    start = datetime(year, 1, 1, tzinfo=UTC)
    for zone in ZONES:
        offsets = [(start + timedelta(days=n)).astimezone(zone).utcoffset() for n in range(366)]
        found |= {
            (start + timedelta(days=n + more)).date()
            for n in range(365)
            if offsets[n] != offsets[n + 1]
            for more in (-1, 0, 1, 2)
        }
    return found


@pytest.mark.parametrize("at", [time(0, 30), time(2, 30), time(18)])
def test_each_day_of_each_zone_has_one_moment(at: time) -> None:
    """On days on which clocks change, too, and without a gap between two hours."""
    for zone in ZONES:
        start = datetime(2026, 3, 27, tzinfo=UTC)
        hours = [start + timedelta(hours=number) for number in range(24 * 6)]
        found = [
            day for hour in hours for day, _ in moments(zone, at, hour, hour + timedelta(hours=1))
        ]
        assert len(found) == len(set(found))
        assert set(found) >= {date(2026, 3, 28) + timedelta(days=number) for number in range(4)}


def test_no_message_is_allowed_in_a_quiet_hour_of_any_zone() -> None:
    """On all days of a year on which a clock somewhere changes, in every zone that changes then."""
    quiet = QuietHours()
    wrong = 0
    for day in sorted(changes(2026)):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        for zone in ZONES:
            first, last = start.astimezone(zone), (start + timedelta(days=1)).astimezone(zone)
            if first.utcoffset() == last.utcoffset():
                continue
            for minutes in range(0, 24 * 60, 30):
                moment = start + timedelta(minutes=minutes)
                allowed = next_allowed(moment, zone, quiet)
                assert allowed is not None
                assert allowed >= moment
                local = allowed.astimezone(zone)
                wrong += not (time(8) <= local.time() < time(21))
                # It waits for no longer than it must.
                assert allowed == moment or not is_allowed(moment, zone, quiet)
    assert wrong == 0


class Crowd:
    """People in memory. `most`: of a page that was asked for."""

    def __init__(self, people: list[Person]) -> None:
        self.people, self.made, self.most = people, {}, 0  # type: ignore[var-annotated]

    def page(self, after: int, most: int) -> tuple[list[Person], int | None]:
        found = [each for each in self.people if each.user_id > after][:most]
        return found, found[-1].user_id if len(found) == most else None

    def add_all(self, messages: list[Message]) -> None:
        self.most = max(self.most, len(messages))
        self.made |= {each.key: each for each in messages}


def test_planning_again_makes_nothing_new() -> None:
    both = (Purpose.REMINDER, Purpose.QUOTE)
    zones = ZONES[:: len(ZONES) // 40]
    crowd = Crowd([person(zones[n % len(zones)], None, *both, user_id=n + 1) for n in range(2_500)])

    def wishes(user_ids: Iterable[int]) -> dict[int, Notifications]:
        return dict.fromkeys(user_ids, Notifications(EMAIL))

    now, planner = NOON, Planner(crowd, wishes, dict)
    for number in range(26):
        planner.plan(now + timedelta(hours=number))
        assert planner.plan(now + timedelta(hours=number)) == 0
    made = dict(crowd.made)
    # Another process, which has begun later.
    Planner(crowd, wishes, dict).plan(now + timedelta(hours=25))
    assert crowd.made == made
    # Everybody has both messages of a day at least, and never more than a page is in memory.
    assert len(made) >= 2 * 2_500
    assert crowd.most <= 2 * 1_000


def test_the_page_shows_text_and_only_links_to_the_application() -> None:
    kept = Kept()
    kept.add(
        "<1@x>",
        "ada@example.com",
        "<script>alert(1)</script>",
        'See http://127.0.0.1:8091/finish/abc-_1 and http://evil.example/"><img src=x>',
        (("From", '"<b>" <a@example.com>'),),
    )
    kept.add_once("SM1", "491701234567", "Reply STOP")
    kept.add_once("SM1", "491701234567", "Reply STOP")
    shown = page(kept, "http://127.0.0.1:8091")
    assert shown.count("<article>") == 2
    assert kept.taken == 3
    assert '<a href="http://127.0.0.1:8091/finish/abc-_1">' in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<a ") == 1
    for text in ("<script", "<img", "<b>"):
        assert text not in shown
