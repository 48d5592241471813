"""Sends mail by SMTP, through any provider."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Final
from urllib.parse import unquote, urlsplit

from softcart_assets.connections import LOOPBACK
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import Accepted, Message, Refused, Unavailable

_TIMEOUT_SECONDS: Final = 30.0


class SmtpSender:
    """`url`: `smtps://user:password@host:465`, or `smtp://…:587`, which turns to TLS by STARTTLS.

    Only a server of this machine may be without TLS. `sender`: the address of all mails, such as
    `Softcart <hello@example.com>`. Raises `ValueError` for a URL or an address of no use. Neither
    an error nor the log tells the password.
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

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a letter to an address.

        A mail that comes twice has the same Message-ID, so programs can show it once.
        """
        mail = EmailMessage()
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
        try:
            with self._connected() as server:
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            [(code, text)] = error.recipients.values()
            return _outcome(code, text)
        except smtplib.SMTPNotSupportedError:
            return Refused("The mail server takes no address with letters beyond ASCII.")
        except (smtplib.SMTPSenderRefused, smtplib.SMTPAuthenticationError) as error:
            # It is about us and not about the receiver: it ends when the setting is mended.
            return Unavailable(f"The mail server refuses us: {error.smtp_code}")
        except smtplib.SMTPResponseException as error:
            return _outcome(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            return Unavailable(f"The mail server does not answer: {type(error).__name__}")
        return Accepted(mail["Message-ID"])

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context()
        connect = (
            smtplib.SMTP_SSL(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)
            if self._is_tls
            else smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        )
        with connect as server:
            if not self._is_tls and self._host not in LOOPBACK:
                server.starttls(context=context)
            if self._user:
                server.login(self._user, self._password)
            yield server


def _outcome(code: int, text: bytes | str) -> Refused | Unavailable:
    told = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    reason = f"{code} {told}"[:500]
    return Refused(reason) if 500 <= code < 600 else Unavailable(reason)
