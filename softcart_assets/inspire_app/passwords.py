"""Hashes of passwords: argon2id, with RFC 9106's second set of parameters."""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

_HASHER: Final = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


class Argon2:
    """See `accounts.Passwords`. `hasher`: has the parameters of new hashes."""

    def __init__(self, hasher: PasswordHasher = _HASHER) -> None:
        self._hasher = hasher
        # Compared with when there is no account, which so takes as long.
        self._nobody = hasher.hash("nobody has this password")

    def hash(self, password: str) -> str:
        """The hash of a password, with a salt of its own."""
        return str(self._hasher.hash(password))

    def verify(self, kept: str | None, password: str) -> bool:
        """Whether the password has this hash. None takes as long, and is never right."""
        try:
            return bool(self._hasher.verify(kept or self._nobody, password)) and kept is not None
        except (VerificationError, InvalidHashError):
            return False
