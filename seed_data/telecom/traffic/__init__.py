"""Live traffic on the sources of the mobile operator.

Several operations share a transaction per source. The invariants of the seed data hold after each
commit: a balance is what was topped up less what was charged, a correction is a reversal and a new
charge, payments are what the invoices say. Several simulators may run at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import pymysql

from seed_data.common.folder import Folder
from seed_data.common.sql import SQLSession
from seed_data.common.traffic import NothingToDo, SimulationError
from seed_data.telecom.traffic import office, roaming, usage
from seed_data.telecom.traffic.desk import Desk, Subscriber
from softcart_assets.connections import MySQLConnection
from softcart_assets.lines.model import Source
from softcart_assets.stores import FolderConnection

OPERATIONS: dict[str, tuple[float, Callable[[Desk], None]]] = {
    "call": (46, usage.call),
    "incoming_call": (22, usage.incoming_call),
    "sms": (13, usage.sms),
    "data_session": (14, usage.data_session),
    "correction": (0.5, usage.correction),
    "top_up": (1.2, usage.top_up),
    "interaction": (1.0, office.interaction),
    "closed_complaint": (0.3, office.close_complaint),
    "payment": (0.8, office.payment),
    "dispute": (0.1, office.dispute),
    "closed_dispute": (0.08, office.close_dispute),
    "credit": (0.1, office.goodwill),
    "plan_change": (0.3, office.plan_change),
    "new_subscriber": (0.1, office.new_subscriber),
    "cancellation": (0.05, office.cancellation),
    "porting": (0.03, office.porting),
    "cycle_change": (0.05, office.cycle_change),
    "roaming_file": (0.02, roaming.roaming_file),
}
"""Each kind of operation, and how often it comes relative to the others.

A correction comes more often than charges turn out wrong, so that it finds something to do only as
often as `shares` says.
"""

KNOWN_SUBSCRIBERS = 50_000
"""At most so many take part. They are spread over all."""


class TelecomTraffic:
    """Writes to all sources. Raises `SimulationError` if they are empty."""

    def __init__(self, sources: Mapping[str, Source], seed: int | None = None) -> None:
        self.weights: Mapping[str, float] = {name: each[0] for name, each in OPERATIONS.items()}
        self.at_once = 50
        self._servers = {
            name: MySQLConnection.from_env(source.env_prefix)
            for name, source in sources.items()
            if source.kind == "mysql"
        }
        rng, files = random.Random(seed), sources["roaming"]
        folder = Folder(FolderConnection.from_env(files.env_prefix))
        deliver = partial(folder.deliver, files.table("records"))
        self._desk = Desk(rng, self._connections(rng), [], {}, 0, deliver)
        try:
            self._read_sources()
        except BaseException:
            self.close()
            raise

    def _connections(self, rng: random.Random) -> dict[str, SQLSession]:
        with ExitStack() as opened:
            sessions = {}
            for name, server in self._servers.items():
                sessions[name] = SQLSession(server, rng)
                opened.callback(sessions[name].close)
            opened.pop_all()
        return sessions

    def another(self) -> TelecomTraffic:
        """The same traffic over connections of its own. It knows the same subscribers."""
        other = TelecomTraffic.__new__(TelecomTraffic)
        other.weights, other.at_once, other._servers = self.weights, self.at_once, self._servers
        rng = random.Random(self._desk.rng.randrange(2**31))
        mine = self._desk
        other._desk = Desk(
            *(rng, other._connections(rng), mine.subscribers, mine.prices, mine.agents),
            mine.deliver,
        )
        return other

    def connect(self) -> None:
        """Connect again. What was not committed is gone."""
        self._desk.sql = self._connections(self._desk.rng)
        self._desk.forget()

    def close(self) -> None:
        """Disconnect. Operations that are not committed are undone."""
        for session in self._desk.sql.values():
            session.close()

    def perform(self, operations: Sequence[str]) -> Sequence[str]:
        """Do operations and commit them. Returns those that found something to do."""
        done = []
        for operation in operations:
            try:
                OPERATIONS[operation][1](self._desk)
            except NothingToDo:
                continue
            done.append(operation)
        self._desk.commit()
        return done

    def _read_sources(self) -> None:
        desk, crm = self._desk, self._desk.sql["crm"]
        try:
            [[count]] = crm.all("SELECT COUNT(*) FROM subscribers WHERE state = 'active'")
            step = max(1, count // KNOWN_SUBSCRIBERS)
            desk.subscribers += [
                Subscriber(*row)
                for row in crm.all(
                    "SELECT id, customer_id, account_id, msisdn, plan_id, region FROM subscribers "
                    "WHERE state = 'active' AND id MOD %s = 0 ORDER BY id",
                    step,
                )
            ]
            [[desk.agents]] = crm.all("SELECT COUNT(*) FROM agents WHERE left_on IS NULL")
            desk.prices.update(
                {
                    (plan, kind): (tariff, price)
                    for tariff, plan, kind, price in desk.sql["charging"].all(
                        "SELECT id, plan_id, kind, price FROM tariffs WHERE valid_to IS NULL"
                    )
                }
            )
        except pymysql.ProgrammingError:  # there are no such tables
            desk.subscribers.clear()
        # Otherwise the first operation would read rows as of now, however late it comes.
        for session in desk.sql.values():
            session.rollback()
        if not desk.subscribers or not desk.agents or not desk.prices:
            raise SimulationError(
                "The sources hold no subscribers, agents or tariffs. Run `softcart seed` first."
            )
