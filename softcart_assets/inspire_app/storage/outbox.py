"""Messages in the database."""

from __future__ import annotations

import json

from softcart_assets.inspire_app.outbox import Message
from softcart_assets.inspire_app.storage.rows import Database, naive


def add_message(database: Database, message: Message) -> None:
    """Put a message into the outbox in the caller's transaction, unless one of its key is there."""
    database._execute(
        "INSERT INTO messages (message_key, user_id, address, channel, purpose, template, "
        "parameters, due_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
        # Other errors than a key that is there must not be passed over, as IGNORE would.
        "ON DUPLICATE KEY UPDATE id = id",
        (
            message.key,
            message.user_id,
            message.address,
            message.channel.value,
            message.purpose.value,
            message.template,
            json.dumps(dict(message.parameters)),
            naive(message.due_at),
            naive(message.expires_at),
        ),
    )
