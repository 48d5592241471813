"""The local S3 server, with one bucket for each prefix of settings."""

from __future__ import annotations

from softcart_assets.stack.ministack import REGION, Ministack
from softcart_assets.stack.server import USER


class S3(Ministack):
    """A server of S3's protocol. It refuses other access keys, but looks at no secret."""

    name = "s3"
    title = "S3"
    key = USER

    def prepare(self) -> None:
        """See `Server`."""
        from botocore.exceptions import BotoCoreError, ClientError

        from softcart_assets.connections import ServerUnreachable
        from softcart_assets.stores import S3 as Settings

        client = Settings(REGION, self.url(""), USER, self.password).client()
        try:
            there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            for bucket in sorted({*self.databases.values()} - there):
                client.create_bucket(
                    Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
                )
        except (BotoCoreError, ClientError) as error:
            raise ServerUnreachable(f"{type(error).__name__}: {error}") from None

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {
            f"{prefix}_URI": f"s3a://{self.databases[prefix]}/lake",
            f"{prefix}_REGION": REGION,
            f"{prefix}_ENDPOINT": self.url(prefix),
            f"{prefix}_ACCESS_KEY_ID": USER,
            f"{prefix}_SECRET_ACCESS_KEY": self.password,
        }
