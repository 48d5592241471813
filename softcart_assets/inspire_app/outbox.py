"""The life of a message, from the transaction that causes it to the provider that takes it.

A sender claims a message, looks again whether it may be sent (`decide`), sends it, and writes what
came of it (`after_sending`). If it dies between the last two, the message is sent again with the
same key. A provider that knows keys sends it once. With SMTP it may come twice, and is never lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5
from zoneinfo import ZoneInfo

from softcart_assets.inspire_app.hours import EVERY_DAY, QuietHours, next_allowed

CLAIM: Final = timedelta(minutes=2)
"""So long a sender may take. Then another one takes the message for its own."""

SENDING: Final = timedelta(minutes=1)
"""So long it may take to hand over a letter. Whoever has less of the claim left does not begin."""

MAX_ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(hours=1)

_TRIED_AGAIN: Final = timedelta(days=3)

_KEYS: Final = uuid5(NAMESPACE_URL, "urn:softcart:messages")


class Channel(StrEnum):
    """The way to a person."""

    EMAIL = "email"
    SMS = "sms"


class Purpose(StrEnum):
    """What a message is for. A person consents to each purpose on each channel."""

    ACCOUNT = "account"
    """What the person has just asked for, such as a new password. It needs no consent, and it goes
    out at any hour."""
    REMINDER = "reminder"
    QUOTE = "quote"
    NEWS = "news"


class State(StrEnum):
    """Where a message is in its life. From the last three, it does not come back."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    DROPPED = "dropped"


OPEN: Final = frozenset({State.WAITING, State.SENDING})
"""The states of messages that may still be sent."""


@dataclass(frozen=True)
class Message:
    """A message as the outbox has it. All times are in UTC.

    `key`: the same for the same cause, so it is sent once. `claimed_until`: until then, a sender
    is at work on it. After `expires_at`, nobody wants it any more. `address`: of somebody who may
    have no account yet. Then `user_id` is None.
    """

    key: str
    user_id: int | None
    channel: Channel
    purpose: Purpose
    template: str
    due_at: datetime
    expires_at: datetime
    parameters: Mapping[str, str] = field(default_factory=dict)
    state: State = State.WAITING
    reason: str | None = None
    attempts: int = 0
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    provider_id: str | None = None
    sent_at: datetime | None = None
    address: str | None = None


@dataclass(frozen=True)
class Receiver:
    """What counts about a person at the moment of sending.

    `addresses`: the confirmed ones. For a message about the account, the one that waits to be
    confirmed is enough. `suppressed`: channels on which an address bounced or its owner wrote STOP.
    """

    zone: ZoneInfo
    addresses: Mapping[Channel, str]
    consents: frozenset[tuple[Channel, Purpose]] = frozenset()
    suppressed: frozenset[Channel] = frozenset()
    quiet: QuietHours = field(default_factory=QuietHours)
    days: frozenset[int] = EVERY_DAY


@dataclass(frozen=True)
class Send:
    """Send it now, to this address."""

    address: str


@dataclass(frozen=True)
class Wait:
    """Not before `until`."""

    until: datetime


@dataclass(frozen=True)
class Drop:
    """Never send it."""

    reason: str


@dataclass(frozen=True)
class Accepted:
    """The provider has taken the message."""

    provider_id: str


