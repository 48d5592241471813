"""Mails about mails: delivery reports (RFC 3464) and complaints (RFC 5965)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, message_from_string
from email.message import Message as Mail
from email.policy import compat32
from typing import Final

from softcart_assets.inspire_app.outbox import Lasting, bounce, is_key

_MESSAGE_ID: Final = re.compile(r"<([0-9a-f-]{36})@[^<>\s]+>")


@dataclass(frozen=True)
class Report:
    """What became of a message. `key`: of the message. `detail`: the status, without an address.

    `lasting`: why its address gets nothing more. None: the next message may arrive.
    """

    key: str
    detail: str
    lasting: Lasting | None


def report(content: bytes) -> Report | None:
    """What a mail reports about a message of ours. None: nothing.

    Only a report with the Message-ID of the message counts. Nobody else knows it.
    """
    # The newer policies refuse some of what broken programs write into reports.
    mail = message_from_bytes(content, policy=compat32)
    key = next(_keys(mail), None)
    if key is None:
        return None
    for part in mail.walk():
        kind = part.get_content_type()
        if kind == "message/feedback-report":
            found = str(_fields(part).get("Feedback-Type", "")).strip().casefold()
            return Report(key, found[:50], Lasting.COMPLAINT) if found != "not-spam" else None
        if kind == "message/delivery-status":
            return _delivery(key, part)
    return None


def _delivery(key: str, part: Mail) -> Report | None:
    blocks = part.get_payload()
    for block in blocks if isinstance(blocks, list) else []:
        action = block.get("Action", "") if isinstance(block, Mail) else ""
        if not isinstance(block, Mail) or str(action).strip().casefold() != "failed":
            continue
        found = re.match(r"\s*([245]\.\d{1,3}\.\d{1,3})", str(block.get("Status", "")))
        status = found[1] if found else "5.0.0"
        return Report(key, status, bounce(status))
    return None


def _fields(part: Mail) -> Mail:
    """The fields in a part that is a message of nothing but fields."""
    payload = part.get_payload()
    if isinstance(payload, list) and payload and isinstance(payload[0], Mail):
        return payload[0]
    return message_from_string(str(payload))


def _keys(mail: Mail) -> Iterator[str]:
    """The keys of messages that a report has returned, or at least answers."""
    returned = []
    for part in mail.walk():
        if part.get_content_type() == "text/rfc822-headers":
            returned.append(message_from_string(str(part.get_payload())).get("Message-ID"))
        elif part.get_content_type() == "message/rfc822":
            returned.append(_fields(part).get("Message-ID"))
    for value in (*returned, mail.get("In-Reply-To"), mail.get("References")):
        yield from (key for key in _MESSAGE_ID.findall(str(value or "")) if is_key(key))
