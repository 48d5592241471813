"""A mail server of the demo. It takes every mail, and passes none on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Final

from aiosmtpd.controller import Controller

from softcart_assets.inspire_app.receivers.kept import Kept

_LARGEST: Final = 1_000_000


class _Handler:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """See aiosmtpd."""
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        body = mail.get_body(("plain",))
        self._kept.add(
            str(mail["Message-ID"] or ""),
            ", ".join(envelope.rcpt_tos),
            str(mail["Subject"] or ""),
            body.get_content() if body else "",
            tuple((name, str(value)) for name, value in mail.items()),
        )
        return "250 Message accepted"


@contextmanager
def listening(kept: Kept, port: int) -> Iterator[int]:
    """Take mails on this machine while the block runs. Yields the port.

    Raises `OSError` if the port is taken.
    """
    controller = Controller(
        _Handler(kept), hostname="127.0.0.1", port=port, data_size_limit=_LARGEST
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()
