"""The second factor: codes of an authenticator application (RFC 6238), and recovery codes.

To check a code, its secret must be known. The database has it encrypted with a key that follows
from the secret of the server.
Recovery codes have 120 bits, and the database has their digests.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, TypeVar

import pyotp
import segno
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from softcart_assets.inspire_app.accounts import NotAccepted
from softcart_assets.inspire_app.links import kept_form
from softcart_assets.inspire_app.outbox import Channel, Message, Purpose, message_key

SIGN_IN_WITHIN: Final = timedelta(minutes=10)
"""So long after the password somebody may give the code."""

SET_UP_WITHIN: Final = timedelta(minutes=15)
"""So long a secret that is shown may be turned on."""

RECOVERY_CODES: Final = 8

MOST_WRONG: Final = 10
"""After so many wrong codes in a row, only a recovery code counts for a while. Nobody can guess
such a code. So whoever knows only the password keeps nobody out.
"""

REST: Final = timedelta(hours=1)

_STEPS: Final = 1
"""So many steps of 30 seconds the clock of a phone may be wrong."""

_RECOVERY_BYTES: Final = 15
_ISSUER: Final = "Inspire"
_TOLD_WITHIN: Final = timedelta(days=2)

_Result = TypeVar("_Result")


class Change(StrEnum):
    """What a mail tells the person."""

    ON = "on"
    OFF = "off"
    NEW_CODES = "codes"
    RECOVERED = "recovered"


@dataclass(frozen=True)
class Factor:
    """A second factor, as the database keeps it. `sealed`: its secret, see `Vault`.

    `last_step`: the time step of the last code that was taken. `wrong`: wrong codes in a row since.
    """

    sealed: str
    last_step: int
    wrong: int
    wrong_at: datetime | None

    def rests(self, now: datetime) -> bool:
        """Whether there were too many wrong codes, and no other counts for now."""
        return self.wrong >= MOST_WRONG and self.wrong_at is not None and now < self.wrong_at + REST


class Store(Protocol):
    """The tables that second factors are in."""

    def atomically(self, work: Callable[[], _Result]) -> _Result:
        """Do something as one transaction, and again if the server took it back."""

    def add_message(self, message: Message) -> None:
        """Put a message into the outbox."""

    def factor(self, user_id: int) -> Factor | None:
        """Somebody's second factor, locked until the transaction ends. None: it is off."""

    def use_recovery_code(self, user_id: int, digest: str, now: datetime) -> bool:
        """Use up a code. False: there is none such, or it was used."""

    def mark_wrong(self, user_id: int, now: datetime) -> None:
        """Count a wrong code."""

    def mark_right(self, user_id: int, step: int) -> None:
        """A code was right. None up to this step counts from now on."""


class Vault:
    """Encrypts the secrets of second factors. `secret`: the server's."""

    def __init__(self, secret: bytes) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"inspire second factor").derive(secret)
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def seal(self, user_id: int, secret: str, now: datetime) -> str:
        """Somebody's secret, encrypted. It is of no use for somebody else."""
        text = f"{user_id} {secret}".encode()
        return self._fernet.encrypt_at_time(text, int(now.timestamp())).decode()

    def opened(
        self, user_id: int, sealed: str, now: datetime, within: timedelta | None = None
    ) -> str | None:
        """The secret. None: it is not this person's, it is older than `within`, or the server has
        another secret now.
        """
        try:
            if within is None:
                text = self._fernet.decrypt(sealed)
            else:
                seconds = int(within.total_seconds())
                text = self._fernet.decrypt_at_time(sealed, seconds, int(now.timestamp()))
        except InvalidToken:
            return None
        whose, _, secret = text.decode().partition(" ")
        return secret if whose == str(user_id) else None


def new_secret() -> str:
    """A secret of 160 random bits, as applications take it."""
    return pyotp.random_base32()


def address(secret: str, email: str) -> str:
    """The address by which an application takes a secret."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=_ISSUER)


def picture(text: str) -> str:
    """A QR code as SVG, which needs neither a script nor a style."""
    made = segno.make(text, error="m", micro=False)
    return made.svg_inline(svgclass="code-picture", dark="#000", light="#fff", omitsize=True)


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step of a code of the application. None: it is wrong, or its time is over."""
    try:
        totp = pyotp.TOTP(secret)
        return totp.verify_and_get_timecode(_plain(code), for_time=now, valid_window=_STEPS)
    except pyotp.OTPVerificationError:
        return None


def is_of_application(text: str) -> bool:
    """Whether a text has the form of a code of the application, and so can be guessed."""
    text = _plain(text)
    return text.isdecimal() and len(text) == 6


def new_recovery_codes() -> list[str]:
    """Codes that are told once."""
    return [
        "-".join(re.findall("....", _text_of(secrets.token_bytes(_RECOVERY_BYTES))))
        for _ in range(RECOVERY_CODES)
    ]


def recovery_digests(codes: Collection[str]) -> list[str]:
    """What the database keeps of recovery codes."""
    return [kept_form(_plain(code)) for code in codes]


def take_code(store: Store, vault: Vault, user_id: int, text: str, now: datetime) -> Change | None:
    """Take a code of the application or a recovery code. Each counts once.

    Returns `RECOVERED` if it was a recovery code. Raises `NotAccepted`, also without a second
    factor.
    """
    told, used = store.atomically(lambda: _taken(store, vault, user_id, _plain(text), now))
    # After the transaction: the wrong code is counted in it.
    if told:
        raise NotAccepted({"code": told})
    return used


def _taken(
    store: Store, vault: Vault, user_id: int, text: str, now: datetime
) -> tuple[str, Change | None]:
    wrong = "This code is wrong, or it was used. Wait for the next one."
    factor = store.factor(user_id)
    if factor is None:
        return wrong, None
    if not is_of_application(text):
        if not store.use_recovery_code(user_id, kept_form(text), now):
            return "Write the six digits of your application, or a recovery code.", None
        store.mark_right(user_id, factor.last_step)
        store.add_message(notice(user_id, Change.RECOVERED, now))
        return "", Change.RECOVERED
    if factor.rests(now):
        return "There were too many wrong codes. Wait an hour, or use a recovery code.", None
    secret = vault.opened(user_id, factor.sealed, now)
    if secret is None:
        return "We cannot check this code any more. Use a recovery code.", None
    step = step_of(secret, text, now)
    if step is None or step <= factor.last_step:
        store.mark_wrong(user_id, now)
        return wrong, None
    store.mark_right(user_id, step)
    return "", None


def notice(user_id: int, change: Change, now: datetime) -> Message:
    """The mail that tells somebody of a change, in case somebody else made it."""
    return Message(
        message_key(now.isoformat(), user_id, Channel.EMAIL, f"security {change}"),
        user_id,
        Channel.EMAIL,
        Purpose.ACCOUNT,
        "security",
        now,
        now + _TOLD_WITHIN,
        {"change": change.value},
    )


def _plain(text: str) -> str:
    """A code without what people put between its signs."""
    return re.sub(r"[\s-]", "", text[:100]).casefold()


def _text_of(value: bytes) -> str:
    return base64.b32encode(value).decode().casefold()
