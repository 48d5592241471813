"""Usage as it happens: records of the network, charges, corrections and top-ups.

Late, duplicate and corrected records come in the shares that the seed data have.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from seed_data.common.traffic import NothingToDo
from seed_data.telecom import shares
from seed_data.telecom.traffic.desk import Desk, Subscriber, delay, utc_now

DROPPED = 0.03
UNANSWERED = 0.14
ON_NET = 0.25
"""Calls to another subscriber. The network records them in both directions with one id."""
INCLUDED = 0.6
"""Usage of postpaid subscribers that their plan includes."""
_CENT = Decimal("0.01")


def _twice(desk: Desk) -> int:
    """How often the network writes a record."""
    return 1 + (desk.rng.random() < shares.RECORD_DUPLICATE)


def _charge(
    desk: Desk, who: Subscriber, kind: str, event: str, quantity: Decimal, at: object
) -> None:
    """Rate an event. What a prepaid subscriber spends goes off the balance at the commit."""
    tariff, price = desk.prices[who.plan, kind]
    is_included = who.account is not None and desk.rng.random() < INCLUDED
    units = -(-quantity // 1)
    amount = Decimal(0) if is_included else (units * price).quantize(_CENT)
    row = (who.id, event, kind, quantity, amount, "EUR", tariff, at, utc_now(), None)
    desk.add("charges", row)
    if who.account is None:
        desk.spent[who.id] = desk.spent.get(who.id, Decimal(0)) + amount


def call(desk: Desk) -> None:
    """A call goes out, perhaps to another subscriber."""
    rng, who = desk.rng, desk.subscriber()
    event, now = desk.event_id("C"), utc_now()
    draw = rng.random()
    dropped = draw < DROPPED
    answered = draw >= UNANSWERED or dropped
    seconds = min(7_200, 1 + int(rng.expovariate(1 / 210))) if answered else 0
    termination = "dropped" if dropped else "normal" if answered else "no_answer"
    started = now - delay(rng, shares.RECORD_LATE) - timedelta(seconds=seconds)
    other = desk.subscriber() if rng.random() < ON_NET else None
    number = other.msisdn if other else f"4915{rng.randrange(10_000_000, 100_000_000)}"

    def record(one: Subscriber, direction: str, to: str) -> None:
        row = (event, one.id, one.msisdn, direction, to, started, seconds, termination)
        for _ in range(_twice(desk)):
            desk.add("call_records", (*row, rng.randrange(50_000), one.region, now))

    record(who, "out", number)
    if other:
        record(other, "in", who.msisdn)
    if seconds:
        _charge(desk, who, "voice", event, Decimal(-(-seconds // 60)), started)


def incoming_call(desk: Desk) -> None:
    """A call comes in from another network."""
    rng, who, now = desk.rng, desk.subscriber(), utc_now()
    seconds = int(rng.expovariate(1 / 210)) if rng.random() > UNANSWERED else 0
    started = now - delay(rng, shares.RECORD_LATE) - timedelta(seconds=seconds)
    other = f"4915{rng.randrange(10_000_000, 100_000_000)}"
    row = (desk.event_id("C"), who.id, who.msisdn, "in", other, started, seconds)
    termination = "normal" if seconds else "no_answer"
    for _ in range(_twice(desk)):
        desk.add("call_records", (*row, termination, rng.randrange(50_000), who.region, now))


def sms(desk: Desk) -> None:
    """An SMS goes out or comes in."""
    rng, who, now = desk.rng, desk.subscriber(), utc_now()
    event, parts = desk.event_id("S"), 2 if rng.random() < 0.12 else 1
    direction = "out" if rng.random() < 0.55 else "in"
    other = f"4915{rng.randrange(10_000_000, 100_000_000)}"
    sent = now - delay(rng, shares.RECORD_LATE)
    for _ in range(_twice(desk)):
        desk.add("sms_records", (event, who.id, who.msisdn, direction, other, sent, parts, now))
    if direction == "out":
        _charge(desk, who, "sms", event, Decimal(parts), sent)


def data_session(desk: Desk) -> None:
    """A data session ends."""
    rng, who, now = desk.rng, desk.subscriber(), utc_now()
    event = desk.event_id("D")
    megabytes = Decimal(int(rng.expovariate(1 / 60_000)) + 1).scaleb(-3)
    ended = now - delay(rng, shares.RECORD_LATE)
    started = ended - timedelta(seconds=rng.randrange(5, 5_000))
    row = (event, who.id, who.msisdn, started, ended, megabytes, rng.randrange(50_000))
    for _ in range(_twice(desk)):
        desk.add("data_sessions", (*row, who.region, now))
    _charge(desk, who, "data", event, megabytes, started)


def correction(desk: Desk) -> None:
    """A wrong charge is reversed, and half of it is charged. Raises `NothingToDo`."""
    if not desk.wrong:
        raise NothingToDo
    number, subscriber, event, kind, quantity, amount, currency, tariff, at, *_ = (
        desk.wrong.popleft()
    )
    now, half = utc_now(), (amount / 2).quantize(_CENT, "ROUND_DOWN")
    row = (subscriber, event, kind)
    desk.add("charges", (*row, -quantity, -amount, currency, tariff, at, now, number))
    desk.add("charges", (*row, quantity, half, currency, tariff, at, now, number))
    # The balance of a prepaid subscriber exists; others have none.
    if desk.sql["charging"].all("SELECT 1 FROM balances WHERE subscriber_id = %s", subscriber):
        desk.spent[subscriber] = desk.spent.get(subscriber, Decimal(0)) - amount + half


def top_up(desk: Desk) -> None:
    """A prepaid subscriber tops up. Raises `NothingToDo`."""
    who = desk.subscriber()
    if who.account is not None:
        raise NothingToDo
    amount, now = Decimal(desk.rng.choice([5, 10, 15, 25])), utc_now()
    channel = desk.rng.choice(["app", "voucher", "store"])
    desk.add("top_ups", (who.id, amount, "EUR", channel, now, now))
    desk.spent[who.id] = desk.spent.get(who.id, Decimal(0)) - amount
