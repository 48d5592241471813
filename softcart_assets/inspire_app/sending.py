"""Sends what is due, until there is nothing more to send."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from random import random
from typing import Final, Protocol

from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import (
    Accepted,
    Channel,
    Message,
    Receiver,
    Refused,
    Send,
    Unavailable,
    after_sending,
    decide,
    obey,
)

LOG: Final = logging.getLogger("softcart.messages")


class Outbox(Protocol):
    """The messages in the database."""

    def claim(self, sender: str, now: datetime) -> Message | None:
        """Claim the message that is due for longest, and commit. None: nothing is due."""

    def receiver(self, message: Message) -> Receiver | None:
        """What counts about the receiver right now. None: the account is deleted."""

    def save(self, claimed: Message, after: Message) -> bool:
        """Write what came of a claimed message, and commit.

        Returns False, and writes nothing, if another sender has claimed it since.
        """


class Sender(Protocol):
    """A way to a provider."""

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a letter, and say what came of it."""


def send_due(
    outbox: Outbox,
    senders: Mapping[Channel, Sender],
    write: Callable[[Message], Letter],
    name: str,
    clock: Callable[[], datetime],
) -> int:
    """Send all messages that are due. Returns how many were looked at.

    `write`: makes the letter of a message. `name`: tells this sender from others.
    """
    looked_at = 0
    while (claimed := outbox.claim(name, clock())) is not None:
        looked_at += 1
        decision = decide(claimed, outbox.receiver(claimed), clock())
        if isinstance(decision, Send):
            sender = senders.get(claimed.channel)
            outcome = (
                sender.send(claimed, decision.address, write(claimed))
                if sender
                else Unavailable("Nobody has said how to send it.")
            )
            after = after_sending(claimed, outcome, clock(), random())
        else:
            after = obey(claimed, decision)
        is_ours = outbox.save(claimed, after)
        # Neither address nor text: the key leads to both.
        LOG.info("%s %s %s", claimed.key, after.state, "" if is_ours else "(claimed by another)")
    return looked_at
