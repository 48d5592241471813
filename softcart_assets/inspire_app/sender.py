"""The process that sends: threads that empty the outbox, one that plans, and local receivers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from secrets import token_hex
from traceback import format_tb
from typing import Final, NoReturn

import pymysql
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from pymongo.errors import PyMongoError

from softcart_assets.connections import MongoConnection, MySQLConnection, ServerUnreachable
from softcart_assets.inspire_app.outbox import Lasting, Message, Purpose
from softcart_assets.inspire_app.planning import Planner
from softcart_assets.inspire_app.providers import MAIL_PORT, RECEIVER_PORT, Providers
from softcart_assets.inspire_app.receivers import mail, page
from softcart_assets.inspire_app.receivers.kept import Kept
from softcart_assets.inspire_app.sending import LOG, send_due
from softcart_assets.inspire_app.settings import Settings
from softcart_assets.inspire_app.site import DOCUMENTS, PEOPLE, check_tables, published_scores
from softcart_assets.inspire_app.storage.documents import Documents
from softcart_assets.inspire_app.storage.mysql import Pool
from softcart_assets.inspire_app.storage.outbox import OutboxTable
from softcart_assets.inspire_app.storage.people import PeakHours, PeopleTables
from softcart_assets.inspire_app.storage.wishes import Wishes
from softcart_assets.inspire_app.streaks import streak
from softcart_assets.inspire_app.today import todays_choice
from softcart_assets.inspire_app.writing import Days, Today, Writer

WORKERS: Final = 2
"""Threads that send. Each waits for its provider most of the time."""

_LOOK_AGAIN_SECONDS: Final = 0.5
_PLAN_AGAIN_SECONDS: Final = 20.0
_BEGIN_AGAIN_SECONDS: Final = 5.0
_FORGET_AGAIN: Final = timedelta(days=1)

_FAILURES: Final = (pymysql.MySQLError, PyMongoError, ServerUnreachable)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Work:
    """What a process sends, and from where. `url` and `secret`: the application's.

    `ports`: of the local mail server, and of the page.
    """

    mysql: MySQLConnection
    mongo: MongoConnection
    providers: Providers
    secret: bytes
    url: str
    ports: tuple[int, int] = (MAIL_PORT, RECEIVER_PORT)

    @classmethod
    def from_env(cls, url: str | None = None) -> Work:
        """Read the settings. `url`: where the application is, if none is set.

        Raises `SettingError`.
        """
        settings = Settings.from_env(url) if url else Settings.from_env()
        return cls(
            MySQLConnection.from_env(PEOPLE),
            MongoConnection.from_env(DOCUMENTS),
            Providers.from_env(),
            settings.secret,
            settings.url,
        )


class Figures:
    """What the process has done, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._messages = Counter(
            "softcart_messages",
            "Messages looked at, by what came of them.",
            ["channel", "purpose", "state"],
            registry=self.registry,
        )
        self._due = Gauge(
            "softcart_messages_due",
            "Messages that are due, at most 10,000.",
            registry=self.registry,
        )
        self._oldest = Gauge(
            "softcart_messages_oldest_seconds",
            "For how long the first of them is due.",
            registry=self.registry,
        )

    def seen(self, message: Message) -> None:
        """Count a message as it is now."""
        self._messages.labels(message.channel, message.purpose, message.state).inc()

    def backlog(self, due: int, oldest_seconds: float) -> None:
        """Note what is due."""
        self._due.set(due)
        self._oldest.set(oldest_seconds)


class _Answers:
    """See `senders.smpp.Inbound`."""

    def __init__(self, outbox: OutboxTable) -> None:
        self._outbox = outbox

    def text(self, phone: str, text: str) -> None:
        """Somebody has written."""
        self._outbox.answer(phone, text, now())

    def receipt(self, provider_id: str, is_delivered: bool) -> None:
        """A message has arrived, or never will."""
        key = self._outbox.key_of(provider_id)
        if key and is_delivered:
            self._outbox.delivered(key, now())
        elif key:
            lasting: Lasting | None = None
            self._outbox.bounced(key, "receipt", now(), lasting)


class _Process:
    def __init__(
        self, work: Work, wishes: Wishes, days: Days, figures: Figures, stop: threading.Event
    ) -> None:
        self._work, self._wishes, self._days = work, wishes, days
        self._figures, self._stop = figures, stop

    def send(self, *, once: bool) -> int:
        """Send what is due, once or until the end. Returns how many messages were looked at."""
        work, count = self._work, 0
        name = f"{socket.gethostname()[:40]}:{os.getpid()}:{token_hex(4)}"
        with closing(work.mysql.connect()) as connection, ExitStack() as opened:
            outbox = OutboxTable(connection, self._wishes.of)
            senders = work.providers.senders(
                work.url, work.providers.token(work.secret), _Answers(outbox), work.ports
            )
            for sender in senders.values():
                opened.callback(sender.close)
            writer = Writer(outbox, self._days, work.secret, work.url, now)
            while not self._stop.is_set():
                count += send_due(
                    outbox, senders, writer, name, now, seen=self._figures.seen, stop=self._stop
                )
                if once:
                    break
                for sender in senders.values():
                    sender.idle()
                self._stop.wait(_LOOK_AGAIN_SECONDS)
        return count

    def plan(self, *, once: bool) -> None:
        """Plan what is not planned, once or until the end."""
        with closing(self._work.mysql.connect()) as connection:
            people, backlog = PeopleTables(connection), OutboxTable(connection, self._wishes.of)
            planner = Planner(people, self._wishes.of_all, PeakHours())
            forget_at = now()
            while not self._stop.is_set():
                if people.is_first():
                    planner.plan(now())
                    if now() >= forget_at:
                        people.forget(now())
                        forget_at = now() + _FORGET_AGAIN
                self._figures.backlog(*backlog.backlog(now()))
                if once:
                    break
                self._stop.wait(_PLAN_AGAIN_SECONDS)

    def keep_on(self, what: Callable[..., object]) -> None:
        """Do it until the end, whatever happens to the databases."""
        while not self._stop.is_set():
            try:
                what(once=False)
            except Exception as error:
                # Texts of errors may have values in them, and where they come from has none.
                place = "" if isinstance(error, _FAILURES) else format_tb(error.__traceback__)[-1]
                LOG.warning("begin again after %s %s", type(error).__name__, place)
                self._stop.wait(_BEGIN_AGAIN_SECONDS)


