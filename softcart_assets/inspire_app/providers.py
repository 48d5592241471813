"""The settings of providers, and the senders that they ask for."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from softcart_assets.connections import SettingError
from softcart_assets.inspire_app.outbox import Channel
from softcart_assets.inspire_app.senders.smpp import Inbound, SmppSender
from softcart_assets.inspire_app.senders.smtp import SmtpSender
from softcart_assets.inspire_app.senders.twilio import TwilioSender
from softcart_assets.inspire_app.sending import Sender
from softcart_assets.inspire_app.settings import PREFIX

RECEIVER_PORT: Final = 8092
"""The port of the demo's page with what was sent, and of its receiver of text messages."""

MAIL_PORT: Final = 8093
"""The port of the demo's mail server."""

_FROM: Final = "Inspire <inspire@localhost.localdomain>"


@dataclass(frozen=True)
class Providers:
    """`sms`: `twilio`, `smpp` or empty. What is empty goes to the local receivers."""

    smtp_url: str = field(default="", repr=False)
    mail_from: str = _FROM
    sms: str = ""
    sms_from: str = ""
    twilio_url: str = "https://api.twilio.com"
    twilio_account: str = ""
    twilio_token: str = field(default="", repr=False)
    smpp_url: str = field(default="", repr=False)
    hook_token: str = field(default="", repr=False)

    @classmethod
    def from_env(cls) -> Providers:
        """Read them. Raises `SettingError`."""
        names = {each: f"{PREFIX}_{each.upper()}" for each in cls.__dataclass_fields__}
        given = {each: os.environ[name] for each, name in names.items() if os.environ.get(name)}
        found = cls(**given)
        needed = {
            "twilio": ("sms_from", "twilio_account", "twilio_token"),
            "smpp": ("sms_from", "smpp_url"),
        }
        if found.sms and found.sms not in needed:
            raise SettingError(f"{names['sms']} must be twilio or smpp, not {found.sms!r}.")
        missing = [names[each] for each in needed.get(found.sms, ()) if each not in given]
        if found.smtp_url and "mail_from" not in given:
            missing.append(names["mail_from"])
        if missing:
            raise SettingError(f"{' and '.join(missing)} must be set, too.")
        try:
            found.senders("http://127.0.0.1", "", _Nobody())
        except ValueError as error:
            raise SettingError(f"A setting {PREFIX}_… cannot be used. {error}") from None
        return found

    @property
    def are_local(self) -> bool:
        """Whether a local receiver is needed."""
        return not (self.smtp_url and self.sms)

    def token(self, secret: bytes) -> str:
        """What Twilio signs with. The local receiver has a token of its own, which tells nobody the
        server's `secret`.
        """
        return self.twilio_token or hmac.digest(secret, b"local receiver", "sha256").hex()

    def senders(
        self,
        url: str,
        token: str,
        inbound: Inbound,
        ports: tuple[int, int] = (MAIL_PORT, RECEIVER_PORT),
    ) -> Mapping[Channel, Sender]:
        """New senders for a thread. `url`: of the application. Raises `ValueError`."""
        mail, page = ports
        sms: Sender
        if self.sms == "smpp":
            sms = SmppSender(self.smpp_url, self.sms_from, inbound)
        elif self.sms == "twilio":
            sms = TwilioSender(
                self.twilio_url,
                self.twilio_account,
                self.twilio_token,
                self.sms_from,
                f"{url}/hooks/twilio/status",
            )
        else:
            sms = TwilioSender(f"http://127.0.0.1:{page}", "local", token, "+15550100")
        smtp_url = self.smtp_url or f"smtp://127.0.0.1:{mail}"
        return {Channel.EMAIL: SmtpSender(smtp_url, self.mail_from), Channel.SMS: sms}


class _Nobody:
    def text(self, phone: str, text: str) -> None:
        """See `Inbound`."""

    def receipt(self, provider_id: str, is_delivered: bool) -> None:
        """See `Inbound`."""
