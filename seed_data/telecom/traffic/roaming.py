"""Files about subscribers abroad, as they arrive: with late, repeated, corrected and broken ones.

Shares are those of the seed data.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from seed_data.telecom import shares
from seed_data.telecom.roaming import KINDS, OPERATORS, PRICES, Operator
from seed_data.telecom.traffic.desk import Desk, RoamingFile, delay, utc_now

RECORDS = 40
"""The most records of a file."""


def roaming_file(desk: Desk) -> None:
    """A file comes: a new one, an earlier one again, or a correction of it."""
    # What came again is not corrected later: the old version would count under its other name.
    draw, earlier = desk.rng.random(), desk.delivered
    if earlier and draw < shares.ROAMING_FILE_REPEATED:
        file = earlier.popleft()
        desk.files.append(file._replace(name=f"{file.name}_again"))
    elif earlier and draw < shares.ROAMING_FILE_REPEATED + shares.ROAMING_FILE_CORRECTED:
        file = earlier.popleft()
        kept = [line for line in file.lines if desk.rng.random() > 0.1]
        desk.files.append(file._replace(name=f"{file.name}_v2", lines=kept))
    else:
        file = _new(desk, desk.rng.choice(OPERATORS))
        desk.files.append(file)
        desk.after_commit.append(partial(earlier.append, file))


def _new(desk: Desk, operator: Operator) -> RoamingFile:
    rng = desk.rng
    lines = [_record(desk, operator) for _ in range(rng.randint(1, RECORDS))]
    of_operator = [each for each in desk.delivered if each.name.startswith(operator.code)]
    if of_operator:
        before = of_operator[-1].lines
        lines += [line for line in before if rng.random() < shares.ROAMING_DUPLICATE]
    name = f"{operator.code}/TAP_{utc_now():%Y%m%d_%H%M%S}_{_mark()}"
    return RoamingFile(name, operator.ending, lines)


def _mark() -> str:
    """What no other file has in its name, of no other thread either."""
    return f"{time.time_ns():x}{os.urandom(3).hex()}"


def _record(desk: Desk, operator: Operator) -> str:
    rng, who = desk.rng, desk.subscriber()
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    seconds = 0 if kind == "sms" else 1 + int(rng.expovariate(1 / 300))
    # A file is never fresh: the operator collects first.
    recorded = utc_now() - timedelta(hours=rng.uniform(2, 48)) - delay(rng, shares.ROAMING_LATE)
    started = recorded - timedelta(seconds=seconds + 60)
    quantity = Decimal(1)
    if kind == "voice":
        quantity = Decimal(-(-seconds // 60))
    elif kind == "data":
        quantity = Decimal(1 + int(rng.expovariate(1 / 40_000))).scaleb(-3)
    amount = (quantity * PRICES[kind]).to_integral_value("ROUND_CEILING").scaleb(-4)
    # Beyond every number of the seed data.
    number = 1 << 56 | int.from_bytes(os.urandom(7))
    fields = [
        *(operator.code, number, who.id, who.msisdn, kind, _moment(started), seconds),
        *(f"{quantity:.3f}", f"{amount:.4f}", operator.currency, _moment(recorded)),
    ]
    if rng.random() < shares.ROAMING_BROKEN:
        fields = fields[:6]
    return ",".join(map(str, fields))


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