def run(
    work: Work,
    *,
    once: bool = False,
    workers: int = WORKERS,
    metrics_port: int | None = None,
    stop: threading.Event | None = None,
    with_parent: bool = False,
) -> int:
    """Send until a signal, or once what is due. Returns how many messages were looked at.

    `with_parent`: end when the process that started this one has ended.

    Raises `ServerUnreachable` if a database cannot be reached at the start, and `TablesMissing`.
    """
    stop = stop or threading.Event()
    check_tables(work.mysql)
    with ExitStack() as stack:
        client = stack.enter_context(work.mongo.connect())
        pool = stack.enter_context(closing(Pool(work.mysql)))
        documents = stack.enter_context(closing(Documents(work.mongo)))
        figures = Figures()
        process = _Process(
            work,
            Wishes(client, work.mongo.database),
            partial(_day, pool, documents),
            figures,
            stop,
        )
        if once:
            process.plan(once=True)
            return process.send(once=True)
        if work.providers.are_local:
            _receive(stack, work)
        if metrics_port is not None:
            server, _ = start_http_server(metrics_port, "127.0.0.1", figures.registry)
            stack.callback(server.shutdown)
        tasks = [process.plan, *[process.send] * workers]
        threads = [threading.Thread(target=process.keep_on, args=(task,)) for task in tasks]
        _until_told(stop)
        for thread in threads:
            thread.start()
        parent = os.getppid()
        with suppress(KeyboardInterrupt):
            while not stop.wait(1):
                # A parent that was killed has told nobody.
                if with_parent and os.getppid() != parent:
                    break
        stop.set()
        for thread in threads:
            thread.join()
    return 0


def _day(
    pool: Pool, documents: Documents, user_id: int, day: date, purpose: Purpose
) -> Today | None:
    """See `writing.Days`. It is what the page of the day shows, too."""
    with pool.tables() as tables:
        today = todays_choice(tables, documents, published_scores, user_id, day, now())
    if purpose is Purpose.QUOTE:
        return Today(today.quote["text"], today.quote["author"]) if today.quote else None
    rest_days = documents.preferences(user_id).rest_days
    return Today(today.workout.name, streak=streak(documents.days(user_id), day, rest_days).current)


def _receive(stack: ExitStack, work: Work) -> None:
    kept, (mail_port, page_port) = Kept(), work.ports
    try:
        stack.enter_context(mail.listening(kept, mail_port))
        token = work.providers.token(work.secret)
        stack.enter_context(page.listening(kept, page_port, work.url, token))
    except OSError:
        LOG.warning("Another process has the receivers' ports %d and %d.", *work.ports)
        return
    LOG.info("What was sent: http://127.0.0.1:%d", page_port)


def _until_told(stop: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.set())


def log_to_output() -> None:
    """Write a line for each message: key, channel, state. No address is in it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


@contextmanager
def beside(work: Work) -> Iterator[None]:
    """Send in a process of its own while the block runs. It ends with this process."""
    parent = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        try:
            _keep_sending(work, parent)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        # Processes that were made in the block leave it, too.
        if os.getpid() == parent:
            # One that has ended has been waited for: its id may be another's by now.
            with suppress(ChildProcessError):
                if os.waitpid(keeper, os.WNOHANG) == (0, 0):
                    os.kill(keeper, signal.SIGTERM)
                    os.waitpid(keeper, 0)


def _keep_sending(work: Work, application: int) -> NoReturn:
    """Send in a child, and in another one when it has died. The server of the application waits
    for all its children, and would not tell which one ended.
    """
    stop = threading.Event()
    # Ctrl-C reaches the whole group. A child inherits both.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log_to_output()
    while not stop.is_set():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(work, stop=stop, with_parent=True)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        ended, status = 0, 0
        while not ended and not stop.wait(_LOOK_AGAIN_SECONDS):
            if os.getppid() != application:
                stop.set()
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
        elif not stop.is_set():
            LOG.warning(
                "The sender has ended by %d. Begin again.", os.waitstatus_to_exitcode(status)
            )
            stop.wait(_BEGIN_AGAIN_SECONDS)
    os._exit(0)
