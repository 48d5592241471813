"""Sends text messages through Twilio's HTTP API, or a service that speaks as it does."""

from __future__ import annotations

import base64
import hmac
import json
import ssl
from collections.abc import Mapping
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from softcart_assets.connections import LOOPBACK
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import Accepted, Lasting, Message, Refused, Unavailable

_TIMEOUT_SECONDS: Final = 15.0
"""For each step. See `outbox.SENDING`."""

_LASTING: Final = {
    21610: Lasting.STOP,
    # No number, a number of no mobile phone, a number that nobody has.
    21211: Lasting.BOUNCE,
    21614: Lasting.BOUNCE,
    30005: Lasting.BOUNCE,
    30006: Lasting.BOUNCE,
}

_ABOUT_US: Final = frozenset({20404, 21212, 21603, 21606, 21659, 21701, 21703})
"""Codes about our account, number or messaging service. They end when the setting is mended."""


def lasting(code: object) -> Lasting | None:
    """Why a number gets nothing more, by the code of an error of Twilio's."""
    return _LASTING.get(int(code)) if str(code).isdecimal() else None  # type: ignore[call-overload]


def signature(token: str, url: str, form: Mapping[str, str]) -> str:
    """What Twilio signs a request with. `url`: as Twilio was told it, with its query."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), "sha1")).decode()


class TwilioSender:
    """`url`: `https://api.twilio.com`. `sender`: a number in E.164, or a messaging service's id.

    `callback`: where Twilio tells what became of a message. Raises `ValueError` if the URL is not
    https and not of this machine.
    """

    def __init__(
        self, url: str, account: str, token: str, sender: str, callback: str | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ValueError("The URL of Twilio's API must be https.")
        host = parts.hostname or ""
        self._connection = (
            HTTPSConnection(
                host, parts.port, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else HTTPConnection(host, parts.port, timeout=_TIMEOUT_SECONDS)
        )
        self._path = f"{parts.path.rstrip('/')}/2010-04-01/Accounts/{quote(account, safe='')}"
        basic = base64.b64encode(f"{account}:{token}".encode()).decode()
        self._fields = {
            "Authorization": f"Basic {basic}",
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._form = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}
        self._callback = callback

    def prepare(self) -> Unavailable | None:
        """See `sending.Sender`."""
        # One that was used before may be closed at the other end, which only a request would show.
        self._connection.close()
        try:
            self._connection.connect()
        except OSError as error:
            return _no_answer(error)
        return None

    def idle(self) -> None:
        """See `sending.Sender`."""
        self.close()

    def close(self) -> None:
        """See `sending.Sender`."""
        self._connection.close()

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a text to a number in E.164 without +."""
        form = {"To": f"+{address}", "Body": letter.text, **self._form}
        if self._callback:
            # It may come before we know the name that Twilio gives the message.
            form["StatusCallback"] = f"{self._callback}?key={message.key}"
        # A provider or proxy that knows the key sends the message once.
        fields = {**self._fields, "Idempotency-Key": message.key}
        try:
            self._connection.request(
                "POST", f"{self._path}/Messages.json", urlencode(form).encode(), fields
            )
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            return _no_answer(error)
        if response.status < 300:
            return Accepted(str(_members(body).get("sid", "")))
        return _outcome(response, _members(body).get("code", ""))


def _no_answer(error: Exception) -> Unavailable:
    return Unavailable(f"Twilio's API does not answer: {type(error).__name__}")


def _outcome(response: HTTPResponse, code: object) -> Refused | Unavailable:
    status, reason = response.status, f"{response.status} {code}".strip()
    pause = response.headers.get("Retry-After", "")
    # 401 and 403 are about our account, too.
    if status < 400 or status in (401, 403, 408, 429) or status >= 500 or code in _ABOUT_US:
        return Unavailable(reason, timedelta(seconds=int(pause)) if pause.isdecimal() else None)
    return Refused(reason, lasting(code))


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
