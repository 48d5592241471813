"""The local DynamoDB server."""

from __future__ import annotations

from softcart_assets.stack.ministack import REGION, Ministack
from softcart_assets.stack.server import USER


class DynamoDB(Ministack):
    """A server of DynamoDB's protocol.

    It asks for no password: whoever may use this machine may use it. Each source has tables of its
    own, whose names begin with the source's.
    """

    name = "dynamodb"
    title = "DynamoDB"

    def prepare(self) -> None:
        """See `Server`. There are no databases, only tables."""
        from botocore.exceptions import BotoCoreError, ClientError

        from softcart_assets.connections import DynamoConnection, ServerUnreachable

        prefix = next(iter(self.databases))
        connection = DynamoConnection(prefix, REGION, self.url(prefix), USER, self.password)
        try:
            connection.client().list_tables(Limit=1)
        except (BotoCoreError, ClientError) as error:
            raise ServerUnreachable(f"{type(error).__name__}: {error}") from None

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {
            f"{prefix}_REGION": REGION,
            f"{prefix}_ENDPOINT": self.url(prefix),
            f"{prefix}_ACCESS_KEY_ID": USER,
            f"{prefix}_SECRET_ACCESS_KEY": self.password,
            f"{prefix}_TABLE_PREFIX": f"{self.databases[prefix]}.",
        }
