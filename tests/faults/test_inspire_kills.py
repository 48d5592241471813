"""Kills senders of the fitness application with `kill -9` while they send.

A provider that knows keys must get each message once, in spite of it. A mail server knows no keys:
it may get one message more per kill. `INSPIRE_KILLS=200` kills so often.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.fitness import Fitness, fitness
from support.messages import add_people, always, providers, put, reminder

from softcart_assets.inspire_app.outbox import Channel
from softcart_assets.inspire_app.sender import run
from softcart_assets.stack import Stack

KILLS = int(os.environ.get("INSPIRE_KILLS", "20"))
_PER_KILL = 8
"""Messages of each channel: there must be some left for each sender."""


@pytest.fixture
def app(stack: Stack) -> Iterator[Fitness]:
    with fitness() as made:
        yield made


def test_killed_senders_lose_nothing_and_double_no_more_than_is_stated(app: Fitness) -> None:
    # A server that forks has all modules loaded: each sender is there at once.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["softcart_assets.inspire_app.sender"])
    chance, count = random.Random(14), KILLS * _PER_KILL
    now = datetime.now(UTC)
    # The senders plan, too: none of their own reminders is for now.
    wishes = replace(always(), reminder_at=(now + timedelta(hours=12)).time())
    ids = add_people(app, 1, ["UTC"] * count, wishes, ("reminder",))
    put(app, [reminder(each, now, channel) for each in ids for channel in Channel])
    kills, in_work = 0, 0
    with providers(most=10 * count) as reached:

        def taken() -> int:
            return reached.mails.taken + reached.texts.taken

        def sender() -> multiprocessing.process.BaseProcess:
            process = processes.Process(
                target=run, args=(reached.work,), kwargs={"workers": 1, "with_parent": True}
            )
            process.start()
            return process

        # The next one begins before the end of the last one, and works beside it for a moment.
        following = sender()
        while kills < KILLS:
            process, following = following, sender()
            # A fast machine may have sent all of them before the last kill.
            wanted = min(taken() + chance.randint(1, 12), 2 * count)
            limit = time.monotonic() + 120
            while taken() < wanted:
                assert process.is_alive()
                assert time.monotonic() < limit, f"{taken()} of {wanted} messages were sent"
                time.sleep(0.001)
            time.sleep(chance.random() * 0.02)
            process.kill()
            process.join()
            kills += 1
            # As if the time of what it had claimed had passed.
            with app.mysql.connect(autocommit=True) as session, session.cursor() as cursor:
                in_work += cursor.execute(
                    "UPDATE messages SET claimed_until = '2026-01-01' "
                    "WHERE state = 'sending' AND claimed_by LIKE %s",
                    (f"%:{process.pid}:%",),
                )
        limit = time.monotonic() + 120
        while app.rows("SELECT 1 FROM messages WHERE state IN ('waiting', 'sending') LIMIT 1"):
            assert following.is_alive()
            assert time.monotonic() < limit, "messages are left"
            time.sleep(0.1)
        following.terminate()
        following.join()
        mails = Counter(each.name for each in reached.mails)
        texts = Counter(each.receiver for each in reached.texts)
        doubled_texts = reached.texts.taken - count
    assert app.rows("SELECT DISTINCT state FROM messages") == [("sent",)]
    # 0 lost, and 0 doubled where the provider knows keys.
    assert len(texts) == texts.total() == count
    assert len(mails) == count
    doubled_mails = mails.total() - count
    print(
        f"{kills} kills, {in_work} amid a message: of {2 * count} messages none was lost, "
        f"{doubled_mails} mails came twice, {doubled_texts} texts were asked for twice and sent "
        "once."
    )
    assert doubled_mails + doubled_texts <= in_work <= kills
    assert in_work
