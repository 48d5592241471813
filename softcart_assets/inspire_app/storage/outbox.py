"""The outbox in MySQL or MariaDB: messages, what became of them, and who wants no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

import pymysql

from softcart_assets.inspire_app.accounts import Link, asks
from softcart_assets.inspire_app.outbox import (
    Channel,
    Lasting,
    Message,
    Purpose,
    Receiver,
    State,
    claim,
    may_be_asked_for,
)
from softcart_assets.inspire_app.people import (
    email_key,
    says_yes,
    wants_no_more,
    wants_them_again,
    zone_of,
)
from softcart_assets.inspire_app.preferences import Notifications
from softcart_assets.inspire_app.storage.rows import Database, again_after_deadlock, naive

_INSERT: Final = (
    "INSERT INTO messages (message_key, user_id, address, channel, purpose, template, parameters, "
    "due_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
    # Not IGNORE, which passes over other errors than a key that is there, too.
    "ON DUPLICATE KEY UPDATE id = id"
)

_QUEUES: Final = (
    # Of senders that died: there are few, and they have waited longest.
    "state = 'sending' AND claimed_until <= %s ORDER BY claimed_until",
    # What somebody waits for overtakes a million reminders.
    "state = 'waiting' AND purpose = 'account' AND due_at <= %s ORDER BY due_at",
    "state = 'waiting' AND due_at <= %s ORDER BY due_at",
)


class OutboxTable(Database):
    """See `sending.Outbox`. `wishes`: reads when and how somebody wants messages."""

    def __init__(
        self, connection: pymysql.Connection[Any], wishes: Callable[[int], Notifications]
    ) -> None:
        super().__init__(connection)
        # A row that is looked for and not there must not be locked: senders would wait for each
        # other.
        self._execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
        self._wishes = wishes

    @again_after_deadlock
    def claim(self, sender: str, now: datetime) -> Message | None:
        """Claim the message that is due for longest, and commit. None: nothing is due."""
        with self.transaction():
            for queue in _QUEUES:
                # SKIP LOCKED: what another sender claims at this moment is not waited for.
                row = self._row(
                    f"SELECT * FROM messages WHERE {queue} LIMIT 1 FOR UPDATE SKIP LOCKED",
                    (naive(now),),
                )
                if row is not None:
                    break
            else:
                return None
            claimed = claim(_message(row), sender, now)
            self._execute(
                "UPDATE messages SET state = 'sending', claimed_by = %s, claimed_until = %s "
                "WHERE id = %s",
                (claimed.claimed_by, naive(claimed.claimed_until), row["id"]),
            )
        return claimed

    def receiver(self, message: Message) -> Receiver | None:
        """What counts about the receiver right now. None: the account is deleted."""
        if message.user_id is None:
            typed = message.address or ""
            addresses = {message.channel: self.address_of(typed) or typed}
            with self.transaction():
                suppressed = self._suppressed(addresses, message)
            return Receiver(ZoneInfo("UTC"), addresses, suppressed=suppressed)
        # Consents come last. What is read after them makes them older.
        wishes = self._wishes(message.user_id)
        with self.transaction():
            row = self._row(
                "SELECT * FROM users WHERE id = %s AND state = 'active'", (message.user_id,)
            )
            if row is None:
                return None
            addresses = {
                channel: row[name]
                for channel, name in ((Channel.EMAIL, "email"), (Channel.SMS, "phone"))
                # What asks whether an address is somebody's goes to it before that is known.
                if row[name] and (row[f"{name}_confirmed_at"] or message.purpose is Purpose.ACCOUNT)
            }
            if message.template == "phone" and not asks(message, row["phone"] or ""):
                # The number has changed since. Another message asks the new one.
                addresses.pop(Channel.SMS, None)
            suppressed = self._suppressed(addresses, message)
            consents = self._rows(
                "SELECT channel, purpose FROM consents WHERE user_id = %s AND withdrawn_at IS NULL",
                (message.user_id,),
            )
        return Receiver(
            zone_of(row["time_zone"]),
            addresses,
            frozenset(
                (Channel(each["channel"]), Purpose(each["purpose"]))
                for each in consents
                if each["channel"] in wishes.channels
            ),
            suppressed,
            wishes.quiet,
            wishes.days,
        )

    @again_after_deadlock
    def save(
        self,
        claimed: Message,
        after: Message,
        now: datetime,
        lasting: tuple[str, Lasting] | None = None,
    ) -> bool:
        """See `sending.Outbox`."""
        with self.transaction():
            is_ours = self._execute(
                "UPDATE messages SET state = %s, reason = %s, attempts = %s, due_at = %s, "
                "claimed_by = %s, claimed_until = %s, provider_id = %s, sent_at = %s "
                "WHERE message_key = %s AND state = 'sending' AND claimed_by = %s "
                "AND claimed_until = %s",
                (
                    after.state.value,
                    after.reason,
                    after.attempts,
                    naive(after.due_at),
                    after.claimed_by,
                    naive(after.claimed_until),
                    after.provider_id,
                    naive(after.sent_at),
                    claimed.key,
                    claimed.claimed_by,
                    naive(claimed.claimed_until),
                ),
            )
            if not is_ours:
                return False
            if after.state is State.SENT:
                self._event(claimed.key, "accepted", now)
            if lasting:
                address, why = lasting
                self._event(claimed.key, "stopped" if why is Lasting.STOP else "bounced", now)
                self._suppress(claimed.channel, address, why, now)
                if claimed.user_id is not None:
                    self._withdraw(claimed.user_id, claimed.channel, why.value, now)
        return True

    @again_after_deadlock
    def add_link(self, link: Link) -> None:
        """Keep a link that is about to be sent, and commit."""
        with self.transaction():
            self._execute(
                "INSERT INTO links (digest, purpose, email, expires_at) VALUES (%s, %s, %s, %s) "
                "ON DUPLICATE KEY UPDATE digest = digest",
                (link.digest, link.use.value, link.email, naive(link.expires_at)),
            )

    def address_of(self, email: str) -> str | None:
        """See `writing.Accounts`."""
        with self.transaction():
            return self._own(email)

    def name_of(self, user_id: int) -> str | None:
        """Somebody's name. None: the account is deleted."""
        with self.transaction():
            row = self._row(
                "SELECT full_name FROM users WHERE id = %s AND state = 'active'", (user_id,)
            )
        return row["full_name"] if row else None

    def message(self, key: str) -> Message | None:
        """A message by its key."""
        with self.transaction():
            row = self._row("SELECT * FROM messages WHERE message_key = %s", (key,))
        return _message(row) if row else None

    def key_of(self, provider_id: str) -> str | None:
        """The key of the message that a provider has given this name."""
        with self.transaction():
            row = self._row(
                "SELECT message_key FROM messages WHERE provider_id = %s", (provider_id,)
            )
        return row["message_key"] if row else None

    @again_after_deadlock
    def unsubscribe(self, message: Message, now: datetime) -> None:
        """Withdraw the consent that let a message come, and commit. Twice is the same as once."""
        with self.transaction():
            if message.user_id is not None:
                self._withdraw(message.user_id, message.channel, "link", now, message.purpose)
            self._event(message.key, "unsubscribed", now)

    @again_after_deadlock
    def stop(self, phone: str, now: datetime) -> None:
        """A number wrote STOP: it gets nothing more, whoever has it. Commits."""
        with self.transaction():
            self._suppress(Channel.SMS, phone, Lasting.STOP, now)
            for user in self._rows("SELECT id FROM users WHERE phone = %s", (phone,)):
                self._withdraw(user["id"], Channel.SMS, "stop", now)
                last = self._row(
                    "SELECT message_key FROM messages WHERE user_id = %s AND channel = 'sms' "
                    "AND state = 'sent' ORDER BY sent_at DESC LIMIT 1",
                    (user["id"],),
                )
                if last:
                    self._event(last["message_key"], "stopped", now)

    def answer(self, phone: str, text: str, now: datetime) -> None:
        """Do what somebody asks for who answers a text message. Commits."""
        if wants_no_more(text):
            self.stop(phone, now)
        elif wants_them_again(text):
            self.start_again(phone)
        elif says_yes(text):
            self.confirm(phone, now)

    @again_after_deadlock
    def confirm(self, phone: str, now: datetime) -> None:
        """A number is theirs who were asked there last whether it is. Commits."""
        with self.transaction():
            asked = self._rows(
                "SELECT m.* FROM messages m JOIN users u ON u.id = m.user_id WHERE u.phone = %s "
                "AND u.state = 'active' AND u.phone_confirmed_at IS NULL AND m.template = 'phone' "
                "AND m.state = 'sent' AND m.expires_at > %s ORDER BY m.sent_at DESC, m.id DESC",
                (phone, naive(now)),
            )
            # The answer is one to the last of several people who say that it is their number.
            last = next((each for each in map(_message, asked) if asks(each, phone)), None)
            if last:
                self._execute(
                    "UPDATE users SET phone_confirmed_at = %s WHERE id = %s AND phone = %s",
                    (naive(now), last.user_id, phone),
                )

    @again_after_deadlock
    def start_again(self, phone: str) -> None:
        """A number that wrote STOP may get messages again, once its owner consents. Commits."""
        with self.transaction():
            self._execute(
                "DELETE FROM suppressions WHERE channel = 'sms' AND address_digest = %s "
                "AND reason = 'stop'",
                (address_digest(Channel.SMS, phone),),
            )

    @again_after_deadlock
    def delivered(self, key: str, now: datetime) -> None:
        """A message has arrived. Commits."""
        with self.transaction():
            self._event(key, "delivered", now)

    @again_after_deadlock
    def bounced(self, key: str, detail: str, now: datetime, lasting: Lasting | None) -> None:
        """A message came back, or its receiver has complained. Commits.

        `lasting`: why the address gets nothing more. None: the next message may arrive.
        """
        with self.transaction():
            event = "complained" if lasting is Lasting.COMPLAINT else "bounced"
            self._event(key, event, now, detail)
            row = self._row("SELECT * FROM messages WHERE message_key = %s", (key,))
            if row is None or lasting is None:
                return
            message = _message(row)
            address = self._address(message)
            if address and message.user_id is not None:
                self._withdraw(message.user_id, message.channel, lasting.value, now)
            if address:
                self._suppress(message.channel, address, lasting, now)

    def backlog(self, now: datetime) -> tuple[int, float]:
        """How many messages are due, at most 10,000, and for how many seconds the first of them."""
        with self.transaction():
            [row] = self._rows(
                "SELECT count(*) count, min(due_at) first FROM (SELECT due_at FROM messages "
                "WHERE state = 'waiting' AND due_at <= %s ORDER BY due_at LIMIT 10000) due",
                (naive(now),),
            )
        first = row["first"]
        return row["count"], (now - first).total_seconds() if first else 0.0

    def _own(self, email: str) -> str | None:
        row = self._row(
            "SELECT email FROM users WHERE email_key = %s AND state = 'active'",
            (email_key(email),),
        )
        return row["email"] if row else None

    def _address(self, message: Message) -> str | None:
        """Where a message went. None: nobody has this address any more."""
        if message.user_id is None:
            # As `receiver` has chosen it.
            return self._own(message.address or "") or message.address
        user = self._row(
            "SELECT * FROM users WHERE id = %s AND state = 'active'", (message.user_id,)
        )
        if user is None:
            return None
        email: str | None = user["email"]
        phone: str | None = user["phone"]
        confirmed_at = user["phone_confirmed_at"]
        if message.channel is Channel.EMAIL:
            return email
        if message.purpose is Purpose.ACCOUNT:
            return phone if asks(message, phone or "") else None
        # A number that was confirmed after that is another one.
        is_other = not confirmed_at or (message.sent_at and confirmed_at > message.sent_at)
        return None if is_other else phone

    def _suppressed(self, addresses: Mapping[Channel, str], message: Message) -> frozenset[Channel]:
        found = set()
        for channel, address in addresses.items():
            row = self._row(
                "SELECT reason, since FROM suppressions WHERE channel = %s AND address_digest = %s",
                (channel.value, address_digest(channel, address)),
            )
            if row and not (
                message.purpose is Purpose.ACCOUNT
                and may_be_asked_for(Lasting(row["reason"]), row["since"], message.due_at)
            ):
                found.add(channel)
        return frozenset(found)

    def _suppress(self, channel: Channel, address: str, why: Lasting, now: datetime) -> None:
        self._execute(
            "INSERT INTO suppressions (channel, address_digest, reason, since) "
            "VALUES (%s, %s, %s, %s) ON DUPLICATE KEY UPDATE "
            # What is worse stays: a complaint lets mail about the account through, a bounce does so
            # after some days, and STOP never.
            "reason = IF(reason = 'complaint' OR VALUES(reason) = 'stop', VALUES(reason), reason), "
            "since = VALUES(since)",
            (channel.value, address_digest(channel, address), why.value, naive(now)),
        )

    def _withdraw(
        self, user_id: int, channel: Channel, by: str, now: datetime, purpose: Purpose | None = None
    ) -> None:
        self._execute(
            "UPDATE consents SET withdrawn_at = %s, withdrawn_by = %s WHERE user_id = %s "
            "AND channel = %s AND purpose = COALESCE(%s, purpose) AND withdrawn_at IS NULL",
            (naive(now), by, user_id, channel.value, purpose and purpose.value),
        )

    def _event(self, key: str, event: str, now: datetime, detail: str | None = None) -> None:
        self._execute(
            "INSERT INTO message_events (message_id, event, happened_at, detail) "
            "SELECT id, %s, %s, %s FROM messages WHERE message_key = %s "
            "ON DUPLICATE KEY UPDATE message_events.id = message_events.id",
            (event, naive(now), detail, key),
        )


