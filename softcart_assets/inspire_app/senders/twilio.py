"""Sends text messages through Twilio's HTTP API, or a service that speaks as it does."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from datetime import timedelta
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from softcart_assets.connections import LOOPBACK
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import Accepted, Message, Refused, Unavailable

_TIMEOUT_SECONDS: Final = 30.0


class TwilioSender:
    """`url`: `https://api.twilio.com`. `sender`: a number in E.164, or a messaging service's id.

    Raises `ValueError` if the URL is not https and not of this machine.
    """

    def __init__(self, url: str, account: str, token: str, sender: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ValueError("The URL of Twilio's API must be https.")
        path = f"/2010-04-01/Accounts/{quote(account, safe='')}/Messages.json"
        self._url = url.rstrip("/") + path
        basic = base64.b64encode(f"{account}:{token}".encode()).decode()
        self._fields = {"Authorization": f"Basic {basic}", "Accept": "application/json"}
        self._sender = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a text to a number in E.164 without +."""
        form = {"To": f"+{address}", "Body": letter.text, **self._sender}
        request = urllib.request.Request(
            self._url,
            urlencode(form).encode(),
            # A provider or proxy that knows the key sends the message once.
            {**self._fields, "Idempotency-Key": message.key},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                return Accepted(str(_members(response.read()).get("sid", "")))
        except urllib.error.HTTPError as error:
            with error:
                return _outcome(error)
        except (OSError, HTTPException) as error:
            return Unavailable(f"Twilio's API does not answer: {type(error).__name__}")


def _outcome(error: urllib.error.HTTPError) -> Refused | Unavailable:
    try:
        told = _members(error.read())
    except (OSError, HTTPException):
        told = {}
    reason = f"{error.code} {told.get('code', '')}".strip()
    pause = error.headers.get("Retry-After", "")
    # 401 and 403 are about our account: they end when the setting is mended.
    if error.code in (401, 403, 408, 429) or error.code >= 500:
        return Unavailable(reason, timedelta(seconds=int(pause)) if pause.isdecimal() else None)
    return Refused(reason)


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
