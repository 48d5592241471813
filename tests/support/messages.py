"""People who want messages, in the databases of the fitness application, and what reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from bson.int64 import Int64
from support.fitness import Fitness

from softcart_assets.inspire_app.outbox import Channel, Message, Purpose, message_key
from softcart_assets.inspire_app.preferences import Notifications
from softcart_assets.inspire_app.providers import Providers
from softcart_assets.inspire_app.receivers import mail, page
from softcart_assets.inspire_app.receivers.kept import Kept
from softcart_assets.inspire_app.sender import Work
from softcart_assets.inspire_app.storage.outbox import OutboxTable, add_messages
from softcart_assets.stack.server import free_port

TOKEN = "t" * 32


class Reached:
    """Providers that take everything, and the work of a sender that uses them."""

    def __init__(self, mails: Kept, texts: Kept, work: Work) -> None:
        self.mails, self.texts, self.work = mails, texts, work


@contextmanager
def providers(most: int = 500) -> Iterator[Reached]:
    """A mail server, and one that speaks as Twilio does and knows keys."""
    mails, texts = Kept(most), Kept(most)
    url = "http://127.0.0.1:8091"
    with (
        mail.listening(mails, free_port()) as mail_port,
        page.listening(texts, 0, url, TOKEN) as text_port,
    ):
        named = Providers(
            f"smtp://127.0.0.1:{mail_port}",
            "Inspire <inspire@example.com>",
            "twilio",
            "+4930123456",
            f"http://127.0.0.1:{text_port}",
            "AC1",
            TOKEN,
        )
        yield Reached(mails, texts, replace(Work.from_env(), providers=named))


def add_people(
    app: Fitness,
    first: int,
    zones: list[str],
    wishes: Notifications | None = None,
    purposes: tuple[str, ...] = ("reminder", "quote"),
) -> list[int]:
    """People with ids from `first` on, one for each zone, who consent to `purposes`.

    They have the addresses `<id>@example.com` and 4917 with the id in eight digits. `wishes`: by
    default both channels at any hour.
    """
    ids = [first + number for number in range(len(zones))]
    confirmed = "2026-01-01"
    with app.mysql.connect(autocommit=True) as session, session.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO users (id, email, email_key, full_name, phone, region, country_code, "
            "time_zone, email_confirmed_at, phone_confirmed_at) "
            "VALUES (%s, %s, %s, 'Ada', %s, 'x', 'DE', %s, %s, %s)",
            [
                (each, *[f"{each}@example.com"] * 2, phone(each), zone, confirmed, confirmed)
                for each, zone in zip(ids, zones, strict=True)
            ],
        )
        cursor.executemany(
            "INSERT INTO consents (user_id, channel, purpose, given_at, given_by, wording) "
            "VALUES (%s, %s, %s, %s, 'page', 'yes')",
            [
                (each, channel.value, purpose, confirmed)
                for each in ids
                for channel in Channel
                for purpose in purposes
            ],
        )
    wish(app, ids, wishes or always())
    return ids


def always() -> Notifications:
    """Both channels, and no hour is quiet."""
    usual = Notifications()
    quiet = replace(usual.quiet, ends=usual.quiet.starts)
    return Notifications(frozenset({"email", "sms"}), quiet=quiet)


def wish(app: Fitness, ids: list[int], wishes: Notifications) -> None:
    """Let people have these preferences."""
    collection = app.site.documents._preferences
    collection.delete_many({"_id": {"$in": ids}})
    document = replace(app.site.documents.preferences(0), notifications=wishes).document()
    now = datetime.now(UTC)
    collection.insert_many([{"_id": Int64(each), **document, "updated_at": now} for each in ids])


def phone(user_id: int) -> str:
    """Somebody's number."""
    return f"4917{user_id:08}"


def reminder(
    user_id: int, due_at: datetime, channel: Channel = Channel.EMAIL, hours: float = 20
) -> Message:
    """A reminder for the date on which it is due."""
    day = date(due_at.year, due_at.month, due_at.day)
    return Message(
        message_key(f"{due_at} reminder", user_id, channel, "reminder"),
        user_id,
        channel,
        Purpose.REMINDER,
        "reminder",
        due_at,
        due_at + timedelta(hours=hours),
        {"day": day.isoformat()},
    )


@contextmanager
def outbox(app: Fitness) -> Iterator[OutboxTable]:
    """The outbox by a connection of its own."""
    with app.mysql.connect() as connection:
        yield OutboxTable(
            connection, lambda user_id: app.site.documents.preferences(user_id).notifications
        )


def put(app: Fitness, messages: list[Message]) -> None:
    """Put messages into the outbox."""
    with outbox(app) as table, table.transaction():
        add_messages(table, messages)