def add_message(database: Database, message: Message) -> None:
    """Put a message into the outbox, in the caller's transaction.

    If one of its key is there, nothing happens.
    """
    add_messages(database, [message])


def add_messages(database: Database, messages: list[Message]) -> None:
    """The same for several messages."""
    rows = [
        (
            message.key,
            message.user_id,
            message.address,
            message.channel.value,
            message.purpose.value,
            message.template,
            json.dumps(dict(message.parameters)),
            naive(message.due_at),
            naive(message.expires_at),
        )
        for message in messages
    ]
    # One statement for as many as fit into a packet.
    with database._connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)


def address_digest(channel: Channel, address: str) -> str:
    """How `suppressions` names an address: it outlives the account, so it is no address."""
    key = email_key(address) if channel is Channel.EMAIL else address
    return sha256((key or address).encode()).hexdigest()


def _message(row: Mapping[str, Any]) -> Message:
    return Message(
        row["message_key"],
        row["user_id"],
        Channel(row["channel"]),
        Purpose(row["purpose"]),
        row["template"],
        row["due_at"],
        row["expires_at"],
        json.loads(row["parameters"]),
        State(row["state"]),
        row["reason"],
        row["attempts"],
        row["claimed_by"],
        row["claimed_until"],
        row["provider_id"],
        row["sent_at"],
        row["address"],
    )
