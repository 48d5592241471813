"""Passwords of known leaks, by their SHA-1 hashes: a copy of Have I Been Pwned's, or its service.

A source that gives no answer refuses nobody: otherwise nobody could make an account, or choose a
new password, while it is away. The list of common passwords in `accounts` holds in any case.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from hashlib import sha1
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from softcart_assets.connections import LOOPBACK, SettingError
from softcart_assets.inspire_app.settings import PREFIX

LOG: Final = logging.getLogger(__name__)

_SETTING: Final = f"{PREFIX}_LEAKED_PASSWORDS"
_TIMEOUT_SECONDS: Final = 2.0
"""For each step. Somebody waits for the page."""
_MOST_BYTES: Final = 1_000_000
"""A range has about 40,000."""

Leaked = Callable[[str], bool]
"""Whether a password is known from a leak."""


def none_leaked(password: str) -> bool:
    """What is known without a source: of no password that it is leaked."""
    return False


def leaked_passwords() -> Leaked:
    """The source that the setting names. Without one, no password counts as leaked. Raises
    `SettingError`.
    """
    where = os.environ.get(_SETTING, "").strip()
    if not where:
        return none_leaked
    if "://" in where:
        parts = urlsplit(where)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise SettingError(f"{_SETTING} must be https://…, and not {where!r}.")
        return _careful(lambda digest: _asked(where.rstrip("/"), digest))
    path = Path(where)
    if path.is_dir():
        if not (path / "00000.txt").is_file():
            raise SettingError(
                f"{_SETTING}: {path} has no file 00000.txt. Name the folder of ranges."
            )
        return _careful(lambda digest: _in_folder(path, digest))
    try:
        with path.open("rb") as file:
            first = file.readline(100)
    except OSError as error:
        raise SettingError(f"{_SETTING}: {path} cannot be read ({error.strerror}).") from None
    if not re.match(rb"[0-9A-Fa-f]{40}:\d", first):
        raise SettingError(f"{_SETTING}: {path} has no lines <SHA-1>:<count>.")
    return _careful(lambda digest: _in_file(path, digest))


def _careful(has: Callable[[str], bool]) -> Leaked:
    def is_leaked(password: str) -> bool:
        digest = sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        try:
            return has(digest)
        except (OSError, HTTPException) as error:
            # Neither the address nor the hash: only that it failed.
            LOG.warning("A password was not looked up among leaked ones: %s", type(error).__name__)
            return False

    return is_leaked


def _asked(url: str, digest: str) -> bool:
    """Ask for a range. Only the first five signs of the hash are sent, and with padding the length
    of the answer tells nothing.
    """
    headers = {"Add-Padding": "true", "User-Agent": "softcart-inspire"}
    with urlopen(
        Request(f"{url}/{digest[:5]}", headers=headers), timeout=_TIMEOUT_SECONDS
    ) as found:
        return _has(found.read(_MOST_BYTES), digest[5:])


def _in_folder(folder: Path, digest: str) -> bool:
    return _has((folder / f"{digest[:5]}.txt").read_bytes(), digest[5:])


def _has(lines: bytes, rest: str) -> bool:
    """Whether a range has the rest of a hash. Padding has the count 0."""
    for line in lines.splitlines():
        name, _, count = line.partition(b":")
        if name.strip().upper() == rest.encode():
            return count.strip() != b"0"
    return False


def _in_file(path: Path, digest: str) -> bool:
    """Look for a hash in sorted lines. About 40 of them are read, of a thousand million."""
    wanted = digest.encode()
    with path.open("rb") as file:
        low, high = 0, os.fstat(file.fileno()).st_size
        # The first place from which on lines are not smaller.
        while low < high:
            middle = (low + high) // 2
            found = _hash_from(file, middle)
            if found and found < wanted:
                low = middle + 1
            else:
                high = middle
        return _hash_from(file, low) == wanted


def _hash_from(file: BinaryIO, place: int) -> bytes:
    """The hash of the first line that begins at a place or behind it. None: empty."""
    file.seek(max(place - 1, 0))
    if place:
        file.readline()
    return file.readline()[:40].upper()
