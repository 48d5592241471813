"""Folders by their URI, on this machine, in HDFS or in S3: this is the one place that opens them.

Everybody who reads or writes the lake gets Arrow's file system from here. Spark and the metastore
get the same settings as Hadoop's. `.env.example` explains them. A key never appears in a message.
Client libraries are imported when a folder is opened, because they take time.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from softcart_assets import jars
from softcart_assets.connections import ServerUnreachable, SettingError, setting

if TYPE_CHECKING:
    from pyarrow import fs

LAKE_PREFIX = "SOFTCART_LAKE"
LAKE = f"{LAKE_PREFIX}_URI"
"""The setting with the lake's root."""

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 60
_ATTEMPTS = 3
"""How often a request to S3 is sent."""


@dataclass(frozen=True)
class S3:
    """How S3, or a store that speaks its protocol, is reached.

    `endpoint` empty: Amazon's own service. `access_key` empty: the libraries look for credentials
    themselves (environment, shared files, the machine's role).
    """

    region: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)

    @classmethod
    def of_lake(cls, environment: Mapping[str, str] = os.environ) -> S3:
        """Read `SOFTCART_LAKE_REGION`, `_ENDPOINT`, `_ACCESS_KEY_ID` and `_SECRET_ACCESS_KEY`.

        Raises `SettingError`.
        """
        region, endpoint, access_key, secret_key = (environment.get(name, "") for name in _NAMES)
        if not region:
            raise SettingError(
                f"{LAKE_PREFIX}_REGION is not set. A lake on S3 needs the region of its bucket, "
                "such as eu-central-1."
            )
        if endpoint and not re.fullmatch(r"https?://[^/?#@]+/?", endpoint):
            raise SettingError(
                f"{LAKE_PREFIX}_ENDPOINT must be an address such as https://s3.example.com:9000."
            )
        if bool(access_key) != bool(secret_key):
            raise SettingError(
                f"{LAKE_PREFIX}_ACCESS_KEY_ID and {LAKE_PREFIX}_SECRET_ACCESS_KEY need each other."
            )
        return cls(region, endpoint.rstrip("/"), access_key, secret_key)

    def arrow(self) -> fs.S3FileSystem:
        """Arrow's file system."""
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        address = urlsplit(self.endpoint or "https://")
        return S3FileSystem(
            access_key=self.access_key or None,
            secret_key=self.secret_key or None,
            region=self.region,
            scheme=address.scheme,
            endpoint_override=address.netloc or None,
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_ANSWER_SECONDS,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )

    def client(self) -> Any:
        """boto3's client, for what Arrow's file system has no call for. Threads may share it."""
        # Connections must not be shared with a parent process.
        return _client(self, os.getpid())

    def hadoop(self) -> dict[str, str]:
        """The same for Hadoop, without the keys."""
        found = {
            "fs.s3a.endpoint.region": self.region,
            "fs.s3a.attempts.maximum": str(_ATTEMPTS),
            "fs.s3a.retry.limit": str(_ATTEMPTS),
        }
        if self.endpoint:
            # Other stores seldom have a name of its own for each bucket.
            found |= {"fs.s3a.endpoint": self.endpoint, "fs.s3a.path.style.access": "true"}
        if not self.access_key:
            # Those that Arrow and boto3 look for, too.
            provider = "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
            found["fs.s3a.aws.credentials.provider"] = provider
        return found

    def hadoop_keys(self) -> dict[str, str]:
        """The keys for Hadoop. They must not be in a command line, which everybody can read."""
        if not self.access_key:
            return {}
        return {"fs.s3a.access.key": self.access_key, "fs.s3a.secret.key": self.secret_key}


_NAMES = (
    "SOFTCART_LAKE_REGION",
    "SOFTCART_LAKE_ENDPOINT",
    "SOFTCART_LAKE_ACCESS_KEY_ID",
    "SOFTCART_LAKE_SECRET_ACCESS_KEY",
)


@cache
def _client(s3: S3, process: int) -> Any:
    import boto3
    from botocore.config import Config

    keys = {}
    if s3.access_key:
        keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    # A session of its own: the usual one is shared by all threads and must not be.
    return boto3.session.Session(**keys).client(
        "s3",
        region_name=s3.region,
        endpoint_url=s3.endpoint or None,
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": "path" if s3.endpoint else "auto"},
        ),
    )


def lake_uri() -> str:
    """The lake's root: `file:///…`, `hdfs://…` or `s3a://…`."""
    return setting(LAKE).rstrip("/")


