"""Secrets in links, and the header fields by which mail programs unsubscribe.

The outbox holds no secret. A link's secret follows from the server's own and from the message.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from urllib.parse import urlsplit


class Use(StrEnum):
    """What a link is for. A secret for one is of no use for another."""

    CONFIRM = "confirm"
    RESET = "reset"
    UNSUBSCRIBE = "unsubscribe"


def link_secret(server_secret: bytes, use: Use, user_id: int, message_key: str) -> str:
    """The secret of a link in a message, 256 bits as text for an address."""
    text = f"{use} {user_id} {message_key}".encode()
    digest = hmac.digest(server_secret, text, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def kept_form(secret: str) -> str:
    """What the database keeps of a secret. Nobody can find one of 256 bits by trying."""
    return sha256(secret.encode()).hexdigest()


def unsubscribe_fields(address: str) -> Mapping[str, str]:
    """The header fields of a mail for one-click unsubscription (RFC 8058).

    `address`: of the page that unsubscribes on POST, without cookies or further questions. Raises
    `ValueError` if it is no address that a header field can carry. The RFC wants https. Only a
    demo on this machine has http.
    """
    parts = urlsplit(address)
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    )
    if not is_safe or not address.isascii() or any(char in "<> \r\n\t" for char in address):
        raise ValueError("The address for unsubscription must be https, in plain ASCII.")
    return {
        "List-Unsubscribe": f"<{address}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