class Lasting(StrEnum):
    """Why an address gets no more messages."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    STOP = "stop"


def bounce(status: str) -> Lasting | None:
    """What a status code of RFC 3463 means for the next mails to the address.

    Only 5.1 is about the address. A server without a route, or a full mailbox, may take the next.
    """
    # These two are about ours.
    is_ours = status in ("5.1.7", "5.1.8")
    return Lasting.BOUNCE if status.startswith("5.1.") and not is_ours else None


def may_be_asked_for(why: Lasting, since: datetime, now: datetime) -> bool:
    """Whether an address that gets nothing more still gets what its owner has just asked for."""
    # Servers say for an hour that nobody is there, and a new password needs a mail.
    return why is Lasting.COMPLAINT or (why is Lasting.BOUNCE and now - since >= _TRIED_AGAIN)


@dataclass(frozen=True)
class Refused:
    """The provider says that it will never take the message.

    `lasting`: it will take no other for this address either.
    """

    reason: str
    lasting: Lasting | None = None


@dataclass(frozen=True)
class Unavailable:
    """The provider did not take it this time. `pause`: how long it asks us to wait."""

    reason: str
    pause: timedelta | None = None


def message_key(cause: str, user_id: int, channel: Channel, template: str) -> str:
    """The key of the message that a cause makes for somebody.

    `cause`: names it once and for all, such as a workout's id or the date of a reminder.
    """
    # The cause comes last: whatever it contains, it can be taken for nothing else.
    return str(uuid5(_KEYS, f"{user_id} {channel} {template} {cause}"))


def is_due(message: Message, now: datetime) -> bool:
    """Whether a sender may claim it: its time has come, and nobody is at work on it."""
    if message.state is State.WAITING:
        return message.due_at <= now
    # Its sender died, or hangs. See the top of this module.
    return (
        message.state is State.SENDING
        and message.claimed_until is not None
        and message.claimed_until <= now
    )


def claim(message: Message, sender: str, now: datetime) -> Message:
    """The message as the work of `sender`. Raises `ValueError` if it is not due."""
    if not is_due(message, now):
        raise ValueError(f"The message {message.key} is {message.state} and not due.")
    return replace(
        message,
        state=State.SENDING,
        claimed_by=sender,
        claimed_until=now + CLAIM,
    )


def has_time(message: Message, now: datetime) -> bool:
    """Whether a claim lasts until a letter is sent. Otherwise, two senders might send it."""
    return message.claimed_until is not None and now + SENDING <= message.claimed_until


def decide(message: Message, receiver: Receiver | None, now: datetime) -> Send | Wait | Drop:
    """What to do with a message that is due. Ask right before sending, with what holds then.

    `receiver`: None if the account is deleted.
    """
    if receiver is None:
        return Drop("The account is deleted.")
    if now >= message.expires_at:
        return Drop("It came too late to be of use.")
    address = receiver.addresses.get(message.channel)
    if address is None:
        return Drop("There is no address.")
    if message.channel in receiver.suppressed:
        return Drop("The address takes no messages.")
    if message.purpose is Purpose.ACCOUNT:
        return Send(address)
    if (message.channel, message.purpose) not in receiver.consents:
        return Drop("There is no consent.")
    allowed = next_allowed(now, receiver.zone, receiver.quiet, receiver.days)
    if allowed is None or allowed >= message.expires_at:
        return Drop("No hour that is allowed comes before it is of no use.")
    return Send(address) if allowed <= now else Wait(allowed)


def obey(message: Message, decision: Wait | Drop) -> Message:
    """The claimed message after a decision not to send it now."""
    if isinstance(decision, Drop):
        return _closed(message, State.DROPPED, decision.reason)
    return replace(_free(message), due_at=decision.until)


def after_sending(
    message: Message, outcome: Accepted | Refused | Unavailable, now: datetime, chance: float
) -> Message:
    """The message after an attempt. `chance`: from 0 to 1, so that not all try again at once."""
    # Only an answer counts as an attempt. A sender that is killed often must not use them up.
    message = replace(message, attempts=message.attempts + 1)
    match outcome:
        case Accepted(provider_id):
            done = _closed(message, State.SENT, None)
            return replace(done, provider_id=provider_id, sent_at=now.astimezone(UTC))
        case Refused(reason):
            return _closed(message, State.FAILED, reason)
        case Unavailable(reason, pause):
            again = now + max(backoff(message.attempts, chance), pause or timedelta())
            if message.attempts >= MAX_ATTEMPTS or again >= message.expires_at:
                return _closed(message, State.FAILED, reason)
            return replace(_free(message), due_at=again, reason=reason)


def backoff(attempts: int, chance: float) -> timedelta:
    """The pause after so many attempts: twice as long each time, less up to a half by chance."""
    doublings = min(max(attempts - 1, 0), 16)
    longest = min(_FIRST_PAUSE * (1 << doublings), _LONGEST_PAUSE)
    return longest * (1 - chance / 2)


def _free(message: Message) -> Message:
    return replace(message, state=State.WAITING, claimed_by=None, claimed_until=None)


def _closed(message: Message, state: State, reason: str | None) -> Message:
    return replace(message, state=state, reason=reason, claimed_by=None, claimed_until=None)


def is_key(text: str) -> bool:
    """Whether a text may be the key of a message."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