def open_lake(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path of a lake's root.

    Raises `ServerUnreachable` or `SettingError`, which name the settings to look at.
    """
    if is_s3(uri):
        return _open_s3(uri)
    try:
        return file_system(uri)
    except (OSError, ValueError) as error:
        raise ServerUnreachable(
            f"The lake at {without_keys(uri)} cannot be opened: {reason_without_keys(uri, error)}. "
            f"Check {LAKE}."
        ) from None


def is_s3(uri: str) -> bool:
    """Whether a URI names a bucket of S3."""
    return uri.startswith(("s3://", "s3a://"))


def hadoop_uri(uri: str) -> str:
    """A URI as Spark and Hive want it. Hadoop takes text literally where a URI has %20."""
    return unquote(re.sub("^s3://", "s3a://", uri)).rstrip("/")


def create_file(uri: str, store: fs.FileSystem, path: str, content: bytes) -> None:
    """Make a file in a lake. It is there as a whole or not at all.

    `store`: the lake's root as a file system. On S3 a rename would be a copy, so the file is
    written in one request. If somebody else has made it meanwhile, that raises `FileExistsError`.
    """
    if is_s3(uri):
        _put(uri, path, content)
        return
    if store.get_file_info(path).is_file:
        raise FileExistsError(f"{path} is there already")
    temporary = f"{path.rpartition('/')[0]}/{uuid.uuid4().hex}.tmp"
    with store.open_output_stream(temporary) as stream:
        stream.write(content)
    store.move(temporary, path)


def _put(uri: str, path: str, content: bytes) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, root = _place(uri).partition("/")
    key = f"{root}/{path}" if root else path
    client = S3.of_lake().client()
    try:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            # It may be our own: the answer to an earlier attempt was lost, so it was sent again.
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != content:
                raise FileExistsError(f"{path} is there already") from None
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"{path} cannot be written: {error}") from None


_UNKNOWN_BUCKET = ("NoSuchBucket", "404")
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403")


def _place(uri: str) -> str:
    """The bucket and the path in it of a lake's URI. Raises `SettingError`."""
    place = re.sub("^s3a?://", "", uri)
    # Hadoop refuses keys there, and whoever sees the URI would see them.
    if "@" in place or "?" in place:
        raise SettingError(
            f"The lake at {without_keys(uri)} cannot be opened: its URI may be no more than "
            f"s3a://bucket/path. Check {LAKE}. The keys belong into {LAKE_PREFIX}_ACCESS_KEY_ID "
            f"and {LAKE_PREFIX}_SECRET_ACCESS_KEY."
        )
    return unquote(place).strip("/")


def _open_s3(uri: str) -> tuple[fs.FileSystem, str]:
    place, s3 = _place(uri), S3.of_lake()
    bucket, _, root = place.partition("/")
    _ask(s3, bucket, root)
    return s3.arrow(), place


@cache
def _ask(s3: S3, bucket: str, root: str) -> None:
    """Ask once in this process whether a folder of a bucket can be used.

    To Arrow, a bucket that does not exist is an empty one.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    keys = f"{LAKE_PREFIX}_ACCESS_KEY_ID and {LAKE_PREFIX}_SECRET_ACCESS_KEY"
    try:
        s3.client().list_objects_v2(Bucket=bucket, Prefix=root, MaxKeys=1)
        return
    except ClientError as error:
        code, told = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in _UNKNOWN_BUCKET:
            reason, advice = "there is no such bucket", f"Make it, or check {LAKE}"
        elif code in _REFUSED:
            reason = f"the store refuses us ({code}: {told.rstrip('.')})"
            advice = f"Check {keys}, and what this account may do"
        else:
            reason, advice = f"{code}: {told.rstrip('.')}", f"Check {LAKE_PREFIX}_REGION and {LAKE}"
    except NoCredentialsError:
        reason, advice = "there are no keys", f"Set {keys}"
    except (BotoCoreError, ValueError) as error:
        reason, advice = str(error).rstrip("."), f"Check {LAKE_PREFIX}_ENDPOINT and _REGION"
    raise ServerUnreachable(f"The bucket {bucket} of the lake cannot be used: {reason}. {advice}.")


def hadoop_settings(uri: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What Hadoop's libraries need for a lake, without keys. Raises `SettingError`."""
    if uri.startswith("hdfs:"):
        return {"ipc.client.connect.max.retries": "3"}
    return S3.of_lake(environment).hadoop() if is_s3(uri) else {}


def hadoop_jars(uri: str) -> list[Path]:
    """The libraries that Spark and the metastore need for a lake, beside those of Spark's wheel.

    Raises `SettingError` if they are not here.
    """
    if not is_s3(uri):
        return []
    if not jars.folder("s3").is_dir():
        raise SettingError(
            f"Spark and the Hive metastore need Java libraries for the lake at {without_keys(uri)}."
            f" Fetch them: {sys.executable} -m softcart_assets.jars s3. Or set {LAKE} to another "
            "place."
        )
    return sorted(jars.folder("s3").glob("*.jar"))


def hadoop_keys(uri: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The keys that they need. Raises `SettingError`."""
    return S3.of_lake(environment).hadoop_keys() if is_s3(uri) else {}


@dataclass(frozen=True)
class FolderConnection:
    """A folder with files, by its URI. Error texts name its settings by `prefix`.

    `settle_seconds`: a file that was changed later than so long ago may still be written.
    """

    prefix: str
    uri: str = field(repr=False)
    settle_seconds: int

    @classmethod
    def from_env(cls, prefix: str) -> FolderConnection:
        """Read `<prefix>_URI` and `<prefix>_SETTLE_SECONDS`."""
        seconds = setting(f"{prefix}_SETTLE_SECONDS", "60")
        if not seconds.isdigit():
            raise SettingError(
                f"{prefix}_SETTLE_SECONDS must be a number of seconds, not {seconds!r}."
            )
        return cls(prefix, setting(f"{prefix}_URI"), int(seconds))

    @property
    def exposure(self) -> str | None:
        """What is unsafe about the way to the folder, and what to do. None: it is safe."""
        # Arrow encrypts the way to an object store, unless the URI says otherwise.
        if urlsplit(self.uri).scheme != "hdfs" and "scheme=http&" not in f"{self.uri}&":
            return None
        return (
            f"others on the way to the folder may read files or pass for the server. Give "
            f"{self.prefix}_URI of a server that encrypts, or use a network of your own."
        )

    def open(self) -> tuple[fs.FileSystem, str]:
        """Open the file system, and return it with the folder's path in it.

        Raises `ServerUnreachable` if there is no such folder: it must not look like an empty one.
        """
        from pyarrow.fs import FileType

        try:
            system, path = file_system(self.uri)
            is_folder = system.get_file_info(path).type == FileType.Directory
            reason = None if is_folder else "there is no such folder"
        except (OSError, ValueError) as error:
            reason = reason_without_keys(self.uri, error)
        if reason:
            raise ServerUnreachable(
                f"The folder {without_keys(self.uri)} cannot be used: {reason}. "
                f"Check {self.prefix}_URI."
            )
        return system, path


def file_system(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path of a URI (`file:`, `hdfs:`, `s3:`, `s3a:`).

    Raises `OSError` or `ValueError`.
    """
    from pyarrow.fs import FileSystem

    if uri.startswith("hdfs:"):
        from softcart_assets.hdfs import open_hdfs

        place = urlsplit(uri)
        return open_hdfs(place.hostname, place.port), unquote(place.path).rstrip("/") or "/"
    # Spark says `s3a:`, Arrow says `s3:`. Both mean the same place.
    system, path = FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
    return system, str(path)


def without_keys(uri: str) -> str:
    """A URI of a file system without what may be secret: before the last `@`, and the options."""
    place, _, options = uri.partition("?")
    start, mark, rest = place.rpartition("://")
    # By text alone: a key with `/` or `?` in it makes a URI that no parser takes apart rightly.
    if "@" in options:
        rest = "…"
    elif "@" in rest and start != "file":
        rest = f"…@{rest.rpartition('@')[2]}"
    return start + mark + rest


def reason_without_keys(uri: str, error: OSError | ValueError) -> str:
    """What Arrow says about a URI, on one line and without what may be a part of a key."""
    text = " ".join(str(error).split())
    # It repeats what it cannot read. What it takes for a path may begin within a key.
    if not uri.startswith("file:") and (isinstance(error, ValueError) or "@" in text):
        text = re.split("[:']", text, maxsplit=1)[0].strip()
        if "@" in uri:
            advice = "write characters such as / + @ with a percent sign and their number (%2F)"
            return f"{text}. In a key, {advice}"
    return text


def local_folder(uri: str) -> Path | None:
    """The folder that a URI names, None if it is not on this machine."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None
