"""Sends what is due, until there is nothing more to send."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from random import random
from threading import Event
from typing import Final, Protocol

from jinja2 import TemplateError

from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import (
    Accepted,
    Channel,
    Drop,
    Lasting,
    Message,
    Receiver,
    Refused,
    Send,
    Unavailable,
    after_sending,
    decide,
    has_time,
    obey,
)

LOG: Final = logging.getLogger("softcart.messages")


class Outbox(Protocol):
    """The messages in the database."""

    def claim(self, sender: str, now: datetime) -> Message | None:
        """Claim the message that is due for longest, and commit. None: nothing is due."""

    def receiver(self, message: Message) -> Receiver | None:
        """What counts about the receiver right now. None: the account is deleted."""

    def save(
        self,
        claimed: Message,
        after: Message,
        now: datetime,
        lasting: tuple[str, Lasting] | None = None,
    ) -> bool:
        """Write what came of a claimed message, and commit.

        `lasting`: an address that gets nothing more, and why. Returns False, and writes nothing, if
        another sender has claimed the message since.
        """


class Sender(Protocol):
    """A way to a provider, for one thread."""

    def prepare(self) -> Unavailable | None:
        """Do all that may take long before a letter can be sent: connect and sign in.

        Returns why nothing can be sent.
        """

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a letter, and say what came of it."""

    def idle(self) -> None:
        """There is nothing to send at the moment. It is called about twice a second then."""

    def close(self) -> None:
        """Close all connections. They open again when they are needed."""


def send_due(
    outbox: Outbox,
    senders: Mapping[Channel, Sender],
    write: Callable[[Message], Letter | Drop],
    name: str,
    clock: Callable[[], datetime],
    *,
    seen: Callable[[Message], object] = lambda message: None,
    stop: Event | None = None,
) -> int:
    """Send all messages that are due. Returns how many were looked at.

    `write`: makes the letter of a message, or says why there is none. `name`: tells this sender
    from others. `seen`: gets each message as it is afterwards. `stop`: ends it between two
    messages.
    """
    looked_at = 0
    while not (stop and stop.is_set()) and (claimed := outbox.claim(name, clock())) is not None:
        looked_at += 1
        outcome: Accepted | Refused | Unavailable | None = None
        address = ""
        sender = senders.get(claimed.channel)
        # Whatever takes time comes before the last look at what the receiver wants.
        letter = _written(write, claimed)
        away = sender.prepare() if sender else Unavailable("Nobody has said how to send it.")
        decision = decide(claimed, outbox.receiver(claimed), clock())
        if isinstance(decision, Send) and isinstance(letter, Drop):
            decision = letter
        if isinstance(decision, Send):
            address = decision.address
            outcome = away or (letter if isinstance(letter, Unavailable) else None)
            if outcome is None and not has_time(claimed, clock()):
                outcome = Unavailable("It took too long to connect.")
            if outcome is None:
                assert sender is not None
                assert isinstance(letter, Letter)
                outcome = sender.send(claimed, address, letter)
            after = after_sending(claimed, outcome, clock(), random())
        else:
            after = obey(claimed, decision)
        lasting = outcome.lasting if isinstance(outcome, Refused) else None
        is_ours = outbox.save(claimed, after, clock(), (address, lasting) if lasting else None)
        seen(after)
        # Neither address nor text: the key leads to both.
        LOG.info(
            "%s %s %s%s",
            claimed.key,
            claimed.channel,
            after.state,
            "" if is_ours else " (claimed by another)",
        )
    return looked_at


def _written(
    write: Callable[[Message], Letter | Drop], message: Message
) -> Letter | Drop | Unavailable:
    try:
        return write(message)
    # Anything may be wrong with one message, and the others must go out.
    except (LookupError, TypeError, ValueError, TemplateError) as error:
        LOG.exception("%s cannot be written", message.key)
        return Unavailable(f"The letter cannot be written: {type(error).__name__}")
