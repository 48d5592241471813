"""Sends text messages by SMPP 3.4, and takes answers and receipts on the same connection."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from smpplib import consts
from smpplib.client import Client
from smpplib.exceptions import ConnectionError as Disconnected
from smpplib.exceptions import PDUError, UnknownCommandError
from smpplib.smpp import make_pdu

from softcart_assets.connections import LOOPBACK
from softcart_assets.inspire_app.letters import Letter
from softcart_assets.inspire_app.outbox import Accepted, Lasting, Message, Refused, Unavailable
from softcart_assets.inspire_app.people import phone_number

_TIMEOUT_SECONDS: Final = 15.0

_ASK_AFTER_SECONDS: Final = 30.0
"""A connection that was silent for so long is asked whether it still works."""

# smpplib's own table takes ` for § and lacks some, and it cuts characters in two.
_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUV"
    "WXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM: Final = {char: bytes([code]) for code, char in enumerate(_BASIC) if char != "\x1b"} | {
    char: bytes([0x1B, code])
    for char, code in zip("\f^{}\\[~]|€", b"\x0a\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65", strict=True)
}

_UCS2: Final = 8
_CONCATENATED: Final = b"\x05\x00\x03"
_RECEIPT: Final = 0x04
_DELIVERED: Final = 2
_ON_ITS_WAY: Final = (0, 1, 6)
_STATES: Final = {"DELIVRD": _DELIVERED, "ENROUTE": 1, "ACCEPTD": 6}
_RECEIPT_TEXT: Final = re.compile(r"id:(\S+).*?stat:(\w+)", re.DOTALL)

_ABOUT_NUMBER: Final = consts.SMPP_ESME_RINVDSTADR
_LATER: Final = frozenset(
    {
        consts.SMPP_ESME_RTHROTTLED,
        consts.SMPP_ESME_RMSGQFUL,
        consts.SMPP_ESME_RSYSERR,
        # About us: they end when the setting is mended.
        consts.SMPP_ESME_RINVSRCADR,
        consts.SMPP_ESME_RINVBNDSTS,
    }
)

_FAILURES: Final = (OSError, Disconnected, UnknownCommandError, struct.error)


class Inbound(Protocol):
    """Gets what comes from phones."""

    def text(self, phone: str, text: str) -> None:
        """Somebody has written from a number in E.164 without +."""

    def receipt(self, provider_id: str, is_delivered: bool) -> None:
        """A message has arrived, or never will."""


def parts(text: str, reference: int) -> tuple[int, list[bytes]]:
    """A text as one or more short messages, and their data coding (0: GSM 7, 8: UCS-2).

    `reference`: from 0 to 255, by which a phone puts parts together. No character is cut in two.
    """
    gsm = [_GSM.get(char) for char in text]
    if all(gsm):
        coding, units, single, most = 0, [each or b"" for each in gsm], 160, 153
    else:
        coding, single, most = _UCS2, 140, 134
        units = [char.encode("utf-16-be") for char in text]
    if sum(map(len, units)) <= single:
        return coding, [b"".join(units)]
    bodies = [b""]
    for unit in units:
        if len(bodies[-1]) + len(unit) > most:
            bodies.append(b"")
        bodies[-1] += unit
    if len(bodies) > 255:
        raise ValueError("The text is too long for text messages.")
    return coding, [
        _CONCATENATED + bytes([reference, len(bodies), number]) + body
        for number, body in enumerate(bodies, 1)
    ]


class _Client(Client):  # type: ignore[misc]
    def _create_socket(self) -> socket.socket:
        # smpplib's does not tell TLS which host it expects.
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.settimeout(self.timeout)
        if self._ssl_context is None:
            return plain
        return self._ssl_context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[no-any-return]


class SmppSender:
    """`url`: `smpps://user:password@host:3550?per_second=20`, or `smpp://` on this machine.

    `sender`: a number in E.164, or a name of up to 11 letters. Raises `ValueError` for a URL of no
    use. Neither an error nor the log tells the password. A private network may be named by
    `?is_private=yes`: providers often give SMPP through a VPN, without TLS.
    """

    def __init__(self, url: str, sender: str, inbound: Inbound) -> None:
        parts = urlsplit(url)
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        is_safe = parts.scheme == "smpps" or (
            parts.scheme == "smpp"
            and (parts.hostname in LOOPBACK or options.get("is_private") == "yes")
        )
        if not is_safe or not parts.hostname:
            raise ValueError("The URL of the SMPP server must be smpps://host.")
        self._host, self._is_tls = parts.hostname, parts.scheme == "smpps"
        self._port = parts.port or (3550 if self._is_tls else 2775)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._pause = 1 / float(options.get("per_second", 20))
        digits = sender.removeprefix("+")
        is_number = digits.isdecimal()
        self._from = {
            "source_addr_ton": consts.SMPP_TON_INTL if is_number else consts.SMPP_TON_ALNUM,
            "source_addr_npi": consts.SMPP_NPI_ISDN if is_number else consts.SMPP_NPI_UNK,
            "source_addr": digits,
        }
        self._inbound = inbound
        self._client: _Client | None = None
        self._heard_at = self._sent_at = 0.0

    def prepare(self) -> Unavailable | None:
        """See `sending.Sender`. Also takes what has come."""
        try:
            if self._client is None:
                self._client = self._bound()
            self._client.poll()
            if time.monotonic() - self._heard_at > _ASK_AFTER_SECONDS:
                self._ask(self._client)
        except PDUError as error:
            self.close()
            return Unavailable(f"The SMPP server refuses us: {error.args[-1]}")
        except _FAILURES as error:
            self.close()
            return _no_answer(error)
        return None

    def idle(self) -> None:
        """See `sending.Sender`. Answers come on the same connection, so it stays open."""
        self.prepare()

    def close(self) -> None:
        """See `sending.Sender`."""
        client, self._client = self._client, None
        if client:
            with suppress(*_FAILURES, PDUError):
                client.disconnect()

    def send(
        self, message: Message, address: str, letter: Letter
    ) -> Accepted | Refused | Unavailable:
        """Send a text to a number in E.164 without +.

        A text that comes twice has the same reference, so a phone does not mix its parts up.
        """
        if self._client is None and (away := self.prepare()):
            return away
        assert self._client is not None, "it is prepared"
        provider_id = ""
        try:
            coding, bodies = parts(letter.text, int(message.key[:2], 16))
            for body in bodies:
                self._throttle()
                answer = self._submitted(self._client, address, coding, body, len(bodies) > 1)
                if answer.is_error():
                    return _outcome(answer.status)
                # The receipt for the last part tells of the whole.
                provider_id = (answer.message_id or b"").decode("ascii", "replace")
        except (*_FAILURES, PDUError) as error:
            self.close()
            return _no_answer(error)
        except ValueError as error:
            return Refused(str(error))
        return Accepted(provider_id)

    def _bound(self) -> _Client:
        client = _Client(
            self._host,
            self._port,
            timeout=_TIMEOUT_SECONDS,
            logger_name="softcart.smpp",
            ssl_context=ssl.create_default_context() if self._is_tls else None,
            allow_unknown_opt_params=True,
        )
        client.set_message_received_handler(self._received)
        client.set_error_pdu_handler(lambda pdu: None)
        try:
            client.connect()
            client.bind_transceiver(system_id=self._user, password=self._password)
        except BaseException:
            client.disconnect()
            raise
        self._heard_at = time.monotonic()
        return client

    def _submitted(
        self, client: _Client, address: str, coding: int, body: bytes, is_part: bool
    ) -> Any:
        sent = client.send_message(
            **self._from,
            dest_addr_ton=consts.SMPP_TON_INTL,
            dest_addr_npi=consts.SMPP_NPI_ISDN,
            destination_addr=address,
            esm_class=consts.SMPP_GSMFEAT_UDHI if is_part else consts.SMPP_MSGTYPE_DEFAULT,
            data_coding=coding,
            short_message=body,
            registered_delivery=1,
        )
        return self._answer(client, sent.sequence)

    def _ask(self, client: _Client) -> None:
        asked = make_pdu("enquire_link", client=client)
        client.send_pdu(asked)
        self._answer(client, asked.sequence)

    def _answer(self, client: _Client, sequence: int) -> Any:
        """The answer to a request. What comes in between is dealt with."""
        while True:
            pdu = client.read_pdu()
            self._heard_at = time.monotonic()
            if pdu.is_response() and pdu.sequence == sequence:
                return pdu
            if pdu.command == "deliver_sm":
                client._message_received(pdu)
            elif pdu.command == "enquire_link":
                client._enquire_link_received(pdu)
            elif pdu.command == "unbind":
                raise Disconnected

    def _throttle(self) -> None:
        time.sleep(max(0.0, self._sent_at + self._pause - time.monotonic()))
        self._sent_at = time.monotonic()

    def _received(self, pdu: Any) -> int:
        self._heard_at = time.monotonic()
        body: bytes = pdu.short_message or pdu.message_payload or b""
        if pdu.esm_class & consts.SMPP_GSMFEAT_UDHI and body:
            body = body[1 + body[0] :]
        encoding = {3: "latin-1", _UCS2: "utf-16-be"}.get(pdu.data_coding, "ascii")
        text = body.decode(encoding, "replace")
        if pdu.esm_class & 0x3C == _RECEIPT:
            self._receipt(pdu, text)
        elif phone := phone_number("+" + pdu.source_addr.decode("ascii", "replace").lstrip("+")):
            self._inbound.text(phone, text)
        return int(consts.SMPP_ESME_ROK)

    def _receipt(self, pdu: Any, text: str) -> None:
        found = _RECEIPT_TEXT.search(text)
        name = pdu.receipted_message_id or (found[1].encode() if found else b"")
        state = pdu.message_state or (_STATES.get(found[2], -1) if found else 0)
        if name and state not in _ON_ITS_WAY:
            self._inbound.receipt(name.decode("ascii", "replace"), state == _DELIVERED)


def _no_answer(error: Exception) -> Unavailable:
    return Unavailable(f"The SMPP server does not answer: {type(error).__name__}")


def _outcome(status: int) -> Refused | Unavailable:
    reason = f"SMPP {status:#x}"
    if status in _LATER:
        return Unavailable(reason, timedelta(seconds=5))
    return Refused(reason, Lasting.BOUNCE if status == _ABOUT_NUMBER else None)
