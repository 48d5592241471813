"""Sends mail by SMTP, through any provider."""

from __future__ import annotations

import re
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, parseaddr
from typing import Final
from urllib.parse import unquote, urlsplit

from softcart_assets.connections import LOOPBACK
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import (
    Accepted,
    Message,
    Refused,
    Unavailable,
    bounce,
)

_TIMEOUT_SECONDS: Final = 15.0
"""For each step. A mail that is sent has four. See `outbox.SENDING`."""

_ENHANCED: Final = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")
"""A status code of RFC 3463."""


class _Policy(EmailPolicy):
    """Fields about lists stay on one line: programs do not decode the words of RFC 2047 in them."""

    def fold(self, name: str, value: str) -> str:
        """See `email.policy.Policy`."""
        if name.startswith("List-"):
            return f"{name}: {value}{self.linesep}"
        return str(super().fold(name, value))

    def fold_binary(self, name: str, value: str) -> bytes:
        """See `email.policy.Policy`."""
        if name.startswith("List-"):
            return self.fold(name, value).encode("ascii")
        return super().fold_binary(name, value)


class SmtpSender:
    """`url`: `smtps://user:password@host:465`, or `smtp://…:587`, which turns to TLS by STARTTLS.

    Only a server of this machine may be without TLS. `sender`: the address of all mails, such as
    `Softcart <hello@example.com>`. Raises `ValueError` for a URL or an address of no use. Neither
    an error nor the log tells the password. The connection stays open for the next mail.
    """

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("The URL of the mail server must be smtp://host or smtps://host.")
        self._host, self._is_tls = parts.hostname, parts.scheme == "smtps"
        self._port = parts.port or (465 if self._is_tls else 587)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender = sender
        self._domain = parseaddr(sender)[1].partition("@")[2]
        if not self._domain:
            raise ValueError(f"{sender!r} is no address to send mail from.")
        self._server: smtplib.SMTP | None = None

    def prepare(self) -> Unavailable | None:
        """See `sending.Sender`."""
        try:
            # Servers close a connection after a number of mails, or after a while.
            if self._server and self._server.noop()[0] == 250:
                return None
        except (OSError, smtplib.SMTPException):
            pass
        self.close()
        try:
            self._server = self._connected()
        except smtplib.SMTPResponseException as error:
            return Unavailable(f"The mail server refuses us: {error.smtp_code}")
        except (OSError, smtplib.SMTPException) as error:
            return Unavailable(f"The mail server does not answer: {type(error).__name__}")
        return None

    def idle(self) -> None:
        """See `sending.Sender`. An open connection is of use between two mails only."""
        self.close()

    def close(self) -> None:
        """See `sending.Sender`."""
        server, self._server = self._server, None
        if server:
            with suppress(OSError, smtplib.SMTPException):
                server.close()

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a letter to an address.

        A mail that comes twice has the same Message-ID, so programs can show it once.
        """
        if self._server is None and (away := self.prepare()):
            return away
        assert self._server is not None, "it is prepared"
        mail = self._mail(message, address, letter)
        try:
            # Not the address that a program reads in `To`: a part of it may be an encoded word.
            self._server.send_message(mail, to_addrs=[address])
        except smtplib.SMTPRecipientsRefused as error:
            [(code, text)] = error.recipients.values()
            return _outcome(code, text)
        except smtplib.SMTPNotSupportedError:
            return Refused("The mail server takes no address with letters beyond ASCII.")
        except smtplib.SMTPSenderRefused as error:
            # It is about us and not about the receiver: it ends when the setting is mended.
            return Unavailable(f"The mail server refuses us: {error.smtp_code}")
        except smtplib.SMTPResponseException as error:
            return _outcome(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            return Unavailable(f"The mail server does not answer: {type(error).__name__}")
        return Accepted(mail["Message-ID"])

    def _mail(self, message: Message, address: str, letter: Letter) -> EmailMessage:
        mail = EmailMessage(_Policy())
        mail["From"] = self._sender
        mail["To"] = address
        mail["Subject"] = letter.subject
        mail["Date"] = format_datetime(message.due_at)
        mail["Message-ID"] = f"<{message.key}@{self._domain}>"
        # So absence notes and lists do not answer.
        mail["Auto-Submitted"] = "auto-generated"
        for name, value in letter.fields.items():
            mail[name] = value
        mail.set_content(letter.text)
        return mail

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        server = (
            smtplib.SMTP_SSL(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)
            if self._is_tls
            else smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        )
        try:
            if not self._is_tls and self._host not in LOOPBACK:
                server.starttls(context=context)
            # A server that takes no greeting of ours says nothing about the mail.
            server.ehlo_or_helo_if_needed()
            if self._user:
                server.login(self._user, self._password)
        except BaseException:
            server.close()
            raise
        return server


def _outcome(code: int, text: bytes | str) -> Refused | Unavailable:
    told = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    # The rest of what servers tell has the address in it.
    enhanced = _ENHANCED.search(told)
    reason = f"{code} {enhanced[0] if enhanced else ''}".strip()
    if not 500 <= code < 600:
        return Unavailable(reason)
    return Refused(reason, bounce(enhanced[0]) if enhanced else None)
