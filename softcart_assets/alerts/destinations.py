"""Where messages go: mail, webhooks and chats. apprise sends, and each address is of its kind."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass

import apprise

from softcart_assets.alerts.news import Message
from softcart_assets.connections import SettingError

SETTING = "SOFTCART_ALERTS_TO"


@dataclass(frozen=True)
class Destination:
    """An address. It contains secrets, so `name` is what may be shown and kept of it."""

    address: str

    def __repr__(self) -> str:
        return f"Destination({self.name!r})"

    @property
    def name(self) -> str:
        """Its kind, and a digest that tells it from others of the same kind."""
        kind = self.address.partition(":")[0]
        return f"{kind} {hashlib.sha256(self.address.encode()).hexdigest()[:8]}"

    def send(self, message: Message) -> bool:
        """Send a message. Returns whether the destination has taken it."""
        sender = apprise.Apprise()
        sender.add(self.address)
        kind = apprise.NotifyType.SUCCESS if message.is_good else apprise.NotifyType.FAILURE
        # A text of ours must not be taken for Markdown or HTML: names have underscores.
        return bool(
            sender.notify(
                body=message.body,
                title=message.title,
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
            )
        )


def destinations() -> list[Destination]:
    """The destinations that the settings name. Raises `SettingError` for one that is no address."""
    # Its own lines name addresses. What went wrong is told by whoever sends.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    found = [Destination(each) for each in os.environ.get(SETTING, "").split()]
    for number, each in enumerate(found, 1):
        if not apprise.Apprise().add(each.address):
            raise SettingError(
                f"Address {number} in {SETTING} is not one that apprise knows. Its kinds of "
                "addresses are listed in apprise's documentation, for example "
                "mailto://user:password@example.com or json://example.com/hook."
            )
    return found
