"""The life of messages: none is lost, none is sent to somebody who does not want it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from softcart_assets.inspire_app.hours import is_allowed
from softcart_assets.inspire_app.outbox import (
    CLAIM,
    MAX_ATTEMPTS,
    OPEN,
    Accepted,
    Channel,
    Drop,
    Message,
    Purpose,
    Receiver,
    Refused,
    Send,
    State,
    Unavailable,
    Wait,
    after_sending,
    backoff,
    claim,
    decide,
    is_due,
    is_key,
    message_key,
    obey,
)
from softcart_assets.inspire_app.storage import rows

NOON = datetime(2026, 6, 15, 10, tzinfo=UTC)
NIGHT = datetime(2026, 6, 15, 23, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
KEY = message_key("2026-06-15", 7, Channel.EMAIL, "reminder")
REMINDER = Message(
    KEY, 7, Channel.EMAIL, Purpose.REMINDER, "reminder", NOON, NOON + timedelta(days=1)
)
WILLING = Receiver(
    BERLIN,
    {Channel.EMAIL: "ada@example.com"},
    frozenset({(Channel.EMAIL, Purpose.REMINDER)}),
)


def test_somebody_who_consents_gets_it() -> None:
    assert decide(REMINDER, WILLING, NOON) == Send("ada@example.com")


def test_who_withdrew_a_moment_ago_gets_nothing_even_if_it_was_claimed() -> None:
    claimed = claim(REMINDER, "a", NOON)
    decision = decide(claimed, replace(WILLING, consents=frozenset()), NOON)
    assert isinstance(decision, Drop)
    assert obey(claimed, decision).state is State.DROPPED


@pytest.mark.parametrize(
    "receiver",
    [
        None,
        replace(WILLING, addresses={}),
        replace(WILLING, suppressed=frozenset({Channel.EMAIL})),
        replace(WILLING, consents=frozenset({(Channel.SMS, Purpose.REMINDER)})),
        replace(WILLING, consents=frozenset({(Channel.EMAIL, Purpose.NEWS)})),
        replace(WILLING, days=frozenset()),
    ],
)
def test_who_cannot_or_will_not_get_it_does_not(receiver: Receiver | None) -> None:
    assert isinstance(decide(REMINDER, receiver, NOON), Drop)


def test_at_night_it_waits_for_the_morning() -> None:
    decision = decide(REMINDER, WILLING, NIGHT)
    assert decision == Wait(datetime(2026, 6, 16, 6, tzinfo=UTC))


def test_a_reminder_that_would_come_too_late_is_dropped() -> None:
    short = replace(REMINDER, expires_at=NIGHT + timedelta(hours=2))
    assert isinstance(decide(short, WILLING, NIGHT), Drop)
    assert isinstance(decide(short, WILLING, NIGHT + timedelta(hours=2)), Drop)


def test_a_new_password_needs_no_consent_and_knows_no_night() -> None:
    account = replace(REMINDER, purpose=Purpose.ACCOUNT)
    assert decide(account, replace(WILLING, consents=frozenset()), NIGHT) == Send("ada@example.com")
    suppressed = replace(WILLING, suppressed=frozenset({Channel.EMAIL}))
    assert isinstance(decide(account, suppressed, NIGHT), Drop)


def test_one_cause_makes_one_key() -> None:
    assert message_key("2026-06-15", 7, Channel.EMAIL, "reminder") == KEY
    others = {
        message_key("2026-06-16", 7, Channel.EMAIL, "reminder"),
        message_key("2026-06-15", 8, Channel.EMAIL, "reminder"),
        message_key("2026-06-15", 7, Channel.SMS, "reminder"),
        message_key("2026-06-15", 7, Channel.EMAIL, "quote"),
    }
    assert len(others | {KEY}) == 5
    assert is_key(KEY)
    assert not is_key("1 OR 1=1")


def test_a_message_has_one_sender_until_its_claim_ends() -> None:
    claimed = claim(REMINDER, "a", NOON)
    with pytest.raises(ValueError, match="not due"):
        claim(claimed, "b", NOON + CLAIM - timedelta(seconds=1))
    assert claim(claimed, "b", NOON + CLAIM).claimed_by == "b"


def test_a_refusal_ends_it_and_an_outage_does_not() -> None:
    claimed = claim(REMINDER, "a", NOON)
    assert after_sending(claimed, Refused("no such mailbox"), NOON, 0).state is State.FAILED
    waiting = after_sending(claimed, Unavailable("timeout"), NOON, 0)
    assert (waiting.state, waiting.due_at) == (State.WAITING, NOON + timedelta(seconds=30))
    asked = after_sending(claimed, Unavailable("busy", timedelta(minutes=5)), NOON, 0)
    assert asked.due_at == NOON + timedelta(minutes=5)


def test_a_sender_that_is_killed_uses_no_attempt_up() -> None:
    message, now = REMINDER, NOON
    for number in range(MAX_ATTEMPTS + 5):
        now = NOON + number * CLAIM
        message = claim(message, "a", now)
    assert after_sending(message, Unavailable("busy"), now, 0).state is State.WAITING


def test_attempts_end() -> None:
    message, now = replace(REMINDER, expires_at=NOON + timedelta(days=30)), NOON
    while message.state in OPEN:
        now = message.due_at
        message = after_sending(claim(message, "a", now), Unavailable("timeout"), now, 0)
    assert (message.state, message.attempts) == (State.FAILED, MAX_ATTEMPTS)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_up_to_an_hour(attempts: int, chance: float) -> None:
    assert timedelta(seconds=15) <= backoff(attempts, chance) <= timedelta(hours=1)
    assert backoff(attempts, chance) <= backoff(attempts + 1, chance)


class Outbox(RuleBasedStateMachine):
    """Senders that die at any moment, a provider that knows keys, and a person of changing mind."""

    @initialize(hours=st.integers(1, 100))
    def begin(self, hours: int) -> None:
        self.now = NOON
        self.receiver = WILLING
        self.message = replace(REMINDER, expires_at=NOON + timedelta(hours=hours))
        self.delivered: dict[str, datetime] = {}
        self.doubled = 0
        self.closed: Message | None = None

    @rule(minutes=st.integers(1, 300))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def withdraw(self) -> None:
        self.receiver = replace(self.receiver, consents=frozenset())

    @rule()
    def consent(self) -> None:
        self.receiver = replace(self.receiver, consents=WILLING.consents)

    @precondition(lambda self: is_due(self.message, self.now))
    @rule(
        dies=st.sampled_from(["no", "before", "after"]), fails=st.booleans(), chance=st.floats(0, 1)
    )
    def send(self, dies: str, fails: bool, chance: float) -> None:
        claimed = claim(self.message, "a", self.now)
        self.message = claimed
        decision = decide(claimed, self.receiver, self.now)
        if not isinstance(decision, Send):
            self.message = obey(claimed, decision)
        elif dies != "before":
            if not fails:
                assert self.receiver.consents
                assert is_allowed(self.now, BERLIN, self.receiver.quiet)
                self.delivered.setdefault(claimed.key, self.now)
            if dies == "no":
                outcome = Unavailable("timeout") if fails else Accepted("1")
                self.message = after_sending(claimed, outcome, self.now, chance)

    @invariant()
    def what_is_sent_was_delivered(self) -> None:
        if getattr(self, "message", None) is None:
            return
        if self.message.state is State.SENT:
            assert self.message.key in self.delivered
            assert self.message.sent_at is not None
            assert self.message.sent_at >= self.delivered[self.message.key]
        assert len(self.delivered) <= 1

    @invariant()
    def what_is_closed_stays_closed(self) -> None:
        if getattr(self, "message", None) is None:
            return
        if self.closed is not None:
            assert self.message == self.closed
        if self.message.state not in OPEN:
            assert not is_due(self.message, self.now + timedelta(days=1000))
            self.closed = self.message

    @invariant()
    def what_is_open_comes_up_again(self) -> None:
        if getattr(self, "message", None) is not None and self.message.state in OPEN:
            assert is_due(self.message, self.now + timedelta(days=10))


TestOutbox = Outbox.TestCase


@pytest.mark.parametrize(
    ("code", "seconds", "tries"), [(1213, 600, 3), (1205, 600, 3), (1062, 600, 1), (1205, -1, 1)]
)
def test_what_the_server_took_back_is_done_again_for_a_while(
    code: int, seconds: float, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_LONGEST_SECONDS", seconds)
    asked: list[int] = []

    @rows.again_after_deadlock
    def write() -> int:
        asked.append(code)
        if len(asked) < 3:
            raise pymysql.OperationalError(code, "taken back")
        return 7

    if tries == 3:
        assert write() == 7
    else:
        with pytest.raises(pymysql.OperationalError):
            write()
    assert len(asked) == tries
