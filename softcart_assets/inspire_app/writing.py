"""Makes the letter of a message when it is sent: with today's plan, and links nobody kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from softcart_assets.inspire_app import letters
from softcart_assets.inspire_app.accounts import LINK_IS_GOOD_FOR, Link
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.links import Use, kept_form, link_secret, unsubscribe_fields
from softcart_assets.inspire_app.outbox import Channel, Drop, Message, Purpose


class Accounts(Protocol):
    """What letters need to know about accounts."""

    def address_of(self, email: str) -> str | None:
        """The address of the account that an address leads to. None: there is no account."""

    def name_of(self, user_id: int) -> str | None:
        """Somebody's name. None: the account is deleted."""

    def add_link(self, link: Link) -> None:
        """Keep a link that is about to be sent, and commit."""


@dataclass(frozen=True)
class Today:
    """What a day has for somebody. `author`: of a quote. `streak`: in days."""

    text: str
    author: str = ""
    streak: int = 0


Days = Callable[[int, date, Purpose], Today | None]
"""What a local date has for somebody: a workout for a reminder, or a quote. None: nothing new."""


class Writer:
    """`secret`: the server's. `url`: of the application, as others reach it."""

    def __init__(
        self, accounts: Accounts, days: Days, secret: bytes, url: str, clock: Callable[[], datetime]
    ) -> None:
        self._accounts, self._days, self._secret = accounts, days, secret
        self._url, self._clock = url.rstrip("/"), clock

    def __call__(self, message: Message) -> Letter | Drop:
        """The letter of a message, or why there is none.

        A message that is written again has the same links.
        """
        if message.user_id is None:
            return self._link(message)
        name = self._accounts.name_of(message.user_id)
        if name is None:
            return Drop("The account is deleted.")
        values = {"name": name, "link": f"{self._url}/", **message.parameters}
        fields = {}
        if message.purpose is not Purpose.ACCOUNT:
            day = date.fromisoformat(message.parameters["day"])
            today = self._days(message.user_id, day, message.purpose)
            if today is None:
                return Drop("There is nothing new for the day.")
            what = "quote" if message.purpose is Purpose.QUOTE else "workout"
            values |= {what: today.text, "author": today.author, "streak": str(today.streak)}
            address = unsubscribe_address(self._url, self._secret, message.user_id, message.key)
            values["unsubscribe"] = address
            if message.channel is Channel.EMAIL:
                fields = dict(unsubscribe_fields(address))
        return letters.write(message.channel, message.template, values, fields)

    def _link(self, message: Message) -> Letter:
        typed = message.address or ""
        # Two addresses may be one to us and not to the mail server. Only the account's own gets in.
        known = self._accounts.address_of(typed)
        use = Use.RESET if known else Use.CONFIRM
        secret = link_secret(self._secret, use, 0, message.key)
        # Its time begins when it is sent. One that was not sent at the first attempt is kept as it
        # was, so it ends no later than two hours after the message.
        expires_at = min(self._clock() + LINK_IS_GOOD_FOR, message.expires_at)
        self._accounts.add_link(Link(kept_form(secret), use, known or typed, expires_at))
        values = {"is_known": "yes" if known else "", "link": f"{self._url}/finish/{secret}"}
        return letters.write(message.channel, message.template, values, {})


def unsubscribe_address(url: str, secret: bytes, user_id: int, key: str) -> str:
    """The address that ends the messages of a message's kind."""
    return f"{url}/unsubscribe/{key}/{link_secret(secret, Use.UNSUBSCRIBE, user_id, key)}"
