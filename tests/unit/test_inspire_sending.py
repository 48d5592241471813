"""Senders that are killed, providers that refuse, and letters."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_string
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from random import Random
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest
from jinja2 import UndefinedError

from softcart_assets.inspire_app.letters import Letter, write
from softcart_assets.inspire_app.outbox import (
    OPEN,
    Accepted,
    Channel,
    Lasting,
    Message,
    Purpose,
    Receiver,
    Refused,
    State,
    Unavailable,
    claim,
    is_due,
    message_key,
)
from softcart_assets.inspire_app.senders.smtp import SmtpSender
from softcart_assets.inspire_app.senders.twilio import TwilioSender
from softcart_assets.inspire_app.sending import send_due

NOON = datetime(2026, 6, 15, 10, tzinfo=UTC)
LETTER = Letter("A walk", "Today: a walk.\n", {"List-Unsubscribe": "<https://example.com/u>"})


def reminder(number: int) -> Message:
    key = message_key("2026-06-15", number, Channel.EMAIL, "reminder")
    return Message(
        key, number, Channel.EMAIL, Purpose.REMINDER, "reminder", NOON, NOON + timedelta(days=3)
    )


class Killed(BaseException):
    """The process has ended here."""


class Memory:
    """An outbox in memory. `die` may raise `Killed`."""

    def __init__(self, messages: list[Message], die: Callable[[], None] = lambda: None) -> None:
        self.messages = {message.key: message for message in messages}
        self.unwilling: set[int] = set()
        self.die = die

    def claim(self, sender: str, now: datetime) -> Message | None:
        self.die()
        due = [each for each in self.messages.values() if is_due(each, now)]
        if not due:
            return None
        # As the table does: first what senders left that died.
        first = min(due, key=lambda each: (each.state is State.WAITING, each.due_at))
        message = claim(first, sender, now)
        self.messages[message.key] = message
        self.die()
        return message

    def receiver(self, message: Message) -> Receiver | None:
        assert message.user_id is not None
        consents = frozenset({(Channel.EMAIL, Purpose.REMINDER)})
        return Receiver(
            ZoneInfo("Europe/Berlin"),
            {Channel.EMAIL: f"{message.user_id}@example.com"},
            frozenset() if message.user_id in self.unwilling else consents,
        )

    def save(
        self,
        claimed: Message,
        after: Message,
        now: datetime,
        lasting: tuple[str, Lasting] | None = None,
    ) -> bool:
        self.die()
        if self.messages[claimed.key] != claimed:
            return False
        self.messages[claimed.key] = after
        self.die()
        return True


class Provider:
    """A provider that knows keys, and is away at times."""

    def __init__(self, chance: Random, die: Callable[[], None] = lambda: None) -> None:
        self.chance, self.die = chance, die
        self.sent: dict[str, str] = {}
        self.taken = 0
        self.prepared = lambda: None

    def prepare(self) -> None:
        self.prepared()

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass

    def send(self, message: Message, address: str, letter: Letter) -> Accepted | Unavailable:
        self.die()
        if self.chance.random() < 0.1:
            return Unavailable("busy")
        self.taken += 1
        self.sent.setdefault(message.key, address)
        self.die()
        return Accepted(message.key)


@pytest.mark.parametrize("seed", range(5))
def test_killed_two_hundred_times_it_loses_and_doubles_nothing(seed: int) -> None:
    chance, kills = Random(seed), 0

    def die() -> None:
        nonlocal kills
        if kills < 200 and chance.random() < 0.2:
            kills += 1
            raise Killed

    outbox = Memory([reminder(number) for number in range(300)], die)
    provider, minutes = Provider(chance, die), count()
    moment = NOON

    def clock() -> datetime:
        return moment

    while any(each.state in OPEN for each in outbox.messages.values()):
        with suppress(Killed):
            send_due(outbox, {Channel.EMAIL: provider}, lambda _: LETTER, "a", clock)
        moment = NOON + timedelta(seconds=20 * next(minutes))
    assert kills == 200
    assert {each.state for each in outbox.messages.values()} == {State.SENT}
    assert provider.sent.keys() == outbox.messages.keys()
    # A provider without keys would have sent at most one more per kill: the bound for SMTP.
    assert provider.taken <= 300 + kills


def test_who_withdraws_while_messages_wait_gets_none() -> None:
    outbox, provider = Memory([reminder(1), reminder(2)]), Provider(Random(0))
    outbox.unwilling.add(1)
    assert send_due(outbox, {Channel.EMAIL: provider}, lambda _: LETTER, "a", lambda: NOON) >= 2
    assert provider.sent.keys() <= {reminder(2).key}
    assert outbox.messages[reminder(1).key].state is State.DROPPED


def test_who_withdraws_while_a_sender_connects_gets_none() -> None:
    outbox, provider = Memory([reminder(1)]), Provider(Random(0))
    provider.prepared = lambda: outbox.unwilling.add(1)
    send_due(outbox, {Channel.EMAIL: provider}, lambda _: LETTER, "a", lambda: NOON)
    assert outbox.messages[reminder(1).key].state is State.DROPPED
    assert not provider.sent


def test_a_letter_that_cannot_be_written_stops_no_other() -> None:
    outbox, provider = Memory([reminder(1), reminder(2)]), Provider(Random(0))
    provider.chance = Random(1)

    def write(message: Message) -> Letter:
        if message.user_id == 1:
            raise UndefinedError("streak")
        return LETTER

    send_due(outbox, {Channel.EMAIL: provider}, write, "a", lambda: NOON)
    assert outbox.messages[reminder(1).key].reason == "The letter cannot be written: UndefinedError"
    assert outbox.messages[reminder(2).key].state is State.SENT


def test_a_channel_without_a_sender_waits() -> None:
    outbox = Memory([reminder(1)])
    send_due(outbox, {}, lambda _: LETTER, "a", lambda: NOON)
    assert outbox.messages[reminder(1).key].state is State.WAITING


def test_what_another_sender_has_taken_over_is_not_written_again() -> None:
    outbox = Memory([reminder(1)])

    class Slow(Provider):
        def send(self, message: Message, address: str, letter: Letter) -> Accepted | Unavailable:
            taken = claim(message, "b", NOON + timedelta(hours=1))
            outbox.messages[message.key] = taken
            return Accepted("late")

    send_due(outbox, {Channel.EMAIL: Slow(Random(0))}, lambda _: LETTER, "a", lambda: NOON)
    assert outbox.messages[reminder(1).key].claimed_by == "b"


@pytest.mark.parametrize("seconds", [61, 121])
def test_what_cannot_be_sent_while_the_claim_lasts_is_not_sent(seconds: int) -> None:
    """Another sender may take it over meanwhile, and would send it, too."""
    outbox, provider, moment = Memory([reminder(1)]), Provider(Random(0)), [NOON]

    def prepared() -> None:
        moment[0] += timedelta(seconds=seconds)

    provider.prepared = prepared
    send_due(outbox, {Channel.EMAIL: provider}, lambda _: LETTER, "a", lambda: moment[0])
    assert not provider.sent
    assert outbox.messages[reminder(1).key].state is State.WAITING
    provider.prepared = lambda: None
    provider.chance = Random(1)
    moment[0] += timedelta(minutes=1)
    send_due(outbox, {Channel.EMAIL: provider}, lambda _: LETTER, "a", lambda: moment[0])
    assert outbox.messages[reminder(1).key].state is State.SENT


@contextmanager
def smtp_server(
    answer: bytes = b"250 queued", to: bytes = b"RCPT"
) -> Iterator[tuple[str, list[str]]]:
    """A mail server that gives `answer` to the command `to`, and keeps what it takes."""
    taken: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            receiver = b""
            self.wfile.write(b"220 here\r\n")
            for line in iter(self.rfile.readline, b""):
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go\r\n")
                    mail = b"".join(iter(self.rfile.readline, b".\r\n"))
                    taken.append((b"Receiver: " + receiver + b"\r\n" + mail).decode())
                    self.wfile.write(b"250 queued\r\n")
                elif word == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                else:
                    receiver = line[9:-3] if word == b"RCPT" else receiver
                    self.wfile.write((answer if word in to else b"250 yes") + b"\r\n")

    class Server(socketserver.ThreadingTCPServer):
        # Senders keep their connections.
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"smtp://127.0.0.1:{server.server_address[1]}", taken
        server.shutdown()


def test_a_mail_arrives_with_its_fields() -> None:
    with smtp_server() as (url, taken):
        sender = SmtpSender(url, "Softcart <hello@example.com>")
        outcome = sender.send(reminder(1), "ada@example.com", LETTER)
    assert outcome == Accepted(f"<{reminder(1).key}@example.com>")
    mail = message_from_string(taken[0], policy=default)
    assert mail["To"] == "ada@example.com"
    assert mail["Subject"] == "A walk"
    assert mail["List-Unsubscribe"] == "<https://example.com/u>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().strip() == "Today: a walk."


def test_mail_programs_find_the_address_that_unsubscribes() -> None:
    """As it crosses the wire: they do not decode this field."""
    address = "https://inspire.example.com/unsubscribe/" + "a" * 80
    fields = {"List-Unsubscribe": f"<{address}>"}
    with smtp_server() as (url, taken):
        sender = SmtpSender(url, "hello@example.com")
        letter = replace(LETTER, subject="Schön weiter so, " * 8, fields=fields)
        sender.send(reminder(1), "ada@example.com", letter)
    assert f"\r\nList-Unsubscribe: <{address}>\r\n" in taken[0]
    assert message_from_string(taken[0], policy=default)["Subject"] == letter.subject


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"550 5.1.1 ada@example.com unknown", Refused("550 5.1.1", Lasting.BOUNCE)),
        (b"554 5.7.1 ada@example.com refused", Refused("554 5.7.1")),
        (b"550 no such user", Refused("550")),
        (b"451 later", Unavailable("451")),
    ],
)
def test_what_the_mail_server_says(answer: bytes, outcome: Refused | Unavailable) -> None:
    """What is kept of it has no address in it."""
    with smtp_server(answer) as (url, _):
        sender = SmtpSender(url, "hello@example.com")
        assert sender.send(reminder(1), "ada@example.com", LETTER) == outcome


def test_a_mail_goes_to_the_very_address() -> None:
    """A mail program may take a part of it for an encoded word, and read another address."""
    address = "=?utf-8?q?ada?=@example.com"
    with smtp_server() as (url, taken):
        sender = SmtpSender(url, "hello@example.com")
        assert isinstance(sender.send(reminder(1), address, LETTER), Accepted)
    assert message_from_string(taken[0])["Receiver"] == address


def test_a_mail_server_that_refuses_our_greeting_is_asked_again() -> None:
    """It says nothing about the mail, which must not be lost."""
    with smtp_server(b"550 5.7.1 who are you", to=b"EHLO HELO") as (url, taken):
        sender = SmtpSender(url, "hello@example.com")
        outcome = sender.send(reminder(1), "ada@example.com", LETTER)
    assert outcome == Unavailable("The mail server refuses us: 550")
    assert not taken


def test_a_connection_that_the_mail_server_closed_is_opened_again() -> None:
    with smtp_server() as (url, taken):
        sender = SmtpSender(url, "hello@example.com")
        assert sender.prepare() is None
        sender._server.sock.shutdown(2)
        assert sender.prepare() is None
        assert isinstance(sender.send(reminder(1), "ada@example.com", LETTER), Accepted)
        sender.close()
    assert len(taken) == 1


def test_a_mail_server_that_is_away_is_asked_again() -> None:
    with smtp_server() as (url, _):
        pass
    outcome = SmtpSender(url, "hello@example.com").send(reminder(1), "ada@example.com", LETTER)
    assert isinstance(outcome, Unavailable)


def test_a_password_of_the_mail_server_is_not_told() -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        SmtpSender("http://me:hidden@example.com", "hello@example.com")
    assert "hidden" not in str(caught.value)


@contextmanager
def twilio(status: int, body: str, **fields: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An API that answers so, and keeps what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked.append(
                {name: values[0] for name, values in form.items()}
                | {"path": self.path, "key": self.headers["Idempotency-Key"]}
            )
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def by_twilio(url: str) -> Accepted | Refused | Unavailable:
    sender = TwilioSender(url, "AC1", "token", "+4930123456", "https://example.com/status")
    return sender.send(reminder(1), "491701234567", replace(LETTER, subject=""))


def test_a_text_message_is_taken() -> None:
    with twilio(201, json.dumps({"sid": "SM1"})) as (url, asked):
        assert by_twilio(url) == Accepted("SM1")
    assert asked == [
        {
            "To": "+491701234567",
            "From": "+4930123456",
            "Body": LETTER.text,
            "StatusCallback": f"https://example.com/status?key={reminder(1).key}",
            "path": "/2010-04-01/Accounts/AC1/Messages.json",
            "key": reminder(1).key,
        }
    ]


@pytest.mark.parametrize(
    ("status", "body", "fields", "outcome"),
    [
        (400, '{"code": 21610}', {}, Refused("400 21610", Lasting.STOP)),
        (400, "[", {}, Refused("400")),
        (429, "{}", {"Retry_After": "7"}, Unavailable("429", timedelta(seconds=7))),
        (503, "", {}, Unavailable("503")),
        (401, "{}", {}, Unavailable("401")),
        (404, '{"code": 20404}', {}, Unavailable("404 20404")),
        (400, '{"code": 21606}', {}, Unavailable("400 21606")),
    ],
)
def test_what_twilio_says(
    status: int, body: str, fields: dict[str, str], outcome: Refused | Unavailable
) -> None:
    with twilio(status, body, **fields) as (url, _):
        assert by_twilio(url) == outcome


def test_tokens_do_not_cross_a_network_in_plain_text() -> None:
    with pytest.raises(ValueError, match="https"):
        TwilioSender("http://api.example.com", "AC1", "token", "+1")


VALUES = {
    "name": "Ada",
    "workout": "Walk for 20 minutes",
    "streak": "1",
    "link": "https://example.com/x",
    "unsubscribe": "https://example.com/u",
    "quote": "On & on",
    "author": "Bob",
    "is_known": "",
}


@pytest.mark.parametrize(
    ("channel", "template"),
    [
        (Channel.EMAIL, "link"),
        (Channel.EMAIL, "reminder"),
        (Channel.EMAIL, "quote"),
        (Channel.SMS, "reminder"),
        (Channel.SMS, "quote"),
    ],
)
def test_letters_are_whole(channel: Channel, template: str) -> None:
    letter = write(channel, template, VALUES, {})
    assert bool(letter.subject) is (channel is Channel.EMAIL)
    assert letter.text.strip()
    assert "{" not in letter.text + letter.subject
    assert ("STOP" in letter.text) is (channel is Channel.SMS)
    # What a letter is about stands in it, and one that needs no consent says nothing of leaving.
    assert (VALUES["unsubscribe"] in letter.text) is (
        channel is Channel.EMAIL and template != "link"
    )


def test_a_known_address_is_told_so_by_mail_only() -> None:
    new = write(Channel.EMAIL, "link", VALUES, {})
    known = write(Channel.EMAIL, "link", VALUES | {"is_known": "yes"}, {})
    assert new.subject == "Welcome. Finish your account"
    assert known.subject == "Choose a new password"


def test_a_name_of_two_lines_makes_no_header_field() -> None:
    letter = write(Channel.EMAIL, "quote", VALUES | {"author": "Bob\r\nBcc: all@example.com"}, {})
    assert "\n" not in letter.subject
    assert "\r" not in letter.subject


def test_a_value_that_is_missing_is_noticed() -> None:
    with pytest.raises(UndefinedError):
        write(Channel.EMAIL, "reminder", {}, {})
